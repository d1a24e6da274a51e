"""What the rescue and the stitching benchmark share: collect, train, export and play, resumably.

Every step is one of the project's own commands in a process of its own; finished parts are not done
again.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any, Dict, Iterator, List, Mapping, NamedTuple, Optional, Sequence, Tuple

import h5py
import yaml

from go2_sevpo.data import shards
from go2_sevpo.offline_training.reproduce.go2.arms import ARMS, check_arms
from go2_sevpo.offline_training.reproduce.jobs import Job, run_all
from go2_sevpo.offline_training.reproduce.settings import plain
from go2_sevpo.offline_training.trainer import member_folder
from go2_sevpo.runs.files import write_atomically
from go2_sevpo.runs.processes import module
from go2_sevpo.runs.provenance import write_result
from go2_sevpo.runs.reading import read_json
from go2_sevpo.runs.settings import keep_settings

SAFE_COST = 10.0
"""Cost up to which an episode without a fall is one that ``bc-safe`` clones."""
PLAYED_FROM = 100
"""Seed of ``go2-play``'s range that the first training seed is played on; each has its own."""
Sources = List[Dict[str, Any]]


@dataclass
class Benchmark:
    """Settings that both benchmarks have."""

    out: Path = Path("runs/benchmark")
    """Working folder: data, runs, outcomes. Finished parts are not done again."""
    arms: Tuple[str, ...] = tuple(ARMS)
    course: str = "hard"
    preset: str = "laptop"
    """laptop, paper, or a YAML file."""
    seeds: Tuple[int, ...] = (0,)
    """Trainings, each of ``members`` networks side by side; more can be added later."""
    members: int = 3
    """Training seeds side by side in one process."""
    episodes: int = 250
    """Evaluation episodes per training seed."""
    expert: str = "expert"
    """Policy that knows the course: a shipped one or an ONNX file."""
    weak: str = "weak"
    """Policy that fails."""
    processes: int = 2
    ray: Optional[str] = None
    """Run on a Ray cluster instead: its address, auto, or local."""
    device: str = "cpu"
    """Where to train."""
    simulator: str = "mujoco"
    seed: int = 0
    """Of the collections and of the episodes that are played."""


MAY_CHANGE = ("out", "arms", "seeds", "processes", "ray")
"""Settings that the same working folder may be gone on with otherwise."""


class Trained(NamedTuple):
    """One trained network: dataset, arm, training and member; ``number`` counts all of an arm."""

    data: str
    arm: str
    seed: int
    member: int
    number: int

    @property
    def name(self) -> str:
        """For files."""
        return f"{self.data}_{self.arm}_{self.seed}_{self.member:02d}"


def data_folder(args: Benchmark, data: str) -> Path:
    """Where a dataset lies."""
    return args.out / "data" / data


def run_folder(args: Benchmark, data: str, arm: str, seed: int) -> Path:
    """Where a training lies."""
    return args.out / "train" / data / arm / f"seed_{seed}"


def data_jobs(args: Benchmark, wanted: Mapping[str, Sources]) -> List[Job]:
    """Collections that are missing."""
    found = []
    for data, sources in wanted.items():
        folder = data_folder(args, data)
        if (folder / "manifest.json").is_file():
            continue
        recipe = args.out / f"mix_{data}.yaml"
        write_atomically(recipe, yaml.safe_dump({"sources": sources}))
        command = module(
            *("go2_sevpo.data_collection.collect", "--out", folder, "--mix", recipe),
            *("--seed", args.seed, "--threads", 1, "--simulator", args.simulator),
        )
        found.append(Job(f"collect {data}", command, args.out / f"collect_{data}.log"))
    return found


def safe_episodes(folder: Path) -> int:
    """Episodes of a dataset without a fall whose cost is at most ``SAFE_COST``."""
    count = 0
    for entry in shards.read_manifest(folder)["shards"]:
        with h5py.File(folder / entry["file"], "r") as handle:
            cost, fall = handle["episodes/cost"][()], handle["episodes/fall"][()]
        count += int(((cost <= SAFE_COST) & (fall == 0)).sum())
    return count


def can_train(args: Benchmark, data: str, arm: str) -> bool:
    """Whether there is anything for an arm to learn from."""
    return ARMS[arm].algorithm != "bc-safe" or safe_episodes(data_folder(args, data)) > 0


def train_jobs(args: Benchmark, wanted: Sequence[str], rescuer: str) -> List[Job]:
    """Trainings that are missing; ``rescuer`` is whom the oracle clones."""
    found = []
    for data, name, seed in product(wanted, args.arms, args.seeds):
        run, arm = run_folder(args, data, name, seed), ARMS[name]
        if (run / "finished").is_file() or not can_train(args, data, name):
            continue
        settings = list(arm.settings)
        if arm.algorithm == "bc-safe":
            settings.append(f"cost_limit={SAFE_COST}")
        if arm.algorithm == "bc-actor":
            settings.append(f"actor_name={Path(rescuer).stem}")
        command = module(
            *("go2_sevpo.offline_training.train_job", data_folder(args, data), "--out", run),
            *("--algorithm", arm.algorithm, "--preset", args.preset, "--seed", seed),
            *("--members", args.members, "--device", args.device),
            *(("--set", *settings) if settings else ()),
        )
        log = args.out / f"train_{data}_{name}_{seed}.log"
        found.append(Job(f"train {name} on {data}, seed {seed}", command, log))
    return found


def trained(args: Benchmark, wanted: Sequence[str]) -> Iterator[Trained]:
    """Every network there is or will be."""
    for data, arm in product(wanted, args.arms):
        if can_train(args, data, arm):
            for number, (seed, member) in enumerate(product(args.seeds, range(args.members))):
                yield Trained(data, arm, seed, member, number)


def outcome_file(args: Benchmark, name: str) -> Path:
    """Where the outcomes of a policy are kept."""
    return args.out / "play" / f"{name}.json"


def play_command(
    args: Benchmark, policy: object, name: str, number: int, *more: object
) -> List[str]:
    """Play one policy on the episodes of training seed number ``number``."""
    return module(
        *("go2_sevpo.offline_training.reproduce.go2.play_job", policy),
        *("--out", outcome_file(args, name), "--course", args.course),
        *("--episodes", args.episodes, "--seed", args.seed + PLAYED_FROM + number),
        *("--weak", args.weak, "--simulator", args.simulator, *more),
    )


def play_jobs(args: Benchmark, wanted: Sequence[str], *more: object) -> List[Job]:
    """Policies that were not played yet: each is exported, then played, in one chain."""
    (args.out / "play").mkdir(parents=True, exist_ok=True)
    found = []
    for one in trained(args, wanted):
        if outcome_file(args, one.name).is_file():
            continue
        arm, onnx = ARMS[one.arm], args.out / "play" / f"{one.name}.onnx"
        run = run_folder(args, one.data, one.arm, one.seed)
        policy = member_folder(run, one.member) / "policy_last.safetensors"
        export = module(
            *("go2_sevpo.deploy.export.cli", policy, "--out", onnx),
            *("--choice", arm.choice, "--candidates", arm.candidates),
        )
        commands = [export, play_command(args, onnx, one.name, one.number, *more)]
        command = module("go2_sevpo.offline_training.reproduce.chain", json.dumps(commands))
        found.append(Job(f"play {one.name}", command, args.out / "play" / f"{one.name}.log"))
    return found


def read_outcome(args: Benchmark, name: str) -> Dict[str, Any]:
    """What :mod:`play_job` found."""
    found: Dict[str, Any] = read_json(outcome_file(args, name))
    return found


def composition(folder: Path) -> Dict[str, int]:
    """Episodes, transitions, successes and safe episodes of a dataset."""
    manifest = shards.read_manifest(folder)
    found = {key: int(manifest[key]) for key in ("episodes", "transitions", "successes")}
    return {**found, "safe": safe_episodes(folder)}


def begin(args: Benchmark, wanted: Mapping[str, Sources], may_change: Sequence[str] = ()) -> None:
    """Check the settings and collect what is missing.

    Raises:
        ValueError: settings that are not understood, or others than the folder was begun with.
    """
    check_arms(args.arms)
    if not args.seeds or args.members < 1:
        raise ValueError(
            f"{len(args.seeds)} seeds of {args.members} members, expected at least one of each"
        )
    keep_settings(args.out, vars(args), (*MAY_CHANGE, *may_change))
    run_all(data_jobs(args, wanted), args.processes, args.ray)


def result_of(
    args: Benchmark, command: str, wanted: Sequence[str], others: Sequence[Dict[str, Any]] = ()
) -> Dict[str, Any]:
    """What the result file holds: settings, datasets, configurations, every episode's outcome."""
    rows: List[Dict[str, Any]] = list(others)
    configs: Dict[str, Any] = {}
    for one in trained(args, wanted):
        rows.append({**one._asdict(), "title": ARMS[one.arm].title, **read_outcome(args, one.name)})
        info = run_folder(args, one.data, one.arm, one.seed) / "config.json"
        configs[one.arm] = read_json(info)["config"]
    return {
        "command": f"go2-reproduce {command}",
        "settings": plain(args),
        "data": {data: composition(data_folder(args, data)) for data in wanted},
        "configs": configs,
        "rows": rows,
    }


def write_table(args: Benchmark, name: str, result: Dict[str, Any], text: str) -> None:
    """Write ``name``.json and ``name``.md, and print the latter."""
    write_result(args.out / f"{name}.json", result)
    write_atomically(args.out / f"{name}.md", text)
    print(text)
