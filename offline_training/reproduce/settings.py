"""A command's settings as plain data and back: what goes into result files and to child processes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Dict


def plain(args: Any) -> Dict[str, Any]:
    """Settings as plain data."""
    return json.loads(json.dumps(vars(args), default=str))  # type: ignore[no-any-return]


def from_json(cls: Any, text: str) -> Any:
    """Settings of class ``cls`` from JSON; paths and tuples as in its defaults."""
    kinds = {k: type(v) for k, v in vars(cls()).items()}
    values = json.loads(text)
    return cls(
        **{
            k: Path(v) if issubclass(kinds[k], Path) else tuple(v) if kinds[k] is tuple else v
            for k, v in values.items()
        }
    )
