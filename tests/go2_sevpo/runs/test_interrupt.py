"""A kill is a Ctrl-C."""

import os
import signal
import time

import pytest

from go2_sevpo.runs.interrupt import kill_interrupts, told_when_interrupted


def test_sigterm_raises_keyboard_interrupt():
    before = signal.getsignal(signal.SIGTERM)
    try:
        kill_interrupts()
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(5)
    finally:
        signal.signal(signal.SIGTERM, before)


def test_an_interrupt_is_one_line_and_status_130_others_pass(capsys):
    with pytest.raises(SystemExit) as end, told_when_interrupted("stopped; all is kept"):
        raise KeyboardInterrupt
    assert end.value.code == 130 and capsys.readouterr().err == "\nstopped; all is kept\n"
    with pytest.raises(ZeroDivisionError), told_when_interrupted("stopped"):
        raise ZeroDivisionError
    with pytest.raises(SystemExit, match="^3$"), told_when_interrupted("stopped"):
        raise SystemExit(3)
    with told_when_interrupted("stopped"):
        pass
    assert capsys.readouterr().err == ""
