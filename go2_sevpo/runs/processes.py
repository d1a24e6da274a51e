"""The project's commands as child processes, which end with their parent.

However the parent ends: a child reads from a pipe whose other end only the parent holds, and stops
as if it were asked to when that is closed.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from typing import IO, List, Optional, Sequence

# ``python -m`` would put the working folder first on the path: a user's own tyro.py before ours.
_RUN = (
    "import runpy, sys; sys.path[:] = [p for p in sys.path if p]; "
    "from go2_sevpo.runs.processes import end_with_parent; end_with_parent(); "
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
    return subprocess.Popen(
        list(command), stdin=subprocess.PIPE, stdout=log, stderr=log, cwd=folder
    )


def end_with_parent() -> None:
    """From now on this process is asked to stop (SIGTERM) when the one that started it is gone.

    Called in children alone: what :func:`start` connects to the standard input is closed by the
    system when the parent ends, even if it is killed.
    """

    def watch() -> None:
        # Not sys.stdin: its lock would be held while the interpreter shuts down.
        try:
            while os.read(0, 1):
                pass
        except OSError:
            return  # no standard input at all: nothing to watch
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, daemon=True).start()


def end(processes: Sequence["subprocess.Popen[bytes]"]) -> None:
    """Ask those that still run to stop (a training writes its checkpoint first); wait for them."""
    # All are asked before any is waited for, so that they stop at the same time.
    for process in processes:
        if process.poll() is None:
            process.terminate()
    for process in processes:
        process.wait()
        close(process)


def close(process: "subprocess.Popen[bytes]") -> None:
    """Close the pipe to a child that has ended."""
    if process.stdin is not None:
        process.stdin.close()


def finish(process: "subprocess.Popen[bytes]") -> int:
    """Wait for a child and return its status; whatever interrupts the wait ends the child too."""
    try:
        status = process.wait()
    except BaseException:
        end([process])
        raise
    close(process)
    return status


def run(command: Sequence[str], log: Optional[IO[str]] = None, folder: Optional[str] = None) -> int:
    """Run a command to its end; see :func:`start`. Returns its status."""
    return finish(start(command, log, folder))
