"""Commands run side by side: a failure or a kill of the whole ends every part."""

import os
import signal
import subprocess
import sys
import time

import pytest

from offline_training.reproduce.jobs import Job, run_all

CHILD = "import os, time; print(os.getpid(), flush=True); time.sleep(600)"
PARENT = """
import sys
from pathlib import Path
import offline_training.reproduce.cli as cli
from offline_training.reproduce.jobs import Job, run_all
cli.tyro.cli = lambda *a, **k: 0
cli.RUN = {int: lambda _: run_all([Job("part", [sys.executable, "-c", sys.argv[1]], Path(sys.argv[2]))], 1)}
cli.main()
"""


def pid_in(log):
    for _ in range(600):
        if log.is_file() and log.read_text().strip():
            return int(log.read_text().split()[0])
        time.sleep(0.1)
    raise AssertionError("the part did not begin")


def is_alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_kill_ends_the_running_part(tmp_path, number):
    log = tmp_path / "part.log"
    parent = subprocess.Popen([sys.executable, "-c", PARENT, CHILD, str(log)], stderr=subprocess.PIPE, text=True)
    pid = pid_in(log)
    parent.send_signal(number)
    _, error = parent.communicate(timeout=60)
    assert parent.returncode == 1 and "stopped; finished parts are kept" in error
    assert not is_alive(pid)


def test_a_failed_part_ends_the_others(tmp_path):
    jobs = [
        Job("long", [sys.executable, "-c", CHILD], tmp_path / "long.log"),
        Job("broken", [sys.executable, "-c", "import sys, time; time.sleep(3); sys.exit(7)"], tmp_path / "broken.log"),
    ]
    with pytest.raises(ValueError, match="broken stopped with status 7; see .*broken.log"):
        run_all(jobs, 2)
    assert not is_alive(pid_in(tmp_path / "long.log"))
