"""Settings of a run held against those it was begun with."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Mapping, Optional, Sequence

from go2_sevpo.runs.files import write_atomically
from go2_sevpo.runs.reading import read_json


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


def keep_settings(
    out: Path,
    settings: Mapping[str, Any],
    but_for: Sequence[str] = (),
    name: str = "settings.json",
) -> None:
    """Note the settings of a working folder, or hold the present ones against those noted.

    Finished parts of such a folder are not done again; with other settings they would pass for
    what they are not.

    Args:
        out: the folder, made if it is missing.
        settings: of the command.
        but_for: names that may differ: where and how fast things run, what is added.
        name: of the file in ``out`` that holds them.

    Raises:
        ValueError: naming the first setting that differs: ``seed: 0 -> 1``.
    """
    path, now = out / name, plain(settings)
    if not path.is_file():
        write_atomically(path, json.dumps(now, indent=1))
        return
    found = first_difference(read_json(path), now, but_for)
    if found is not None:
        place = out if name == "settings.json" else path
        raise ValueError(f"{place} was begun with other settings: {found}; use another --out")
