"""Kills that behave like Ctrl-C, for commands whose parts are processes of their own."""

from __future__ import annotations

import signal
from typing import Any


def _interrupt(number: int, frame: Any) -> None:
    raise KeyboardInterrupt


def kill_interrupts() -> None:
    """From now on SIGTERM raises KeyboardInterrupt in the main thread; by default the running parts
    would be left behind.
    """
    signal.signal(signal.SIGTERM, _interrupt)
