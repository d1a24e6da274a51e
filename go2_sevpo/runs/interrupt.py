"""Ctrl-C that is told in one line, and kills that behave like it."""

from __future__ import annotations

import signal
import sys
from contextlib import contextmanager
from types import FrameType
from typing import Iterator, Optional


def _interrupt(number: int, frame: Optional[FrameType]) -> None:
    raise KeyboardInterrupt


@contextmanager
def told_when_interrupted(line: str) -> Iterator[None]:
    """Ctrl-C ends the process with one ``line`` and status 130, wherever it comes."""
    try:
        yield
    except KeyboardInterrupt:
        print(f"\n{line}", file=sys.stderr, flush=True)
        sys.exit(130)


def kill_interrupts() -> None:
    """From now on SIGTERM raises KeyboardInterrupt in the main thread.

    By default the process would end at once and leave its running parts behind.
    """
    signal.signal(signal.SIGTERM, _interrupt)
