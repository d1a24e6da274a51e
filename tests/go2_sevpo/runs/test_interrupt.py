"""A kill is a Ctrl-C."""

import os
import signal
import time

import pytest

from go2_sevpo.runs.interrupt import kill_interrupts


def test_sigterm_raises_keyboard_interrupt():
    before = signal.getsignal(signal.SIGTERM)
    try:
        kill_interrupts()
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(5)
    finally:
        signal.signal(signal.SIGTERM, before)
