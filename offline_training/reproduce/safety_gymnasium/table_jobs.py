"""What tables 1 to 4 still lack, as commands; lines that earlier tables answer for."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any, Collection, Dict, List

from go2_sevpo.algorithms import make_config
from go2_sevpo.offline_training.reproduce.jobs import Job
from go2_sevpo.offline_training.reproduce.safety_gymnasium import mixes, reuse
from go2_sevpo.offline_training.reproduce.safety_gymnasium.cells import (
    Cell,
    Table,
    cells,
    trainings,
)
from go2_sevpo.offline_training.reproduce.safety_gymnasium.reuse import Reused
from go2_sevpo.offline_training.train import Args, reward_scale_of, settings_of
from go2_sevpo.offline_training.trainer import member_folder
from go2_sevpo.runs.processes import module
from go2_sevpo.runs.reading import read_json
from go2_sevpo.runs.settings import keep_settings


def reusable(args: Table) -> Dict[str, Reused]:
    """Lines that ``args.reuse`` holds, by :attr:`Cell.played`, of mixes that are there.

    Raises:
        ValueError: a file that is not a table's result.
    """
    earlier = reuse.read(args.reuse)
    found: Dict[str, Reused] = {}
    for cell in cells(args) if earlier else []:
        path = mixes.mix_file(args, cell.task, cell.mix)
        if not mixes.is_mixed(path):
            continue  # only where nothing is run
        wanted = Args(
            (path,), args.out, algorithm=cell.algorithm, preset=args.preset, set=list(cell.settings)
        )
        # As the earlier result holds it: through JSON, where tuples are lists.
        config = json.loads(json.dumps(asdict(make_config(cell.algorithm, settings_of(wanted)))))
        digest, scale = mixes.description(path)["sha256"], reward_scale_of(wanted)
        line = reuse.find(earlier, cell, config, digest, args, scale)
        if line is not None:
            found[cell.played] = line
    return found


def run_folder(args: Table, cell: Cell) -> Path:
    """Where a cell is trained."""
    return args.out / "train" / cell.name


def train_jobs(args: Table, known: Collection[str] = ()) -> List[Job]:
    """Trainings that are missing; none for lines (by :attr:`Cell.played`) that are known.

    Raises:
        ValueError: one that is there was begun with other settings or on other data.
    """
    found = []
    for cell in trainings([c for c in cells(args) if c.played not in known]):
        run = run_folder(args, cell)
        keep_settings(run, _training(args, cell))
        if (run / "finished").is_file():
            continue
        command = module(
            "go2_sevpo.offline_training.train_job",
            *(mixes.mix_file(args, cell.task, cell.mix), "--out", run),
            *("--algorithm", cell.algorithm, "--preset", args.preset, "--seed", args.seed),
            *("--members", args.members, "--device", args.device),
            *("--candidates", args.candidates),
            *("--evaluate-every", args.evaluate_every),
            *("--evaluate-episodes", args.evaluate_episodes, "--evaluate-limit", cell.limit),
            *(("--set", *cell.settings) if cell.settings else ()),
        )
        found.append(Job(f"train {cell.name}", command, args.out / f"train_{cell.name}.log"))
    return found


def _training(args: Table, cell: Cell) -> Dict[str, Any]:
    """What decides how a training ends, but for the device."""
    mix = mixes.mix_file(args, cell.task, cell.mix)
    # While the tables are planned the mix need not be there; then nothing is trained yet, either.
    data = {"data": mixes.description(mix)["sha256"]} if mixes.is_mixed(mix) else {}
    return {
        **data,
        "algorithm": cell.algorithm,
        "preset": args.preset,
        "set": list(cell.settings),
        "seed": args.seed,
        "members": args.members,
        "candidates": args.candidates,
        "evaluate_every": args.evaluate_every,
        "evaluate_episodes": args.evaluate_episodes,
        "evaluate_limit": cell.limit,
    }


def report_file(args: Table, cell: Cell, member: int) -> Path:
    """Where ``go2-play`` reports on one training seed of a cell."""
    return args.out / "play" / f"{cell.played}_{member:02d}" / "report.json"


def is_played(args: Table, cell: Cell, member: int) -> bool:
    """Whether the evaluation is there, and of as many episodes as asked for."""
    report = report_file(args, cell, member)
    if not report.is_file():
        return False
    episodes: int = read_json(report)["episodes"]
    return episodes == args.episodes


def play_jobs(args: Table, known: Collection[str] = ()) -> List[Job]:
    """Evaluations that are missing: export and play in one process.

    None of lines (by :attr:`Cell.played`) that are known.

    Raises:
        ValueError: one that is there was played with other settings.
    """
    for cell in cells(args):
        if cell.played in known:
            continue
        for member in range(args.members):
            # Another number of episodes is played anew (:func:`is_played`).
            made = {"seed": args.seed + 100 + member, "limit": cell.limit, "choice": cell.choice}
            keep_settings(
                report_file(args, cell, member).parent, {**made, "candidates": args.candidates}
            )
    return [
        _play_job(args, cell, member)
        for cell in cells(args)
        if cell.played not in known
        for member in range(args.members)
        if not is_played(args, cell, member)
    ]


def _play_job(args: Table, cell: Cell, member: int) -> Job:
    folder = report_file(args, cell, member).parent
    policy = member_folder(run_folder(args, cell), member) / "policy_last.safetensors"
    onnx = folder.with_suffix(".onnx")
    acting: List[str] = []
    if cell.choice is not None:
        if cell.choice != "preset":
            acting += ["--choice", cell.choice]
        acting += ["--candidates", str(1 if cell.choice == "first" else args.candidates)]
    export = module("go2_sevpo.deploy.export.cli", policy, "--out", onnx, *acting)
    play = module(
        "go2_sevpo.deploy.play.cli",
        # Every training seed is played on episodes of its own.
        *(onnx, "--episodes", args.episodes, "--seed", args.seed + 100 + member),
        *("--limit", cell.limit, "--out", folder),
    )
    both = module("go2_sevpo.offline_training.reproduce.chain", json.dumps([export, play]))
    return Job(f"play {folder.name}", both, args.out / "play" / f"{folder.name}.log")
