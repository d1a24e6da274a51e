"""Settings of a run held against those it was begun with."""

from __future__ import annotations

import json
from typing import Any, Mapping, Optional, Sequence


def plain(settings: Mapping[str, Any]) -> Any:
    """Settings as they come back from a file: tuples are lists, paths are texts."""
    return json.loads(json.dumps(settings, default=str))


def first_difference(
    begun: Any, now: Any, but_for: Sequence[str] = (), path: str = ""
) -> Optional[str]:
    """Name the first setting that differs: ``ppo.gamma: 0.99 -> 0.9``; None if none does.

    Args:
        begun, now: plain data, nested dictionaries.
        but_for: dotted names that may differ.
        path: dotted name of what is compared.
    """
    if path in but_for:
        return None
    if isinstance(begun, Mapping) and isinstance(now, Mapping):
        for key in sorted(set(begun) | set(now)):
            inner = f"{path}.{key}" if path else str(key)
            found = first_difference(begun.get(key), now.get(key), but_for, inner)
            if found is not None:
                return found
        return None
    return None if begun == now else f"{path}: {begun} -> {now}"
