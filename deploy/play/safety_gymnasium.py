"""Play a policy on its Safety-Gymnasium task (part of ``go2-play``).

Reported are return, cost, DSRL's normalised scores and the failure rate.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Dict

import numpy as np

from go2_sevpo.deploy.play.arguments import Args
from go2_sevpo.envs.contracts import contract_for
from go2_sevpo.envs.safety_gymnasium.tasks import Task, normalised_cost
from go2_sevpo.envs.seeds import SAFETY_PLAY
from go2_sevpo.metrics import percent, wilson
from go2_sevpo.policies.contract import check_contract
from go2_sevpo.policies.onnx_policy import OnnxPolicy
from go2_sevpo.runs.provenance import write_result

if TYPE_CHECKING:  # it loads gymnasium, hence imported only where such a task is played
    from go2_sevpo.envs.safety_gymnasium.play import Act

FILM_EVERY = 4
"""Steps per picture of the film, which makes it four times real time or faster."""


def actor(policy: OnnxPolicy, seed: int, noise_scale: float) -> Act:
    """The policy as :data:`~go2_sevpo.envs.safety_gymnasium.play.Act`.

    It has its own stream of noise, times ``noise_scale``.
    """
    rng = np.random.default_rng(seed + 1_000_003)

    def act(obs: np.ndarray, spent_cost: np.ndarray) -> np.ndarray:
        noise = noise_scale * rng.normal(size=policy.noise_shape(len(obs)))  # (B, N, T, A)
        return policy.act(np.asarray(obs, np.float32), noise.astype(np.float32), spent_cost)[0]

    return act


def scores(task: Task, returns: np.ndarray, costs: np.ndarray, limit: float) -> Dict[str, Any]:
    """DSRL's scores and the paper's Table 3 over episodes' returns and costs (E,).

    An episode that costs more than ``limit`` is a failure.
    """
    n, failed = len(returns), int((costs > limit).sum())
    return {
        "task": task.name,
        "episodes": n,
        "limit": limit,
        "return_mean": float(returns.mean()),
        "return_std": float(returns.std()),
        "cost_mean": float(costs.mean()),
        "cost_std": float(costs.std()),
        "cost_max": float(costs.max()),
        "normalised_return": task.normalised_return(float(returns.mean())),
        "normalised_cost": normalised_cost(float(costs.mean()), limit),
        "failures": failed,
        "failure_rate": failed / n,
        "failure_interval": list(wilson(failed, n)),
    }


def play_safety(policy: OnnxPolicy, task: Task, args: Args) -> Dict[str, Any]:
    """Play ``args.episodes`` episodes; returns the report.

    Writes ``report.json`` and, if asked for, ``video.mp4`` to ``args.out``.

    Raises:
        ContractError: the policy does not fit the task.
        ValueError: bad arguments.
    """
    from go2_sevpo.envs.safety_gymnasium.play import play

    check_contract(policy.contract, contract_for(task.registered_id), args.policy)
    if args.episodes < 1:
        raise ValueError(f"episodes is {args.episodes}, expected at least 1")
    if args.limit < 0:
        raise ValueError(f"limit is {args.limit:g}, expected 0 or more")
    first = SAFETY_PLAY.number(args.seed, 0, args.episodes)
    noise = args.noise
    if noise is None:
        noise = float(policy.contract["sampler"].get("noise_scale", 1.0))
    policy.non_finite = policy.bad_observations = 0
    found = play(task.name, actor(policy, args.seed, noise), args.episodes, first)
    report = {
        "policy": policy.identity,
        "seed": args.seed,
        "candidates": policy.candidates,
        "choice": policy.choice,
        "noise_scale": noise,
        **scores(task, found.returns, found.costs, args.limit),
        "steps_mean": float(found.steps.mean()),
        "non_finite_actions": policy.non_finite,
        "non_finite_observations": policy.bad_observations,
        "data": (policy.contract.get("provenance") or {}).get("dataset"),
        "episodes_detail": [
            {"return": float(r), "cost": float(c), "length": int(s)}
            for r, c, s in zip(found.returns, found.costs, found.steps)
        ],
    }
    args.out.mkdir(parents=True, exist_ok=True)
    write_result(args.out / "report.json", report, indent=1)
    if args.video:
        record(policy, task, args, noise)
    return report


def record(policy: OnnxPolicy, task: Task, args: Args, noise: float) -> None:
    """Film the first episode; says why where there are no graphics."""
    from go2_sevpo.deploy.play.video import graphics_problem, write_animation, write_mp4
    from go2_sevpo.envs.safety_gymnasium.environment import make

    problem = graphics_problem()
    if problem is not None:
        print(f"no video: {problem}", flush=True)
        return
    env = make(task.name)
    act = actor(policy, args.seed, noise)
    frames, spent, done, step = [], 0.0, False, 0
    obs, _ = env.reset(seed=SAFETY_PLAY.number(args.seed))
    while not done:
        action = act(obs[None], np.array([spent], np.float32))[0]  # (A,), of a batch of one
        obs, _, terminated, truncated, info = env.step(action)
        spent, done, step = spent + info["cost"], terminated or truncated, step + 1
        if step % FILM_EVERY == 0:
            frames.append(env.render().copy())
    env.close()
    write_animation(args.out / "video.webp", frames)
    write_mp4(args.out / "video.mp4", frames)


def show(report: Dict[str, Any]) -> str:
    """The report as a few lines of text."""
    failure = percent(report["failure_rate"], report["failure_interval"])
    return (
        f"{report['task']}: return {report['return_mean']:.2f} +- {report['return_std']:.2f}, "
        f"cost {report['cost_mean']:.2f} (largest {report['cost_max']:.0f})\n"
        f"normalised return {report['normalised_return']:.3f}, "
        f"normalised cost {report['normalised_cost']:.2f} at limit "
        f"{report['limit']:g} (safe below 1)\n"
        f"{failure} of {report['episodes']} episodes cost more than "
        f"{report['limit']:g}; N = {report['candidates']}"
    )
