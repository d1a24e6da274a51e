"""Train the reach-avoid expert: TD3 with a Lagrange multiplier.

``python -m go2_sevpo.data_collection.reach_avoid.expert`` runs it. Episodes start anywhere from
where the goal can be reached without a violation (see :mod:`go2_sevpo.envs.reach_avoid.truth`); the
learner is :mod:`go2_sevpo.data_collection.reach_avoid.td3`.
"""

from __future__ import annotations

import csv
import io
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any, Dict, List

import numpy as np
import torch
import tyro

from go2_sevpo.data_collection.reach_avoid.expert_args import Args
from go2_sevpo.data_collection.reach_avoid.td3 import (
    TD3,
    CostReplayBuffer,
    DualAscent,
    MixedNoise,
    TaskVecEnv,
    cost_buffer,
    make_td3,
)
from go2_sevpo.envs.reach_avoid import task
from go2_sevpo.envs.reach_avoid.truth import Truth, certify, feasible_starts, load_truth
from go2_sevpo.envs.seeds import REACH_AVOID_EXPERT
from go2_sevpo.metrics import wilson
from go2_sevpo.policies.torch_policy import GaussianPolicy, save_policy
from go2_sevpo.runs.cpu import use_cpu
from go2_sevpo.runs.files import write_atomically

__all__ = ["Args", "CostReplayBuffer", "DualAscent", "MixedNoise", "TaskVecEnv", "evaluate"]


def to_policy(model: TD3, exploration: float) -> GaussianPolicy:
    """The TD3 actor as the project's policy.

    ``exploration`` is the standard deviation of its noise input.
    """
    linear = [m for m in model.actor.mu if isinstance(m, torch.nn.Linear)]
    sizes = [linear[0].in_features, *[m.out_features for m in linear]]
    std = torch.full((task.NUM_ACTIONS,), exploration)
    policy = GaussianPolicy(sizes, std, 1.0, activation="relu", squash=True)
    for mine, theirs in zip([m for m in policy.mlp if isinstance(m, torch.nn.Linear)], linear):
        mine.load_state_dict(theirs.state_dict())
    return policy.eval()


def fill(buffer: CostReplayBuffer, env: TaskVecEnv, truth: Truth, args: Args) -> None:
    """Put ``args.guided`` transitions of noisy greedy control into the buffer."""
    draw, obs = torch.Generator().manual_seed(REACH_AVOID_EXPERT.number(args.seed, 2)), env.reset()
    for _ in range(args.guided // args.worlds):
        greedy = truth.greedy(env.env.state, True)  # (N, 2)
        noise = args.guided_noise * torch.randn(greedy.shape, generator=draw)
        action = (greedy + noise).clamp(-1.0, 1.0).numpy()
        env.step_async(action)
        nxt, reward, done, infos = env.step_wait()
        # Worlds that have ended show their next start; the buffer gets the true successor.
        true_next = nxt.copy()
        for i in np.flatnonzero(done):
            true_next[i] = infos[i]["terminal_observation"]
        buffer.add(obs, true_next, action, reward, done, infos)
        obs = nxt


def evaluate(policy: GaussianPolicy, starts: torch.Tensor) -> Dict[str, Any]:
    """Rates from ``starts`` (B, 4), without noise.

    Safe success is in the goal without a step in the hazard or off the map.
    """
    n = len(starts)
    env = task.ReachAvoid(n, auto_reset=False)
    obs = env.reset(starts)
    cost, alive = torch.zeros(n), torch.ones(n, dtype=torch.bool)
    success = torch.zeros_like(alive)
    noise = torch.zeros(n, 1, 1, task.NUM_ACTIONS)
    for _ in range(task.MAX_STEPS):
        with torch.no_grad():
            action = policy(obs, noise)[0]
        obs, _, step_cost, terminated, _, info = env.step(action)
        # Worlds that have ended go on being simulated and count no more.
        cost, success = cost + step_cost * alive, success | (info["success"] & alive)
        alive &= ~terminated
    good = success & (cost == 0)
    return {
        "episodes": n,
        "success_rate": float(success.float().mean()),
        "safe_rate": float((cost == 0).float().mean()),
        "safe_success_rate": float(good.float().mean()),
        "safe_success_interval": wilson(int(good.sum()), n),
    }


def main() -> None:
    """Train, evaluate, save."""
    args = tyro.cli(Args)
    use_cpu(1)
    truth = load_truth(args.truth)
    env = TaskVecEnv(
        args.worlds,
        feasible_starts(truth, 20_000, REACH_AVOID_EXPERT.number(args.seed)),
        REACH_AVOID_EXPERT.number(args.seed, 1),
        args.leaving_cost,
        args.time_cost,
    )
    model = make_td3(env, args)
    fill(cost_buffer(model), env, truth, args)
    dual = DualAscent(args)
    model.learn(args.steps, callback=dual)
    policy = to_policy(model, args.exploration)
    # Only starts from where greedy control on the ground truth arrives without a violation.
    candidates = feasible_starts(truth, args.evaluation, REACH_AVOID_EXPERT.number(args.seed, 3))
    proven = certify(truth, candidates, True)
    starts = candidates[proven["success"] & (proven["cost"] == 0)]
    report = evaluate(policy, starts)
    config = {k: str(v) if isinstance(v, Path) else v for k, v in asdict(args).items()}
    info = {
        "algorithm": "td3-lagrangian",
        "environment": task.ENV_ID,
        "config": config,
        "evaluation": report,
        "multiplier": dual.multiplier,
    }
    args.out.mkdir(parents=True, exist_ok=True)
    save_policy(args.out / "policy_last.safetensors", policy, task.observe(starts[:256]), info)
    _write_curve(args.out / "progress.csv", dual.curve)
    print(json.dumps(report))


def _write_curve(path: Path, curve: List[Dict[str, float]]) -> None:
    """The multiplier's steps as CSV; only a header if the training was too short for one."""
    text = io.StringIO()
    writer = csv.DictWriter(text, list(curve[0]) if curve else ["step"])
    writer.writeheader()
    writer.writerows({k: f"{v:.6g}" for k, v in row.items()} for row in curve)
    write_atomically(path, text.getvalue())


if __name__ == "__main__":
    main()
