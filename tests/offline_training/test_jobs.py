"""Commands run side by side: a failure or a kill of the whole ends every part."""

import os
import signal
import subprocess
import sys
import time

import pytest

from go2_sevpo.offline_training.reproduce.jobs import Job, run_all

CHILD = "import os, time; print(os.getpid(), flush=True); time.sleep(600)"
# What a shell starts in the background ignores SIGINT, and so do its children: the parent takes it
# up again.
PARENT = """
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)
from pathlib import Path
from types import SimpleNamespace
import go2_sevpo.offline_training.reproduce.cli as cli
from go2_sevpo.offline_training.reproduce.jobs import Job, run_all
cli.tyro.cli = lambda *a, **k: SimpleNamespace(out=Path(sys.argv[2]).parent)
job = Job("part", [sys.executable, "-c", sys.argv[1]], Path(sys.argv[2]))
cli.RUN = {SimpleNamespace: lambda _: run_all([job], 1)}
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
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT, CHILD, str(log)], stderr=subprocess.PIPE, text=True
    )
    pid = pid_in(log)
    parent.send_signal(number)
    _, error = parent.communicate(timeout=60)
    assert parent.returncode == 1 and "stopped; finished parts are kept" in error
    assert not is_alive(pid)


def test_a_failed_part_ends_the_others(tmp_path):
    jobs = [
        Job("long", [sys.executable, "-c", CHILD], tmp_path / "long.log"),
        Job(
            "broken",
            [sys.executable, "-c", "import sys, time; time.sleep(3); sys.exit(7)"],
            tmp_path / "broken.log",
        ),
    ]
    with pytest.raises(ValueError, match="broken stopped with status 7; see .*broken.log"):
        run_all(jobs, 2)
    assert not is_alive(pid_in(tmp_path / "long.log"))


def test_ray_runs_them_and_reports_like_here(tmp_path, capsys):
    pytest.importorskip("ray")
    jobs = [
        Job(
            f"part {k}",
            [sys.executable, "-c", f"import os; print('result {k}', os.getcwd())"],
            tmp_path / f"{k}.log",
        )
        for k in range(3)
    ]
    run_all(jobs, 1, "local")
    said = capsys.readouterr().out
    assert (
        all(f"part {k}: result {k} {os.getcwd()}" in said for k in range(3))
        and "0 of 3 left" in said
    )
    broken = Job(
        "broken",
        [sys.executable, "-c", "import time, sys; time.sleep(2); sys.exit(7)"],
        tmp_path / "broken.log",
    )
    long = Job("long", [sys.executable, "-c", CHILD], tmp_path / "long.log")
    with pytest.raises(ValueError, match="broken stopped with status 7; see .*broken.log"):
        run_all([long, broken], 1, "local")


def test_absent_ray_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ValueError, match="--ray needs the package ray"):
        run_all([Job("part", [sys.executable, "-c", ""], tmp_path / "log")], 1, "auto")
