"""Which version of the project made a result."""

from __future__ import annotations

import json
import subprocess
from functools import lru_cache
from pathlib import Path
from typing import Any, Dict, Mapping, Optional

import go2_sevpo
from go2_sevpo.runs.files import write_atomically


@lru_cache(maxsize=None)
def _commit(folder: Path) -> Optional[str]:
    """Commit of the checkout at ``folder``, with ``-dirty`` where files differ from it."""
    if not (folder / ".git").exists():
        return None  # an installed wheel
    command = ["git", "-C", str(folder), "describe", "--always", "--abbrev=40", "--dirty"]
    try:
        # No tag, whatever its name: always the commit.
        done = subprocess.run(
            [*command, "--exclude=*"], capture_output=True, text=True, check=True, timeout=10
        )
    except (OSError, subprocess.SubprocessError):
        return None  # no git here, or not one that may read this checkout
    return done.stdout.strip() or None


def made_by() -> Dict[str, Optional[str]]:
    """Version and commit of the running code; the commit is None outside a git checkout."""
    folder = Path(go2_sevpo.__file__).resolve().parent.parent
    return {"version": go2_sevpo.__version__, "commit": _commit(folder)}


def write_result(path: Path, result: Mapping[str, Any], indent: Optional[int] = None) -> None:
    """Write a result as JSON, with what made it under ``made_by``."""
    write_atomically(path, json.dumps({**result, "made_by": made_by()}, indent=indent))
