"""The vectorised Go2 parkour environment above any simulator.

Observations, rewards, costs, the curriculum and the pushes meet here. What is kept of each world
is in :mod:`go2_sevpo.envs.go2.worlds`, what an episode starts with in
:mod:`go2_sevpo.envs.go2.resets`.
"""

from __future__ import annotations

from typing import Any, Dict, Optional, Tuple

import torch

from go2_sevpo.envs.go2.config import ParkourConfig
from go2_sevpo.envs.go2.description import robot as r
from go2_sevpo.envs.go2.description.course import DESTINATION_RADIUS
from go2_sevpo.envs.go2.observations import (
    FRAME_SIZE,
    FRAMES,
    Sensed,
    bearings,
    frame,
    map_fields,
    privileged_fields,
    scaled_frame,
)
from go2_sevpo.envs.go2.pool import CoursePool
from go2_sevpo.envs.go2.resets import WaypointTables, draw_start, first_payload
from go2_sevpo.envs.go2.rewards import Outcome, limit_terms, outcome, reward_terms
from go2_sevpo.envs.go2.robot_view import Rows
from go2_sevpo.envs.go2.worlds import ParkourWorlds
from go2_sevpo.envs.simulators.base import RobotState
from go2_sevpo.envs.simulators.registry import make_simulator

Step = Tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor, Dict[str, Any]]
"""Observations, rewards, costs, terminated, truncated, info."""


class Go2Parkour(ParkourWorlds):
    """N worlds of a Go2 on a course.

    ``reset() -> obs (N, 265)``; ``step(action (N, 12) in [-1, 1]) -> obs, reward, cost, terminated,
    truncated, info``, each (N,) from the reward to ``truncated``. With ``auto_reset`` finished
    worlds start anew at once and ``info["final_observation"]`` holds the true next observation of
    every world; without it they stand still (``info["active"]``) until the next :meth:`reset`.

    Raises:
        ValueError: the simulator is not installed or refuses the configuration.
    """

    def __init__(self, config: ParkourConfig, auto_reset: bool = False) -> None:
        self.config, self.auto_reset = config, auto_reset
        pool = CoursePool(config)
        worlds = (config.simulator, config.num_envs, pool.courses)
        physics = (config.threads, config.physics_dt, self._first_payload())
        sim = make_simulator(*worlds, *physics, config.device, config.viewer)
        super().__init__(config, pool, sim)

    def _first_payload(self) -> torch.Tensor:
        """Payloads (N,), kg, for back ends whose masses are set once."""
        return first_payload(self.config)

    # ---- reset ----

    def reset(self, seed: Optional[int] = None) -> torch.Tensor:
        """Start an episode in every world and return the observations (N, 265).

        ``seed`` restarts the random numbers.
        """
        if seed is not None:
            self.generator.manual_seed(seed)
        self.active[:] = True
        self._reset(torch.arange(self.num_envs, device=self.device))
        self._state = self.sim.read()
        self._sensed = self._sense(self._state, self.course_ids)
        self.observation = self._observe(
            self._state, self._sensed, fresh=torch.ones_like(self.active)
        )
        return self.observation

    def _reset(self, ids: torch.Tensor) -> None:
        """Course, dynamics and start of worlds ``ids`` (K,), drawn in this order."""
        self.kind_ids[ids], self.course_ids[ids] = self.pool.draw(
            ids, self.levels[ids], self.generator
        )
        dynamics = self._draw_dynamics(ids)
        course = self.course_ids[ids]
        self.sim.assign(ids, course, dynamics)
        tables = WaypointTables(self.waypoints, self.last_waypoint, self.waypoint_roll)
        start = draw_start(self.config, course, tables, self.default, self.generator)
        self.sim.write(ids, start.state)
        if self.view is not None:
            self.view.start(ids, course, start.state)
        # The bookkeeping of an episode starts where the robot does.
        self.goal[ids], self.episode_length[ids] = start.goal, 0
        self.last_action[ids], self.last_joint_velocity[ids] = 0.0, 0.0
        self.best_x[ids] = self.start_x[ids] = start.state.base_position[:, 0]
        self.best_step[ids] = 0

    # ---- observations ----

    def _targets(self) -> torch.Tensor:
        """The next two waypoints (N, 2, 3), world, m; twice the destination at the end."""
        after = torch.minimum(self.goal + 1, self.last_waypoint[self.course_ids])
        return self.waypoints[self.course_ids[:, None], torch.stack([self.goal, after], dim=1)]

    def _observe(
        self, state: RobotState, sensed: Sensed, fresh: Optional[torch.Tensor] = None
    ) -> torch.Tensor:
        """Shift the frame history, put the present frame in, return observations (N, 265).

        Worlds ``fresh`` (N,) just started: their history is filled with the present frame.
        """
        now, around = self._look(slice(None), state, sensed)
        if self.config.randomization.sensor_noise:
            # One draw for both parts, uniform in [-1, 1)
            size = (self.num_envs, FRAME_SIZE + around.shape[1])
            noise = torch.rand(size, generator=self.generator, device=self.device)
            noise = noise.mul_(2.0).sub_(1.0)
            now = now + noise[:, :FRAME_SIZE] * self._frame_noise
            around = around + noise[:, FRAME_SIZE:] * self._map_noise
        now, around = self._clip(now, around)
        shifted = torch.cat([now[:, None], self.frames[:, :-1]], dim=1)  # (N, 3, 46)
        if fresh is not None:
            # A history of the moment before the start does not exist.
            shifted = torch.where(fresh[:, None, None], now[:, None].expand_as(shifted), shifted)
        self.frames = shifted
        return torch.cat([shifted.flatten(1), around], dim=1)

    def _look(
        self, rows: Rows, state: RobotState, sensed: Sensed
    ) -> Tuple[torch.Tensor, torch.Tensor]:
        """Frames (K, 46) and map fields (K, 127) of worlds ``rows``, scaled, without noise."""
        last, offset = self.last_action[rows], self.map_offset[rows]
        if self.view is None:
            now = frame(state, sensed, last, self.default)
            return now, map_fields(state, sensed, self._targets()[rows], offset)
        seen = self.view.look(rows, self.course_ids[rows], state, sensed, offset)
        return scaled_frame(state, sensed, last, self.default, seen.contact), seen.around

    def _clip(self, now: torch.Tensor, around: torch.Tensor) -> Tuple[torch.Tensor, torch.Tensor]:
        """Clip what was measured, noise and all; version 1 did so before the noise."""
        if self.view is None:
            return now, around
        limits = self._clips
        now = torch.minimum(torch.maximum(now, -limits[:FRAME_SIZE]), limits[:FRAME_SIZE])
        limits = limits[FRAME_SIZE:]
        return now, torch.minimum(torch.maximum(around, -limits), limits)

    def privileged(self) -> torch.Tensor:
        """What only a critic in simulation may see, (N, 14); see :func:`privileged_fields`.

        In version 2 (N, 27): also the joints' damping, dry friction and droop, the true waypoints
        (6, as in version 1's observation) and the map's error (4).
        """
        left = (self.max_episode_length - self.episode_length).float() / self.max_episode_length
        first_kind = (self.kind_ids == 0).float()
        own = privileged_fields(
            self._state, self._sensed, self.dynamics, self.delay, left, first_kind
        )
        if self.view is None:
            return own
        d = self.dynamics
        assert d.damping is not None and d.friction_loss is not None and d.droop is not None
        joints = torch.stack([d.damping, 2.0 * d.friction_loss, d.droop], dim=1)
        ways = bearings(self._targets(), self._state, self._sensed.heading)
        return torch.cat([own, joints, ways, self.view.privileged()], dim=1)

    # ---- step ----

    def step(self, action: torch.Tensor) -> Step:
        """Advance one control step (20 ms); see the class for shapes.

        ``info``: ``final_observation`` (N, 265), ``success``, ``fall``, ``stuck``, ``active`` (N,)
        bool (before this step), ``reward_terms`` (N,) by name, ``base_position`` (N, 3) m, ``kind``
        and ``cost`` (N,).

        Raises:
            ValueError: an action of the wrong shape or not finite.
        """
        expected = (self.num_envs, self.num_actions)
        if action.shape != expected:
            raise ValueError(f"action has shape {tuple(action.shape)}, expected {expected}")
        if not torch.isfinite(action).all():
            raise ValueError(
                "action is not finite; use the damped default pose (zeros) for a failed policy"
            )
        action = action.clamp(-1.0, 1.0)  # what the observation and the reward see, too
        was_active = self.active.clone()
        self._push()
        wanted = self.default + r.ACTION_SCALE * action  # joint targets, rad
        targets = wanted
        if self.view is not None:
            # A robot's own guard does not let targets leave the joints' ranges.
            targets = wanted.maximum(self._target_lower).minimum(self._target_upper)
        self.sim.step(targets, None if was_active.all() else was_active, self.delay)
        self.episode_length += was_active.long()
        state = self.sim.read()
        sensed = self._sense(state, self.course_ids)
        self._state, self._sensed = state, sensed
        if self.view is not None:
            self.view.advance(state)
        # A fall excludes success, and either excludes running out of time.
        result = outcome(state, sensed)
        success = self._advance_goal(state)
        fall = result.fall & was_active
        success = success & ~fall & was_active
        stuck = self._stuck(state) & was_active & ~fall & ~success
        timeout = (self.episode_length >= self.max_episode_length) & was_active & ~fall & ~success
        # Only a terminated episode has no future; a truncated one is cut in the middle.
        terminated, truncated = fall | success, timeout | stuck
        reward, terms = self._reward(state, sensed, result, action, wanted - targets, fall, success)
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
        live = was_active.float()  # worlds that stand still earn and cost nothing
        return observation, reward * live, result.cost * live, terminated, truncated, info

    def _push(self) -> None:
        """Push every ``push_interval`` seconds, each world at its own phase, never at the start."""
        z = self.config.randomization
        if not z.pushes:
            return
        period = round(z.push_interval / r.CONTROL_DT)
        due = self.episode_length % period == self.push_phase % period
        ids = (due & self.active & (self.episode_length > 25)).nonzero()[:, 0]
        if len(ids):
            velocity = torch.zeros(len(ids), 3, device=self.device)
            velocity[:, 0] = self._uniform(len(ids), -z.push_speed, z.push_speed)
            velocity[:, 1] = self._uniform(len(ids), -z.push_speed, z.push_speed)
            self.sim.push(ids, velocity)

    def _advance_goal(self, state: RobotState) -> torch.Tensor:
        """Move on to the next waypoint when the base is near or past it.

        Returns who stands at the destination, (N,) bool.
        """
        last = self.last_waypoint[self.course_ids]
        way = self.waypoints[self.course_ids, self.goal]
        delta = way[:, :2] - state.base_position[:, :2]  # (N, 2)
        # Courses run along x: a waypoint less than 0.1 m ahead counts as passed, however far aside.
        passed = (delta.norm(dim=1) < 0.35) | (delta[:, 0] < 0.1)
        self.goal = torch.minimum(self.goal + passed.long(), last)
        end = self.waypoints[self.course_ids, last]
        return (end[:, :2] - state.base_position[:, :2]).norm(dim=1) < DESTINATION_RADIUS

    def _stuck(self, state: RobotState) -> torch.Tensor:
        """Who has made no progress of 0.3 m for ``stuck_seconds``, (N,) bool; keeps the record."""
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
        clipped: torch.Tensor,
        fall: torch.Tensor,
        success: torch.Tensor,
    ) -> Tuple[torch.Tensor, Dict[str, torch.Tensor]]:
        """Rewards of the step (N,) and their terms per second by name."""
        w = self.config.reward
        delta = self.waypoints[self.course_ids, self.goal, :2] - state.base_position[:, :2]
        direction = delta / delta.norm(dim=1, keepdim=True).clamp_min(1e-6)  # (N, 2), unit
        # Finite difference over a control step, rad/s^2, (N, 12).
        acceleration = (state.joint_velocity - self.last_joint_velocity) / r.CONTROL_DT
        motion = (action, self.last_action, acceleration)
        terms = reward_terms(state, sensed, result, direction, *motion, self.default, w)
        if self.view is not None:
            ranges = (self._lower, self._upper)
            terms.update(limit_terms(state.joint_position, clipped, *ranges, w))
        # Rates times the step's length; what is paid once is not.
        total = torch.stack(list(terms.values())).sum(0) * r.CONTROL_DT
        return total + w.fall * fall.float() + w.success * success.float(), terms

    def _restart(
        self, done: torch.Tensor, success: torch.Tensor, observation: torch.Tensor
    ) -> torch.Tensor:
        """Start the worlds that are ``done`` anew; returns ``observation`` with their first one."""
        ids = done.nonzero()[:, 0]
        if self.config.curriculum:
            self._update_levels(ids, success[ids])
        self._reset(ids)
        self.active[ids] = True
        state = self.sim.read()
        sensed = self._sense(state.select(ids), self.course_ids[ids])
        new = self._observe_some(ids, state.select(ids), sensed)  # (K, 265)
        out = observation.clone()  # the argument stays: it is the step's final observation
        out[ids] = new
        self.frames[ids] = new[:, : FRAMES * FRAME_SIZE].reshape(len(ids), FRAMES, FRAME_SIZE)
        # privileged() looks at the state, the rotation and the rim.
        for name, value in vars(self._state).items():
            value[ids] = getattr(state, name)[ids]
        self._sensed.rotation[ids] = sensed.rotation
        self._sensed.heading[ids] = sensed.heading
        self._sensed.base_rim[ids] = sensed.base_rim
        return out

    def _observe_some(self, ids: torch.Tensor, state: RobotState, sensed: Sensed) -> torch.Tensor:
        """First observations (K, 265) of worlds ``ids``, whose history is the present frame."""
        now, around = self._look(ids, state, sensed)
        if self.config.randomization.sensor_noise:
            now = now + self._noise(now.shape) * self._frame_noise
            around = around + self._noise(around.shape) * self._map_noise
        now, around = self._clip(now, around)
        return torch.cat([now.repeat(1, FRAMES), around], dim=1)

    def _noise(self, shape: torch.Size) -> torch.Tensor:
        return torch.rand(shape, generator=self.generator, device=self.device) * 2 - 1

    def _update_levels(self, ids: torch.Tensor, success: torch.Tensor) -> None:
        """Levels of worlds ``ids`` (K,), in the kind that they were on, after their episodes."""
        kind, course = self.kind_ids[ids], self.course_ids[ids]
        length = self.waypoints[course, self.last_waypoint[course], 0] - self.start_x[ids]
        # Less than two fifths of the way.
        early = self.best_x[ids] - self.start_x[ids] < 0.4 * length
        self.levels[ids, kind] = self.pool.next_level(
            self.levels[ids, kind], success, early, self.generator
        )
