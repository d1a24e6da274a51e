"""DSRL's datasets (``go2-dsrl tasks | download | validate | mix | generate | collect``)."""

from __future__ import annotations

import os
import sys
import urllib.error
import urllib.request
from dataclasses import dataclass
from http.client import HTTPResponse
from pathlib import Path
from typing import Any, Callable, Dict, Optional, Tuple, Type, Union

import tyro

from go2_sevpo.data import shards
from go2_sevpo.data.dsrl.files import read_dsrl
from go2_sevpo.data.dsrl.mixes import draw_mix, whole, write_mix
from go2_sevpo.data.shards import DatasetError
from go2_sevpo.envs.safety_gymnasium import files
from go2_sevpo.envs.safety_gymnasium.tasks import TASKS, Task, find_task
from go2_sevpo.runs.arguments import EXPECTED, complaint
from go2_sevpo.runs.progress import Progress


@dataclass
class Tasks:
    """List the tasks, their files and whether they are here."""


@dataclass
class Download:
    """Fetch a task's file; goes on where it was interrupted."""

    task: tyro.conf.Positional[str]
    folder: Optional[Path] = None
    """Where to put it; $DSRL_DATASET_DIR or DSRL's own cache if not given."""
    host: str = files.HOST
    sha256: Optional[str] = None
    """Refuse the file if its checksum is another one."""


@dataclass
class Validate:
    """Check a task's file and show what it holds."""

    task: tyro.conf.Positional[str]
    path: Optional[Path] = None
    """The file, or a folder that has it."""


@dataclass
class Mix:
    """Write a mix of safe and unsafe trajectories as one file.

    DSRL's, OSRL's and our loaders read it.
    """

    task: tyro.conf.Positional[str]
    out: Path
    ratio: Tuple[float, float] = (1.0, 1.0)
    """Safe to unsafe; the paper's are 8 1, 1 1 and 1 3."""
    path: Optional[Path] = None
    limit: float = 10.0
    """A trajectory is safe if its cost is at most this."""
    safe_samples: Optional[int] = None
    """Safe transitions; the paper's number for the task if not given."""
    seed: int = 0
    all: bool = False
    """Every trajectory once, as the file has them (the paper's "ori"), whatever the ratio."""


@dataclass
class Generate:
    """Make data in DSRL's layout with scripted and searched behaviour.

    For where DSRL's own are not at hand; not comparable with them.
    """

    task: tyro.conf.Positional[str]
    """Any of the nine."""
    out: Optional[Path] = None
    """HDF5 file; data/generated_TASK_EPISODES.hdf5 if not given."""
    episodes: int = 400
    seed: int = 0
    processes: int = 2


@dataclass
class Collect:
    """Collect episodes with a policy file, in DSRL's layout."""

    task: tyro.conf.Positional[str]
    policy: tyro.conf.Positional[Path]
    out: Path
    episodes: int = 300
    candidates: Optional[int] = None
    """N; the policy's own if not given."""
    seed: int = 0
    processes: int = 2


Command = Union[Tasks, Download, Validate, Mix, Generate, Collect]


def download(task: Task, folder: Path, host: str, sha256: Optional[str] = None) -> str:
    """Fetch into ``NAME.part``, going on where it ends; check it; give it its name.

    Returns the checksum.

    Raises:
        DatasetError: the host does not answer, or the file is damaged or not the one expected.
    """
    out, part = folder / task.file_name, folder / (task.file_name + ".part")
    if out.is_file():
        return shards.sha256(out)
    folder.mkdir(parents=True, exist_ok=True)
    have = part.stat().st_size if part.is_file() else 0
    headers = {"Range": f"bytes={have}-"} if have else {}
    request = urllib.request.Request(f"{host}/{task.file_name}", headers=headers)
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            if answer.status != 206:  # 206: the part that was asked for
                have = 0  # the host sends the whole file
            _receive(answer, part, have, have + int(answer.headers.get("Content-Length") or 0))
    except urllib.error.HTTPError as error:
        if error.code != 416:  # 416: nothing is left to send
            raise DatasetError(f"{request.full_url}: {error}; the part is kept as {part}") from None
    except (urllib.error.URLError, OSError) as error:
        raise DatasetError(
            f"{request.full_url}: {error}; what arrived is kept as {part}, the same command goes on"
        ) from None
    found = shards.sha256(part)
    if sha256 is not None and found != sha256:
        raise DatasetError(
            f"{part} has SHA-256 {found}, expected {sha256}; delete it and try again"
        )
    files.validate(part, task)
    os.replace(part, out)
    return found


def _receive(answer: HTTPResponse, part: Path, have: int, total: int) -> None:
    """Append what arrives to ``part``, which has ``have`` of ``total`` bytes; 0: not known.

    Raises:
        OSError: the connection ended early.
    """
    progress, shown = Progress(total, have), 0.0
    with open(part, "ab" if have else "wb") as handle:
        while True:
            block = answer.read(1 << 20)
            if not block:
                break
            handle.write(block)
            progress.advance(len(block))
            if progress.seconds - shown > 5:
                shown = progress.seconds
                print(
                    f"{progress.done / 1e6:.0f} of {total / 1e6:.0f} MB, "
                    f"{progress.rate / 1e6:.1f} MB/s, {progress.text()}",
                    flush=True,
                )
    if total and progress.done < total:
        raise OSError(f"the connection ended after {progress.done:.0f} of {total} bytes")


def _listing() -> str:
    """The tasks, one per line, and where their files are."""
    lines = [f"{'task':20s} {'observation':>11s} {'action':>6s} {'trajectories':>12s}  file"]
    for task in TASKS.values():
        try:
            where = str(files.find_file(task))
        except DatasetError:
            where = f"{task.file_name} (not here)"
        lines.append(
            f"{task.name:20s} {task.num_obs:11d} {task.num_actions:6d} "
            f"{task.trajectories:12d}  {where}"
        )
    return "\n".join(lines)


def _make(task: Task, command: Union[Generate, Collect]) -> str:
    """Carry out ``generate`` or ``collect``; returns what the file holds."""
    from go2_sevpo.data_collection.safety_gymnasium import generate as safety_data

    out = command.out or Path("data") / safety_data.file_name(task, command.episodes)
    if out.exists():
        raise DatasetError(f"{out} exists; give another --out")

    def say(text: str) -> None:
        print(text, flush=True)

    episodes, seed, processes = command.episodes, command.seed, command.processes
    if isinstance(command, Collect):
        policy, candidates = command.policy, command.candidates
        made = safety_data.collect(
            task, policy, episodes, seed, out, processes, candidates=candidates, say=say
        )
    else:
        made = safety_data.generate(task, episodes, seed, out, processes, say=say)
    return (
        f"{out}: {made['transitions']} transitions, "
        f"{made['safe_episodes']} of {made['episodes']} episodes cost at most 10, "
        f"return {made['return_mean']:.1f} (greatest {made['return_max']:.1f}), "
        f"cost {made['cost_mean']:.1f} (greatest {made['cost_max']:.0f})"
    )


def _mix(task: Task, path: Path, command: Mix) -> str:
    """Write the mix that is asked for; returns what it is made of.

    Raises:
        DatasetError: a ratio that is none, or a file that has no such mix.
    """
    safe, unsafe = command.ratio
    if safe <= 0 or unsafe <= 0:
        raise DatasetError(f"ratio is {safe:g} to {unsafe:g}, expected two positive numbers")
    data, samples = read_dsrl(path), command.safe_samples or task.safe_samples
    if command.all:
        mix = whole(data, command.limit)
    else:
        mix = draw_mix(data, command.limit, safe / unsafe, samples, command.seed)
    info = {
        "task": task.name,
        "source": path.name,
        "source_sha256": shards.sha256(path),
        "ratio": "ori" if command.all else [safe, unsafe],
        "limit": command.limit,
        **({} if command.all else {"safe_samples": samples}),
        "seed": command.seed,
    }
    made = write_mix(data, mix, command.out, info)

    def line(name: str, part: Dict[str, Any]) -> str:
        return (
            f"{name}: {part['trajectories']} trajectories "
            f"({part['different']} different of {part['available']}), "
            f"{part['transitions']} transitions"
        )

    lines = [line(name, made[name]) for name in ("safe", "unsafe")]
    if data.unfinished:
        lines.append(f"left out: {data.unfinished} transitions behind the last episode's end")
    return "\n".join(lines)


def run(command: Command) -> str:
    """Carry out one command; returns what to print.

    Raises:
        DatasetError: saying what was found and what was expected.
    """
    if isinstance(command, Tasks):
        return _listing()
    task = find_task(command.task)
    if isinstance(command, Download):
        folder = command.folder or files.folders()[0]
        digest = download(task, folder, command.host.rstrip("/"), command.sha256)
        return f"{folder / task.file_name}: SHA-256 {digest}"
    if isinstance(command, (Generate, Collect)):
        return _make(task, command)
    path = files.find_file(task, command.path)
    if isinstance(command, Validate):
        found = files.validate(path, task)
        shown = (f"{k} {v:.6g}" if isinstance(v, float) else f"{k} {v}" for k, v in found.items())
        return f"{path}: valid; {', '.join(shown)}"
    return _mix(task, path, command)


def main() -> None:
    """Entry point of ``go2-dsrl``."""
    kinds: Tuple[Type[Command], ...]
    kinds = (Tasks, Download, Validate, Mix, Generate, Collect)
    commands: Dict[str, Callable[..., Command]] = {k.__name__.lower(): k for k in kinds}
    command = tyro.extras.subcommand_cli_from_dict(commands)
    try:
        print(run(command))
    except KeyboardInterrupt:
        sys.exit("\ngo2-dsrl: stopped; the same command goes on")
    except EXPECTED as error:
        sys.exit(f"go2-dsrl: {complaint(error)}")


if __name__ == "__main__":
    main()
