"""The project's commands as child processes, which end with their parent."""

from __future__ import annotations

import subprocess
import sys
from typing import IO, List, Optional, Sequence

# ``python -m`` would put the working folder first on the path: a user's own tyro.py before ours.
_RUN = (
    "import runpy, sys; sys.path[:] = [p for p in sys.path if p]; "
    "sys.argv = sys.argv[1:]; runpy.run_module(sys.argv[0], run_name='__main__', alter_sys=True)"
)


def module(name: str, *arguments: object) -> List[str]:
    """The command that runs one of the project's modules with this interpreter.

    Args:
        name: the module, in full.
        arguments: words of its command line; what is not a text is made one.
    """
    return [sys.executable, "-c", _RUN, name, *map(str, arguments)]


def start(
    command: Sequence[str], log: Optional[IO[str]] = None, folder: Optional[str] = None
) -> "subprocess.Popen[bytes]":
    """Start a command in ``folder``; its output and errors go to ``log`` if given."""
    return subprocess.Popen(list(command), stdout=log, stderr=log, cwd=folder)


def end(processes: Sequence["subprocess.Popen[bytes]"]) -> None:
    """Ask those that still run to stop (a training writes its checkpoint first); wait for them."""
    # All are asked before any is waited for, so that they stop at the same time.
    for process in processes:
        if process.poll() is None:
            process.terminate()
    for process in processes:
        process.wait()


def finish(process: "subprocess.Popen[bytes]") -> int:
    """Wait for a child and return its status; whatever interrupts the wait ends the child too."""
    try:
        return process.wait()
    except BaseException:
        end([process])
        raise


def run(command: Sequence[str], log: Optional[IO[str]] = None, folder: Optional[str] = None) -> int:
    """Run a command to its end; see :func:`start`. Returns its status."""
    return finish(start(command, log, folder))
