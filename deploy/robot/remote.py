"""Keys of Unitree's remote, as they stand in ``LowState_`` and in ``WirelessController_``."""

from __future__ import annotations

from typing import FrozenSet, Iterable

import numpy as np

KEYS = (
    *("R1", "L1", "start", "select", "R2", "L2", "F1", "F2"),
    *("A", "B", "X", "Y", "up", "right", "down", "left"),
)
"""Bit by bit of the 16-bit mask; in ``wireless_remote`` its low byte is number 2, its high 3."""


def pressed(mask: int) -> FrozenSet[str]:
    """Names of the keys in a mask."""
    return frozenset(name for bit, name in enumerate(KEYS) if mask >> bit & 1)


def mask_of(keys: Iterable[str]) -> int:
    """Mask of some keys.

    Raises:
        ValueError: a key that the remote does not have.
    """
    mask = 0
    for key in keys:
        if key not in KEYS:
            raise ValueError(f"no key '{key}' on the remote, expected {', '.join(KEYS)}")
        mask |= 1 << KEYS.index(key)
    return mask


def mask_in_state(wireless_remote: np.ndarray) -> int:
    """Mask in a ``LowState_``'s 40 bytes."""
    return int(wireless_remote[2]) | int(wireless_remote[3]) << 8
