"""Train an offline algorithm on a dataset (``go2-train``)."""

from __future__ import annotations

import os

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import functools
import json
import re
import sys
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Callable, Dict, List, Optional, Sequence, Tuple, Union

import torch
import tyro
import yaml

from go2_sevpo.algorithms import ALGORITHMS, Config, make_algorithm, make_config
from go2_sevpo.data.dataset import OfflineDataset, load
from go2_sevpo.envs.safety_gymnasium.tasks import (
    Task,
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
from go2_sevpo.offline_training.evaluation.settled import settled
from go2_sevpo.offline_training.trainer import CHECKPOINT, Trainer
from go2_sevpo.runs.arguments import EXPECTED, at_least, check_device, check_writable, complaint
from go2_sevpo.runs.checkpoint import CheckpointError
from go2_sevpo.runs.cpu import use_cpu
from go2_sevpo.runs.files import write_atomically
from go2_sevpo.runs.interrupt import told_when_interrupted
from go2_sevpo.runs.lists import joined_lists
from go2_sevpo.runs.lock import sole_writer
from go2_sevpo.runs.provenance import made_by
from go2_sevpo.runs.reading import read_mapping

CONFIG_DIR = Path(__file__).parent / "configs"
LIMITS = ("limit", "episode_limit", "false_alarms")
"""Settings of the same thing; each overrules those before it."""
AS_PUBLISHED = ("paper", "paper_printed")
"""Presets whose networks see a lidar's readings only as the task gives them."""
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
    """sevpo, fisor, bc (cloning, all data), bc-safe (safe episodes only), bc-lookahead (what has no
    cost ahead), bc-actor (what one policy did), bc-choice and bc-safe-choice (candidate by Q_c),
    cpq, coptidice, ccac; as the benchmark has them: bc-osrl, bc-safe-osrl, cpq-osrl,
    coptidice-osrl, ccac-osrl, bcq-lag, bear-lag.
    """
    preset: str = "laptop"
    """laptop, paper (Table 8), paper_printed (the equations to the letter), or a YAML file."""
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
    reward_scale: Optional[float] = None
    """Rewards are multiplied by this; 0: by the longest episode's steps over the range of returns,
    as FISOR does. The preset's own for the algorithm if not given, 1 where it has none.
    """
    until_settled: Optional[bool] = None
    """Safety-Gymnasium: end when the learning curve has come to rest (five evaluations against the
    five before: 2% of the return's range, a quarter of the limit), at the latest at the number of
    steps. The preset's own for the algorithm if not given. Needs --evaluate-every.
    """
    lidar_length: Optional[float] = None
    """Tasks with a lidar: networks also see exp(-distance / length) of every reading, length in
    shares of the lidar's range. 0.1 if not given, but 0 (not; as published) with the presets paper
    and paper_printed.
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


SAME_SECTION = {
    **dict.fromkeys(("bc-safe", "bc-lookahead", "bc-actor"), "bc"),
    "bc-safe-osrl": "bc-osrl",
    "bc-safe-choice": "bc-choice",
}
"""Whose section of a preset serves: the data that an algorithm takes is fixed by its name."""
OF_THE_TRAINING = ("reward_scale", "until_settled")
"""What a preset's section may say beside the algorithm's settings."""


def preset_of(name: str, algorithm: str, task: Optional[Task]) -> Dict[str, Any]:
    """A preset's section for an algorithm, with the changes it has for a task.

    First come those for ``safety_gymnasium``, then those for its tasks with a ``lidar``, then those
    under ``tasks`` for the task's name.

    Raises:
        ValueError: no such preset, or no such section.
    """
    path = CONFIG_DIR / f"{name}.yaml"
    path = path if path.is_file() else Path(name)
    if not path.is_file():
        known = ", ".join(sorted(p.stem for p in CONFIG_DIR.glob("*.yaml")))
        raise ValueError(f"no preset '{name}': not a file, and the presets are {known}")
    sections = read_mapping(path, SettingsLoader)
    section = SAME_SECTION.get(algorithm, algorithm)
    if section not in sections:
        raise ValueError(
            f"preset {path.name} has no settings for {section}, only for {', '.join(sections)}"
        )
    values = _names(sections[section], section, path)
    # Parts of the section, no settings.
    everywhere, with_lidar, by_task = (
        _names(values.pop(part, None), f"{section}.{part}", path)
        for part in ("safety_gymnasium", "lidar", "tasks")
    )
    if task is not None:
        values.update(everywhere)
    if task is not None and task.lidar is not None:
        values.update(with_lidar)
    if task is not None:
        values.update(_names(by_task.get(task.name), f"{section}.tasks.{task.name}", path))
    return values


def task_of(paths: Sequence[Union[str, Path]]) -> Optional[Task]:
    """The Safety-Gymnasium task of a dataset's files; None if they are of no such task."""
    found = [task_of_file(path) for path in map(Path, paths) if path.is_file()]
    return next((task for task in found if task is not None), None)


def settings_of(args: Args) -> Dict[str, Any]:
    """The algorithm's settings: its preset's for the task, changed by ``args.set``.

    Raises:
        ValueError: no such preset, or an override that is not name=value.
    """
    values = preset_of(args.preset, args.algorithm, task_of(args.dataset))
    for key in OF_THE_TRAINING:
        values.pop(key, None)
    given: Dict[str, Any] = {}
    for item in args.set:
        name, sign, value = item.partition("=")
        if not sign:
            raise ValueError(f"override '{item}' is not name=value")
        given[name] = yaml.load(value, SettingsLoader)
    for number, name in enumerate(LIMITS):
        if name in given:
            # A limit that is asked for is not overruled by the preset's way to find one.
            for other in LIMITS[number + 1 :]:
                values.pop(other, None)
    return {**values, **given}


def _names(found: Any, section: str, path: Path) -> Dict[str, Any]:
    """A section's settings by name.

    Raises:
        ValueError: the section holds something else.
    """
    if found is None:
        return {}
    if not isinstance(found, dict) or not all(isinstance(name, str) for name in found):
        raise ValueError(f"section {section} of {path} is {found!r}, expected settings by name")
    return dict(found)


def reward_scale_of(args: Args) -> float:
    """What rewards are multiplied by: ``args``' own, else the preset's, else 1."""
    if args.reward_scale is not None:
        return args.reward_scale
    preset = preset_of(args.preset, args.algorithm, task_of(args.dataset))
    return float(preset.get("reward_scale", 1.0))


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
    length = 0.0 if args.preset in AS_PUBLISHED else LIDAR_LENGTH
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
    scale = reward_scale_of(args)
    if scale != 1.0:
        scaled["reward_scale"] = data.scale_rewards(scale)
    names = " + ".join(map(str, args.dataset))
    fall, success = data.episodes["fall"].mean(), data.episodes["success"].mean()
    print(
        f"{names}: {len(data)} transitions, {len(data.episodes['length'])} episodes, "
        f"{100 * success:.0f}% successes, {100 * fall:.0f}% falls",
        flush=True,
    )
    if data.unfinished:
        print(
            f"{data.unfinished} transitions behind the last episode's end were left out "
            "(no terminal or timeout)",
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
        "made_by": made_by(),
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
        settled=_settled(args, data),
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


def _settled(args: Args, data: OfflineDataset) -> Optional[Callable[[], bool]]:
    """What tells whether the learning curve has come to rest; None where that ends nothing."""
    wanted = args.until_settled
    if wanted is None:
        preset = preset_of(args.preset, args.algorithm, task_of(args.dataset))
        wanted = bool(preset.get("until_settled", False))
    task = task_of_environment((data.manifest.get("environment") or {}).get("name"))
    if not wanted or task is None or args.evaluate_every <= 0:
        return None
    return functools.partial(settled, args.out, task, args.evaluate_limit)


def main() -> None:
    """Entry point of ``go2-train``."""
    with told_when_interrupted("stopped; what was saved is kept"):
        args = tyro.cli(Args, args=joined_lists(sys.argv[1:], "--set"))
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
