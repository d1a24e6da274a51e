"""Files that are whole or not there: written under another name, flushed to the disk, renamed.

Nothing else in the project opens a file to write it, but for logs that grow line by line.
"""

from __future__ import annotations

import glob
import os
import time
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Iterator, Optional
from uuid import uuid4

UNFINISHED = ".tmp"
"""Ending of files that are being written; what a kill leaves behind may be deleted."""
STALE_SECONDS = 60.0
"""Untouched for so long, an unfinished file of a process that is gone is nobody's.

Where a folder is shared, the process may live on another machine: it keeps touching its file.
"""


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Give a name beside ``path`` to write to; what is there when the block ends becomes ``path``.

    The name is this block's own: of several writers the last to finish wins, and none sees half of
    another's file. The folder is made if it is missing. If the block raises, ``path`` stays what it
    was and the unfinished file is deleted.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    _delete_stale(path)
    temporary = path.with_name(f"{path.name}.{os.getpid()}-{uuid4().hex[:8]}{UNFINISHED}")
    try:
        yield temporary
        # On the disk before it has the name, or a power cut could leave an empty file under it.
        with open(temporary, "rb+") as handle:
            os.fsync(handle.fileno())
        os.replace(temporary, path)
        _flush_folder(path.parent)
    except BaseException:  # Ctrl-C too
        if temporary.exists():
            temporary.unlink()
        raise


def write_atomically(path: Path, text: str) -> None:
    """Write a text file in UTF-8."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def save_figure(path: Path, figure: Any, dpi: int) -> None:
    """Draw a matplotlib figure into the kind of file that ``path`` ends on."""
    with atomic_path(path) as temporary:
        figure.savefig(str(temporary), dpi=dpi, format=path.suffix[1:])


def unfinished(path: Path) -> Iterator[Path]:
    """What writers of ``path`` have not finished, running or killed."""
    for name in glob.glob(f"{glob.escape(str(path))}.*{UNFINISHED}"):
        yield Path(name)


def _delete_stale(path: Path) -> None:
    """Delete what killed writers of ``path`` left behind."""
    for leftover in unfinished(path):
        try:
            untouched = time.time() - leftover.stat().st_mtime
            if untouched > STALE_SECONDS and not _runs(_writer(leftover)):
                leftover.unlink()
        except OSError:
            continue  # another writer was quicker


def _writer(temporary: Path) -> Optional[int]:
    """The process that writes an unfinished file; None if the name does not tell."""
    number = temporary.name[: -len(UNFINISHED)].rpartition(".")[2].partition("-")[0]
    return int(number) if number.isdigit() else None


def _runs(process: Optional[int]) -> bool:
    """Whether a process of this machine is alive."""
    if process is None:
        return False
    try:
        os.kill(process, 0)  # asks, sends nothing
    except ProcessLookupError:
        return False
    except OSError:
        return True  # somebody else's
    return True


def _flush_folder(folder: Path) -> None:
    """Put the new name itself on the disk, where the system can."""
    try:
        handle = os.open(folder, os.O_RDONLY)
    except OSError:
        return
    try:
        os.fsync(handle)
    except OSError:
        pass  # some network file systems refuse
    finally:
        os.close(handle)
