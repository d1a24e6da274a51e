"""Commands that are killed, that meet each other, and that run out of disk."""

from __future__ import annotations

import os
import resource
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Callable, Dict, List, Optional

import numpy as np

from tests.chaos.commands import Command, commands, exporting, start
from tests.chaos.outcome import Tally

SIGNALS = {"SIGKILL": signal.SIGKILL, "SIGTERM": signal.SIGTERM, "Ctrl-C": signal.SIGINT}
HANG = 60.0
"""Seconds after which a command counts as hanging."""
Result = Dict[str, str]
Prepare = Callable[[], None]


def _wait(child: int, seconds: float = HANG) -> Optional[int]:
    """Status of a child as a shell says it; None if it did not end in time."""
    deadline = time.perf_counter() + seconds
    while time.perf_counter() < deadline:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.005)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return None


def _said(log: Path) -> str:
    return log.read_text(encoding="utf-8", errors="replace")[-800:] if log.is_file() else ""


def _finish(command: Command, out: Path, expected: Result) -> "tuple[str, str]":
    """Run the command to its end and compare what it leaves with an undisturbed run's."""
    log = out.with_name("finish.log")
    status = _wait(start(command, out, log))
    if status is None:
        return "hang", "going on did not end"
    if status:
        return ("traceback" if "Traceback" in _said(log) else "lost"), _said(log)
    found = command.result(out)
    if found != expected:
        return "wrong", f"differs in {[k for k in expected if found.get(k) != expected[k]]}"
    return "resumed", ""


def _at_call(name: str, number: int, after: bool) -> Callable[[], None]:
    """Make a process kill itself at its ``number``-th call of an operating system function."""

    def prepare() -> None:
        real, count = getattr(os, name), [0]

        def watched(*arguments: object) -> object:
            count[0] += 1
            if count[0] == number and not after:
                os.kill(os.getpid(), signal.SIGKILL)
            found = real(*arguments)
            if count[0] == number:
                os.kill(os.getpid(), signal.SIGKILL)
            return found

        setattr(os, name, watched)

    return prepare


def _in_folder(attack: Callable[[Path], None]) -> None:
    with tempfile.TemporaryDirectory() as place:
        attack(Path(place) / "out")


def _kills(
    command: Command,
    expected: Result,
    seconds: float,
    tally: Tally,
    rng: np.random.Generator,
    times: int,
) -> None:
    for name, number in SIGNALS.items():
        for _ in range(times):

            def attack(out: Path, number: int = number, name: str = name) -> None:
                # Up to three times in a row, then it may end.
                for _ in range(int(rng.integers(1, 4))):
                    log = out.with_name("killed.log")
                    child = start(command, out, log)
                    time.sleep(rng.uniform(0.05, 1.0) * seconds)
                    # A child that has ended stays a number until it is waited for.
                    os.kill(child, number)
                    if _wait(child) is None:
                        tally.add((command.name, f"{name} at random times"), "hang")
                        return
                    if "Traceback" in _said(log):
                        tally.add(
                            (command.name, f"{name} at random times"), "traceback", _said(log)
                        )
                        return
                outcome = _finish(command, out, expected)
                tally.add((command.name, f"{name} at random times"), *outcome)

            _in_folder(attack)
    for call in ("replace", "fsync"):
        for after in (False, True):
            what = "a rename" if call == "replace" else "a flush"
            how = f"killed {'after' if after else 'before'} {what}"
            for _ in range(times):
                prepare = _at_call(call, int(rng.integers(1, 8)), after)

                def attack(out: Path, prepare: Prepare = prepare, how: str = how) -> None:
                    _wait(start(command, out, out.with_name("killed.log"), prepare))
                    tally.add((command.name, how), *_finish(command, out, expected))

                _in_folder(attack)


def _two_writers(command: Command, expected: Result, tally: Tally) -> None:
    def attack(out: Path) -> None:
        logs = [out.with_name(f"{k}.log") for k in range(2)]
        children = [start(command, out, log) for log in logs]
        found = [_wait(child) for child in children]
        said = [_said(log) for log in logs]
        if any("Traceback" in text for text in said):
            tally.add((command.name, "two at once"), "traceback", "".join(said))
        elif 0 not in found:
            tally.add((command.name, "two at once"), "lost", "".join(said))
        else:
            # The other was refused, or came when everything was done.
            tally.add((command.name, "two at once"), *_finish(command, out, expected))

    _in_folder(attack)


def _small_files(limit: int) -> Callable[[], None]:
    def prepare() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # an error instead of a signal
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

    return prepare


def _starved(command: Command, out: Path, expected: Result, how: str, tally: Tally, room) -> None:
    """Run without enough room, then with: one line first, the undisturbed result then."""
    log = out.with_name("starved.log")
    status = _wait(start(command, out, log, room))
    if status is None:
        tally.add((command.name, how), "hang")
    elif "Traceback" in _said(log):
        tally.add((command.name, how), "traceback", _said(log))
    else:
        tally.add((command.name, how), *_finish(command, out, expected))


def _no_room(
    command: Command, expected: Result, tally: Tally, rng: np.random.Generator, times: int
) -> None:
    for _ in range(times):
        limit = int(rng.integers(200, 40_000))
        how = "files may not grow"
        _in_folder(
            lambda out: _starved(command, out, expected, how, tally, _small_files(limit))  # noqa: B023
        )

    def on_full_disk(out: Path) -> None:
        out.mkdir()
        mount = ["mount", "-t", "tmpfs", "-o", f"size={int(rng.integers(1, 12)) * 8}k", "none"]
        if subprocess.run([*mount, str(out)], capture_output=True, check=False).returncode:
            return  # only the system's administrator may mount
        try:
            log = out.with_name("full.log")
            status = _wait(start(command, out, log))
            if status is None or "Traceback" in _said(log):
                outcome = "hang" if status is None else "traceback"
                tally.add((command.name, "disk full"), outcome, _said(log))
                return
            subprocess.run(
                ["mount", "-o", "remount,size=64m", str(out)], capture_output=True, check=True
            )
            tally.add((command.name, "disk full"), *_finish(command, out, expected))
        finally:
            subprocess.run(["umount", "-l", str(out)], capture_output=True, check=False)

    _in_folder(on_full_disk)


def _three_exports(run: Path, tally: Tally) -> None:
    command = exporting(run)

    def attack(out: Path) -> None:
        _wait(start(command, out, out.with_name("alone.log")))
        expected = command.result(out)
        shutil.rmtree(out)
        logs = [out.with_name(f"{k}.log") for k in range(3)]
        found = [_wait(child) for child in [start(command, out, log) for log in logs]]
        left = sorted(path.name for path in out.iterdir())
        if found != [0, 0, 0] or left != ["policy.onnx", "policy.yaml"][: len(left)]:
            tally.add((command.name, "three to one file"), "lost", f"{found} {left}")
        elif command.result(out) != expected:
            tally.add((command.name, "three to one file"), "wrong", "another file")
        else:
            tally.add((command.name, "three to one file"), "resumed")

    _in_folder(attack)


def run(seed: int, times: int, tally: Tally) -> None:
    """All attacks on all commands, ``times`` times."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        made: List[Command] = commands(folder)
        for number, command in enumerate(made):
            reference, begun = folder / f"reference_{number}", time.perf_counter()
            status = _wait(start(command, reference, folder / "reference.log"))
            assert status == 0, _said(folder / "reference.log")
            seconds = time.perf_counter() - begun
            expected = command.result(reference)
            rng = np.random.default_rng([seed, number, 7])
            _kills(command, expected, seconds, tally, rng, times)
            _two_writers(command, expected, tally)
            _no_room(command, expected, tally, rng, times)
            if command.name == "go2-train bc":
                _three_exports(reference, tally)
            print(f"{command.name}: {tally.total} attacks, {tally.bad} did harm", flush=True)
