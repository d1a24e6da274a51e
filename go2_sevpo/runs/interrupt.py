"""Kills that behave like Ctrl-C, for commands whose parts are processes of their own."""

from __future__ import annotations

import signal
from types import FrameType
from typing import Optional


def _interrupt(number: int, frame: Optional[FrameType]) -> None:
    raise KeyboardInterrupt


def kill_interrupts() -> None:
    """From now on SIGTERM raises KeyboardInterrupt in the main thread.

    By default the process would end at once and leave its running parts behind.
    """
    signal.signal(signal.SIGTERM, _interrupt)
