"""Run one episode in every world with a policy, and keep what happened."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Callable, Dict, List, Optional, Tuple

import numpy as np
import torch

from go2_sevpo.envs.go2.parkour import Go2Parkour

if TYPE_CHECKING:
    from go2_sevpo.policies.onnx_policy import OnnxPolicy

Policy = Callable[[torch.Tensor, torch.Tensor], Tuple[torch.Tensor, torch.Tensor]]
"""From observations (N, S) and the episodes' cost so far (N,), actions (N, A) and cost values (N,).

Only active worlds are asked for.
"""

EachStep = Callable[[Go2Parkour, torch.Tensor, Dict[str, Any]], None]
"""Called with the environment, the cost values (N,) of a step and its info."""


@dataclass
class Rollout:
    """Episodes of all worlds.

    ``episodes`` has one record per world; ``columns`` the transitions by key, world by world, if
    they were kept; ``steps`` the control steps simulated, ``held`` those of them in which the last
    action was held, as nothing follows from an observation that is not finite.
    """

    episodes: List[Dict[str, Any]]
    steps: int
    columns: Dict[str, np.ndarray] = field(default_factory=dict)
    held: int = 0


@dataclass
class _Log:
    """Transitions of the worlds that were active, step by step."""

    world: List[torch.Tensor] = field(default_factory=list)
    obs: List[torch.Tensor] = field(default_factory=list)
    nxt: List[torch.Tensor] = field(default_factory=list)
    act: List[torch.Tensor] = field(default_factory=list)
    scalars: List[torch.Tensor] = field(default_factory=list)


def run_episodes(
    env: Go2Parkour,
    policy: Policy,
    seed: int,
    keep: bool = False,
    each_step: Optional[EachStep] = None,
    start: Optional[torch.Tensor] = None,
    max_steps: Optional[int] = None,
) -> Rollout:
    """Play one episode per world; finished worlds cost no physics.

    Args:
        env: made with ``auto_reset=False``.
        policy: acts on the observations of active worlds only.
        seed: of the environment's random numbers.
        keep: keep transitions for a dataset.
        each_step: called after each step with the environment, the cost values (N,) of this step
            and its info.
        start: (N, S) observations of episodes that have begun and are gone on with; if not given,
            a new episode begins in every world.
        max_steps: stop after so many steps, whoever is still active.
    """
    n, device = env.num_envs, env.device
    obs = env.reset(seed) if start is None else start
    start_x = env.start_x.clone()
    totals = {k: torch.zeros(n, device=device) for k in ("return", "cost", "length")}
    # Sums and ends of each world's episode, (N,).
    never = torch.zeros(n, dtype=torch.bool, device=device)
    end = {k: never.clone() for k in ("success", "fall", "timeout")}
    last = torch.zeros(n, 3, device=device)
    log, steps, held, left = _Log(), 0, 0, max_steps
    while bool(env.active.any()) and left != 0:
        left = None if left is None else left - 1
        # The policy sees active worlds (K,) only; the others get zeros that nobody looks at.
        ids = env.active.nonzero()[:, 0]
        action = torch.zeros(n, env.num_actions, device=device)
        values = torch.zeros(n, device=device)
        good = ids[torch.isfinite(obs[ids]).all(dim=1)]
        if len(good) < len(ids):
            held += len(ids) - len(good)
            action[ids], values[ids] = env.last_action[ids], float("inf")
        if len(good):
            told = policy(obs[good], totals["cost"][good])
            action[good], values[good] = (x.to(device) for x in told)
        action = action.clamp(-1.0, 1.0)
        nxt, reward, cost, terminated, truncated, info = env.step(action)
        steps += len(ids)
        totals["return"] += reward
        totals["cost"] += cost
        totals["length"] += info["active"].float()
        end["success"] |= info["success"]
        end["fall"] |= info["fall"]
        end["timeout"] |= truncated
        last[ids] = info["base_position"][ids]
        if keep:
            log.world.append(ids.cpu())
            log.obs.append(obs[ids].cpu())
            log.nxt.append(nxt[ids].cpu())
            log.act.append(action[ids].cpu())
            flags = torch.stack([reward, cost, terminated.float(), truncated.float()], dim=1)
            log.scalars.append(flags[ids].cpu())
        if each_step is not None:
            each_step(env, values, info)
        obs = nxt  # without automatic resets the true next observation
    episodes = [_record(env, i, totals, end, last[i], float(start_x[i])) for i in range(n)]
    return Rollout(episodes, steps, _columns(log) if keep else {}, held)


def _record(
    env: Go2Parkour,
    i: int,
    totals: Dict[str, torch.Tensor],
    end: Dict[str, torch.Tensor],
    last: torch.Tensor,
    start_x: float,
) -> Dict[str, Any]:
    """What is reported of world ``i``'s episode; ``last`` (3,) is where it ended, m."""
    course = env.courses[int(env.course_ids[i])]
    length = float(course.destination[0]) - start_x
    return {
        "course": course.kind,
        "course_seed": course.seed,
        "difficulty": course.difficulty,
        "length": int(totals["length"][i]),
        "return": float(totals["return"][i]),
        "cost": float(totals["cost"][i]),
        **{k: bool(v[i]) for k, v in end.items()},
        "end_position": [round(float(x), 4) for x in last],
        "progress": round((float(last[0]) - start_x) / length, 4),
        "friction": float(env.dynamics.friction[i]),
        "payload": float(env.dynamics.payload[i]),
        "motor_strength": float(env.dynamics.motor_strength[i]),
    }


def _columns(log: _Log) -> Dict[str, np.ndarray]:
    """One array per key, (rows, ...): worlds one after the other, each in the order of time."""
    world = torch.cat(log.world)
    # Stable: steps of a world stay in their order.
    order = torch.sort(world, stable=True).indices
    scalars = torch.cat(log.scalars)[order].numpy()
    return {
        "observations": torch.cat(log.obs)[order].numpy(),
        "next_observations": torch.cat(log.nxt)[order].numpy(),
        "actions": torch.cat(log.act)[order].numpy(),
        "rewards": scalars[:, 0].copy(),
        "costs": scalars[:, 1].copy(),
        "terminals": scalars[:, 2].copy(),
        "timeouts": scalars[:, 3].copy(),
    }


def onnx_policy(policy: OnnxPolicy, seed: int, noise_scale: float) -> Policy:
    """Wrap an exported policy with a stream of noise of its own, times ``noise_scale``."""
    # Another stream than the environment's of the same seed; drawn on the CPU on every device.
    generator = torch.Generator().manual_seed(seed + 1_000_003)

    def act(obs: torch.Tensor, spent_cost: torch.Tensor) -> Tuple[torch.Tensor, torch.Tensor]:
        noise = torch.randn(policy.noise_shape(len(obs)), generator=generator) * noise_scale
        action, value, _ = policy.act(obs.cpu().numpy(), noise.numpy(), spent_cost.cpu().numpy())
        return torch.from_numpy(action), torch.from_numpy(value)

    return act
