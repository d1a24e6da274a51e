"""Playing a policy on the Go2 courses while it is trained."""

from __future__ import annotations

from typing import Any, Dict, List, Sequence, Tuple

import numpy as np
import torch

from go2_sevpo.data.shards import DatasetError
from go2_sevpo.envs.go2.config import ParkourConfig, Randomization
from go2_sevpo.envs.go2.contract import ENVIRONMENTS
from go2_sevpo.envs.go2.parkour import Go2Parkour, announce
from go2_sevpo.envs.go2.rollout import Policy as Actor
from go2_sevpo.envs.go2.rollout import run_episodes
from go2_sevpo.envs.seeds import EVALUATION
from go2_sevpo.offline_training.evaluation.best import Evaluator
from go2_sevpo.policies.torch_policy import Policy
from go2_sevpo.policies.torch_policy import act as ask

GO2 = ENVIRONMENTS[1]
VERSIONS = {name: version for version, name in ENVIRONMENTS.items()}


def courses_of(manifest: Dict[str, Any]) -> Tuple[str, ...]:
    """The courses a dataset was collected on, in order.

    Raises:
        DatasetError: the dataset is not of the Go2 courses.
    """
    name = (manifest.get("environment") or {}).get("name")
    if name not in VERSIONS:
        raise DatasetError(
            f"evaluation during training plays {GO2} or a Safety-Gymnasium task, "
            f"but the dataset is of {name or 'an unknown one'}"
        )
    found = {shard["info"]["source"]["course"] for shard in manifest["shards"]}
    return tuple(sorted(found))


def version_of(manifest: Dict[str, Any]) -> int:
    """The version of the Go2 task that a dataset was collected in."""
    return VERSIONS[manifest["environment"]["name"]]


def torch_actor(policy: Policy, candidates: int, seed: int) -> Actor:
    """A policy module as :data:`go2_sevpo.envs.go2.rollout.Policy`, with a stream of noise."""
    generator = torch.Generator().manual_seed(seed)
    sampler = policy.sampler
    n = candidates if sampler["choice"] != "first" else 1

    def act(obs: torch.Tensor, spent_cost: torch.Tensor) -> Tuple[torch.Tensor, torch.Tensor]:
        # (B, N, T, A): start and steps of N samplings for every world
        noise = torch.randn(len(obs), n, sampler["steps"], 12, generator=generator)
        noise = noise * sampler["noise_scale"]
        with torch.no_grad():
            action, value, _ = ask(policy, obs.cpu(), noise, spent_cost.cpu())
        # (B, A), (B,); a diverged policy's NaN would spoil the simulation
        return torch.nan_to_num(action), value

    return act


def go2_evaluator(
    courses: Sequence[str],
    episodes: int,
    candidates: int,
    seed: int = 0,
    simulator: str = "mujoco",
    threads: int = 1,
    version: int = 1,
) -> Evaluator:
    """Success, fall and cost over ``episodes`` episodes on each course, always the same ones.

    The mean over the courses is called ``success``, a course's own ``success/simple``, and so on.
    """
    stream = EVALUATION.number(seed, 0, episodes)

    configs = {
        course: ParkourConfig(
            version=version,
            randomization=Randomization.of(version),
            num_envs=episodes,
            courses=(course,),
            variants=episodes,
            course_seed=stream,
            seed=stream,
            threads=threads,
            simulator=simulator,
        )
        for course in courses
    }
    announce(configs.values())

    def evaluate(policy: Policy) -> Dict[str, float]:
        found: Dict[str, float] = {}
        for course, config in configs.items():
            env = Go2Parkour(config)
            try:
                played = run_episodes(env, torch_actor(policy, candidates, stream), stream).episodes
            finally:
                env.close()
            for key in ("success", "fall", "cost"):
                values = [float(episode[key]) for episode in played]
                found[f"{key}/{course}"] = float(np.mean(values))
        for key in ("success", "fall", "cost"):
            found[key] = float(np.mean([found[f"{key}/{course}"] for course in courses]))
        return found

    return evaluate


def go2_rank(found: Dict[str, float]) -> List[float]:
    """Most successes, then least cost."""
    return [found["success"], -found["cost"]]
