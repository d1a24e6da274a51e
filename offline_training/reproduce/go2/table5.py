"""Table 5: SEVPO, FISOR and cloning on Go2 data of several qualities (``go2-reproduce table5``).

Every step is one of the project's own commands in a process of its own, so that any of them can be
repeated by hand: collect a mix, train (several seeds side by side), export, play. Finished parts
are not done again, and a best policy that is the last one is not played twice.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, fields
from itertools import product
from pathlib import Path
from typing import Any, Dict, List, Optional, Tuple

import torch
import yaml

from go2_sevpo.offline_training.reproduce.jobs import Job, run_all
from go2_sevpo.offline_training.reproduce.settings import plain
from go2_sevpo.offline_training.trainer import member_folder
from go2_sevpo.policies.torch_policy import load_policy
from go2_sevpo.runs.files import write_atomically
from go2_sevpo.runs.processes import module
from go2_sevpo.runs.provenance import write_result
from go2_sevpo.runs.reading import read_json
from go2_sevpo.runs.settings import keep_settings

TRANSITIONS = 2_666_050
"""Transitions of the paper-size mix: 6000 expert and 3000 failure episodes, shipped policies."""
EXPERT_LENGTH = {"simple": 450, "hard": 370}
WEAK_LENGTH = {"simple": 64, "hard": 75}
"""Mean episode lengths of the shipped policies, which set the harsh mixes' numbers of episodes."""
MIXES = ("expert", "paper", "harsh2", "harsh5")
"""Expert only; 6000 expert and 3000 weak episodes; 1:2 and 1:5 expert to weak transitions."""
CHOOSING = ("sevpo", "fisor", "bc-choice")
"""Algorithms that can choose among candidates."""
CHOICES = {"sevpo": "argmin_cost", "fisor": "argmin_cost", "bc-choice": "argmin_cost"}
SIZES: Dict[str, Dict[str, Any]] = {
    "laptop": {
        "scale": 0.1,
        "preset": "laptop",
        "device": "cpu",
        "simulator": "mujoco",
        "evaluate_every": 2000,
    },
    "gpu": {
        "scale": 1.0,
        "preset": "paper",
        "device": "cuda",
        "simulator": "mujoco-warp",
        "evaluate_every": 100000,
    },
}
"""What ``--size`` sets where nothing else is given."""


MAY_CHANGE = (
    "out",
    "mixes",
    "algorithms",
    "candidates",
    "episodes",
    "choice_episodes",
    "processes",
    "ray",
)
"""Settings that the same working folder may be gone on with otherwise."""


@dataclass
class Table5:
    """Train every method on Go2 data of several qualities, play each over both courses, write the
    table.
    """

    out: Path = Path("runs/table5")
    """Working folder: data, runs, reports. Finished parts are not done again."""
    size: str = "laptop"
    """laptop, or gpu (the paper's amount of data, Table 8's networks and steps, CUDA, MuJoCo Warp):
    sets scale, preset, device, simulator and evaluate-every where these are not given.
    """
    scale: Optional[float] = None
    """Share of the paper's amount of data; 1 is the paper's size."""
    harsh_scale: Optional[float] = None
    """The same for the harsh mixes; as ``scale`` if not given."""
    preset: Optional[str] = None
    """laptop, paper (Table 8), or a YAML file."""
    mixes: Tuple[str, ...] = MIXES
    algorithms: Tuple[str, ...] = ("sevpo", "fisor", "bc", "bc-safe", "bc-lookahead", "bc-choice")
    courses: Tuple[str, ...] = ("simple", "hard")
    members: int = 3
    """Training seeds, side by side."""
    episodes: int = 334
    """Evaluation episodes per course and training seed."""
    candidates: Tuple[int, ...] = (1, 16)
    choice_episodes: Optional[int] = None
    """Evaluation episodes where N > 1, which is slow on a CPU; ``episodes`` if not given."""
    evaluate_every: Optional[int] = None
    """Steps between the evaluations that decide which policy is best; 0: only the last is played.
    """
    evaluate_episodes: int = 60
    processes: int = 2
    ray: Optional[str] = None
    """Run on a Ray cluster instead: its address, auto, or local.

    Its machines must share this folder and installation.
    """
    device: Optional[str] = None
    """Where to train."""
    simulator: Optional[str] = None
    seed: int = 0

    def __post_init__(self) -> None:
        """Fill in what ``size`` sets.

        Raises:
            ValueError: an unknown size.
        """
        if self.size not in SIZES:
            raise ValueError(f"unknown size '{self.size}', expected one of {', '.join(SIZES)}")
        for field in fields(self):
            if getattr(self, field.name) is None and field.name in SIZES[self.size]:
                setattr(self, field.name, SIZES[self.size][field.name])
        if self.harsh_scale is None:
            self.harsh_scale = self.scale


def sources(args: Table5, mix: str) -> List[Dict[str, Any]]:
    """What a mix is collected from.

    Raises:
        ValueError: an unknown mix.
    """
    if mix not in MIXES:
        raise ValueError(f"unknown mix '{mix}', expected some of {', '.join(MIXES)}")
    share = 1.0 / len(args.courses)
    scale = args.harsh_scale if mix.startswith("harsh") else args.scale
    assert scale is not None  # see Table5.__post_init__
    found: List[Dict[str, Any]] = []

    def add(policy: str, course: str, episodes: float) -> None:
        found.append({"policy": policy, "course": course, "episodes": max(1, round(episodes))})

    for course in args.courses:
        if mix in ("expert", "paper"):
            add("expert", course, 6000 * scale * share)
        else:
            # harshK: 1 : K in transitions, as many in all as the paper's mix has
            good = 1.0 / (1.0 + float(mix[-1]))
            add("expert", course, TRANSITIONS * scale * share * good / EXPERT_LENGTH[course])
    for course in args.courses:
        if mix == "paper":
            add("weak", course, 3000 * scale * share)
        elif mix != "expert":
            bad = float(mix[-1]) / (1.0 + float(mix[-1]))
            add("weak", course, TRANSITIONS * scale * share * bad / WEAK_LENGTH[course])
    return found


def _run(args: Table5, mix: str, algorithm: str) -> Path:
    return args.out / "train" / mix / algorithm


def data_jobs(args: Table5) -> List[Job]:
    """Collections that are missing.

    The expert-only mix is part of the paper's, if both are wanted, and not simulated again.
    """
    found = []
    for mix in args.mixes:
        wanted, folder = sources(args, mix), args.out / "data" / mix
        if (folder / "manifest.json").is_file() or (mix == "expert" and "paper" in args.mixes):
            continue
        recipe = args.out / f"mix_{mix}.yaml"
        write_atomically(recipe, yaml.safe_dump({"sources": wanted}))
        command = module(
            *("go2_sevpo.data_collection.collect", "--out", folder, "--mix", recipe),
            *("--seed", args.seed, "--threads", 1, "--simulator", args.simulator),
        )
        found.append(Job(f"collect {mix}", command, args.out / f"collect_{mix}.log"))
    return found


def part_jobs(args: Table5) -> List[Job]:
    """The expert-only mix out of the paper's."""
    folder = args.out / "data" / "expert"
    if not {"expert", "paper"} <= set(args.mixes) or (folder / "manifest.json").is_file():
        return []
    command = module(
        *("go2_sevpo.data_collection.datasets.cli", "select", folder.parent / "paper"),
        *("--out", folder, "--policy", "expert"),
    )
    return [Job("select the expert's part", command, args.out / "collect_expert.log")]


def train_jobs(args: Table5) -> List[Job]:
    """Trainings that are missing."""
    found = []
    for mix in args.mixes:
        for algorithm in args.algorithms:
            run = _run(args, mix, algorithm)
            if (run / "finished").is_file():
                continue
            command = module(
                *("go2_sevpo.offline_training.train_job", args.out / "data" / mix, "--out", run),
                *("--algorithm", algorithm, "--preset", args.preset, "--seed", args.seed),
                *("--members", args.members, "--device", args.device),
                *("--evaluate-every", args.evaluate_every),
                *("--evaluate-episodes", args.evaluate_episodes),
            )
            log = args.out / f"train_{mix}_{algorithm}.log"
            found.append(Job(f"train {algorithm} on {mix}", command, log))
    return found


def evaluations(args: Table5) -> List[Dict[str, Any]]:
    """All (mix, algorithm, member, kept, N, course) that are reported."""
    found = []
    kinds = ("last", "best") if args.evaluate_every else ("last",)
    for mix, algorithm, kept in product(args.mixes, args.algorithms, kinds):
        candidates = args.candidates if algorithm in CHOOSING else (1,)
        for n, member, course in product(candidates, range(args.members), args.courses):
            policy = {"mix": mix, "algorithm": algorithm, "member": member, "kept": kept}
            found.append({**policy, "n": n, "course": course})
    return found


def _name(e: Dict[str, Any]) -> str:
    return f"{e['mix']}_{e['algorithm']}_{e['kept']}_N{e['n']}_{e['course']}_{e['member']:02d}"


def episodes_of(args: Table5, e: Dict[str, Any]) -> int:
    """Evaluation episodes of one policy on one course.

    Args:
        e: an entry of :func:`evaluations`.
    """
    return args.choice_episodes if e["n"] > 1 and args.choice_episodes else args.episodes


def _report(args: Table5, e: Dict[str, Any]) -> Path:
    return args.out / "play" / _name(e) / "report.json"


def _is_played(args: Table5, e: Dict[str, Any]) -> bool:
    """Whether the report is there, and of as many episodes as asked for."""
    report = _report(args, e)
    if not report.is_file():
        return False
    episodes: int = read_json(report)["episodes"]
    return episodes == episodes_of(args, e)


def _policy_file(args: Table5, e: Dict[str, Any], kept: str) -> Path:
    run = _run(args, e["mix"], e["algorithm"])
    return member_folder(run, e["member"]) / f"policy_{kept}.safetensors"


def same_policy(one: Path, other: Path) -> bool:
    """Whether two policy files have the same weights."""
    left, right = (load_policy(path)[0].state_dict() for path in (one, other))
    if left.keys() != right.keys():
        return False
    return all(torch.equal(left[key], right[key]) for key in left)


def played(args: Table5, e: Dict[str, Any]) -> Dict[str, Any]:
    """The evaluation that answers for ``e``: the last policy's where it is the best one too."""
    if e["kept"] == "last":
        return e
    same = same_policy(_policy_file(args, e, "best"), _policy_file(args, e, "last"))
    return {**e, "kept": "last"} if same else e


def play_jobs(args: Table5) -> List[Job]:
    """Evaluations that are missing.

    A policy is exported, then played on its courses, in one chain.
    """
    (args.out / "play").mkdir(parents=True, exist_ok=True)
    missing: Dict[str, List[Dict[str, Any]]] = {}  # by policy
    for wanted in evaluations(args):
        e = played(args, wanted)
        name = _name({**e, "course": "all"})
        if not _is_played(args, e) and e not in missing.get(name, []):
            missing.setdefault(name, []).append(e)
    return [_play_job(args, name, parts) for name, parts in missing.items()]


def _play_job(args: Table5, name: str, parts: List[Dict[str, Any]]) -> Job:
    """Export one policy and play it on the courses of ``parts``."""
    algorithm, kept, n = (parts[0][key] for key in ("algorithm", "kept", "n"))
    choice = CHOICES[algorithm] if n > 1 else "first"
    onnx = args.out / "play" / f"{name}.onnx"
    export = module(
        *("go2_sevpo.deploy.export.cli", _policy_file(args, parts[0], kept), "--out", onnx),
        *("--choice", choice, "--candidates", n),
    )
    commands = [export]
    for e in parts:
        episodes = episodes_of(args, e)
        # Every training seed is played on courses of its own.
        seed = args.seed + 100 + e["member"]
        play = module(
            *("go2_sevpo.deploy.play.cli", onnx, "--course", e["course"]),
            *("--episodes", episodes, "--threads", 1, "--worlds", episodes, "--seed", seed),
            *("--simulator", args.simulator, "--out", _report(args, e).parent),
        )
        commands.append(play)
    command = module("go2_sevpo.offline_training.reproduce.chain", json.dumps(commands))
    return Job(f"play {name}", command, args.out / "play" / f"{name}.log")


def run(args: Table5) -> Dict[str, Any]:
    """Everything; returns what ``table5.json`` holds.

    Raises:
        ValueError: settings that are not understood, or a part that failed.
    """
    from go2_sevpo.offline_training.reproduce.go2 import table5_report as report

    for mix in args.mixes:
        sources(args, mix)
    keep_settings(args.out, vars(args), MAY_CHANGE)
    for jobs in (data_jobs, part_jobs, train_jobs, play_jobs):
        run_all(jobs(args), args.processes, args.ray)
    rows = []
    for e in evaluations(args):
        found = read_json(_report(args, played(args, e)))
        rows.append({**e, **report.episodes_of(found)})
    data, configs = {}, {}
    for mix in args.mixes:
        manifest = args.out / "data" / mix / "manifest.json"
        data[mix] = report.composition(read_json(manifest))
    for algorithm in args.algorithms:
        # The same for all mixes.
        info = _run(args, args.mixes[0], algorithm) / "config.json"
        configs[algorithm] = read_json(info)["config"]
    result = {
        "command": "go2-reproduce table5",
        "settings": plain(args),
        "data": data,
        "configs": configs,
        "rows": rows,
    }
    write_result(args.out / "table5.json", result)
    text = report.table(result)
    write_atomically(args.out / "table5.md", text)
    print(text)
    return result
