"""Playing a policy on the Go2 courses: the worlds, the episodes, the report's numbers."""

from __future__ import annotations

import json
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any, Dict, List, Optional

import numpy as np
import torch

from go2_sevpo.deploy.play.arguments import Args
from go2_sevpo.envs.go2.config import ParkourConfig, Randomization
from go2_sevpo.envs.go2.contract import fitting_version, task_version
from go2_sevpo.envs.go2.parkour import Go2Parkour, announce
from go2_sevpo.envs.go2.rewards import DEFINITION
from go2_sevpo.envs.go2.rollout import onnx_policy, run_episodes
from go2_sevpo.envs.seeds import PLAY, play_stream
from go2_sevpo.metrics import percent, wilson
from go2_sevpo.policies.onnx_policy import OnnxPolicy
from go2_sevpo.runs.arguments import finite
from go2_sevpo.runs.progress import Progress

WARM_UP = 20
"""Calls before latency is measured."""


def evaluation_config(
    args: Args,
    worlds: int,
    first: int = 0,
    batch: int = 0,
    viewer: bool = False,
    version: int = 1,
) -> ParkourConfig:
    """``worlds`` worlds for the episodes from number ``first`` on, each with a course of its own.

    ``version`` is the task's, which the policy's contract names.

    Raises:
        ValueError: a value that is not understood.
    """
    return ParkourConfig(
        version=version,
        num_envs=worlds,
        courses=(args.course,),
        difficulty=args.difficulty,
        variants=worlds,  # courses in the pool: each world has its own
        seed=args.seed + batch,
        course_seed=PLAY.number(args.seed, first, worlds),
        threads=args.threads if worlds > 1 else 1,
        physics_dt=args.physics_dt,
        simulator=args.simulator,
        randomization=Randomization.of(version) if args.randomization else Randomization.off(),
        viewer=viewer,
    )


def evaluation_env(
    args: Args,
    worlds: int,
    first: int = 0,
    batch: int = 0,
    viewer: bool = False,
    version: int = 1,
) -> Go2Parkour:
    """The environment of :func:`evaluation_config`.

    Raises:
        ValueError: a value that is not understood.
    """
    return Go2Parkour(evaluation_config(args, worlds, first, batch, viewer, version))


def noise_scale(args: Args, policy: OnnxPolicy) -> float:
    """The sampling noise asked for, or the policy's own (0 for Gaussian policies)."""
    if args.noise is not None:
        finite("noise", args.noise)
        return args.noise
    return policy.contract["sampler"].get("noise_scale", 1.0)


class Trace:
    """Keeps cost, cost value and progress along the first episodes, for the report's plots."""

    def __init__(self, worlds: int = 6) -> None:
        self.worlds = worlds
        self.rows: List[List[Dict[str, float]]] = [[] for _ in range(worlds)]

    def __call__(self, env: Go2Parkour, values: torch.Tensor, info: Dict[str, Any]) -> None:
        """Note one step; ``values`` (N,) are the cost values of where it began."""
        for i in range(min(self.worlds, env.num_envs)):
            if not info["active"][i]:  # its episode is over
                continue
            x = round(float(info["base_position"][i, 0]), 3)
            cost, value = float(info["cost"][i]), round(float(values[i]), 4)
            self.rows[i].append({"x": x, "cost": cost, "value": value})


def evaluate(policy: OnnxPolicy, args: Args, trace: Optional[Trace] = None) -> Dict[str, Any]:
    """Play ``args.episodes`` episodes, one per world, in batches; returns the report.

    Raises:
        ContractError: the policy does not fit the environment.
        ValueError: bad arguments.
    """
    version = fitting_version(policy.contract, args.policy)
    if args.episodes < 1:
        raise ValueError(f"episodes is {args.episodes}, expected at least 1")
    if args.worlds < 1:
        raise ValueError(f"worlds is {args.worlds}, expected at least 1")
    # Seeds that do not exist are refused before the first episode, not in the last batch.
    PLAY.number(args.seed, 0, args.episodes)
    play_stream(args.seed, (args.episodes - 1) // args.worlds)
    torch.set_num_threads(1)  # the cores are the physics'
    noise = noise_scale(args, policy)
    records: List[Dict[str, Any]] = []
    firsts = range(0, args.episodes, args.worlds)
    # The last batch holds what is left; a video shows the first episode.
    announce(
        evaluation_config(
            args, min(args.worlds, args.episodes - first), first, batch, version=version
        )
        for batch, first in enumerate(firsts)
    )
    steps, progress, batch = 0, Progress(args.episodes), 0
    policy.non_finite, held = 0, 0
    while len(records) < args.episodes:
        worlds = min(args.worlds, args.episodes - len(records))
        env = evaluation_env(args, worlds, len(records), batch, version=version)
        try:
            seed = play_stream(args.seed, batch)
            act = onnx_policy(policy, seed, noise)
            # Traced are episodes of the first batch.
            rollout = run_episodes(env, act, seed, each_step=trace if batch == 0 else None)
        finally:
            env.close()
        records.extend(rollout.episodes)
        steps, batch, held = steps + rollout.steps, batch + 1, held + rollout.held
        progress.done = len(records)
        good = sum(e["success"] for e in records)
        print(
            f"{Path(args.policy).stem} on {args.course}: {len(records)}/{args.episodes} episodes, "
            f"success {100 * good / len(records):.1f}%, "
            f"{steps / progress.seconds:.0f} control steps/s, {progress.text()}",
            flush=True,
        )
    seconds = progress.seconds
    return {
        **summarize(records, policy, args, noise),
        "non_finite_observations": held,
        "control_steps_per_second": steps / seconds,
        "episodes_detail": records,
    }


def summarize(
    records: List[Dict[str, Any]], policy: OnnxPolicy, args: Args, noise: float
) -> Dict[str, Any]:
    """The report's numbers from the records of all episodes."""
    n = len(records)

    def rate(key: str) -> Dict[str, Any]:
        count = sum(bool(e[key]) for e in records)
        return {f"{key}_rate": count / n, f"{key}_interval": wilson(count, n)}

    costs = np.array([e["cost"] for e in records])  # (n,)
    returns = np.array([e["return"] for e in records])
    failed = int(sum(not e["success"] for e in records))
    return {
        "policy": policy.identity,
        "version": task_version(policy.contract),
        "course": args.course,
        "difficulty": args.difficulty,
        "seed": args.seed,
        "episodes": n,
        "candidates": policy.candidates,
        "choice": policy.choice,
        "noise_scale": noise,
        **rate("success"),
        **rate("fall"),
        **rate("timeout"),
        "return_mean": float(returns.mean()),
        "return_std": float(returns.std()),
        "cost_mean": float(costs.mean()),
        "cost_std": float(costs.std()),
        "cost_max": float(costs.max()),
        "failure_rate": failed / n,
        "failure_interval": wilson(failed, n),
        "steps_mean": float(np.mean([e["length"] for e in records])),
        "non_finite_actions": policy.non_finite,
        "definition": DEFINITION,
        # As JSON has them: paths as texts.
        "arguments": json.loads(json.dumps(asdict(args), default=str)),
    }


def inference_time(policy: OnnxPolicy, calls: int = 300) -> Dict[str, float]:
    """Latency of one action at batch 1, ms: median and 99th percentile.

    Over ``calls`` after 20 to warm up.
    """
    size = policy.contract["observation"]["size"]
    rng = np.random.default_rng(0)
    obs = rng.normal(size=(1, size)).astype(np.float32)  # (1, S)
    noise = rng.normal(size=policy.noise_shape(1)).astype(np.float32)  # (1, N, T, A)
    times = []  # ms
    for k in range(calls + WARM_UP):
        start = time.perf_counter()
        policy.act(obs, noise, np.zeros(1, np.float32))
        if k >= WARM_UP:
            times.append(1000 * (time.perf_counter() - start))
    return {
        "inference_ms_p50": float(np.percentile(times, 50)),
        "inference_ms_p99": float(np.percentile(times, 99)),
    }


def show(report: Dict[str, Any]) -> str:
    """The report as a few lines of text."""
    return (
        f"success {percent(report['success_rate'], report['success_interval'])}  "
        f"fall {percent(report['fall_rate'], report['fall_interval'])}  "
        f"time-out {100 * report['timeout_rate']:.1f}%\n"
        f"return {report['return_mean']:.2f}  "
        f"cost {report['cost_mean']:.2f} (largest {report['cost_max']:.0f})  "
        f"steps {report['steps_mean']:.0f}\n"
        f"inference {report['inference_ms_p50']:.2f} ms "
        f"(p99 {report['inference_ms_p99']:.2f}) at N = {report['candidates']}, "
        f"{report['control_steps_per_second']:.0f} control steps/s, "
        f"{report['non_finite_actions']} actions and "
        f"{report['non_finite_observations']} observations not finite"
    )
