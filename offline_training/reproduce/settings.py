"""A command's settings as plain data and back: for result files and child processes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Dict, Type, TypeVar

Settings = TypeVar("Settings")
"""A dataclass."""


def plain(args: object) -> Dict[str, Any]:
    """Settings as plain data: tuples as lists, paths as text."""
    found: Dict[str, Any] = json.loads(json.dumps(vars(args), default=str))
    return found


def from_json(cls: Type[Settings], text: str) -> Settings:
    """Settings of class ``cls`` from JSON; paths and tuples as in its defaults."""
    kinds = {name: type(default) for name, default in vars(cls()).items()}
    values: Dict[str, Any] = json.loads(text)
    for name, value in values.items():
        if issubclass(kinds[name], Path):
            values[name] = Path(value)
        elif kinds[name] is tuple:
            values[name] = tuple(value)
    return cls(**values)
