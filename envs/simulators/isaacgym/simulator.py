"""Isaac Gym Preview 4: the simulator protocol on its tensor API.

Exercised against a stand-in, not yet run on real Isaac Gym.

All courses stand side by side as triangle meshes in one scene, each in a cell of a grid; a world
"is on" a course when its robot is put into that cell (collision groups keep worlds apart).
Positions are reported relative to the course.

The API's rules that shape this file: tensors are stale until refreshed; each indexed setter runs at
most once between two ``simulate`` calls, so writes, pushes and put-backs are gathered in the
wrapped tensors and flushed once; indices are int32; forces act for one physics step; friction of a
contact is the mean of the two materials; a process has one simulation (see
:mod:`go2_sevpo.envs.simulators.isaacgym.process`); linear velocities are the centre of mass's;
joint friction has no unit there, so dry friction is part of our torques. Items marked [check] are
inferred from public sources and are settled by ``go2-doctor --isaacgym``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Dict, List, Optional, Sequence, Tuple

import numpy as np
import torch

from go2_sevpo.envs.go2.description import robot as r
from go2_sevpo.envs.go2.description.course import Course
from go2_sevpo.envs.go2.description.geometry import rotation_matrix
from go2_sevpo.envs.simulators.base import (
    Dynamics,
    RobotState,
    SimulationError,
    describe,
    physics_steps,
)
from go2_sevpo.envs.simulators.isaacgym import process
from go2_sevpo.envs.simulators.isaacgym.scene import (
    CELL_LENGTH,
    CELL_WIDTH,
    box_mesh,
    cell_origins,
)
from go2_sevpo.envs.simulators.isaacgym.session import load_isaacgym
from go2_sevpo.envs.simulators.isaacgym.viewer import Window
from go2_sevpo.envs.simulators.rendering import CourseRenderer

if TYPE_CHECKING:
    import mujoco

__all__ = [
    "CELL_LENGTH",
    "CELL_WIDTH",
    "IsaacGymSimulator",
    "box_mesh",
    "cell_origins",
    "load_isaacgym",
]

FRICTION_BUCKETS = 64
"""Friction factors are multiples of one over this: legged_gym has as many buckets."""


class IsaacGymSimulator:
    """The Isaac Gym back end of :class:`go2_sevpo.envs.simulators.base.Simulator`.

    Args:
        num_envs: number of worlds.
        courses: the courses worlds can be given; world i starts on course ``i % len(courses)``.
        threads: PhysX threads on the CPU; 0 means its default.
        physics_dt: physics step, s.
        payload: kg on each world's base, (num_envs,): masses cannot be changed once the simulation
            runs.
        device: ``cuda:0`` (PhysX and tensors on the GPU) or ``cpu``; the GPU by default where torch
            sees one.
        viewer: open Isaac Gym's viewer (``window``), which follows world 0.

    Raises:
        ValueError: Isaac Gym is absent or was imported too late; no course, no world, or a physics
            step that does not divide the control step.
    """

    joint_dynamics: Tuple[str, ...] = ()

    def __init__(
        self,
        num_envs: int,
        courses: Sequence[Course],
        threads: int = 0,
        physics_dt: float = r.PHYSICS_DT,
        payload: Optional[torch.Tensor] = None,
        device: Optional[str] = None,
        viewer: bool = False,
    ) -> None:
        self._api, self._gymtorch = load_isaacgym()
        self._substeps = physics_steps(num_envs, courses, physics_dt)
        self.num_envs, self.courses = num_envs, list(courses)
        self.device = torch.device(device or ("cuda:0" if torch.cuda.is_available() else "cpu"))
        payload = torch.zeros(num_envs) if payload is None else payload.float()
        self._gpu = self.device.type == "cuda"
        request = process.Request(num_envs, self.courses, payload)
        settings = process.Settings(physics_dt, str(self.device))
        self._scene = process.borrow(self, request, settings, threads, viewer)
        self._gym, self._sim = self._scene.session.gym, self._scene.session.sim
        n = num_envs
        # (n,): those of the simulation, which may have been made for others
        self.fixed_payload: Optional[torch.Tensor] = self._scene.payload[:n].clone()
        self._origin = self._scene.courses(self.courses)
        self._course_of = torch.arange(n, device=self.device) % len(self.courses)
        self._ground = torch.tensor([c.friction for c in self.courses], device=self.device)
        self._dof_names = self._scene.robots.dof_names
        self._body_names = self._scene.robots.body_names
        self._find()
        self._strength = torch.ones(n, device=self.device)
        self._factor = torch.ones(n, device=self.device)  # of friction
        self._limit = torch.tensor(r.TORQUE_LIMITS, device=self.device)
        # Dry friction of the joints, N m, one value a world and joint.
        self._dry = torch.full((n, len(r.JOINT_NAMES)), r.FRICTION_LOSS, device=self.device)
        # N m s/rad: enough to stop the lightest that a joint turns, its motor, in one step.
        self._stop = r.ARMATURE / physics_dt
        self._target = torch.tensor(r.DEFAULT_JOINT_POSITIONS, device=self.device).repeat(n, 1)
        self._torque = torch.zeros(n, len(r.JOINT_NAMES), device=self.device)
        self._foot = torch.zeros(n, len(r.LEGS), device=self.device)
        self._body = torch.zeros(n, len(r.CONTACT_BODIES), device=self.device)
        # Normal force on each body, N, of the last physics step.
        self._felt = torch.zeros(n, len(self._body_names), device=self.device)
        # Worlds written to since the last physics step.
        self._dirty = torch.zeros(n, dtype=torch.bool, device=self.device)
        self._pictures = CourseRenderer()
        self.window = Window(self._gym, self._api, self._sim) if viewer else None
        # Friction and the default pose go through the protocol.
        self.assign(torch.arange(n), self._course_of.clone(), Dynamics.nominal(n, self.device))
        self.write(torch.arange(n), self._standing())

    # ---- construction ----

    def _standing(self) -> RobotState:
        """All robots in the default pose at their courses' start."""
        n = self.num_envs
        zeros, still = torch.zeros(n, 3), torch.zeros(n, len(r.JOINT_NAMES))
        return RobotState(
            base_position=torch.tensor([0.0, 0.0, r.NOMINAL_BASE_HEIGHT]).repeat(n, 1),
            base_quaternion=torch.tensor([1.0, 0.0, 0.0, 0.0]).repeat(n, 1),
            base_linear_velocity=zeros,
            base_angular_velocity=zeros,
            joint_position=torch.tensor(r.DEFAULT_JOINT_POSITIONS).repeat(n, 1),
            joint_velocity=still,
            joint_torque=still,
            foot_force=still[:, : len(r.LEGS)],
            body_force=still[:, : len(r.CONTACT_BODIES)],
        )

    def _find(self) -> None:
        """The parts of the simulation's tensors that are ours, and our names in its order."""
        n = self.num_envs
        # Views of the first worlds: (n, 13), (n, joints, 2), (n, bodies, 3), (n, joints)
        self._root, self._dof = self._scene.root[:n], self._scene.dof[:n]
        self._contact, self._force = self._scene.contact[:n], self._scene.force[:n]
        self._com = torch.tensor(self._scene.robots.base_com, device=self.device)  # (3,) m

        def places(names: Sequence[str], found: List[str]) -> torch.Tensor:
            return torch.tensor([found.index(name) for name in names], device=self.device)

        self._joint = places(r.JOINT_NAMES, self._dof_names)
        self._feet = places([f"{leg}_foot" for leg in r.LEGS], self._body_names)
        self._bodies = places(r.CONTACT_BODIES, self._body_names)

    def _lead(self, quaternion: torch.Tensor, spin: torch.Tensor) -> torch.Tensor:
        """Velocity (K, 3) of the base's centre of mass less that of its origin: omega x R c.

        From quaternions wxyz (K, 4) and angular velocities (K, 3), world frame.
        """
        arm = (rotation_matrix(quaternion) @ self._com).expand_as(spin)
        return torch.cross(spin, arm, dim=1)

    # ---- protocol ----

    def assign(
        self, env_ids: torch.Tensor, course_ids: torch.Tensor, dynamics: Optional[Dynamics] = None
    ) -> None:
        """See :class:`Simulator`.

        The payload of ``dynamics`` is ignored: it is :attr:`fixed_payload` for good.

        PhysX averages the materials of robot and ground, so the robot's coefficient is set to 2 f g
        - g, where g is the course's coefficient and f the factor asked for; their mean is then f g.
        Factors below 0.5 are not possible. PhysX bears 64K materials, so factors are rounded to
        multiples of 1 / 64.

        Raises:
            ValueError: a friction factor below 0.5.
        """
        ids, courses = env_ids.to(self.device), course_ids.to(self.device)
        self._course_of[ids] = courses
        if dynamics is not None:
            self._factor[ids] = dynamics.friction.to(self.device)
            self._strength[ids] = dynamics.motor_strength.to(self.device)
            assert dynamics.friction_loss is not None  # filled in by Dynamics
            self._dry[ids] = dynamics.friction_loss.to(self.device)[:, None]
        factor = self._factor[ids]
        if len(ids) and float(factor.min()) < 0.5:
            raise ValueError(
                f"friction factor is {float(factor.min()):g}, expected at least 0.5 on Isaac Gym"
            )
        factor = torch.round(factor * FRICTION_BUCKETS) / FRICTION_BUCKETS
        robot = (2.0 * factor - 1.0) * self._ground[courses]
        for i, value in zip(ids.tolist(), robot.tolist()):
            self._scene.set_friction(i, value)

    def write(self, env_ids: torch.Tensor, state: RobotState) -> None:
        """See :class:`Simulator`. Reaches the simulation at the beginning of the next step."""
        i = env_ids.to(self.device)
        given = {k: v.to(self.device) for k, v in vars(state).items()}
        # Ours is wxyz, PhysX's xyzw.
        w, xyz = given["base_quaternion"][:, :1], given["base_quaternion"][:, 1:]
        position = given["base_position"] + self._origin[self._course_of[i]]
        spin = given["base_angular_velocity"]
        # PhysX's linear velocity is the centre of mass's, ours the base's origin's.
        velocity = given["base_linear_velocity"] + self._lead(given["base_quaternion"], spin)
        self._root[i] = torch.cat([position, xyz, w, velocity, spin], dim=1)  # (K, 13)
        dof = torch.zeros(len(i), len(self._dof_names), 2, device=self.device)
        dof[:, self._joint, 0] = given["joint_position"]
        dof[:, self._joint, 1] = given["joint_velocity"]
        self._dof[i] = dof
        self._target[i] = given["joint_position"]
        for kept in (self._torque, self._foot, self._body, self._felt):
            kept[i] = 0.0
        self._dirty[i] = True

    def push(self, env_ids: torch.Tensor, velocity: torch.Tensor) -> None:
        """See :class:`Simulator`. Reaches the simulation at the beginning of the next step."""
        i = env_ids.to(self.device)
        self._root[i, 7:10] = self._root[i, 7:10] + velocity.to(self.device)
        self._dirty[i] = True

    def _flush(self) -> None:
        """Hand what was written since the last physics step to the simulation, each setter once."""
        ids = self._dirty.nonzero()[:, 0].to(torch.int32)
        if not len(ids):
            return
        unwrap, n = self._gymtorch.unwrap_tensor, len(ids)
        root, dof = unwrap(self._scene.root), unwrap(self._scene.dof)
        self._gym.set_actor_root_state_tensor_indexed(self._sim, root, unwrap(ids), n)
        self._gym.set_dof_state_tensor_indexed(self._sim, dof, unwrap(ids), n)
        self._kept_ids = ids  # must live until the simulation has used it
        self._dirty[:] = False

    def step(
        self,
        joint_targets: torch.Tensor,
        active: Optional[torch.Tensor] = None,
        delay: Optional[torch.Tensor] = None,
    ) -> None:
        """See :class:`Simulator`. Worlds that are not active are computed and put back."""
        gym, sim, targets = self._gym, self._sim, joint_targets.to(self.device)
        kept = [x.clone() for x in self._own()] if active is not None else []
        # Physics steps for which the previous targets still hold; none without a delay.
        wait = torch.zeros(self.num_envs, device=self.device)
        if delay is not None:
            wait = torch.round(delay.to(self.device) * self._substeps / r.CONTROL_DT)
            if float(wait.max()) > self._substeps:
                raise ValueError(
                    f"delay is {float(delay.max()):g} s, expected at most {r.CONTROL_DT:g} s on "
                    "Isaac Gym"
                )
        strength, limit = self._strength[:, None], self._limit * self._strength[:, None]
        body = torch.zeros_like(self._body)
        for k in range(self._substeps):
            goal = torch.where((k < wait)[:, None], self._target, targets)  # (N, 12)
            # tau = s (kp (target - q) - kd qdot), within s times the limit
            q, qd = self._dof[:, self._joint, 0], self._dof[:, self._joint, 1]
            torque = (strength * (r.KP * (goal - q) - r.KD * qd)).clamp(-limit, limit)
            # Dry friction: against the motion with up to tau_c, and no more than stops it.
            friction = (self._stop * qd).clamp(-self._dry, self._dry)  # (N, 12) N m
            self._force[:, self._joint] = torque - friction
            if k == 0:
                self._flush()
            gym.set_dof_actuation_force_tensor(sim, self._gymtorch.unwrap_tensor(self._scene.force))
            gym.simulate(sim)
            if not self._gpu:  # on the GPU tensors are refreshed without it
                gym.fetch_results(sim, True)
            gym.refresh_dof_state_tensor(sim)
            gym.refresh_net_contact_force_tensor(sim)
            now = self._contact.norm(dim=-1)  # (N, bodies)
            # Reports of contacts with meshes drop out: the larger of two physics steps counts.
            force, self._felt = torch.maximum(now, self._felt), now
            body = torch.maximum(body, force[:, self._bodies])
        gym.refresh_actor_root_state_tensor(sim)
        self._torque, self._foot, self._body = torque, force[:, self._feet].clone(), body
        self._target = targets.clone()
        if active is not None:
            # What stands still was simulated with the others: put it back before the next step.
            stands = ~active.to(self.device)
            for x, before in zip(self._own(), kept):
                x[stands] = before[stands]
            self._dirty |= stands
        self._check(joint_targets)
        if self.window is not None:
            self.window.draw(self._root[self.window.world, :3].tolist())

    def _own(self) -> List[torch.Tensor]:
        """All tensors of the physical state, worlds first."""
        own = [self._root, self._dof, self._target, self._torque, self._foot, self._body]
        return [*own, self._felt]

    def _check(self, targets: torch.Tensor) -> None:
        fine = torch.isfinite(self._root).all(1) & torch.isfinite(self._dof).flatten(1).all(1)
        if bool(fine.all()):
            return
        world = int((~fine).nonzero()[0])
        place = describe(self.courses[int(self._course_of[world])])
        raise SimulationError(
            f"world {world} has a non-finite state on {place}; "
            f"its targets were {targets[world].tolist()}"
        )

    def read(self) -> RobotState:
        """See :class:`Simulator`."""
        root = self._root
        quat = torch.cat([root[:, 6:7], root[:, 3:6]], dim=1)  # xyzw to wxyz
        quat = quat / quat.norm(dim=1, keepdim=True)
        return RobotState(
            base_position=root[:, :3] - self._origin[self._course_of],
            base_quaternion=quat,
            base_linear_velocity=root[:, 7:10] - self._lead(quat, root[:, 10:13]),
            base_angular_velocity=root[:, 10:13].clone(),
            joint_position=self._dof[:, self._joint, 0],
            joint_velocity=self._dof[:, self._joint, 1],
            joint_torque=self._torque.clone(),
            foot_force=self._foot.clone(),
            body_force=self._body.clone(),
        )

    def state_dict(self) -> Dict[str, Any]:
        """See :class:`Simulator`.

        PhysX keeps contacts of its own, so going on is close but not bit for bit.
        """
        names = ("root", "dof", "target", "torque", "foot", "body", "felt")
        return {name: getattr(self, f"_{name}").cpu().clone() for name in names}

    def load_state_dict(self, state: Dict[str, Any]) -> None:
        """See :class:`Simulator`."""
        for name, value in state.items():
            getattr(self, f"_{name}").copy_(value)
        self._dirty[:] = True

    def visual_state(self, env_id: int) -> Tuple[Course, np.ndarray]:
        """See :class:`Simulator`."""
        s = self.read()
        pose = [s.base_position[env_id], s.base_quaternion[env_id], s.joint_position[env_id]]
        qpos = torch.cat(pose).cpu().numpy().astype(np.float64)
        return self.courses[int(self._course_of[env_id])], qpos

    def render(
        self,
        env_id: int,
        width: int = 640,
        height: int = 360,
        camera: Optional[mujoco.MjvCamera] = None,
    ) -> np.ndarray:
        """See :class:`Simulator`.

        Drawn by MuJoCo, so that pictures look alike on every back end.
        """
        course, qpos = self.visual_state(env_id)
        return self._pictures.render(course, qpos, width, height, camera)

    def close(self) -> None:
        """See :class:`Simulator`."""
        self._pictures.close()
        if self.window is not None:
            self.window.close()
            self.window = None
        process.give_back(self._scene, self)
