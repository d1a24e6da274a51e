"""The vectorised Go2 parkour environment: observations, rewards, costs, curriculum above any
simulator.
"""

from __future__ import annotations

from typing import Any, Dict, Optional, Tuple

import torch

from go2_sevpo.envs.go2.config import ParkourConfig
from go2_sevpo.envs.go2.description import robot as r
from go2_sevpo.envs.go2.description.course import DESTINATION_RADIUS
from go2_sevpo.envs.go2.description.geometry import from_roll_yaw
from go2_sevpo.envs.go2.description.terrain import TerrainMaps
from go2_sevpo.envs.go2.observations import (
    FRAME_FIELDS,
    FRAME_SIZE,
    FRAMES,
    MAP_FIELDS,
    Sensed,
    frame,
    map_fields,
    noise_scales,
    observation_spec,
    sense,
)
from go2_sevpo.envs.go2.pool import CoursePool
from go2_sevpo.envs.go2.rewards import Outcome, outcome, reward_terms
from go2_sevpo.envs.simulators.base import Dynamics, RobotState
from go2_sevpo.envs.simulators.registry import make_simulator

_BUFFERS = (
    "course_ids",
    "kind_ids",
    "levels",
    "goal",
    "episode_length",
    "active",
    "last_action",
    "frames",
    "last_joint_velocity",
    "map_offset",
    "delay",
    "push_phase",
    "best_x",
    "best_step",
    "start_x",
    "observation",
)


class Go2Parkour:
    """N worlds of a Go2 on a course.

    ``reset() -> obs (N, 265)``; ``step(action (N, 12) in [-1, 1]) -> obs, reward, cost, terminated,
    truncated, info``. With ``auto_reset`` finished worlds start anew at once and
    ``info["final_observation"]`` holds the true next observation of every world; without it they
    stand still (``info["active"]``) until the next :meth:`reset`.
    """

    def __init__(self, config: ParkourConfig, auto_reset: bool = False) -> None:
        self.config, self.auto_reset = config, auto_reset
        self.num_envs, self.spec = config.num_envs, observation_spec()
        self.num_obs, self.num_actions = self.spec.size, len(r.JOINT_NAMES)
        self.max_episode_length = round(config.episode_seconds / r.CONTROL_DT)
        self.pool = CoursePool(config)
        self.courses = self.pool.courses
        self.sim = make_simulator(
            config.simulator,
            config.num_envs,
            self.courses,
            config.threads,
            config.physics_dt,
            self._first_payload(),
            config.device,
            config.viewer,
        )
        self.device = self.sim.device
        self.maps = TerrainMaps(self.courses, self.device)
        self.waypoints, self.last_waypoint, self.waypoint_roll = (
            x.to(self.device) for x in self.pool.tables()
        )
        n, dev = self.num_envs, self.device
        self.generator = torch.Generator(device=dev).manual_seed(config.seed)
        self.default = torch.tensor(r.DEFAULT_JOINT_POSITIONS, device=dev)
        self._frame_noise = noise_scales(FRAME_FIELDS).to(dev)
        self._map_noise = noise_scales(MAP_FIELDS).to(dev)
        self.course_ids = torch.zeros(n, dtype=torch.long, device=dev)
        self.kind_ids = torch.zeros(n, dtype=torch.long, device=dev)
        self.levels = torch.zeros(n, len(config.courses), dtype=torch.long, device=dev)
        self.goal = torch.zeros(n, dtype=torch.long, device=dev)
        self.episode_length = torch.zeros(n, dtype=torch.long, device=dev)
        self.active = torch.ones(n, dtype=torch.bool, device=dev)
        self.last_action = torch.zeros(n, self.num_actions, device=dev)
        self.frames = torch.zeros(n, FRAMES, FRAME_SIZE, device=dev)
        self.last_joint_velocity = torch.zeros(n, self.num_actions, device=dev)
        self.map_offset = torch.zeros(n, 1, device=dev)
        self.delay = torch.zeros(n, device=dev)
        self.push_phase = torch.zeros(n, dtype=torch.long, device=dev)
        self.dynamics = Dynamics.nominal(n, dev)
        self.best_x = torch.zeros(n, device=dev)
        self.best_step = torch.zeros(n, dtype=torch.long, device=dev)
        self.start_x = torch.zeros(n, device=dev)

    def _first_payload(self) -> torch.Tensor:
        """Payloads for back ends whose masses are set once, spread over the range."""
        z, n = self.config.randomization, self.config.num_envs
        share = torch.rand(n, generator=torch.Generator().manual_seed(self.config.seed))
        low, high = z.payload_kg if z.payload else (0.0, 0.0)
        return low + (high - low) * share

    # ---- randomness
    # ----------------------------------------------------------------------------------------

    def _uniform(self, n: int, low: float, high: float) -> torch.Tensor:
        return low + (high - low) * torch.rand(n, generator=self.generator, device=self.device)

    def _draw_dynamics(self, ids: torch.Tensor) -> Dynamics:
        z, n = self.config.randomization, len(ids)
        d = Dynamics.nominal(n, self.device)
        if z.friction:
            d.friction = self._uniform(n, *z.friction_factor)
        if z.payload:
            d.payload = self._uniform(n, *z.payload_kg)
        if self.sim.fixed_payload is not None:
            d.payload = self.sim.fixed_payload[ids]
        if z.motor_strength:
            d.motor_strength = self._uniform(n, *z.motor_factor)
        for name, value in vars(d).items():
            getattr(self.dynamics, name)[ids] = value
        self.delay[ids] = self._uniform(n, *z.delay_s) if z.delay else 0.0
        self.map_offset[ids, 0] = (
            self._uniform(n, -z.map_error, z.map_error) if z.sensor_noise else 0.0
        )
        self.push_phase[ids] = (self._uniform(n, 0.0, 1.0) * z.push_interval / r.CONTROL_DT).long()
        return d

    # ---- reset
    # ---------------------------------------------------------------------------------------------

    def reset(self, seed: Optional[int] = None) -> torch.Tensor:
        """Start an episode in every world and return the observations; ``seed`` restarts the random
        numbers.
        """
        if seed is not None:
            self.generator.manual_seed(seed)
        self.active[:] = True
        self._reset(torch.arange(self.num_envs, device=self.device))
        self._state = self.sim.read()
        self._sensed = sense(self._state, self.course_ids, self.maps)
        self.observation = self._observe(
            self._state, self._sensed, fresh=torch.ones_like(self.active)
        )
        return self.observation

    def _reset(self, ids: torch.Tensor) -> None:
        n, z = len(ids), self.config.randomization
        self.kind_ids[ids], self.course_ids[ids] = self.pool.draw(
            ids, self.levels[ids], self.generator
        )
        dynamics = self._draw_dynamics(ids)
        course = self.course_ids[ids]
        self.sim.assign(ids, course, dynamics)
        jitter = 1.0 if z.start_pose else 0.0
        position = torch.zeros(n, 3, device=self.device)
        position[:, 0] = self._uniform(n, -0.2, 0.2) * jitter
        position[:, 1] = self._uniform(n, -0.15, 0.15) * jitter
        yaw = self._uniform(n, -0.2, 0.2) * jitter
        roll, vx = torch.zeros(n, device=self.device), torch.zeros(n, device=self.device)
        goal = torch.zeros(n, dtype=torch.long, device=self.device)
        if self.config.random_start > 0:
            there = self._uniform(n, 0.0, 1.0) < self.config.random_start
            stone = (self._uniform(n, 0.0, 1.0) * self.last_waypoint[course]).long()
            way = self.waypoints[course, stone]
            tilt = self.waypoint_roll[course, stone]
            on_stone = way + 0.0
            on_stone[:, 0] += self._uniform(n, -0.25, 0.1)
            position = torch.where(there[:, None], on_stone, position)
            roll = torch.where(there, 0.8 * tilt, roll)
            goal = torch.where(there, stone + 1, goal)
            vx = torch.where(there, self._uniform(n, 0.0, 1.0), vx)
        up = torch.stack([torch.zeros_like(roll), -torch.sin(roll), torch.cos(roll)], dim=-1)
        position = position + up * (r.NOMINAL_BASE_HEIGHT + 0.01)
        q = (
            self.default
            + (torch.rand(n, 12, generator=self.generator, device=self.device) - 0.5) * 0.2 * jitter
        )
        zero3, zero12 = (
            torch.zeros(n, 3, device=self.device),
            torch.zeros(n, 12, device=self.device),
        )
        velocity = zero3.clone()
        velocity[:, 0] = vx
        state = RobotState(
            position,
            from_roll_yaw(roll, yaw),
            velocity,
            zero3,
            q,
            zero12,
            zero12,
            zero12[:, :4],
            zero12[:, :9],
        )
        self.sim.write(ids, state)
        self.goal[ids], self.episode_length[ids] = goal, 0
        self.last_action[ids], self.last_joint_velocity[ids] = 0.0, 0.0
        self.best_x[ids] = self.start_x[ids] = position[:, 0]
        self.best_step[ids] = 0

    # ---- observations
    # --------------------------------------------------------------------------------------

    def _targets(self) -> torch.Tensor:
        nxt = torch.stack(
            [self.goal, torch.minimum(self.goal + 1, self.last_waypoint[self.course_ids])], dim=1
        )
        return self.waypoints[self.course_ids[:, None], nxt]

    def _observe(
        self, state: RobotState, sensed: Sensed, fresh: Optional[torch.Tensor] = None
    ) -> torch.Tensor:
        """Shift the frame history, put the present frame in, return observations (N, 265).

        Worlds ``fresh`` (N,) just started: their history is filled with the present frame.
        """
        now = frame(state, sensed, self.last_action, self.default)
        around = map_fields(state, sensed, self._targets(), self.map_offset)
        if self.config.randomization.sensor_noise:
            noise = torch.rand(
                self.num_envs,
                FRAME_SIZE + around.shape[1],
                generator=self.generator,
                device=self.device,
            )
            noise = noise.mul_(2.0).sub_(1.0)
            now = now + noise[:, :FRAME_SIZE] * self._frame_noise
            around = around + noise[:, FRAME_SIZE:] * self._map_noise
        shifted = torch.cat([now[:, None], self.frames[:, :-1]], dim=1)
        if fresh is not None:
            shifted = torch.where(fresh[:, None, None], now[:, None].expand_as(shifted), shifted)
        self.frames = shifted
        return torch.cat([shifted.flatten(1), around], dim=1)

    def privileged(self) -> torch.Tensor:
        """What only a critic in simulation may see, (N, 14): velocity, dynamics, delay, foot
        forces, height.
        """
        s, rot = self._state, self._sensed.rotation
        velocity = torch.einsum("nji,nj->ni", rot, s.base_linear_velocity)
        d = self.dynamics
        height = s.base_position[:, 2] - self._sensed.base_rim
        left = (self.max_episode_length - self.episode_length).float() / self.max_episode_length
        scalars = torch.stack(
            [d.friction, d.payload / 2, d.motor_strength, self.delay * 50, height, left], dim=1
        )
        return torch.cat(
            [velocity, s.foot_force / 100, scalars, (self.kind_ids == 0).float()[:, None]], dim=1
        )

    # ---- step
    # ----------------------------------------------------------------------------------------------

    def step(
        self, action: torch.Tensor
    ) -> Tuple[
        torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor, Dict[str, Any]
    ]:
        """Advance one control step (20 ms); see the class for shapes.

        ``info``: ``final_observation`` (N, 265), ``success``, ``fall``, ``stuck``, ``active`` (N,)
        bool (before this step), ``reward_terms`` by name.

        Raises:
            ValueError: an action of the wrong shape or not finite.
        """
        if action.shape != (self.num_envs, self.num_actions):
            raise ValueError(
                f"action has shape {tuple(action.shape)}, expected {(self.num_envs, self.num_actions)}"
            )
        if not torch.isfinite(action).all():
            raise ValueError(
                "action is not finite; use the damped default pose (zeros) for a failed policy"
            )
        action = action.clamp(-1.0, 1.0)
        was_active = self.active.clone()
        self._push()
        self.sim.step(
            self.default + r.ACTION_SCALE * action,
            None if was_active.all() else was_active,
            self.delay,
        )
        self.episode_length += was_active.long()
        state = self.sim.read()
        sensed = sense(state, self.course_ids, self.maps)
        self._state, self._sensed = state, sensed
        result = outcome(state, sensed)
        success = self._advance_goal(state)
        fall = result.fall & was_active
        success = success & ~fall & was_active
        stuck = self._stuck(state) & was_active & ~fall & ~success
        timeout = (self.episode_length >= self.max_episode_length) & was_active & ~fall & ~success
        terminated, truncated = fall | success, timeout | stuck
        reward, terms = self._reward(state, sensed, result, action, fall, success)
        self.last_action = action
        self.last_joint_velocity = state.joint_velocity
        observation = self._observe(state, sensed)
        info: Dict[str, Any] = {
            "final_observation": observation,
            "success": success,
            "fall": fall,
            "stuck": stuck,
            "active": was_active,
            "reward_terms": terms,
            "base_position": state.base_position.clone(),
            "kind": self.kind_ids.clone(),
            "cost": result.cost * was_active.float(),
        }
        done = terminated | truncated
        self.active = was_active & ~done
        if self.auto_reset and done.any():
            observation = self._restart(done, success, observation)
        self.observation = observation
        live = was_active.float()
        return observation, reward * live, result.cost * live, terminated, truncated, info

    def _push(self) -> None:
        z = self.config.randomization
        if not z.pushes:
            return
        period = round(z.push_interval / r.CONTROL_DT)
        ids = (
            (self.episode_length % period == self.push_phase % period)
            & self.active
            & (self.episode_length > 25)
        ).nonzero()[:, 0]
        if len(ids):
            velocity = torch.zeros(len(ids), 3, device=self.device)
            velocity[:, 0] = self._uniform(len(ids), -z.push_speed, z.push_speed)
            velocity[:, 1] = self._uniform(len(ids), -z.push_speed, z.push_speed)
            self.sim.push(ids, velocity)

    def _advance_goal(self, state: RobotState) -> torch.Tensor:
        """Move on to the next waypoint when the base is near or past it; return who reached the
        destination.
        """
        last = self.last_waypoint[self.course_ids]
        way = self.waypoints[self.course_ids, self.goal]
        delta = way[:, :2] - state.base_position[:, :2]
        passed = (delta.norm(dim=1) < 0.35) | (delta[:, 0] < 0.1)
        self.goal = torch.minimum(self.goal + passed.long(), last)
        end = self.waypoints[self.course_ids, last]
        return (end[:, :2] - state.base_position[:, :2]).norm(dim=1) < DESTINATION_RADIUS

    def _stuck(self, state: RobotState) -> torch.Tensor:
        x = state.base_position[:, 0]
        ahead = x > self.best_x + 0.3
        self.best_x = torch.where(ahead, x, self.best_x)
        self.best_step = torch.where(ahead, self.episode_length, self.best_step)
        if self.config.stuck_seconds <= 0:
            return torch.zeros_like(ahead)
        return (self.episode_length - self.best_step) * r.CONTROL_DT > self.config.stuck_seconds

    def _reward(
        self,
        state: RobotState,
        sensed: Sensed,
        result: Outcome,
        action: torch.Tensor,
        fall: torch.Tensor,
        success: torch.Tensor,
    ) -> Tuple[torch.Tensor, Dict[str, torch.Tensor]]:
        w = self.config.reward
        delta = self.waypoints[self.course_ids, self.goal, :2] - state.base_position[:, :2]
        direction = delta / delta.norm(dim=1, keepdim=True).clamp_min(1e-6)
        acceleration = (state.joint_velocity - self.last_joint_velocity) / r.CONTROL_DT
        terms = reward_terms(
            state,
            sensed,
            result,
            direction,
            action,
            self.last_action,
            acceleration,
            self.default,
            w,
        )
        total = torch.stack(list(terms.values())).sum(0) * r.CONTROL_DT
        return total + w.fall * fall.float() + w.success * success.float(), terms

    def _restart(
        self, done: torch.Tensor, success: torch.Tensor, observation: torch.Tensor
    ) -> torch.Tensor:
        ids = done.nonzero()[:, 0]
        if self.config.curriculum:
            self._update_levels(ids, success[ids])
        self._reset(ids)
        self.active[ids] = True
        state = self.sim.read()
        kept = self.frames
        sensed = sense(state.select(ids), self.course_ids[ids], self.maps)
        new = self._observe_some(ids, state.select(ids), sensed)
        out = observation.clone()
        out[ids] = new
        self.frames = kept
        self.frames[ids] = new[:, : FRAMES * FRAME_SIZE].reshape(len(ids), FRAMES, FRAME_SIZE)
        for name, value in vars(self._state).items():
            value[ids] = getattr(state, name)[ids]
        self._sensed.rotation[ids] = sensed.rotation
        self._sensed.base_rim[ids] = sensed.base_rim
        return out

    def _observe_some(self, ids: torch.Tensor, state: RobotState, sensed: Sensed) -> torch.Tensor:
        now = frame(state, sensed, self.last_action[ids], self.default)
        around = map_fields(state, sensed, self._targets()[ids], self.map_offset[ids])
        if self.config.randomization.sensor_noise:
            now = (
                now
                + (torch.rand(now.shape, generator=self.generator, device=self.device) * 2 - 1)
                * self._frame_noise
            )
            around = (
                around
                + (torch.rand(around.shape, generator=self.generator, device=self.device) * 2 - 1)
                * self._map_noise
            )
        return torch.cat([now.repeat(1, FRAMES), around], dim=1)

    def _update_levels(self, ids: torch.Tensor, success: torch.Tensor) -> None:
        kind, course = self.kind_ids[ids], self.course_ids[ids]
        length = self.waypoints[course, self.last_waypoint[course], 0] - self.start_x[ids]
        early = self.best_x[ids] - self.start_x[ids] < 0.4 * length
        self.levels[ids, kind] = self.pool.next_level(
            self.levels[ids, kind], success, early, self.generator
        )

    def state_dict(self) -> Dict[str, Any]:
        """Everything that decides how the simulation goes on, for exact resume."""
        return {
            "buffers": {name: getattr(self, name).clone() for name in _BUFFERS},
            "dynamics": {name: value.clone() for name, value in vars(self.dynamics).items()},
            "generator": self.generator.get_state(),
            "simulator": self.sim.state_dict(),
        }

    def load_state_dict(self, state: Dict[str, Any]) -> torch.Tensor:
        """Restore :meth:`state_dict` (made with the same configuration) and return the last
        observations.

        Raises:
            ValueError: the state belongs to another number of worlds.
        """
        found = len(state["buffers"]["goal"])
        if found != self.num_envs:
            raise ValueError(f"the saved environment has {found} worlds, expected {self.num_envs}")
        for name in _BUFFERS:
            setattr(self, name, state["buffers"][name].to(self.device, copy=True))
        self.dynamics = Dynamics(
            **{k: v.to(self.device, copy=True) for k, v in state["dynamics"].items()}
        )
        self.generator.set_state(state["generator"].cpu())
        self.sim.assign(
            torch.arange(self.num_envs, device=self.device), self.course_ids, self.dynamics
        )
        self.sim.load_state_dict(state["simulator"])
        self._state = self.sim.read()
        self._sensed = sense(self._state, self.course_ids, self.maps)
        return self.observation

    def close(self) -> None:
        """Free the simulator."""
        self.sim.close()
