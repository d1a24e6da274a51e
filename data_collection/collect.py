"""Collect datasets with trained policies (``go2-collect``): sharded, atomic, resumable."""

from __future__ import annotations

from go2_sevpo.envs.simulators.isaacgym.early import prepare

prepare()  # Isaac Gym, if it is asked for, must be imported before torch

import json
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Dict, List, Optional, Tuple

import numpy as np
import torch
import tyro

from go2_sevpo.data import shards
from go2_sevpo.data.shards import DatasetError, Episodes
from go2_sevpo.data_collection.handover import chosen, episodes_of, hand_over
from go2_sevpo.data_collection.sources import Source, plain
from go2_sevpo.envs.go2.config import ParkourConfig, Randomization
from go2_sevpo.envs.go2.contract import (
    ENVIRONMENTS,
    environment_contract,
    fitting_version,
    task_version,
)
from go2_sevpo.envs.go2.parkour import Go2Parkour, announce
from go2_sevpo.envs.go2.rewards import DEFINITION
from go2_sevpo.envs.go2.rollout import onnx_policy, run_episodes
from go2_sevpo.envs.seeds import collection_number
from go2_sevpo.envs.simulators.base import SimulationError
from go2_sevpo.policies.onnx_policy import OnnxPolicy, find_policy
from go2_sevpo.runs.arguments import EXPECTED, at_least, check_writable, complaint, finite
from go2_sevpo.runs.files import write_atomically
from go2_sevpo.runs.interrupt import told_when_interrupted
from go2_sevpo.runs.lock import sole_writer
from go2_sevpo.runs.progress import Progress
from go2_sevpo.runs.provenance import made_by
from go2_sevpo.runs.reading import read_json, read_mapping
from go2_sevpo.runs.typed import checked

CONFIG_DIR = Path(__file__).parent / "configs"


@dataclass
class Args:
    """Collect episodes into a dataset folder. The same command goes on after an interruption."""

    out: Path
    """Dataset folder."""
    policy: Optional[str] = None
    """Shipped policy by name (sevpo, expert, weak) or any ONNX file."""
    course: str = "simple"
    """flat, simple or hard."""
    episodes: int = 100
    difficulty: float = 1.0
    noise: float = 0.5
    """Scale of a Gaussian policy's own action noise; diffusion policies always draw theirs."""
    mix: Optional[str] = None
    """Several sources: paper, demo, or a YAML file with a list under ``sources``.

    Replaces --policy and --course.
    """
    seed: int = 0
    episodes_per_shard: int = 250
    threads: int = 0
    """Physics threads; 0 means all cores."""
    simulator: str = "mujoco"
    """mujoco (CPU), mujoco-warp (NVIDIA GPU) or isaacgym."""
    randomization: bool = True
    """Domain randomisation, pushes and sensor noise."""


def sources_of(args: Args) -> List[Source]:
    """The sources a command line asks for.

    Raises:
        ValueError: neither or both of --policy and --mix, or a mix that is not understood.
    """
    if (args.policy is None) == (args.mix is None):
        raise ValueError("expected either --policy or --mix")
    if args.mix is None:
        return [Source(str(args.policy), args.course, args.episodes, args.difficulty, args.noise)]
    path = CONFIG_DIR / f"mix_{args.mix}.yaml"
    path = path if path.is_file() else Path(args.mix)
    if not path.is_file():
        known = ", ".join(sorted(p.stem[4:] for p in CONFIG_DIR.glob("mix_*.yaml")))
        raise ValueError(f"no mix '{args.mix}': not a file, and the presets are {known}")
    data = read_mapping(path)
    if not isinstance(data.get("sources"), list):
        raise ValueError(f"{path} has no list 'sources'")
    try:
        sources = [Source(**item) for item in data["sources"]]
        for source in sources:
            checked(Source, vars(source), str(path))
        return sources
    except TypeError as error:
        raise ValueError(
            f"{path}: {error}; a source has policy, course, episodes, difficulty, noise, "
            "then with after or before_fall, push_speed, mid_course, falls_only"
        ) from error
    except ValueError as error:
        text = str(error)
        raise ValueError(text if str(path) in text else f"{path}: {text}") from error


@dataclass(frozen=True)
class ShardJob:
    """One shard to make: part ``part`` of source number ``source``."""

    source: int
    part: int
    episodes: int
    name: str

    first: int = 0
    """Number of the shard's first episode within its source."""

    def seed(self, base: int) -> int:
        """What the shard's courses and random numbers start from: nothing that happened before it.

        Raises:
            ValueError: a seed, a source or an episode that there is no room for.
        """
        return collection_number(base, self.source, self.first, self.episodes)


def plan(sources: List[Source], per_shard: int) -> List[ShardJob]:
    """Cut the sources into shards of at most ``per_shard`` episodes."""
    jobs = []
    for number, source in enumerate(sources):
        for part, first in enumerate(range(0, source.episodes, per_shard)):
            who = "_".join(Path(policy).stem for policy in source.policies)
            name = f"{number:02d}_{who}_{source.course}_{part:04d}.hdf5"
            episodes = min(per_shard, source.episodes - first)
            jobs.append(ShardJob(number, part, episodes, name, first))
    return jobs


def shard_config(job: ShardJob, source: Source, policy: OnnxPolicy, args: Args) -> ParkourConfig:
    """What a shard is simulated in: one episode per world, each on a course of its own."""
    version = task_version(policy.contract)
    randomization = Randomization.of(version) if args.randomization else Randomization.off()
    if source.push_speed is not None:
        randomization = replace(randomization, pushes=True, push_speed=source.push_speed)
    seed = job.seed(args.seed)
    return ParkourConfig(
        version=version,
        num_envs=job.episodes,
        courses=(source.course,),
        difficulty=source.difficulty,
        variants=job.episodes,
        course_seed=seed,
        seed=seed,
        threads=args.threads,
        simulator=args.simulator,
        randomization=randomization,
        random_start=1.0 if source.mid_course else 0.0,
    )


def collect_shard(
    job: ShardJob, source: Source, policies: Dict[str, OnnxPolicy], args: Args
) -> Tuple[Episodes, Dict[str, Any], int]:
    """Simulate one shard; returns the episodes, what made them, and the control steps.

    ``policies`` by the names that the source gives them.
    """
    config = shard_config(job, source, policies[source.policy], args)
    seed = job.seed(args.seed)
    acting = []
    for number, name in enumerate(source.policies):
        policy = policies[name]
        is_gaussian = policy.contract["sampler"]["kind"] == "gaussian"
        # A stream of noise for each.
        acting.append(onnx_policy(policy, seed + number, source.noise if is_gaussian else 1.0))
    env = Go2Parkour(config)
    try:
        if source.then is None:
            rollout = run_episodes(env, acting[0], seed, keep=True)
            who = np.zeros(len(rollout.columns["rewards"]), np.int64)
        else:
            rollout, who = hand_over(env, acting[0], acting[1], source, seed)
    finally:
        env.close()
    rollout, who = chosen(rollout, who, source)
    names = tuple(Path(name).stem for name in source.policies)
    info = {
        "source": plain(source),
        "policy": policies[source.policy].identity,
        "seed": args.seed,
        "part": job.part,
        "environment": config.to_dict(),
        "observation": environment_contract(config.version)["observation"],
        "records": rollout.episodes,
        "made_by": made_by(),
    }
    return episodes_of(rollout, who, names), info, rollout.steps


def _line(name: str, data: Episodes, progress: Progress, steps: int) -> str:
    """One line about a finished shard; ``progress`` counts episodes, ``steps`` control steps."""
    table = data.episodes
    return (
        f"{name}: {len(table['length'])} episodes, {data.rows} transitions, "
        f"success {100 * table['success'].mean():.0f}%, fall {100 * table['fall'].mean():.0f}%, "
        f"cost {table['cost'].mean():.1f} | {progress.done:.0f}/{progress.total:.0f} episodes, "
        f"{steps / progress.seconds:.0f} control steps/s, {progress.text()}"
    )


def _fingerprint(args: Args, sources: List[Source]) -> Dict[str, Any]:
    """What must be the same for a collection to go on in its folder."""
    names = [name for s in sources for name in s.policies]
    hashes = {name: OnnxPolicy(find_policy(name)).identity["sha256"] for name in names}
    return {
        "sources": [plain(s) for s in sources],
        "seed": args.seed,
        "episodes_per_shard": args.episodes_per_shard,
        "randomization": args.randomization,
        "policies": hashes,
        "simulator": args.simulator,
    }


def _check_resume(folder: Path, wanted: Dict[str, Any]) -> None:
    """Compare ``wanted`` with the folder's ``plan.json``; write it where there is none.

    Raises:
        DatasetError: the folder holds another collection.
    """
    path = folder / "plan.json"
    if path.is_file():
        found = read_json(path)
        for key, value in wanted.items():
            if found.get(key) != value:
                raise DatasetError(
                    f"{folder} was begun with {key} {found.get(key)}, now {value}; "
                    "use another --out"
                )
    elif list(folder.glob("*.hdf5")):
        raise DatasetError(
            f"{folder} holds shards of something else (no plan.json); use another --out"
        )
    else:
        write_atomically(path, json.dumps(wanted, indent=1))


def collect(args: Args) -> Dict[str, Any]:
    """Collect what is missing and write the manifest; returns it.

    Raises:
        ValueError: arguments, policies or an existing folder that do not fit.
        BusyError: another process is collecting into the same folder.
    """
    sources = sources_of(args)
    at_least("episodes-per-shard", args.episodes_per_shard, 1)
    for source in sources:
        finite("noise", source.noise)
    check_writable(args.out)
    for job in plan(sources, args.episodes_per_shard):
        job.seed(args.seed)  # refuses what there is no room for before anything is simulated
    torch.set_num_threads(1)  # the cores are the physics'
    policies = {name: OnnxPolicy(find_policy(name)) for s in sources for name in s.policies}
    versions = {name: fitting_version(p.contract, str(name)) for name, p in policies.items()}
    if len(set(versions.values())) > 1:
        found = ", ".join(f"{name}: {v}" for name, v in versions.items())
        raise ValueError(f"the policies are for different versions of the task ({found})")
    with sole_writer(args.out):
        return _collect(args, sources, policies, next(iter(versions.values())))


def _collect(
    args: Args, sources: List[Source], policies: Dict[str, OnnxPolicy], version: int
) -> Dict[str, Any]:
    """:func:`collect` in a folder that is ours alone, in a version of the task."""
    _check_resume(args.out, _fingerprint(args, sources))
    jobs = plan(sources, args.episodes_per_shard)
    missing = [j for j in jobs if not (args.out / j.name).is_file()]
    if len(missing) < len(jobs):
        print(f"{len(jobs) - len(missing)} of {len(jobs)} shards are there already", flush=True)
    announce(
        shard_config(job, source, policies[source.policy], args)
        for job, source in ((job, sources[job.source]) for job in missing)
    )
    progress, steps = Progress(sum(j.episodes for j in missing)), 0
    for job in missing:
        source = sources[job.source]
        data, info, simulated = collect_shard(job, source, policies, args)
        shards.write_shard(args.out / job.name, data, info)
        progress.advance(job.episodes)
        steps += simulated
        print(_line(job.name, data, progress, steps), flush=True)
    entries = []
    for job in jobs:  # from the files, as some are of an earlier run
        path = args.out / job.name
        info = shards.shard_info(path)
        info.pop("records")  # one per episode: too long for the manifest
        entries.append(shards.shard_entry(path, shards.read_shard(path), info))
    common = {
        "environment": {"name": ENVIRONMENTS[version], "definition": DEFINITION},
        "observation": environment_contract(version)["observation"],
        "contract": environment_contract(version),
        "made_by": made_by(),
        **_fingerprint(args, sources),
    }
    return shards.write_manifest(args.out, entries, common)


def main() -> None:
    """Entry point of ``go2-collect``."""
    with told_when_interrupted("stopped; finished shards are kept, the same command goes on"):
        args = tyro.cli(Args)
        try:
            manifest = collect(args)
        except (*EXPECTED, SimulationError) as error:
            sys.exit(f"go2-collect: {complaint(error)}")
        print(
            f"{args.out}: {manifest['episodes']} episodes, {manifest['transitions']} transitions, "
            f"{manifest['successes']} successes, {manifest['falls']} falls"
        )


if __name__ == "__main__":
    main()
