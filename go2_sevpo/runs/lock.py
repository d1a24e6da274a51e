"""One writer at a time in a folder: of a run, a dataset, a figure."""

from __future__ import annotations

from contextlib import contextmanager
from pathlib import Path
from typing import Iterator

from filelock import FileLock, Timeout

LOCK = ".lock"


class BusyError(ValueError):
    """Another process is writing to the folder."""


@contextmanager
def sole_writer(folder: Path) -> Iterator[None]:
    """Hold ``folder`` (made if it is missing) while the block runs.

    The operating system lets go when a process ends, however it ends; the file that stays behind
    (``.lock``) means nothing.

    Raises:
        BusyError: another process, or another block of this one, holds it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(str(folder / LOCK), timeout=0):  # do not wait for it
            yield
    except Timeout:
        raise BusyError(
            f"{folder} is being written by another process, expected to be the only one; "
            "wait for it, stop it, or use another --out"
        ) from None
