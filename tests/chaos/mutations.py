"""Damage to bytes, to JSON and to YAML, drawn from a seeded generator."""

from __future__ import annotations

import copy
import json
from typing import Any, Callable, Dict, List, Tuple

import numpy as np

Random = np.random.Generator
Bytes = Callable[[bytes, Random], bytes]


def _flip(content: bytes, rng: Random) -> bytes:
    damaged = bytearray(content)
    damaged[rng.integers(len(content))] ^= 1 << int(rng.integers(8))
    return bytes(damaged)


def _cut(content: bytes, rng: Random) -> bytes:
    return content[: rng.integers(len(content))]


def _block(content: bytes, rng: Random) -> Tuple[int, int]:
    start = int(rng.integers(len(content)))
    return start, min(len(content), start + int(rng.integers(1, 512)))


def _zeros(content: bytes, rng: Random) -> bytes:
    start, end = _block(content, rng)
    return content[:start] + bytes(end - start) + content[end:]


def _noise(content: bytes, rng: Random) -> bytes:
    start, end = _block(content, rng)
    return content[:start] + rng.bytes(end - start) + content[end:]


def _insert(content: bytes, rng: Random) -> bytes:
    start, end = _block(content, rng)
    return content[:start] + rng.bytes(end - start) + content[start:]


def _drop(content: bytes, rng: Random) -> bytes:
    start, end = _block(content, rng)
    return content[:start] + content[end:]


def _nothing(content: bytes, rng: Random) -> bytes:
    return b""


def _other(content: bytes, rng: Random) -> bytes:
    return rng.bytes(int(rng.integers(1, 4096)))


BYTES: Dict[str, Bytes] = {
    "one bit flipped": _flip,
    "cut short": _cut,
    "a block of zeros": _zeros,
    "a block of noise": _noise,
    "bytes put in": _insert,
    "bytes left out": _drop,
    "empty": _nothing,
    "something else": _other,
}

ODD: List[Any] = [
    *(None, True, -1, 0, 1e308, float("nan"), float("inf"), 2**80, "", "../../etc/passwd"),
    *("x" * 10_000, "\u0000", [], {}, [[[]]], {"a": {"b": []}}, [1, "2", None], "1e400", "-"),
]
"""Values that a field does not expect."""


def _places(value: Any, path: Tuple[Any, ...] = ()) -> List[Tuple[Any, ...]]:
    found = [path] if path else []
    if isinstance(value, dict):
        for key, inner in value.items():
            found += _places(inner, (*path, key))
    elif isinstance(value, list):
        for number, inner in enumerate(value):
            found += _places(inner, (*path, number))
    return found


def change_value(value: Any, rng: Random) -> Any:
    """Plain data with one place dropped, replaced by something odd, or doubled."""
    value = copy.deepcopy(value)
    places = _places(value)
    if not places or rng.random() < 0.05:
        return ODD[rng.integers(len(ODD))]
    *way, last = places[rng.integers(len(places))]
    owner = value
    for step in way:
        owner = owner[step]
    how = rng.integers(4)
    if how == 0:
        del owner[last]
    elif how == 1 and isinstance(owner, dict):
        owner[f"{last}x"] = owner.pop(last)
    else:
        owner[last] = ODD[rng.integers(len(ODD))]
    return value


def change_json(content: bytes, rng: Random) -> bytes:
    """JSON text with :func:`change_value` done to it."""
    return json.dumps(change_value(json.loads(content), rng)).encode()


def nested(content: bytes, rng: Random) -> bytes:
    """Lists in lists, deeper than a parser can follow."""
    return b"[" * 200_000
