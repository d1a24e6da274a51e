"""Our parkour task for legged_gym's own scripts, on Isaac Gym.

In a checkout of legged_gym (with rsl_rl v1.0.2), one line at the end of
``legged_gym/envs/__init__.py`` makes it known::

    from go2_sevpo.data_collection.experts.legged_gym_task import register; register(task_registry)

and ``python legged_gym/scripts/train.py --task=go2_parkour`` trains it. The environment is the same
as everywhere else in this project; the nested configuration classes are generated from our
dataclasses, and what is changed in them takes effect.
"""

from __future__ import annotations

from typing import Any, Dict, List, Optional, Protocol, Sequence, Tuple

import torch

from go2_sevpo.data_collection.experts.config import ExpertConfig
from go2_sevpo.data_collection.experts.legged_gym_config import (
    ACTION_UNIT,
    PRIVILEGED,
    BaseConfig,
    NestedConfig,
    make_configs,
    parkour_config,
)
from go2_sevpo.envs.go2.description import robot as r
from go2_sevpo.envs.go2.description.geometry import to_body
from go2_sevpo.envs.go2.parkour import Go2Parkour

__all__ = ["BaseConfig", "Go2ParkourTask", "make_configs", "parkour_config", "register"]

StepOfTask = Tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor, Dict[str, Any]]
"""Observations (N, 265), what the critic sees (N, 279), rewards (N,), dones (N,), extras."""


class TaskRegistry(Protocol):
    """What is asked of legged_gym's ``task_registry``."""

    def register(self, name: str, task_class: type, env_cfg: Any, train_cfg: Any) -> None:
        """Make a task known under ``name``; legged_gym's configurations have no types."""


class Go2ParkourTask:
    """The environment as legged_gym and rsl_rl v1.0.2 see it.

    ``step(actions (N, 12)) -> (obs, privileged_obs, rewards, dones, extras)``; ``privileged_obs``
    (N, 279) is all the critic sees. ``extras`` has ``time_outs`` (N,) and ``episode`` (mean reward
    terms of the episodes that ended, per second).
    """

    simulator = "isaacgym"

    def __init__(
        self,
        cfg: NestedConfig,
        sim_params: object = None,  # legged_gym hands these two over; the simulator has its own
        physics_engine: object = None,
        sim_device: Optional[str] = None,
        headless: bool = True,
    ) -> None:
        self.cfg, self.headless = cfg, headless
        seed = max(int(getattr(cfg, "seed", 0)), 0)  # legged_gym's -1 asks for any
        config = parkour_config(cfg, seed, self.simulator, sim_device)
        self.env = Go2Parkour(config, auto_reset=True)
        self.num_envs, self.num_actions = self.env.num_envs, self.env.num_actions
        self.device = self.env.device
        self.num_obs = self.env.num_obs
        self.num_privileged_obs = self.num_obs + PRIVILEGED
        self.max_episode_length, self.dt = self.env.max_episode_length, r.CONTROL_DT
        self.max_episode_length_s = config.episode_seconds
        self.feet_indices = torch.arange(len(r.LEGS), device=self.device)
        self.dof_names: List[str] = list(r.JOINT_NAMES)
        self.default_dof_pos = self.env.default[None]
        self.extras: Dict[str, Any] = {}
        # Each reward term of the present episodes so far, (N,).
        self._sums: Dict[str, torch.Tensor] = {}
        self.rew_buf = torch.zeros(self.num_envs, device=self.device)
        self.reset_buf = torch.ones(self.num_envs, dtype=torch.long, device=self.device)
        self.reset()

    # rsl_rl spreads the first episodes by writing random lengths into this.
    @property
    def episode_length_buf(self) -> torch.Tensor:
        """Steps of the present episode, (N,)."""
        return self.env.episode_length

    @episode_length_buf.setter
    def episode_length_buf(self, value: torch.Tensor) -> None:
        self.env.episode_length = value.clone()
        self.env.best_step = value.clone()  # else long first episodes would count as stuck

    @property
    def obs_buf(self) -> torch.Tensor:
        """Observations (N, 265)."""
        return self.env.observation

    @property
    def privileged_obs_buf(self) -> torch.Tensor:
        """What the critic sees, (N, 279)."""
        return torch.cat([self.env.observation, self.env.privileged()], dim=1)

    def get_observations(self) -> torch.Tensor:
        """Observations (N, 265)."""
        return self.obs_buf

    def get_privileged_observations(self) -> torch.Tensor:
        """What the critic sees, (N, 279)."""
        return self.privileged_obs_buf

    def reset(self) -> Tuple[torch.Tensor, torch.Tensor]:
        """Start every world anew."""
        self.env.reset()
        return self.obs_buf, self.privileged_obs_buf

    def step(self, actions: torch.Tensor) -> StepOfTask:
        """See the class; actions (N, 12) are in units of 0.3 rad."""
        _, reward, cost, terminated, truncated, info = self.env.step(
            actions.to(self.device) * ACTION_UNIT
        )
        done = terminated | truncated
        self.rew_buf, self.reset_buf = reward, done.long()
        self._actions = actions
        # Terms are per second, the cost is per step.
        terms = {**info["reward_terms"], "cost": cost / r.CONTROL_DT}
        for name, value in terms.items():
            self._sums[name] = self._sums.get(name, torch.zeros_like(value)) + value * r.CONTROL_DT
        episode: Dict[str, torch.Tensor] = {}
        if bool(done.any()):
            episode = self._end_episodes(done)
            episode["success"] = info["success"][done].float().mean()
            episode["terrain_level"] = self.env.levels.float().mean()
        # Only a true time limit bootstraps; being stuck ends like a fall.
        time_outs = (truncated & ~info["stuck"]).float()
        self.extras = {"time_outs": time_outs, "episode": episode}
        return self.obs_buf, self.privileged_obs_buf, self.rew_buf, self.reset_buf, self.extras

    def _end_episodes(self, done: torch.Tensor) -> Dict[str, torch.Tensor]:
        """Mean reward terms of the episodes that are ``done`` (N,), per second; sums start anew."""
        found = {
            f"rew_{name}": total[done].mean() / self.max_episode_length_s
            for name, total in self._sums.items()
        }
        self._sums = {k: torch.where(done, torch.zeros_like(v), v) for k, v in self._sums.items()}
        return found

    # What legged_gym's play.py looks at.
    @property
    def dof_pos(self) -> torch.Tensor:
        """Joint positions (N, 12), rad."""
        return self.env._state.joint_position

    @property
    def dof_vel(self) -> torch.Tensor:
        """Joint velocities (N, 12), rad/s."""
        return self.env._state.joint_velocity

    @property
    def torques(self) -> torch.Tensor:
        """Joint torques (N, 12), N m."""
        return self.env._state.joint_torque

    @property
    def base_lin_vel(self) -> torch.Tensor:
        """Base velocity (N, 3), m/s, body frame."""
        return to_body(self.env._sensed.rotation, self.env._state.base_linear_velocity)

    @property
    def base_ang_vel(self) -> torch.Tensor:
        """Base angular velocity (N, 3), rad/s, body frame."""
        return to_body(self.env._sensed.rotation, self.env._state.base_angular_velocity)

    @property
    def commands(self) -> torch.Tensor:
        """(N, 4): there are none, the waypoints lead; the first column is the target speed, m/s."""
        found = torch.zeros(self.num_envs, 4, device=self.device)
        found[:, 0] = self.env.config.reward.target_speed
        return found

    @property
    def contact_forces(self) -> torch.Tensor:
        """Normal force of each foot as a vertical vector, (N, 4, 3), N."""
        found = torch.zeros(self.num_envs, len(r.LEGS), 3, device=self.device)
        found[..., 2] = self.env._state.foot_force
        return found

    def set_camera(self, position: Sequence[float], lookat: Sequence[float]) -> None:
        """The back end is headless: nothing to move."""


def register(
    registry: TaskRegistry, name: str = "go2_parkour", config: Optional[ExpertConfig] = None
) -> None:
    """Make the task known to legged_gym's ``task_registry``."""
    task, train = make_configs(config)
    registry.register(name, Go2ParkourTask, task(), train())
