"""Commands as child processes: what they import, what they return, and that they end with us."""

import io
import json
import os
import signal
import subprocess
import sys
import time

import pytest

from go2_sevpo.runs import processes


def test_a_module_is_run_with_its_arguments_but_never_from_the_working_folder(tmp_path):
    # json.tool reads a file and prints it; a json.py of the user's must not be in its way.
    for name in ("json", "argparse", "tyro"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('the user\\'s own')\n")
    (tmp_path / "in.json").write_text('{"a": [1]}')
    command = processes.module("json.tool", "in.json", tmp_path / "out.json")
    assert command[0] == sys.executable and command[3] == "json.tool"
    assert command[4:] == ["in.json", str(tmp_path / "out.json")]
    with open(tmp_path / "log", "w") as log:
        assert processes.run(command, log, str(tmp_path)) == 0, (tmp_path / "log").read_text()
    assert json.loads((tmp_path / "out.json").read_text()) == {"a": [1]}


def test_a_status_comes_back_and_the_output_goes_to_the_log(tmp_path):
    with open(tmp_path / "log", "w") as log:
        code = "import sys; print('said'); sys.exit(7)"
        assert processes.run([sys.executable, "-c", code], log) == 7
    assert (tmp_path / "log").read_text() == "said\n"


class Slow:
    """A child that stops when it is asked to."""

    def __init__(self, running=True):
        self.running, self.asked, self.waits, self.stdin = running, 0, 0, io.BytesIO()

    def poll(self):
        return None if self.running else 0

    def terminate(self):
        self.asked += 1
        self.running = False

    def wait(self):
        self.waits += 1
        if self.running:
            raise KeyboardInterrupt
        return 3


def test_an_interrupt_ends_the_child_too():
    child = Slow()
    with pytest.raises(KeyboardInterrupt):
        processes.finish(child)
    assert (child.asked, child.waits) == (1, 2) and child.stdin.closed


def test_all_are_asked_before_any_is_waited_for():
    running, over = Slow(), Slow(running=False)
    processes.end([running, over])
    assert (running.asked, running.waits, over.asked, over.waits) == (1, 1, 0, 1)


def test_a_real_child_is_gone(tmp_path):
    child = processes.start([sys.executable, "-c", "import time; time.sleep(600)"])
    time.sleep(0.2)
    processes.end([child])
    assert child.returncode != 0
    with pytest.raises(ProcessLookupError):
        os.kill(child.pid, 0)


PARENT = """
import sys, time
from go2_sevpo.runs import processes
wait = "__import__('time').sleep(600)"
child = processes.start(processes.module("timeit", "-n", "1", "-r", "1", wait))
print(child.pid, flush=True)
time.sleep(600)
"""


def _alive(number):
    try:
        with open(f"/proc/{number}/stat") as handle:
            return handle.read().split()[2] != "Z"
    except OSError:
        return False


@pytest.mark.skipif(not os.path.isdir("/proc/self"), reason="asks Linux who is alive")
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_child_ends_when_its_parent_is_killed(number):
    parent = subprocess.Popen([sys.executable, "-c", PARENT], stdout=subprocess.PIPE)
    child = int(parent.stdout.readline())
    time.sleep(0.5)
    assert _alive(child)
    parent.send_signal(number)
    parent.wait()
    parent.stdout.close()
    deadline = time.time() + 20
    while _alive(child) and time.time() < deadline:
        time.sleep(0.05)
    assert not _alive(child)
