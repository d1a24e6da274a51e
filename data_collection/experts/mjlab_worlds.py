"""Our worlds on mjlab's simulation: mjlab steps the physics, our environment keeps the episodes.

Every world has a course of its own, as on our MuJoCo Warp back end: the courses' boxes are rows of
the model's arrays, copied in when an episode starts. Observations, rewards, falls, costs, the
curriculum and the randomisation are :class:`go2_sevpo.envs.go2.parkour.Go2Parkour`'s own.
"""

from __future__ import annotations

from typing import Any, Dict, NamedTuple, Optional, Sequence

import numpy as np
import torch

from go2_sevpo.envs.go2.config import ParkourConfig
from go2_sevpo.envs.go2.description import robot as r
from go2_sevpo.envs.go2.description.course import Course
from go2_sevpo.envs.go2.parkour import Go2Parkour
from go2_sevpo.envs.go2.pool import CoursePool
from go2_sevpo.envs.go2.worlds import ParkourWorlds
from go2_sevpo.envs.simulators.base import physics_steps
from go2_sevpo.envs.simulators.mujoco_warp import MujocoWarpSimulator
from go2_sevpo.envs.simulators.rendering import CourseRenderer
from go2_sevpo.envs.simulators.warp_fields import (
    COURSE_FIELDS,
    MOTOR_FIELDS,
    PAYLOAD_FIELDS,
    load_warp,
)

MODEL_FIELDS = COURSE_FIELDS + PAYLOAD_FIELDS + MOTOR_FIELDS
"""Fields of the model that mjlab must hold per world."""
ROBOT = "robot"
"""Name of the robot's entity; mjlab puts it before every name."""


class MjlabSimulator(MujocoWarpSimulator):
    """mjlab's simulation behind our protocol; :meth:`step` only looks at what mjlab has stepped.

    Args:
        env: mjlab's ManagerBasedRlEnv, its scene and simulation built, :data:`MODEL_FIELDS` per
            world.
        courses: the courses worlds can be given.

    Raises:
        ValueError: the scene is not the one of :mod:`go2_sevpo.data_collection.experts.mjlab_task`.
    """

    def __init__(self, env: Any, courses: Sequence[Course]) -> None:
        self._mjw = load_warp()
        import warp as wp

        self._wp, sim = wp, env.sim
        model, self._model, self._data = sim.mj_model, sim.wp_model, sim.wp_data
        if model.body(1).name != f"{ROBOT}/base":
            raise ValueError(
                f"the scene's first body is {model.body(1).name}, expected {ROBOT}/base"
            )
        self._substeps = physics_steps(sim.num_envs, courses, env.physics_dt)
        self.num_envs, self.courses = sim.num_envs, list(courses)
        self.device = torch.device(sim.device)
        self._view = {name: wp.to_torch(getattr(self._model, name)) for name in MODEL_FIELDS}
        self._pool = self._course_rows(model, env.physics_dt)
        self._motor = {n: self._view[n][:1].clone() for n in MOTOR_FIELDS}
        self._payload = self._payload_table(model)
        self._qpos, self._qvel = wp.to_torch(self._data.qpos), wp.to_torch(self._data.qvel)
        self._warm = wp.to_torch(self._data.qacc_warmstart)
        self._find_static_geoms(model)
        self._sensors = wp.to_torch(self._data.sensordata)
        self._overflow = wp.to_torch(self._data.overflow)
        joints = [f"{ROBOT}/{n}" for n in r.JOINT_NAMES]
        self._qadr = self._index([model.joint(n).qposadr[0] for n in joints])
        self._vadr = self._index([model.joint(n).dofadr[0] for n in joints])
        self._torque_adr = self._index([model.sensor(f"{n}_torque").adr[0] for n in joints])
        feet, bodies = [f"{leg}_foot" for leg in r.LEGS], r.CONTACT_BODIES
        self._foot_adr = self._index([model.sensor(f"{ROBOT}/{n}").adr[0] for n in feet])
        self._body_adr = self._index([model.sensor(f"{ROBOT}/{n}").adr[0] for n in bodies])
        self._vmax = torch.full((model.nv,), float("inf"), device=self.device)
        self._vmax[self._vadr] = torch.tensor(r.VELOCITY_LIMITS, device=self.device)
        rows = torch.zeros(self.num_envs, len(r.JOINT_NAMES), device=self.device)
        self._target, self._torque = rows.clone(), rows
        self._foot = rows[:, : len(feet)].clone()
        self._body = rows[:, : len(bodies)].clone()
        self._peak = torch.zeros_like(self._body)
        self._course_of = torch.zeros(self.num_envs, dtype=torch.long, device=self.device)
        self._pictures = CourseRenderer()

    def _course_rows(self, model: Any, physics_dt: float) -> Dict[str, torch.Tensor]:
        """Rows of the course fields (C, ...) by name: mjlab's model with each course's boxes."""
        found: Dict[str, torch.Tensor] = {}
        compiled = [self._compile(c, physics_dt) for c in self.courses]
        names = [g.name for g in map(compiled[0].geom, range(compiled[0].ngeom))]
        boxes = [n for n in names if n == "pit" or n.startswith("course_")]
        ours = [compiled[0].geom(n).id for n in boxes]
        theirs = [model.geom(n).id for n in boxes]
        for name in COURSE_FIELDS:
            rows = np.repeat(np.asarray(getattr(model, name))[None], len(compiled), 0)
            for row, course in zip(rows, compiled):
                row[theirs] = getattr(course, name)[ours]
            found[name] = self._tensor(rows, name)
        return found

    def targets(self, k: int, targets: torch.Tensor, delay: torch.Tensor) -> torch.Tensor:
        """Joint targets (N, 12) of physics step ``k``: the former ones for ``delay`` (N,) seconds.

        Called before each physics step: the one before it is looked at first.
        """
        if k > 0:
            self._look()
        wait = torch.round(delay * self._substeps / r.CONTROL_DT)
        return torch.where((k < wait)[:, None], self._target, targets)

    def _look(self) -> None:
        """Keep the largest contact forces of the control step, and velocities within limits."""
        torch.maximum(self._peak, self._sensors[:, self._body_adr], out=self._peak)
        torch.minimum(torch.maximum(self._qvel, -self._vmax), self._vmax, out=self._qvel)

    def step(
        self,
        joint_targets: torch.Tensor,
        active: Optional[torch.Tensor] = None,
        delay: Optional[torch.Tensor] = None,
    ) -> None:
        """Take over what mjlab's physics steps towards ``joint_targets`` (N, 12) led to.

        Raises:
            SimulationError: see :class:`MujocoWarpSimulator`.
        """
        self._look()
        self._target.copy_(joint_targets)
        self._torque.copy_(self._sensors[:, self._torque_adr])
        self._foot.copy_(self._sensors[:, self._foot_adr])
        self._body.copy_(self._peak)
        self._peak.zero_()
        self._check(joint_targets, active)


class Result(NamedTuple):
    """What a control step led to, each (N,); ``terms`` are rewards per second by name."""

    terms: Dict[str, torch.Tensor]
    cost: torch.Tensor
    fall: torch.Tensor
    success: torch.Tensor
    stuck: torch.Tensor
    timeout: torch.Tensor

    @property
    def done(self) -> torch.Tensor:
        """Whose episode ended, (N,) bool."""
        return self.fall | self.success | self.stuck | self.timeout


class MjlabWorlds(Go2Parkour):
    """:class:`Go2Parkour` in the two halves in which mjlab steps.

    :meth:`begin` before the physics, :meth:`result` after it.
    """

    sim: MjlabSimulator

    def __init__(self, config: ParkourConfig, env: Any) -> None:
        self.config, self.auto_reset = config, False
        self._env = env
        pool = CoursePool(config)
        ParkourWorlds.__init__(self, config, pool, MjlabSimulator(env, pool.courses))
        self._action = torch.zeros(self.num_envs, self.num_actions, device=self.device)
        self._found: Optional[Result] = None
        self._pending, self._substep = False, 0
        self.reset()

    def begin(self, action: torch.Tensor) -> None:
        """Take the actions (N, 12), in [-1, 1] after clipping, of the step that follows; push."""
        super()._push()
        self._action = action.clamp(-1.0, 1.0)
        self._pending, self._substep = True, 0

    def next_targets(self) -> torch.Tensor:
        """Joint targets (N, 12), rad, of the next physics step."""
        targets = self.default + r.ACTION_SCALE * self._action
        found = self.sim.targets(self._substep, targets, self.delay)
        self._substep += 1
        return found

    def _push(self) -> None:
        """Nothing: :meth:`begin` has pushed, before the physics."""

    def result(self) -> Result:
        """What the step led to; computed once, however often it is asked for."""
        if self._pending or self._found is None:
            self._pending = False
            self._follow_lengths()
            _, _, cost, _, truncated, info = self.step(self._action)
            stuck, terms = info["stuck"], info["reward_terms"]
            ends = info["fall"], info["success"], stuck, truncated & ~stuck
            self._found = Result(terms, cost, *ends)
        return self._found

    def _follow_lengths(self) -> None:
        """Episode lengths are mjlab's: rsl_rl spreads the first episodes by writing into them."""
        before = self._env.episode_length_buf.to(self.device) - 1  # mjlab counts ahead of us
        self.best_step += before - self.episode_length  # else long first episodes would be stuck
        self.episode_length = before.clone()

    def begin_episodes(self, ids: torch.Tensor) -> None:
        """Start worlds ``ids`` (K,) anew, with the curriculum where their episodes ended."""
        if len(ids) == self.num_envs and (self._found is None or not self._found.done.all()):
            self.reset()
            return
        starts = torch.zeros_like(self.active)
        starts[ids] = True
        ended = starts & (self._found.success if self._found is not None else starts)
        self.observation = self._restart(starts, ended, self.observation)
