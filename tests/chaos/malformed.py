"""Malformed files, one after another, each read in a process that may hang or die."""

from __future__ import annotations

import json
import os
import select
import shutil
import signal
import tempfile
import traceback
import warnings
from pathlib import Path
from typing import Iterator, List, Tuple

import numpy as np
import yaml

from go2_sevpo.runs.arguments import EXPECTED, complaint
from tests.chaos.mutations import BYTES, change_json, change_value, nested
from tests.chaos.outcome import Attack, Tally
from tests.chaos.readers import READERS, Reader
from tests.chaos.structures import STRUCTURES

HANG = 30
"""Seconds after which reading counts as hanging."""
Case = Tuple[Attack, bytes]


def _change_yaml(content: bytes, rng: np.random.Generator) -> bytes:
    return yaml.safe_dump(change_value(yaml.safe_load(content), rng)).encode()


def cases(reader: Reader, good: Path, count: int, rng: np.random.Generator) -> Iterator[Case]:
    """``count`` malformed contents of a reader's file, all kinds in turn, then its structures."""
    kinds = dict(BYTES)
    if reader.content == "json":
        kinds.update({"a value dropped, renamed or odd": change_json, "nested deeply": nested})
    elif reader.content == "yaml":
        kinds.update({"a value dropped, renamed or odd": _change_yaml, "nested deeply": nested})
    content = (good / reader.file).read_bytes()
    weights = [1.0 if name in ("empty", "nested deeply") else 6.0 for name in kinds]
    for name, share in zip(kinds, np.array(weights) / sum(weights)):
        for _ in range(max(1, round(count * share))):
            yield (reader.name, name), kinds[name](content, rng)
    for name, change in STRUCTURES.get(reader.file.rpartition(".")[2], {}).items():
        with tempfile.TemporaryDirectory() as place:
            path = Path(place) / reader.file
            path.write_bytes(content)
            if change(path, rng):
                yield (reader.name, name), path.read_bytes()


def _outcome(reader: Reader, folder: Path, expected: str) -> Tuple[str, str]:
    before = sorted(p.name for p in folder.iterdir())
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = reader.read(folder)
    except EXPECTED as error:
        line = complaint(error)
        named = reader.file in line or str(folder) in line or "setting '" in line
        if "\n" in line or not named:
            return "unclear", repr(line[:300])
        after = sorted(p.name.replace(".damaged", "") for p in folder.iterdir())
        if set(before) - set(after):
            return "lost", f"{before} -> {after}"
        return "refused", line
    except Exception:
        return "traceback", traceback.format_exc()[-600:]
    if found == expected:
        return "equal", ""
    return ("wrong", "other content was taken") if reader.sealed else ("other", "")


def _serve(reader: Reader, good: Path, expected: str, contents: List[bytes], first: int, out: int):
    """Read one malformed file after the other, telling each outcome through ``out``."""
    for content in contents[first:]:
        with tempfile.TemporaryDirectory() as place:
            folder = Path(place) / "f"
            shutil.copytree(good, folder)
            (folder / reader.file).write_bytes(content)
            told = json.dumps(_outcome(reader, folder, expected)).encode()
        os.write(out, len(told).to_bytes(4, "big") + told)


def _told(handle: int) -> Tuple[str, str]:
    """The next outcome, or that there was none in time."""
    if not select.select([handle], [], [], HANG)[0]:
        return "hang", f"no answer within {HANG} s"
    head = os.read(handle, 4)
    if len(head) < 4:
        return "crash", "the process died"
    size, told = int.from_bytes(head, "big"), b""
    while len(told) < size:
        told += os.read(handle, size - len(told))
    outcome, detail = json.loads(told)
    return outcome, detail


def attack(reader: Reader, count: int, rng: np.random.Generator, tally: Tally) -> None:
    """Give a reader ``count`` malformed files and count what comes of them."""
    with tempfile.TemporaryDirectory() as place:
        good = Path(place) / "good"
        good.mkdir()
        reader.make(good)
        with tempfile.TemporaryDirectory() as copy:
            shutil.copytree(good, Path(copy) / "c")
            expected = reader.read(Path(copy) / "c")
        attacks, contents = zip(*cases(reader, good, count, rng))
        done = 0
        while done < len(contents):
            here, there = os.pipe()
            child = os.fork()
            if child == 0:
                os.close(here)
                _silent()
                try:
                    _serve(reader, good, expected, list(contents), done, there)
                finally:
                    os._exit(0)
            os.close(there)
            while done < len(contents):
                outcome, detail = _told(here)
                tally.add(attacks[done], outcome, detail)
                done += 1
                if outcome in ("hang", "crash"):
                    break
            os.close(here)
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)


def _silent() -> None:
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.dup2(nowhere, 2)


def run(seed: int, count: int, tally: Tally) -> None:
    """Attack every reader with at least ``count`` malformed files."""
    for number, reader in enumerate(READERS):
        attack(reader, count, np.random.default_rng([seed, number]), tally)
