"""Only one process writes to a folder."""

import os
import signal
import subprocess
import sys

import pytest

from go2_sevpo.runs.lock import BusyError, sole_writer

HOLD = """
import sys, time
from pathlib import Path
from go2_sevpo.runs.lock import sole_writer
with sole_writer(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(600)
"""


def test_a_folder_held_by_another_process_is_refused_until_that_one_dies(tmp_path):
    folder = tmp_path / "run"
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(folder)], stdout=subprocess.PIPE, text=True
    )
    try:
        assert holder.stdout.readline().strip() == "held"
        with pytest.raises(BusyError, match="run is being written by another process"), sole_writer(
            folder
        ):
            raise AssertionError("two writers")
    finally:
        os.kill(holder.pid, signal.SIGKILL)
        holder.communicate()
    with sole_writer(folder):
        pass


def test_it_is_free_again_after_an_error(tmp_path):
    with pytest.raises(ZeroDivisionError), sole_writer(tmp_path):
        raise ZeroDivisionError
    with sole_writer(tmp_path), sole_writer(tmp_path / "part"):
        pass
