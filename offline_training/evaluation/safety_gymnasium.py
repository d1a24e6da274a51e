"""Playing a policy on its Safety-Gymnasium task while it is trained."""

from __future__ import annotations

from typing import Dict, List

import numpy as np
import torch

from go2_sevpo.envs.safety_gymnasium.tasks import Task
from go2_sevpo.envs.seeds import SAFETY_EVALUATION
from go2_sevpo.offline_training.evaluation.best import Evaluator, Rank
from go2_sevpo.policies.torch_policy import Policy
from go2_sevpo.policies.torch_policy import act as ask


def safety_evaluator(
    task: Task, episodes: int, candidates: int, limit: float, seed: int = 0
) -> Evaluator:
    """Mean return and cost, greatest cost, and the share that cost more than ``limit``.

    Over ``episodes`` episodes, always the same ones.
    """
    first = SAFETY_EVALUATION.number(seed, 0, episodes)

    def evaluate(policy: Policy) -> Dict[str, float]:
        from go2_sevpo.envs.safety_gymnasium.play import play

        generator = torch.Generator().manual_seed(seed)
        sampler = policy.sampler
        n = candidates if sampler["choice"] != "first" else 1

        def act(obs: np.ndarray, spent_cost: np.ndarray) -> np.ndarray:
            # (B, N, T, A): start and steps of N samplings for every episode
            shape = (len(obs), n, sampler["steps"], task.num_actions)
            noise = torch.randn(shape, generator=generator) * sampler["noise_scale"]
            seen, spent = torch.from_numpy(obs).float(), torch.from_numpy(spent_cost)
            with torch.no_grad():
                action, _, _ = ask(policy, seen, noise, spent)
            return torch.nan_to_num(action).numpy()  # (B, A)

        played = play(task.name, act, episodes, first)
        return {
            "return": float(played.returns.mean()),
            "cost": float(played.costs.mean()),
            "cost_max": float(played.costs.max()),
            "failure": float((played.costs > limit).mean()),
        }

    return evaluate


def safety_rank(limit: float) -> Rank:
    """Safe before unsafe; among the safe the greatest return, among the unsafe the least cost."""

    def rank(found: Dict[str, float]) -> List[float]:
        safe = found["cost"] <= limit
        return [float(safe), found["return"] if safe else -found["cost"]]

    return rank
