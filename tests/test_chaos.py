"""Attacks on files and running commands do no harm: ``make chaos``, in a process of its own."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


@pytest.mark.slow
@pytest.mark.skipif(sys.version_info < (3, 9), reason="statuses of processes need Python 3.9")
@pytest.mark.skipif(not hasattr(os, "fork"), reason="attacks are forked")
@pytest.mark.parametrize("part", ["files", "kills"])
def test_no_attack_does_harm(part):
    command = [sys.executable, "-m", "tests.chaos", "--only", part, "--seed", "0"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-4000:]
    assert " 0 did harm" in done.stdout
    if part == "files":
        attacks = int(done.stdout.rpartition(": ")[2].split()[0])
        assert attacks >= 1500
