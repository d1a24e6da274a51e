"""Files that are whole or not there: written under another name, flushed to the disk, renamed."""

from __future__ import annotations

import os
from contextlib import contextmanager
from pathlib import Path
from typing import Iterator

UNFINISHED = ".tmp"
"""Ending of files that are being written; what a kill leaves behind may be deleted."""


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Give a name beside ``path`` to write to; what is there when the block ends becomes ``path``.

    The folder is made if it is missing. If the block raises, ``path`` stays what it was and the
    unfinished file is deleted.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(path.name + UNFINISHED)
    try:
        yield temporary
        # On the disk before it has the name, or a power cut could leave an empty file under it.
        with open(temporary, "rb+") as handle:
            os.fsync(handle.fileno())
        os.replace(temporary, path)
    except BaseException:  # Ctrl-C too
        if temporary.exists():
            temporary.unlink()
        raise


def write_atomically(path: Path, text: str) -> None:
    """Write a text file in UTF-8."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
