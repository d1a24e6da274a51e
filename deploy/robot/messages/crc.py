"""The 32-bit checksum of Unitree's low-level messages.

Polynomial 0x04C11DB7, register preset to all ones, no final inversion, over the message as a C
structure, taken as little-endian 32-bit words with the most significant bit first.
"""

from __future__ import annotations

import zlib

import numpy as np


def _reversed_bits(value: int, width: int) -> int:
    return int(format(value, f"0{width}b")[::-1], 2)


_MIRROR = bytes(_reversed_bits(value, 8) for value in range(256))


def crc32(words: bytes) -> int:
    """Checksum of a C structure whose length is a multiple of four bytes.

    zlib computes the mirrored code (least significant bit first, inverted at the end), so its
    input's and its output's bits are turned round.

    Raises:
        ValueError: a length that is no multiple of four.
    """
    if len(words) % 4:
        raise ValueError(f"{len(words)} bytes, expected a multiple of 4")
    big_endian = np.frombuffer(words, "<u4").astype(">u4").tobytes()
    mirrored = zlib.crc32(big_endian.translate(_MIRROR)) ^ 0xFFFFFFFF
    return int.from_bytes(mirrored.to_bytes(4, "little").translate(_MIRROR), "big")
