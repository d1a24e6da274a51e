"""MuJoCo Warp: all worlds in one batch on an NVIDIA GPU (or, for tests, on Warp's CPU device).

Worlds share one compiled model; what differs between them (the course's boxes, friction, payload,
motors, joints) are per-world rows of the model's arrays, so a course is changed by copying rows on
the device. State, targets and sensors are torch views of Warp's arrays: nothing is copied to the
host. On a GPU a physics step is captured once as a CUDA graph.

The physics is single precision and, on a GPU, not bitwise repeatable (the order of sums differs
between runs).
"""

from __future__ import annotations

from typing import Any, Dict, List, Optional, Sequence, Tuple

import mujoco
import numpy as np
import torch

from go2_sevpo.envs.go2.description import robot as r
from go2_sevpo.envs.go2.description.course import Course
from go2_sevpo.envs.go2.description.geometry import rotation_matrix, to_body
from go2_sevpo.envs.go2.description.scene import scene_xml
from go2_sevpo.envs.simulators.base import (
    MODEL_JOINTS,
    Dynamics,
    RobotState,
    SimulationError,
    describe,
    late_targets,
    physics_steps,
)
from go2_sevpo.envs.simulators.rendering import CourseRenderer
from go2_sevpo.envs.simulators.warp_fields import (
    COURSE_FIELDS,
    JOINT_FIELDS,
    MOTOR_FIELDS,
    PAYLOAD_FIELDS,
    PAYLOADS,
    like,
    load_warp,
)

CONTACTS_PER_WORLD = 32
"""Contacts to allocate per world, on average over worlds; a robot on its back makes about 15."""
CONSTRAINTS_PER_WORLD = 24 + 4 * 48
"""Rows of the constraint solver in any one world: friction and limits of 12 joints, 48 contacts."""


class MujocoWarpSimulator:
    """The MuJoCo Warp back end of :class:`go2_sevpo.envs.simulators.base.Simulator`.

    Args:
        num_envs: number of worlds.
        courses: the courses worlds can be given; world i starts on course ``i % len(courses)``.
        threads: ignored (other back ends' physics threads).
        physics_dt: physics step, s; the control step stays
            :data:`go2_sevpo.envs.go2.description.robot.CONTROL_DT`.
        device: ``cuda`` or ``cpu``; by default the GPU if there is one.

    Raises:
        ValueError: mujoco_warp is missing; no course, no world, or a physics step that does not
            divide the control step.
    """

    fixed_payload: Optional[torch.Tensor] = None
    joint_dynamics = tuple(MODEL_JOINTS)

    def __init__(
        self,
        num_envs: int,
        courses: Sequence[Course],
        threads: int = 0,
        physics_dt: float = r.PHYSICS_DT,
        device: Optional[str] = None,
    ) -> None:
        self._mjw = load_warp()
        import warp as wp

        self._wp = wp
        self._substeps = physics_steps(num_envs, courses, physics_dt)
        self.num_envs, self.courses = num_envs, list(courses)
        self.device = torch.device(device or ("cuda:0" if torch.cuda.is_available() else "cpu"))
        self._warp_device = wp.device_from_torch(self.device)
        models = [self._compile(c, physics_dt) for c in self.courses]
        first = models[0]
        batched = COURSE_FIELDS + PAYLOAD_FIELDS + MOTOR_FIELDS + tuple(JOINT_FIELDS)
        rows = {name: num_envs for name in batched}
        with wp.ScopedDevice(self._warp_device):
            self._model = self._mjw.put_model(first, batch_sizes=rows)
            self._model.opt.warn_overflow = 0  # raised by step() instead of printed
            self._data = self._mjw.make_data(
                first, nworld=num_envs, nconmax=CONTACTS_PER_WORLD, njmax=CONSTRAINTS_PER_WORLD
            )
        # Views (N, ...) of the model's rows; writing into them changes the worlds.
        self._view = {name: wp.to_torch(getattr(self._model, name)) for name in batched}
        # The same fields of every course (C, ...), nominal motors (1, ...), payloads (401, ...).
        self._pool = {
            n: self._tensor(np.stack([getattr(m, n) for m in models]), n) for n in COURSE_FIELDS
        }
        self._motor = {n: self._view[n][:1].clone() for n in MOTOR_FIELDS}
        self._payload = self._payload_table(first)
        self._qpos, self._qvel = wp.to_torch(self._data.qpos), wp.to_torch(self._data.qvel)
        self._warm = wp.to_torch(self._data.qacc_warmstart)
        self._find_static_geoms(first)
        self._ctrl = wp.to_torch(self._data.ctrl)
        self._sensors = wp.to_torch(self._data.sensordata)
        self._overflow = wp.to_torch(self._data.overflow)
        self._qadr = self._index([first.joint(n).qposadr[0] for n in r.JOINT_NAMES])
        self._vadr = self._index([first.joint(n).dofadr[0] for n in r.JOINT_NAMES])
        self._act = self._index([first.actuator(n).id for n in r.JOINT_NAMES])
        self._torque_adr = self._index([first.sensor(f"{n}_torque").adr[0] for n in r.JOINT_NAMES])
        self._foot_adr = self._index([first.sensor(f"{leg}_foot").adr[0] for leg in r.LEGS])
        self._body_adr = self._index([first.sensor(b).adr[0] for b in r.CONTACT_BODIES])
        self._vmax = torch.full((first.nv,), float("inf"), device=self.device)
        self._vmax[self._vadr] = torch.tensor(r.VELOCITY_LIMITS, device=self.device)
        # Slope of the torque-speed line at a droop of one, N m s/rad, and each world's own.
        limits = torch.tensor(r.TORQUE_LIMITS, device=self.device)
        self._full_slope = limits / self._vmax[self._vadr]
        self._slope = torch.zeros(num_envs, len(r.JOINT_NAMES), device=self.device)
        zeros = torch.zeros
        self._target = zeros(num_envs, len(r.JOINT_NAMES), device=self.device)
        self._target[:] = torch.tensor(r.DEFAULT_JOINT_POSITIONS, device=self.device)
        self._older = self._target.clone()  # the targets before those
        self._torque = zeros(num_envs, len(r.JOINT_NAMES), device=self.device)
        self._foot = zeros(num_envs, len(r.LEGS), device=self.device)
        self._body = zeros(num_envs, len(r.CONTACT_BODIES), device=self.device)
        self._course_of = zeros(num_envs, dtype=torch.long, device=self.device)
        self._graph: Any = None  # warp's captured physics step; the package has no stubs
        self._pictures = CourseRenderer()
        # All worlds on their first course, in the default pose.
        every = torch.arange(num_envs, device=self.device)
        self.assign(every, every % len(self.courses), Dynamics.nominal(num_envs))
        pose = torch.zeros(num_envs, first.nq, device=self.device)
        pose[:, 2], pose[:, 3] = r.NOMINAL_BASE_HEIGHT, 1.0
        pose[:, self._qadr] = self._target
        self._qpos[:], self._qvel[:], self._warm[:] = pose, 0.0, 0.0

    @staticmethod
    def _compile(course: Course, physics_dt: float) -> mujoco.MjModel:
        model = mujoco.MjModel.from_xml_string(scene_xml(course))
        model.opt.timestep = physics_dt
        return model

    def _index(self, values: List[int]) -> torch.Tensor:
        return torch.tensor([int(v) for v in values], device=self.device)

    def _find_static_geoms(self, model: mujoco.MjModel) -> None:
        """The geoms of the world body, and where they stand in each world, (N, geoms, ...)."""
        ids = [i for i in range(model.ngeom) if model.geom_bodyid[i] == 0]
        self._static = self._index(ids)
        self._geom_place = self._wp.to_torch(self._data.geom_xpos)
        self._geom_turn = self._wp.to_torch(self._data.geom_xmat)

    def _move_static_geoms(self, i: torch.Tensor) -> None:
        """Put the geoms of the world body where the model's rows of worlds ``i`` (K,) say.

        MuJoCo Warp computes their places once, when the data are made, and never again.
        """
        rows = i[:, None], self._static  # (K, 1), (S,)
        self._geom_place[rows] = self._view["geom_pos"][rows]
        self._geom_turn[rows] = rotation_matrix(self._view["geom_quat"][rows])

    def _tensor(self, rows: np.ndarray, name: str) -> torch.Tensor:
        """Rows of a model field (K, ...) in the shape of its per-world view."""
        tensor = torch.from_numpy(rows.astype(np.float32))
        return tensor.reshape(len(rows), *self._view[name].shape[1:]).to(self.device)

    def _payload_table(self, model: mujoco.MjModel) -> Dict[str, torch.Tensor]:
        """Fields that follow from the base's mass, as MuJoCo computes them, (401, ...) by name.

        One row for each of :data:`PAYLOADS`.
        """
        data, base = mujoco.MjData(model), 1  # body 0 is the world
        mass = float(model.body_mass[base])
        rows: Dict[str, List[np.ndarray]] = {name: [] for name in PAYLOAD_FIELDS}
        # Inertia constants hang on the mass in no simple way, so MuJoCo computes them one by one.
        for extra in PAYLOADS:
            model.body_mass[base] = mass + extra
            mujoco.mj_setConst(model, data)
            for name, values in rows.items():
                values.append(getattr(model, name).copy())
        model.body_mass[base] = mass
        mujoco.mj_setConst(model, data)
        return {name: self._tensor(np.stack(values), name) for name, values in rows.items()}

    def assign(
        self, env_ids: torch.Tensor, course_ids: torch.Tensor, dynamics: Optional[Dynamics] = None
    ) -> None:
        """See :class:`Simulator`.

        Raises:
            ValueError: a payload outside :data:`PAYLOADS`.
        """
        i, courses = env_ids.to(self.device), course_ids.to(self.device)
        for name in COURSE_FIELDS[:-1]:  # friction comes with the dynamics
            self._view[name][i] = self._pool[name][courses]
        self._move_static_geoms(i)
        self._course_of[i] = courses
        if dynamics is not None:
            self._set_dynamics(i, courses, dynamics)

    def _set_dynamics(self, i: torch.Tensor, courses: torch.Tensor, dynamics: Dynamics) -> None:
        """Scale the nominal values into the rows of worlds ``i`` (K,), on ``courses`` (K,)."""
        given = {name: x.to(self.device) for name, x in vars(dynamics).items()}
        friction, payload, strength = (
            given[name] for name in ("friction", "payload", "motor_strength")
        )
        least, most = PAYLOADS[0], PAYLOADS[-1]
        if len(i) and not least <= float(payload.min()) <= float(payload.max()) <= most:
            raise ValueError(f"payload is {payload.tolist()} kg, expected within [{least}, {most}]")
        friction_rows = self._pool["geom_friction"][courses].clone()  # (K, geoms, 3)
        friction_rows[..., 0] *= friction[:, None]  # sliding only
        self._view["geom_friction"][i] = friction_rows
        for name, motor in self._motor.items():
            self._view[name][i] = motor * like(strength, motor)
        # A part of the actuator's damping becomes the joint's: see MujocoSimulator._set_dynamics.
        slope = (given["droop"] * strength)[:, None] * self._full_slope  # (K, 12)
        self._slope[i] = slope
        self._view["actuator_biasprm"][i[:, None], self._act, 2] += slope
        for name, of in JOINT_FIELDS.items():
            extra = slope if name == "dof_damping" else torch.zeros_like(slope)
            self._view[name][i[:, None], self._vadr] = given[of][:, None] + extra
        # Linear between the two payloads of the table; the clamp lets the last one be a right end.
        place = (payload - least) / (PAYLOADS[1] - least)
        low = place.floor().long().clamp(max=len(PAYLOADS) - 2)
        share = place - low
        for name, table in self._payload.items():
            w = like(share, table)
            self._view[name][i] = table[low] * (1 - w) + table[low + 1] * w

    def write(self, env_ids: torch.Tensor, state: RobotState) -> None:
        """See :class:`Simulator`."""
        i = env_ids.to(self.device)
        given = {k: v.to(self.device) for k, v in vars(state).items()}
        qpos, qvel = torch.zeros_like(self._qpos[i]), torch.zeros_like(self._qvel[i])
        qpos[:, :3], qpos[:, 3:7] = given["base_position"], given["base_quaternion"]
        qvel[:, :3] = given["base_linear_velocity"]
        # MuJoCo's free joint has its angular velocity in the body frame.
        rotation = rotation_matrix(given["base_quaternion"])
        qvel[:, 3:6] = to_body(rotation, given["base_angular_velocity"])
        qpos[:, self._qadr] = given["joint_position"]
        qvel[:, self._vadr] = given["joint_velocity"]
        self._qpos[i], self._qvel[i], self._warm[i] = qpos, qvel, 0.0
        self._torque[i], self._foot[i], self._body[i] = 0.0, 0.0, 0.0
        self._target[i] = self._older[i] = given["joint_position"]

    def push(self, env_ids: torch.Tensor, velocity: torch.Tensor) -> None:
        """See :class:`Simulator`."""
        i = env_ids.to(self.device)
        self._qvel[i, :3] = self._qvel[i, :3] + velocity.to(self.device)

    def _physics_step(self) -> None:
        """One physics step of all worlds; on a GPU as a graph captured at the first call."""
        wp = self._wp
        if self.device.type == "cpu":  # Warp's CPU device has no graphs
            with wp.ScopedDevice(self._warp_device):
                self._mjw.step(self._model, self._data)
            return
        if self._graph is None:
            # One step is made on the way; the state is put back after it.
            keep = [x.clone() for x in (self._qpos, self._qvel, self._warm)]
            torch.cuda.synchronize(self.device)
            with wp.ScopedDevice(self._warp_device):
                # Compiles the kernels, which a capture may not do.
                self._mjw.step(self._model, self._data)
                with wp.ScopedCapture() as capture:
                    self._mjw.step(self._model, self._data)
            wp.synchronize_device(self._warp_device)
            self._graph = capture.graph
            for x, value in zip((self._qpos, self._qvel, self._warm), keep):
                x.copy_(value)
        stream = wp.stream_from_torch(torch.cuda.current_stream(self.device))
        wp.capture_launch(self._graph, stream=stream)

    def step(
        self,
        joint_targets: torch.Tensor,
        active: Optional[torch.Tensor] = None,
        delay: Optional[torch.Tensor] = None,
    ) -> None:
        """See :class:`Simulator`. Worlds that are not active are computed and put back.

        Raises:
            SimulationError: also when contacts or constraints overflow what was allocated.
        """
        targets = joint_targets.to(self.device)
        kept: List[Tuple[torch.Tensor, torch.Tensor]] = []
        if active is not None:
            active = active.to(self.device)
            kept = [(x, x.clone()) for x in self._physical()]
        # Physics steps for which the previous targets still hold; none without a delay.
        late = torch.zeros(self.num_envs, self._substeps, dtype=torch.long, device=self.device)
        if delay is not None:
            wait = np.rint(delay.cpu().numpy() * self._substeps / r.CONTROL_DT)
            late = torch.from_numpy(late_targets(wait, self._substeps)).to(self.device)
        body = torch.zeros_like(self._body)
        for k in range(self._substeps):
            old = late[:, k : k + 1]
            now = torch.where(old == 0, targets, torch.where(old == 1, self._target, self._older))
            self._ctrl[:, self._act] = now  # (N, 12)
            before = self._qvel[:, self._vadr]
            self._physics_step()
            # Velocity limits; those of the base are infinite.
            torch.minimum(torch.maximum(self._qvel, -self._vmax), self._vmax, out=self._qvel)
            body = torch.maximum(body, self._sensors[:, self._body_adr])
        self._older.copy_(self._target)
        self._target.copy_(targets)
        # Sensors and this velocity are of the beginning of the last physics step.
        self._torque.copy_(self._sensors[:, self._torque_adr] - self._slope * before)
        self._foot.copy_(self._sensors[:, self._foot_adr])
        self._body.copy_(body)
        if active is not None:
            for x, before in kept:
                x.copy_(torch.where(active[:, None], x, before))
        self._check(joint_targets, active)

    def _physical(self) -> List[torch.Tensor]:
        """Everything that a step changes, worlds first."""
        state = [self._qpos, self._qvel, self._warm]
        return [*state, self._target, self._older, self._torque, self._foot, self._body]

    def _check(self, targets: torch.Tensor, active: Optional[torch.Tensor]) -> None:
        """Raise for the first world that is not finite or for which memory did not suffice."""
        # A solver that ran out of iterations is less exact, not wrong; before 4.0 it was not told.
        flags = getattr(self._mjw, "OverflowType", None)
        serious = -1 if flags is None else ~int(flags.ITERATIONS | flags.LS_ITERATIONS)
        bad = ~(torch.isfinite(self._qpos).all(1) & torch.isfinite(self._qvel).all(1))
        over = (self._overflow & serious) != 0
        if active is not None:
            bad, over = bad & active, over & active
        if not bool((bad | over).any()):
            return
        self._overflow.zero_()
        if bool(bad.any()):
            world = int(bad.nonzero()[0])
            what = (
                f"has a non-finite state on {self._place(world)}; "
                f"its targets were {targets[world].tolist()}"
            )
        else:
            world = int(over.nonzero()[0])
            what = (
                f"on {self._place(world)} needs more contacts or constraints than were allocated "
                f"({CONTACTS_PER_WORLD} contacts a world on average, "
                f"{CONSTRAINTS_PER_WORLD} constraint rows); "
                "results would be wrong from here on"
            )
        raise SimulationError(f"world {world} {what}")

    def _place(self, world: int) -> str:
        return describe(self.courses[int(self._course_of[world])])

    def read(self) -> RobotState:
        """See :class:`Simulator`."""
        quat = self._qpos[:, 3:7]
        quat = quat / quat.norm(dim=1, keepdim=True)
        omega = torch.einsum("nij,nj->ni", rotation_matrix(quat), self._qvel[:, 3:6])  # to world
        return RobotState(
            base_position=self._qpos[:, :3].clone(),
            base_quaternion=quat,
            base_linear_velocity=self._qvel[:, :3].clone(),
            base_angular_velocity=omega,
            joint_position=self._qpos[:, self._qadr],
            joint_velocity=self._qvel[:, self._vadr],
            joint_torque=self._torque.clone(),
            foot_force=self._foot.clone(),
            body_force=self._body.clone(),
        )

    def state_dict(self) -> Dict[str, Any]:
        """See :class:`Simulator`."""
        names = ("qpos", "qvel", "warm", "target", "older", "torque", "foot", "body")
        return {name: getattr(self, f"_{name}").cpu().clone() for name in names}

    def load_state_dict(self, state: Dict[str, Any]) -> None:
        """See :class:`Simulator`."""
        for name, value in state.items():
            getattr(self, f"_{name}").copy_(value)

    def visual_state(self, env_id: int) -> Tuple[Course, np.ndarray]:
        """See :class:`Simulator`."""
        qpos = self._qpos[env_id].cpu().numpy().astype(np.float64)
        return self.courses[int(self._course_of[env_id])], qpos

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
        self._graph = None
