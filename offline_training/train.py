"""Train an offline algorithm on a dataset (``go2-train``)."""

from __future__ import annotations

import os

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import json
import re
import sys
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Dict, List, Optional, Sequence, Tuple, Union

import torch
import tyro
import yaml

from go2_sevpo.algorithms import ALGORITHMS, Config, make_algorithm, make_config
from go2_sevpo.data.dataset import OfflineDataset, load
from go2_sevpo.envs.safety_gymnasium.tasks import (
    origin_of_file,
    task_of_environment,
    task_of_file,
)
from go2_sevpo.offline_training.evaluation.best import BestKeeper
from go2_sevpo.offline_training.evaluation.go2 import (
    courses_of,
    go2_evaluator,
    go2_rank,
    version_of,
)
from go2_sevpo.offline_training.evaluation.safety_gymnasium import safety_evaluator, safety_rank
from go2_sevpo.offline_training.trainer import CHECKPOINT, Trainer
from go2_sevpo.runs.arguments import EXPECTED, at_least, check_device, check_writable, complaint
from go2_sevpo.runs.checkpoint import CheckpointError
from go2_sevpo.runs.cpu import use_cpu
from go2_sevpo.runs.files import write_atomically
from go2_sevpo.runs.lock import sole_writer

CONFIG_DIR = Path(__file__).parent / "configs"
LIDAR_LENGTH = 0.1
"""0.3 m of Safety-Gymnasium's 3 m."""


@dataclass
class Args:
    """Train an offline algorithm on a dataset."""

    dataset: tyro.conf.Positional[Tuple[Path, ...]]
    """Dataset folder of go2-collect, or one HDF5 file in DSRL's layout; several are joined."""
    out: Path
    """Run folder."""
    algorithm: str = "sevpo"
    """sevpo, fisor, bc (cloning, all data), bc-safe (cloning, safe episodes only), bc-choice
    (cloning, candidate by Q_c), cpq, coptidice or ccac.
    """
    preset: str = "laptop"
    """laptop, paper (Table 8), or a YAML file."""
    seed: int = 0
    members: Optional[int] = None
    """Train this many independent networks side by side on one core: several training seeds at
    little more than the cost of one where networks are small. Each gets a folder ``member_00``, ...
    with its policy.
    """
    resume: bool = False
    """Go on from the checkpoint in ``out``, bit for bit on a CPU."""
    set: List[str] = field(default_factory=list)
    """Overrides of the algorithm's settings, as name=value."""
    device: str = "cpu"
    cuda_graph: bool = False
    """sevpo on a GPU: whole steps as CUDA graphs (not yet run on a GPU)."""
    threads: int = 1
    """torch threads; one is fastest for small networks beside other work."""
    candidates: int = 16
    """N, the number of candidates the exported policy draws by default."""
    reward_scale: float = 1.0
    """Rewards are multiplied by this; 0: by the longest episode's steps over the range of returns,
    as FISOR does.
    """
    lidar_length: Optional[float] = None
    """Tasks with a lidar: networks also see exp(-distance / length) of every reading, length in
    shares of the lidar's range. 0.1 if not given, but 0 (not; as published) with the preset paper.
    """
    log_every: int = 200
    save_every: int = 2000
    evaluate_every: int = 0
    """Steps of the last stage between evaluations in simulation, which keep
    ``policy_best.safetensors`` beside the last; 0: none.
    """
    evaluate_episodes: int = 100
    """Episodes on each course (or of the task), always the same, apart from those of go2-play."""
    evaluate_courses: Tuple[str, ...] = ()
    """Courses to evaluate on; those of the dataset if empty."""
    evaluate_limit: float = 10.0
    """Safety-Gymnasium: cost an episode may have; the best is the safe policy with the greatest
    return.
    """


class SettingsLoader(yaml.SafeLoader):
    """YAML in which only true and false are truth values.

    ``off`` and ``no`` are names of options (``trust_region: off``).
    """


# YAML 1.1's words for truth values are taken out, then true and false put back.
SettingsLoader.yaml_implicit_resolvers = {
    first: [r for r in found if r[0] != "tag:yaml.org,2002:bool"]
    for first, found in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
SettingsLoader.add_implicit_resolver(
    "tag:yaml.org,2002:bool", re.compile("^(true|True|false|False)$"), list("tTfF")
)


def has_lidar(paths: Sequence[Union[str, Path]]) -> bool:
    """Whether a dataset is of a Safety-Gymnasium task with a lidar."""
    tasks = [task_of_file(path) for path in map(Path, paths) if path.is_file()]
    return any(task is not None and task.lidar is not None for task in tasks)


def settings_of(args: Args) -> Dict[str, Any]:
    """The algorithm's settings: its preset's, changed by ``args.set``.

    In between, where the task has a lidar, come the changes that the preset's section ``lidar``
    names.

    Raises:
        ValueError: no such preset, or an override that is not name=value.
    """
    path = CONFIG_DIR / f"{args.preset}.yaml"
    path = path if path.is_file() else Path(args.preset)
    if not path.is_file():
        known = ", ".join(sorted(p.stem for p in CONFIG_DIR.glob("*.yaml")))
        raise ValueError(f"no preset '{args.preset}': not a file, and the presets are {known}")
    sections = yaml.load(path.read_text(encoding="utf-8"), SettingsLoader) or {}
    # bc-safe has the settings of bc; the data it takes is fixed by its name.
    section = "bc" if args.algorithm == "bc-safe" else args.algorithm
    if section not in sections:
        raise ValueError(
            f"preset {path.name} has no settings for {section}, only for {', '.join(sections)}"
        )
    values = dict(sections[section] or {})
    with_lidar = values.pop("lidar", {})  # a part of the section, no setting
    if has_lidar(args.dataset):
        values.update(with_lidar)
    for item in args.set:
        name, sign, value = item.partition("=")
        if not sign:
            raise ValueError(f"override '{item}' is not name=value")
        values[name] = yaml.load(value, SettingsLoader)
    return values


def dataset_identity(data: OfflineDataset, paths: Sequence[Path]) -> Dict[str, Any]:
    """What says which data a run was trained on."""
    hashes = [e["sha256"] for e in data.manifest.get("shards", [])]
    environment = (data.manifest.get("environment") or {}).get("name")
    return {
        "environment": environment,
        "name": " + ".join(p.name for p in paths),
        "transitions": len(data),
        "episodes": len(data.episodes["length"]),
        "shards": hashes,
    }


def train(args: Args) -> bool:
    """Train; returns False if interrupted.

    Raises:
        ValueError: arguments that are not understood.
        DatasetError: data that cannot be used.
        CheckpointError: nothing to resume, or of another run.
        BusyError: another process is training in the same folder.
    """
    if args.members is not None and args.members < 1:
        raise ValueError(f"members is {args.members}, expected at least 1")
    if args.algorithm not in ALGORITHMS:
        raise ValueError(
            f"unknown algorithm '{args.algorithm}', expected one of {', '.join(ALGORITHMS)}"
        )
    config = make_config(args.algorithm, settings_of(args))
    if (args.out / CHECKPOINT).exists() and not args.resume:
        raise ValueError(f"{args.out} already holds a run; use --resume to go on, or another --out")
    if args.resume and not (args.out / CHECKPOINT).exists():
        raise CheckpointError(f"nothing to resume: no {CHECKPOINT} in {args.out}")
    if not args.dataset:
        raise ValueError("no dataset given, expected at least one folder or HDF5 file")
    for name in ("log_every", "save_every", "threads", "candidates", "evaluate_episodes"):
        at_least(name.replace("_", "-"), getattr(args, name), 1)
    for name in ("seed", "evaluate_every"):
        at_least(name.replace("_", "-"), getattr(args, name), 0)
    check_device(args.device)
    check_writable(args.out)
    with sole_writer(args.out):
        return _train(args, config)


def _lidar_length(args: Args) -> float:
    """Of the nearness that networks see, in shares of the lidar's range; 0: they do not.

    Raises:
        ValueError: a negative length.
    """
    length = 0.0 if args.preset == "paper" else LIDAR_LENGTH
    if args.lidar_length is not None:
        length = args.lidar_length
    if length < 0:
        raise ValueError(f"lidar length is {length:g}, expected 0 or more")
    return length


def _train(args: Args, config: Config) -> bool:
    if args.device == "cpu":
        use_cpu(args.threads)
    else:
        torch.set_num_threads(args.threads)
    # First weights and dropout; the trainer draws batches and noise from a stream of its own.
    torch.manual_seed(args.seed)
    length = _lidar_length(args)
    data = load(*args.dataset, device=args.device, lidar_length=length, origin_of=origin_of_file)
    scaled: Dict[str, Any] = {} if data.lidar is None else {"lidar_length": length}
    if args.reward_scale != 1.0:
        scaled["reward_scale"] = data.scale_rewards(args.reward_scale)
    names = " + ".join(map(str, args.dataset))
    fall, success = data.episodes["fall"].mean(), data.episodes["success"].mean()
    print(
        f"{names}: {len(data)} transitions, {len(data.episodes['length'])} episodes, "
        f"{100 * success:.0f}% successes, {100 * fall:.0f}% falls",
        flush=True,
    )
    info = {
        "algorithm": args.algorithm,
        "preset": args.preset,
        "seed": args.seed,
        "candidates": args.candidates,
        "members": args.members,
        "config": json.loads(json.dumps(asdict(config))),  # as it comes back from a checkpoint
        "dataset": {**dataset_identity(data, args.dataset), **scaled},
    }
    algorithm = make_algorithm(args.algorithm, config, data, args.members)

    def say(line: str) -> None:
        print(f"{args.algorithm}: {line}", flush=True)

    trainer = Trainer(
        *(algorithm, data, args.out, info, args.seed),
        log_every=args.log_every,
        save_every=args.save_every,
        say=say,
        keeper=_keeper(args, data),
        graphed=args.cuda_graph,
    )
    if args.resume:
        trainer.load()
    write_atomically(args.out / "config.json", json.dumps(info, indent=1))
    return trainer.run()


def _keeper(args: Args, data: OfflineDataset) -> Optional[BestKeeper]:
    if args.evaluate_every <= 0:
        return None
    task = task_of_environment((data.manifest.get("environment") or {}).get("name"))
    if task is not None:
        limit = args.evaluate_limit
        play = safety_evaluator(task, args.evaluate_episodes, args.candidates, limit)
        return BestKeeper(play, args.evaluate_every, args.out, safety_rank(limit))
    courses = args.evaluate_courses or courses_of(data.manifest)
    play = go2_evaluator(
        courses,
        args.evaluate_episodes,
        args.candidates,
        threads=args.threads,
        version=version_of(data.manifest),
    )
    return BestKeeper(play, args.evaluate_every, args.out, go2_rank)


def main() -> None:
    """Entry point of ``go2-train``."""
    args = tyro.cli(Args)
    try:
        finished = train(args)
    except EXPECTED as error:
        sys.exit(f"go2-train: {complaint(error)}")
    if not finished:
        print(f"stopped; the same command with --resume goes on ({args.out})", file=sys.stderr)
        sys.exit(130)
    print(f"trained: {args.out}")


if __name__ == "__main__":
    main()
