"""The worlds of the parkour environment: simulator, courses, what is kept of each, saved states."""

from __future__ import annotations

from typing import Any, Dict, Optional

import torch

from go2_sevpo.envs.go2.config import JOINT_FLAGS, ParkourConfig
from go2_sevpo.envs.go2.description import robot as r
from go2_sevpo.envs.go2.description.terrain import TerrainMaps
from go2_sevpo.envs.go2.observations import (
    FRAME_FIELDS,
    FRAME_SIZE,
    FRAMES,
    MAP_FIELDS,
    Sensed,
    clips,
    noise_scales,
    observation_spec,
    sense,
)
from go2_sevpo.envs.go2.pool import CoursePool
from go2_sevpo.envs.go2.resets import draw_dynamics, uniform
from go2_sevpo.envs.go2.robot_view import RobotView
from go2_sevpo.envs.simulators.base import Dynamics, RobotState, Simulator

# What changes from step to step and belongs into a saved state.
_BUFFERS = (
    *("course_ids", "kind_ids", "levels", "goal", "episode_length", "active", "last_action"),
    *("frames", "last_joint_velocity", "map_offset", "delay", "push_phase"),
    *("best_x", "best_step", "start_x", "observation"),
)


class ParkourWorlds:
    """N worlds of ``sim`` on courses of ``pool``, with every number that decides how they go on."""

    observation: torch.Tensor
    """The last observations (N, 265)."""
    _state: RobotState
    _sensed: Sensed

    def __init__(self, config: ParkourConfig, pool: CoursePool, sim: Simulator) -> None:
        self.config, self.pool, self.sim = config, pool, sim
        self.num_envs, self.spec = config.num_envs, observation_spec(config.version)
        self.num_obs, self.num_actions = self.spec.size, len(r.JOINT_NAMES)
        self.max_episode_length = round(config.episode_seconds / r.CONTROL_DT)
        self.courses = pool.courses
        self.device = sim.device
        self.maps = TerrainMaps(self.courses, self.device)
        # (C, W, 3), (C,), (C, W) for C courses of at most W - 1 waypoints
        self.waypoints, self.last_waypoint, self.waypoint_roll = (
            table.to(self.device) for table in self.pool.tables()
        )
        n, dev = self.num_envs, self.device
        self.generator = torch.Generator(device=dev).manual_seed(config.seed)
        self.default = torch.tensor(r.DEFAULT_JOINT_POSITIONS, device=dev)
        self._frame_noise = noise_scales(FRAME_FIELDS).to(dev)
        self._map_noise = noise_scales(MAP_FIELDS).to(dev)
        self.course_ids = torch.zeros(n, dtype=torch.long, device=dev)
        self.kind_ids = torch.zeros(n, dtype=torch.long, device=dev)
        levels = torch.zeros(n, len(config.courses), dtype=torch.long, device=dev)
        self.levels = levels + config.first_level * config.curriculum
        # Number of the next waypoint.
        self.goal = torch.zeros(n, dtype=torch.long, device=dev)
        self.episode_length = torch.zeros(n, dtype=torch.long, device=dev)
        # Worlds whose episode goes on.
        self.active = torch.ones(n, dtype=torch.bool, device=dev)
        self.last_action = torch.zeros(n, self.num_actions, device=dev)
        # The last three frames, the present one first.
        self.frames = torch.zeros(n, FRAMES, FRAME_SIZE, device=dev)
        self.last_joint_velocity = torch.zeros(n, self.num_actions, device=dev)
        # Drawn once per episode: the map's height error, m; the actions' delay, s; the step of the
        # first push.
        self.map_offset = torch.zeros(n, 1, device=dev)
        self.delay = torch.zeros(n, device=dev)
        self.push_phase = torch.zeros(n, dtype=torch.long, device=dev)
        self.dynamics = Dynamics.nominal(n, dev)
        # Version 2 of the task: what the robot can know instead of the truth.
        self.view: Optional[RobotView] = None
        if config.version > 1:
            ends = self.waypoints[torch.arange(len(self.courses)), self.last_waypoint, :2]
            self.view = RobotView(config, self.maps, ends, self.generator)
            self._check_joints()
        self._clips = clips(FRAME_FIELDS + MAP_FIELDS).to(dev)
        self._lower, self._upper = (
            torch.tensor(x, device=dev) for x in (r.LOWER_LIMITS, r.UPPER_LIMITS)
        )
        self._target_lower, self._target_upper = (
            torch.tensor(x, device=dev) for x in (r.TARGET_LOWER, r.TARGET_UPPER)
        )
        # The farthest x of the episode, m, and the step at which it was reached.
        self.best_x = torch.zeros(n, device=dev)
        self.best_step = torch.zeros(n, dtype=torch.long, device=dev)
        self.start_x = torch.zeros(n, device=dev)

    def _check_joints(self) -> None:
        """Refuse what the simulator cannot do.

        Raises:
            ValueError: naming the flag to switch off.
        """
        able = getattr(self.sim, "joint_dynamics", ())
        for flag, name in JOINT_FLAGS.items():
            if getattr(self.config.randomization, flag) and name not in able:
                raise ValueError(
                    f"the simulator {self.config.simulator} cannot change the joints' {name}; "
                    f"switch randomization.{flag} off"
                )

    def _sense(self, state: RobotState, course: torch.Tensor) -> Sensed:
        return sense(state, course, self.maps, whole=self.view is None)

    def _uniform(self, n: int, low: float, high: float) -> torch.Tensor:
        return uniform(self.generator, n, low, high)

    def _draw_dynamics(self, ids: torch.Tensor) -> Dynamics:
        """Draw what worlds ``ids`` (K,) keep during an episode; returns the simulator's part."""
        z, n = self.config.randomization, len(ids)
        fixed = self.sim.fixed_payload
        dynamics = draw_dynamics(z, n, None if fixed is None else fixed[ids], self.generator)
        for name, value in vars(dynamics).items():
            getattr(self.dynamics, name)[ids] = value
        self.delay[ids] = self._uniform(n, *z.delay_s) if z.delay else 0.0
        self.map_offset[ids, 0] = (
            self._uniform(n, -z.map_error, z.map_error) if z.sensor_noise else 0.0
        )
        self.push_phase[ids] = (self._uniform(n, 0.0, 1.0) * z.push_interval / r.CONTROL_DT).long()
        return dynamics

    def state_dict(self) -> Dict[str, Any]:
        """Everything that decides how the simulation goes on, for exact resume."""
        return {
            "buffers": {name: getattr(self, name).clone() for name in _BUFFERS},
            "dynamics": {name: value.clone() for name, value in vars(self.dynamics).items()},
            "generator": self.generator.get_state(),
            "simulator": self.sim.state_dict(),
            **({} if self.view is None else {"view": self.view.state_dict()}),
        }

    def load_state_dict(self, state: Dict[str, Any]) -> torch.Tensor:
        """Restore :meth:`state_dict`, made with the same configuration.

        Returns the last observations (N, 265).

        Raises:
            ValueError: the state belongs to another number of worlds.
        """
        found = len(state["buffers"]["goal"])
        if found != self.num_envs:
            raise ValueError(f"the saved environment has {found} worlds, expected {self.num_envs}")
        for name in _BUFFERS:
            setattr(self, name, state["buffers"][name].to(self.device, copy=True))
        dynamics = {k: v.to(self.device, copy=True) for k, v in state["dynamics"].items()}
        self.dynamics = Dynamics(**dynamics)
        self.generator.set_state(state["generator"].cpu())
        every = torch.arange(self.num_envs, device=self.device)
        self.sim.assign(every, self.course_ids, self.dynamics)
        self.sim.load_state_dict(state["simulator"])
        self._state = self.sim.read()
        self._sensed = self._sense(self._state, self.course_ids)
        if self.view is not None:
            self.view.load_state_dict(state["view"])
        return self.observation

    def close(self) -> None:
        """Free the simulator."""
        self.sim.close()
