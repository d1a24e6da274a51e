"""Our parkour task for legged_gym's own scripts, on Isaac Gym.

In a checkout of legged_gym (with rsl_rl v1.0.2), one line at the end of
``legged_gym/envs/__init__.py`` makes it known::

    from go2_sevpo.data_collection.experts.legged_gym_task import register; register(task_registry)

and ``python legged_gym/scripts/train.py --task=go2_parkour`` trains it. The environment is the same
as everywhere else in this project; the nested configuration classes are generated from our
dataclasses, and what is changed in them takes effect or is refused by its name.
"""

from __future__ import annotations

import importlib.util
import sys
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Dict, List, Optional, Protocol, Sequence, Tuple, cast

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
from go2_sevpo.data_collection.experts.legged_gym_entries import task_options
from go2_sevpo.envs.go2.description import robot as r
from go2_sevpo.envs.go2.description.geometry import to_body
from go2_sevpo.envs.go2.parkour import Go2Parkour

if TYPE_CHECKING:
    from go2_sevpo.envs.simulators.isaacgym.simulator import IsaacGymSimulator
    from go2_sevpo.envs.simulators.isaacgym.viewer import Window

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
    terms of the episodes that ended, per second). Without ``headless`` a window shows the robots
    and follows one; closing it ends the program, as in legged_gym.

    Raises:
        ValueError: an entry of ``cfg`` that was changed and does nothing, or no window.
    """

    simulator = "isaacgym"

    def __init__(
        self,
        cfg: NestedConfig,
        sim_params: Any = None,  # Isaac Gym's SimParams, which have no type
        physics_engine: object = None,  # PhysX is the only one
        sim_device: Optional[str] = None,
        headless: bool = True,
    ) -> None:
        self.cfg, self.headless = cfg, headless
        seed = max(int(getattr(cfg, "seed", 0)), 0)  # legged_gym's -1 asks for any
        config = parkour_config(cfg, seed, self.simulator, sim_device)
        if sim_params is not None:  # the command line may have changed the number of threads
            config = replace(config, threads=int(sim_params.physx.num_threads))
        self.options = task_options(cfg)
        self.env = Go2Parkour(replace(config, viewer=not headless), auto_reset=True)
        self._window: Optional[Window] = None
        if not headless:
            self._window = cast("IsaacGymSimulator", self.env.sim).window
            assert self._window is not None  # viewer=True opens one
            self._window.follow(self.options.ref_env, self.options.camera, self.options.lookat)
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
        top = self.options.clip_observations
        return self.env.observation.clamp(-top, top)

    @property
    def privileged_obs_buf(self) -> torch.Tensor:
        """What the critic sees, (N, 279)."""
        top = self.options.clip_observations
        return torch.cat([self.obs_buf, self.env.privileged().clamp(-top, top)], dim=1)

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
        if self._window is not None and self._window.closed:
            sys.exit()
        actions = actions.to(self.device).clamp(
            -self.options.clip_actions, self.options.clip_actions
        )
        _, reward, cost, terminated, truncated, info = self.env.step(actions * ACTION_UNIT)
        if self.options.only_positive_rewards:
            reward = reward.clamp_min(0.0)
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
        self.extras = {"episode": episode}
        if self.options.send_timeouts:
            self.extras["time_outs"] = time_outs
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
        """Put the window's camera at ``position`` (3,), m, looking at ``lookat`` (3,), for good."""
        if self._window is not None:
            self._window.place(position, lookat)

    @property
    def gym(self) -> Any:
        """Isaac Gym's ``Gym``, which has no type stubs."""
        return cast("IsaacGymSimulator", self.env.sim)._gym

    @property
    def viewer(self) -> Any:
        """Isaac Gym's viewer, None if headless."""
        return None if self._window is None else self._window.handle


def check_rsl_rl() -> None:
    """End the program with one line if the rsl_rl that is found is not the one legged_gym needs."""
    later = ("rsl_rl.modules.normalizer", "rsl_rl.networks")  # what 2.0 and 2.3 brought
    if importlib.util.find_spec("rsl_rl") is None:
        return
    if any(importlib.util.find_spec(name) is not None for name in later):
        sys.exit(
            "legged_gym needs rsl_rl 1.0.2, and another one (rsl-rl-lib, from go2-sevpo[expert]?) "
            "hides it; type: pip uninstall -y rsl-rl-lib rsl-rl && "
            "pip install git+https://github.com/leggedrobotics/rsl_rl@v1.0.2"
        )


def register(
    registry: TaskRegistry, name: str = "go2_parkour", config: Optional[ExpertConfig] = None
) -> None:
    """Make the task known to legged_gym's ``task_registry``.

    Ends the program with one line if rsl_rl is not the one that legged_gym needs.
    """
    check_rsl_rl()
    task, train = make_configs(config)
    registry.register(name, Go2ParkourTask, task(), train())
