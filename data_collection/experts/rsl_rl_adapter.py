"""Thin adapter between :class:`go2_sevpo.envs.go2.parkour.Go2Parkour` and rsl-rl-lib 5.x."""

from __future__ import annotations

from functools import lru_cache, partial
from typing import Any, Callable, Dict, Optional, Tuple

import torch
from rsl_rl.env import VecEnv
from tensordict import TensorDict

from go2_sevpo.envs.go2.parkour import Go2Parkour
from go2_sevpo.envs.go2.symmetry import (
    Mirror,
    action_mirror,
    observation_mirror,
    privileged_mirror,
)


class RslRlEnv(VecEnv):
    """rsl_rl's view of the environment.

    Observation groups are ``policy`` (N, 265) and ``privileged`` (N, 14); (N, 27) in version 2.
    """

    def __init__(self, env: Go2Parkour, action_unit: float) -> None:
        self.env, self.action_unit = env, action_unit
        self.num_envs, self.num_actions = env.num_envs, env.num_actions
        self.max_episode_length, self.device = env.max_episode_length, env.device
        self.cfg: Dict[str, Any] = env.config.to_dict()
        self.episode_length_buf = env.episode_length

    def get_observations(self) -> TensorDict:
        """Return the present observation groups."""
        groups = {"policy": self.env.observation, "privileged": self.env.privileged()}
        return TensorDict(groups, batch_size=[self.num_envs], device=self.device)

    def step(
        self, actions: torch.Tensor
    ) -> Tuple[TensorDict, torch.Tensor, torch.Tensor, Dict[str, Any]]:
        """Step with PPO actions (N, 12), times the action unit.

        Returns observation groups, rewards (N,), dones (N,) and extras: ``time_outs`` (N,),
        ``cost`` (N,) and the environment's ``info``.
        """
        _, reward, cost, terminated, truncated, info = self.env.step(actions * self.action_unit)
        self.episode_length_buf = self.env.episode_length
        # Only a true time limit bootstraps; being stuck ends like a fall.
        time_outs = (truncated & ~info["stuck"]).float()
        extras = {"time_outs": time_outs, "cost": cost, "info": info}
        return self.get_observations(), reward, (terminated | truncated).long(), extras


@lru_cache(maxsize=None)
def _privileged(version: int) -> Callable[[], Mirror]:
    return partial(privileged_mirror, version)


def privileged_of(rows: torch.Tensor) -> Callable[[], Mirror]:
    """The mirror of privileged numbers (B, 14) or, in version 2 of the task, (B, 27)."""
    return _privileged(1 if rows.shape[1] == 14 else 2)


@lru_cache(maxsize=None)
def _mirror(make: Callable[[], Mirror], device: torch.device) -> Mirror:
    """Index and sign on the device; copied there once, not at every minibatch."""
    index, sign = make()
    return index.to(device), sign.to(device)


def mirror_augmentation(
    env: object, obs: Optional[TensorDict], actions: Optional[torch.Tensor]
) -> Tuple[Optional[TensorDict], Optional[torch.Tensor]]:
    """Append left-right mirrored samples (rsl_rl's symmetry hook): batch B becomes 2 B.

    rsl_rl hands ``env`` over, which is not needed; what is None stays None.
    """
    mirrored_obs, mirrored_actions = None, None
    if obs is not None:
        groups = {}
        mirrors = {"policy": observation_mirror, "privileged": privileged_of(obs["privileged"])}
        for name, mirror in mirrors.items():
            index, sign = _mirror(mirror, obs[name].device)
            groups[name] = torch.cat([obs[name], obs[name][:, index] * sign])  # (2 B, D)
        mirrored_obs = TensorDict(groups, batch_size=[2 * obs.batch_size[0]])
    if actions is not None:
        index, sign = _mirror(action_mirror, actions.device)
        mirrored_actions = torch.cat([actions, actions[:, index] * sign])
    return mirrored_obs, mirrored_actions
