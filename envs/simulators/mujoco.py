"""MuJoCo on the CPU: one small model per world, stepped by ``mujoco.rollout`` on a thread pool.

Bitwise deterministic whatever the number of threads: a world's next state depends on its own model,
state and targets alone. Velocity limits are enforced at the physics rate: a control step is rolled
out as a whole, and the few worlds in which a joint ran over its limit are done again one physics
step at a time with the velocity clipped after each (what PhysX does with ``max_joint_velocity``).
"""

from __future__ import annotations

import os
from typing import Any, Dict, Optional, Sequence, Tuple

import mujoco
import numpy as np
import torch

from go2_sevpo.envs.go2.description import robot as r
from go2_sevpo.envs.go2.description.course import Course
from go2_sevpo.envs.go2.description.geometry import rotation_matrix
from go2_sevpo.envs.go2.description.scene import scene_xml
from go2_sevpo.envs.simulators.base import (
    MODEL_JOINTS,
    Dynamics,
    RobotState,
    SimulationError,
    describe,
    joint_value,
    late_targets,
    physics_steps,
)
from go2_sevpo.envs.simulators.rendering import CourseRenderer
from go2_sevpo.envs.simulators.rolling import make_rollout

_FULL = mujoco.mjtState.mjSTATE_FULLPHYSICS.value
# What differs between models of different courses: the boxes, and the tree of their volumes.
_COURSE_FIELDS = (
    *("geom_pos", "geom_quat", "geom_size", "geom_rbound", "geom_aabb", "geom_friction"),
    "geom_sameframe",  # a turned box is not "in its body's frame" as an upright one is
    *("bvh_aabb", "bvh_child", "bvh_depth", "bvh_nodeid"),
)
_Q, _V = 1, 20  # offsets of qpos (19) and qvel (18) in the full physics state, after the time
_FEET, _BODIES = len(r.LEGS), len(r.CONTACT_BODIES)


class MujocoSimulator:
    """The CPU back end of :class:`go2_sevpo.envs.simulators.base.Simulator`.

    Args:
        num_envs: number of worlds.
        courses: the courses worlds can be given; world i starts on course ``i % len(courses)``.
        threads: physics threads; 0 means all cores.
        physics_dt: physics step, s; the control step stays
            :data:`go2_sevpo.envs.go2.description.robot.CONTROL_DT`.

    Raises:
        ValueError: no course, no world, or a physics step that does not divide the control step.
    """

    device = torch.device("cpu")
    fixed_payload: Optional[torch.Tensor] = None
    joint_dynamics = tuple(MODEL_JOINTS)

    def __init__(
        self,
        num_envs: int,
        courses: Sequence[Course],
        threads: int = 0,
        physics_dt: float = r.PHYSICS_DT,
    ) -> None:
        self._substeps = physics_steps(num_envs, courses, physics_dt)
        self.num_envs, self.courses = num_envs, list(courses)
        self._pool = [self._compile(c, physics_dt) for c in self.courses]
        first = self._pool[0]
        # Every world has a model of its own, made one of another course by copying fields.
        self._models = [self._compile(self.courses[0], physics_dt) for _ in range(num_envs)]
        threads = threads or os.cpu_count() or 1
        self._data = [mujoco.MjData(first) for _ in range(threads)]
        self._rollout = make_rollout(threads)
        self._scratch = mujoco.MjData(first)
        self._nstate = mujoco.mj_stateSize(first, _FULL)
        # Where our canonical joints, legs and bodies are in MuJoCo's state, controls and sensors.
        self._qadr = np.array([first.joint(n).qposadr[0] for n in r.JOINT_NAMES]) + _Q
        self._vadr = np.array([first.joint(n).dofadr[0] for n in r.JOINT_NAMES]) + _V
        self._act = np.array([first.actuator(n).id for n in r.JOINT_NAMES])
        self._torque_adr = np.array([first.sensor(f"{n}_torque").adr[0] for n in r.JOINT_NAMES])
        self._foot_adr = np.array([first.sensor(f"{leg}_foot").adr[0] for leg in r.LEGS])
        self._body_adr = np.array([first.sensor(b).adr[0] for b in r.CONTACT_BODIES])
        self._vmax = np.array(r.VELOCITY_LIMITS)
        self._dof = self._vadr - _V
        # Slope of the torque-speed line at a droop of one, N m s/rad, and each world's own.
        self._full_slope = np.array(r.TORQUE_LIMITS) / self._vmax
        self._slope = np.zeros((num_envs, len(r.JOINT_NAMES)))
        self._state = np.zeros((num_envs, self._nstate))
        self._state[:, _Q + 2], self._state[:, _Q + 3] = r.NOMINAL_BASE_HEIGHT, 1.0
        self._state[:, self._qadr] = r.DEFAULT_JOINT_POSITIONS
        self._torque = np.zeros((num_envs, len(r.JOINT_NAMES)))
        self._target = np.zeros((num_envs, len(r.JOINT_NAMES)))  # in actuator order
        self._target[:, self._act] = r.DEFAULT_JOINT_POSITIONS
        self._older = self._target.copy()  # the targets before those
        self._foot = np.zeros((num_envs, _FEET))
        self._body = np.zeros((num_envs, _BODIES))
        self._course_of = np.zeros(num_envs, dtype=np.int64)
        self._pictures = CourseRenderer()
        self.assign(
            torch.arange(num_envs),
            torch.arange(num_envs) % len(self.courses),
            Dynamics.nominal(num_envs),
        )

    @staticmethod
    def _compile(course: Course, physics_dt: float) -> mujoco.MjModel:
        model = mujoco.MjModel.from_xml_string(scene_xml(course))
        model.opt.timestep = physics_dt
        # A diverged world must be seen, not silently put back to the origin.
        model.opt.disableflags |= mujoco.mjtDisableBit.mjDSBL_AUTORESET.value
        return model

    def assign(
        self, env_ids: torch.Tensor, course_ids: torch.Tensor, dynamics: Optional[Dynamics] = None
    ) -> None:
        """See :class:`Simulator`."""
        for k, (i, course) in enumerate(zip(env_ids.tolist(), course_ids.tolist())):
            model, source = self._models[i], self._pool[course]
            if self._course_of[i] != course:
                for name in _COURSE_FIELDS:
                    getattr(model, name)[:] = getattr(source, name)
            self._course_of[i] = course
            if dynamics is not None:
                values = {name: float(x[k]) for name, x in vars(dynamics).items()}
                self._slope[i] = values["droop"] * values["motor_strength"] * self._full_slope
                self._set_dynamics(model, source, values, self._slope[i])

    def _set_dynamics(
        self,
        model: mujoco.MjModel,
        source: mujoco.MjModel,
        values: Dict[str, float],
        slope: np.ndarray,
    ) -> None:
        """Scale the nominal values of ``source``, the course's own model, into ``model``.

        ``values`` are those of :class:`Dynamics`, ``slope`` (12,) that of the torque-speed line.
        """
        strength = values["motor_strength"]
        model.geom_friction[:] = source.geom_friction
        model.geom_friction[:, 0] *= values["friction"]  # sliding only
        base = 1  # body 0 is the world
        model.body_mass[base] = source.body_mass[base] + values["payload"]
        model.actuator_gainprm[:, 0] = source.actuator_gainprm[:, 0] * strength
        model.actuator_biasprm[:, 1:3] = source.actuator_biasprm[:, 1:3] * strength
        model.actuator_forcerange[:] = source.actuator_forcerange * strength
        # The line's part that grows with the speed is a damping of the joint, and the actuator's
        # own is less by as much: clip(P - (kd - b) qd, -L, L) - b qd is the law in Dynamics.
        model.actuator_biasprm[self._act, 2] += slope
        joint = {name: joint_value(name, values[name]) for name in MODEL_JOINTS}
        model.dof_damping[self._dof] = joint["damping"] + slope
        model.dof_armature[self._dof] = joint["armature"]
        model.dof_frictionloss[self._dof] = joint["friction_loss"]
        # Constants that follow from the masses.
        mujoco.mj_setConst(model, self._scratch)

    def write(self, env_ids: torch.Tensor, state: RobotState) -> None:
        """See :class:`Simulator`."""
        i = env_ids.numpy()
        quaternion = state.base_quaternion.numpy().astype(np.float64)
        rotation = rotation_matrix(torch.from_numpy(quaternion)).numpy()
        omega = state.base_angular_velocity.numpy()
        row = np.zeros((len(i), self._nstate))  # (K, S)
        row[:, _Q : _Q + 3], row[:, _Q + 3 : _Q + 7] = state.base_position.numpy(), quaternion
        row[:, _V : _V + 3] = state.base_linear_velocity.numpy()
        # MuJoCo's free joint has its angular velocity in the body frame: R^T omega.
        row[:, _V + 3 : _V + 6] = np.einsum("nji,nj->ni", rotation, omega)
        row[:, self._qadr] = state.joint_position.numpy()
        row[:, self._vadr] = state.joint_velocity.numpy()
        self._state[i] = row
        self._torque[i], self._foot[i], self._body[i] = 0.0, 0.0, 0.0
        self._target[np.ix_(i, self._act)] = state.joint_position.numpy()
        self._older[i] = self._target[i]

    def push(self, env_ids: torch.Tensor, velocity: torch.Tensor) -> None:
        """See :class:`Simulator`."""
        self._state[env_ids.numpy(), _V : _V + 3] += velocity.numpy()

    def _roll(self, index: np.ndarray, control: np.ndarray) -> Tuple[np.ndarray, np.ndarray]:
        """States (K, T, S) and sensors (K, T, Z) of worlds ``index`` (K,) under (K, T, 12)."""
        steps = control.shape[1]
        models = self._models if len(index) == self.num_envs else [self._models[i] for i in index]
        state = np.empty((len(index), steps, self._nstate))
        sensors = np.empty((len(index), steps, self._pool[0].nsensordata))
        start = np.ascontiguousarray(self._state[index])
        control = np.ascontiguousarray(control)
        # Shapes are right by construction; the library's checks cost a call per world.
        outputs = {"state": state, "sensordata": sensors}
        self._rollout.rollout(
            models, self._data, start, control, nstep=steps, skip_checks=True, **outputs
        )
        return state, sensors

    def step(
        self,
        joint_targets: torch.Tensor,
        active: Optional[torch.Tensor] = None,
        delay: Optional[torch.Tensor] = None,
    ) -> None:
        """See :class:`Simulator`."""
        index = np.arange(self.num_envs) if active is None else np.flatnonzero(active.numpy())
        if not len(index):
            return
        target = np.zeros((len(index), len(self._act)))
        target[:, self._act] = joint_targets.numpy()[index]
        control = np.repeat(target[:, None], self._substeps, axis=1)  # (K, T, 12)
        if delay is not None:
            # Physics steps for which the previous targets still hold.
            wait = np.rint(delay.numpy()[index] * self._substeps / r.CONTROL_DT)
            late = late_targets(wait, self._substeps)[..., None]
            control = np.where(late == 1, self._target[index][:, None], control)
            control = np.where(late == 2, self._older[index][:, None], control)
        self._older[index] = self._target[index]
        self._target[index] = target
        state, sensors = self._roll(index, control)
        # Worlds in which a joint ran over its limit are done again, see the module.
        fast = (np.abs(state[:, :, self._vadr]) > self._vmax).any(axis=(1, 2))  # (K,)
        self._store(index[~fast], state[~fast], sensors[~fast])
        if fast.any():
            again, parts = index[fast], []
            states = []
            for k in range(self._substeps):
                state, sensors = self._roll(again, control[fast, k : k + 1])
                last = state[:, -1]
                last[:, self._vadr] = np.clip(last[:, self._vadr], -self._vmax, self._vmax)
                if k < self._substeps - 1:
                    self._state[again] = last
                states.append(state)
                parts.append(sensors)
            self._store(again, np.concatenate(states, axis=1), np.concatenate(parts, axis=1))
        bad = ~np.isfinite(self._state[index]).all(axis=1)
        if bad.any():
            world = int(index[np.flatnonzero(bad)[0]])
            place = describe(self.courses[int(self._course_of[world])])
            raise SimulationError(
                f"world {world} has a non-finite state on {place}; "
                f"its targets were {joint_targets[world].tolist()}"
            )

    def _store(self, index: np.ndarray, state: np.ndarray, sensors: np.ndarray) -> None:
        """Keep states and sensors (K, T, .): the last, of the bodies' forces the largest."""
        # Sensors are of the beginning of a physics step, the velocity must be, too.
        before = state[:, -2] if state.shape[1] > 1 else self._state[index]
        lost = self._slope[index] * before[:, self._vadr]
        self._torque[index] = sensors[:, -1, self._torque_adr] - lost
        self._state[index] = state[:, -1]
        self._foot[index] = sensors[:, -1, self._foot_adr]
        self._body[index] = sensors[:, :, self._body_adr].max(axis=1)

    def read(self) -> RobotState:
        """See :class:`Simulator`."""
        s = self._state
        quat = s[:, _Q + 3 : _Q + 7]
        quat = quat / np.linalg.norm(quat, axis=1, keepdims=True)
        rotation = rotation_matrix(torch.from_numpy(quat)).numpy()
        omega = np.einsum("nij,nj->ni", rotation, s[:, _V + 3 : _V + 6])  # body to world

        def tensor(x: np.ndarray) -> torch.Tensor:
            return torch.from_numpy(x.astype(np.float32))

        return RobotState(
            base_position=tensor(s[:, _Q : _Q + 3]),
            base_quaternion=tensor(quat),
            base_linear_velocity=tensor(s[:, _V : _V + 3]),
            base_angular_velocity=tensor(omega),
            joint_position=tensor(s[:, self._qadr]),
            joint_velocity=tensor(s[:, self._vadr]),
            joint_torque=tensor(self._torque),
            foot_force=tensor(self._foot),
            body_force=tensor(self._body),
        )

    def state_dict(self) -> Dict[str, Any]:
        """See :class:`Simulator`."""
        names = ("_state", "_target", "_older", "_torque", "_foot", "_body")
        return {name[1:]: torch.from_numpy(getattr(self, name).copy()) for name in names}

    def load_state_dict(self, state: Dict[str, Any]) -> None:
        """See :class:`Simulator`."""
        for name, value in state.items():
            getattr(self, f"_{name}")[:] = value.numpy()

    def visual_state(self, env_id: int) -> Tuple[Course, np.ndarray]:
        """See :class:`Simulator`."""
        return self.courses[int(self._course_of[env_id])], self._state[env_id, _Q : _Q + 19].copy()

    def render(
        self,
        env_id: int,
        width: int = 640,
        height: int = 360,
        camera: Optional[mujoco.MjvCamera] = None,
    ) -> np.ndarray:
        """See :class:`Simulator`."""
        course, qpos = self.visual_state(env_id)
        return self._pictures.render(course, qpos, width, height, camera)

    def close(self) -> None:
        """See :class:`Simulator`."""
        self._pictures.close()
        self._rollout.close()
