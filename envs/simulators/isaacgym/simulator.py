"""Isaac Gym Preview 4: the simulator protocol on its tensor API.

Exercised against a stand-in, not yet run on real Isaac Gym.

All courses stand side by side as triangle meshes in one scene, each in a cell of a grid; a world
"is on" a course when its robot is put into that cell (collision groups keep worlds apart).
Positions are reported relative to the course.

The API's rules that shape this file: tensors are stale until refreshed; each indexed setter runs at
most once between two ``simulate`` calls, so writes, pushes and put-backs are gathered in the
wrapped tensors and flushed once; indices are int32; forces act for one physics step; friction of a
contact is the mean of the two materials. Items marked [check] are inferred from public sources and
are settled by ``go2-doctor --isaacgym``.
"""

from __future__ import annotations

import math
import sys
from typing import Any, Dict, List, Optional, Sequence, Tuple

import numpy as np
import torch

from go2_sevpo.envs.go2.description import robot as r
from go2_sevpo.envs.go2.description.course import Box, Course
from go2_sevpo.envs.go2.description.model_files import ASSET_DIR
from go2_sevpo.envs.simulators.base import Dynamics, RobotState, SimulationError, physics_steps
from go2_sevpo.envs.simulators.isaacgym.early import MISSING
from go2_sevpo.envs.simulators.isaacgym.viewer import Window
from go2_sevpo.envs.simulators.rendering import CourseRenderer

CELL_LENGTH, CELL_WIDTH = 20.0, 5.0
"""Size of a course's cell, m; courses are at most 17 m long and 2 m wide."""
_EFFORT = 3
"""gymapi's drive mode in which torques are given."""
_CUBE = np.array([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)], dtype=np.float64)
_FACES = np.array(
    [
        [0, 1, 3],
        [0, 3, 2],
        [4, 6, 7],
        [4, 7, 5],
        [0, 4, 5],
        [0, 5, 1],
        [2, 3, 7],
        [2, 7, 6],
        [0, 2, 6],
        [0, 6, 4],
        [1, 5, 7],
        [1, 7, 3],
    ],
    dtype=np.uint32,
)
"""Twelve triangles of a box with the corners of :data:`_CUBE`, counter-clockwise seen from outside."""


def load_isaacgym() -> Tuple[Any, Any]:
    """Return ``(gymapi, gymtorch)``.

    Raises:
        ValueError: Isaac Gym is absent, or torch was imported before it.
    """
    if "isaacgym" not in sys.modules and "torch" in sys.modules:
        try:
            import importlib.util

            found = importlib.util.find_spec("isaacgym") is not None
        except (ImportError, ValueError):
            found = False
        if found:
            raise ValueError(
                "Isaac Gym must be imported before torch: give '--simulator isaacgym' on the command line (not only in a "
                "preset), or 'import isaacgym' first in a script of your own"
            )
    try:
        from isaacgym import gymapi, gymtorch
    except ImportError as error:
        raise ValueError(f"{MISSING} ({error})") from None
    return gymapi, gymtorch


def box_mesh(boxes: Sequence[Box], shift: np.ndarray) -> Tuple[np.ndarray, np.ndarray]:
    """Vertices (V, 3) float32 and triangles (T, 3) uint32 of boxes moved by ``shift`` (3,)."""
    vertices = [
        (_CUBE * np.array(b.half_size)) @ b.rotation().T + np.array(b.position) + shift
        for b in boxes
    ]
    triangles = [_FACES + 8 * k for k in range(len(boxes))]
    return np.concatenate(vertices).astype(np.float32), np.concatenate(triangles).astype(np.uint32)


def cell_origins(n: int) -> np.ndarray:
    """Origins (n, 3) of the courses' cells, m, on a nearly square grid (small numbers keep float32
    precise).
    """
    rows = max(1, round(math.sqrt(n * CELL_WIDTH / CELL_LENGTH)))
    k = np.arange(n)
    return np.stack([(k % rows) * CELL_LENGTH, (k // rows) * CELL_WIDTH, np.zeros(n)], axis=1)


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
        self.fixed_payload = (
            (torch.zeros(num_envs) if payload is None else payload).float().to(self.device)
        )
        self._gpu = self.device.type == "cuda"
        self._gym = self._api.acquire_gym()
        self._sim = self._make_sim(threads, physics_dt, viewer)
        origins = cell_origins(len(self.courses))
        self._add_courses(origins)
        self._origin = torch.from_numpy(origins).float().to(self.device)
        self._course_of = torch.arange(num_envs, device=self.device) % len(self.courses)
        self._ground = torch.tensor([c.friction for c in self.courses], device=self.device)
        self._add_robots()
        self._gym.prepare_sim(self._sim)
        self._acquire()
        n = num_envs
        self._strength = torch.ones(n, device=self.device)
        self._limit = torch.tensor(r.TORQUE_LIMITS, device=self.device)
        self._target = torch.tensor(r.DEFAULT_JOINT_POSITIONS, device=self.device).repeat(n, 1)
        self._torque = torch.zeros(n, len(r.JOINT_NAMES), device=self.device)
        self._force = torch.zeros(n, len(self._dof_names), device=self.device)
        self._foot = torch.zeros(n, len(r.LEGS), device=self.device)
        self._body = torch.zeros(n, len(r.CONTACT_BODIES), device=self.device)
        self._dirty = torch.zeros(n, dtype=torch.bool, device=self.device)
        self._pictures = CourseRenderer()
        self.window = Window(self._gym, self._api, self._sim) if viewer else None
        self.assign(torch.arange(n), self._course_of.clone())
        zeros = torch.zeros(n, 3)
        height = torch.tensor([0.0, 0.0, r.NOMINAL_BASE_HEIGHT]).repeat(n, 1)
        upright, still = (
            torch.tensor([1.0, 0, 0, 0]).repeat(n, 1),
            torch.zeros(n, len(r.JOINT_NAMES)),
        )
        pose = torch.tensor(r.DEFAULT_JOINT_POSITIONS).repeat(n, 1)
        self.write(
            torch.arange(n),
            RobotState(
                height, upright, zeros, zeros, pose, still, still, still[:, :4], still[:, :9]
            ),
        )

    # ---- construction
    # --------------------------------------------------------------------------------------

    def _make_sim(self, threads: int, physics_dt: float, viewer: bool) -> Any:
        api, params = self._api, self._api.SimParams()
        params.dt, params.substeps = physics_dt, 1
        params.up_axis, params.gravity = api.UP_AXIS_Z, api.Vec3(0.0, 0.0, -9.81)
        params.use_gpu_pipeline = params.physx.use_gpu = self._gpu
        params.physx.num_threads = threads or 4
        params.physx.solver_type = 1
        params.physx.num_position_iterations, params.physx.num_velocity_iterations = 4, 1
        params.physx.contact_offset, params.physx.rest_offset = 0.01, 0.0
        params.physx.bounce_threshold_velocity, params.physx.max_depenetration_velocity = 0.5, 1.0
        params.physx.max_gpu_contact_pairs, params.physx.default_buffer_size_multiplier = 2**23, 5
        params.physx.contact_collection = api.CC_ALL_SUBSTEPS
        index = self.device.index or 0
        sim = self._gym.create_sim(index, index if viewer else -1, api.SIM_PHYSX, params)
        if sim is None:
            raise ValueError(
                "Isaac Gym could not create a simulation; its own messages above say why (often the GPU driver)"
            )
        return sim

    def _add_courses(self, origins: np.ndarray) -> None:
        """One triangle mesh per friction coefficient, with the pit's floor as a slab under each
        course.
        """
        groups: Dict[float, List[Tuple[np.ndarray, np.ndarray]]] = {}
        for course, origin in zip(self.courses, origins):
            slab = Box(
                (CELL_LENGTH / 2 - 2.0, 0.0, course.floor - 0.5),
                (CELL_LENGTH / 2, CELL_WIDTH / 2, 0.5),
            )
            groups.setdefault(course.friction, []).append(box_mesh([*course.boxes, slab], origin))
        for friction, meshes in groups.items():
            counts = np.cumsum([0] + [len(v) for v, _ in meshes[:-1]])
            vertices = np.concatenate([v for v, _ in meshes])
            triangles = np.concatenate([t + np.uint32(k) for (_, t), k in zip(meshes, counts)])
            params = self._api.TriangleMeshParams()
            params.nb_vertices, params.nb_triangles = len(vertices), len(triangles)
            params.static_friction = params.dynamic_friction = friction
            params.restitution = 0.0
            self._gym.add_triangle_mesh(self._sim, vertices.flatten(), triangles.flatten(), params)

    def _add_robots(self) -> None:
        gym, api, options = self._gym, self._api, self._api.AssetOptions()
        options.default_dof_drive_mode = _EFFORT
        options.collapse_fixed_joints = True  # the feet's joints are marked dont_collapse
        options.replace_cylinder_with_capsule = True
        options.flip_visual_attachments = options.fix_base_link = options.disable_gravity = False
        options.angular_damping = options.linear_damping = 0.0
        options.max_angular_velocity = options.max_linear_velocity = 1000.0
        options.armature, options.thickness, options.density = r.ARMATURE, 0.01, 0.001
        asset = gym.load_asset(self._sim, str(ASSET_DIR), "go2.urdf", options)
        self._dof_names = list(gym.get_asset_dof_names(asset))
        self._body_names = list(gym.get_asset_rigid_body_names(asset))
        dofs = gym.get_asset_dof_properties(asset)
        for k, name in enumerate(self._dof_names):
            limits = r.joint_limits(name)
            dofs["driveMode"][k], dofs["stiffness"][k], dofs["damping"][k] = _EFFORT, 0.0, 0.0
            dofs["velocity"][k], dofs["effort"][k] = (
                limits.velocity,
                limits.torque * 2.0,
            )  # motor strength may exceed 1
            dofs["friction"][k], dofs["armature"][k] = r.FRICTION_LOSS, r.ARMATURE
        base = self._body_names.index("base")
        self._envs, self._actors = [], []
        per_row = max(1, round(math.sqrt(self.num_envs)))
        for i in range(self.num_envs):
            env = gym.create_env(
                self._sim, api.Vec3(0.0, 0.0, 0.0), api.Vec3(0.0, 0.0, 0.0), per_row
            )
            pose = api.Transform()
            x, y, _ = self._origin[self._course_of[i]].tolist()
            pose.p = api.Vec3(x, y, r.NOMINAL_BASE_HEIGHT)
            # Group i isolates the world; filter 1 switches self-collision off, as in the MuJoCo
            # model.
            actor = gym.create_actor(env, asset, pose, "go2", i, 1, 0)
            gym.set_actor_dof_properties(env, actor, dofs)
            bodies = gym.get_actor_rigid_body_properties(env, actor)
            bodies[base].mass += float(self.fixed_payload[i])
            # The payload sits at the base's centre of mass: the inertia about it stays. [check]
            gym.set_actor_rigid_body_properties(env, actor, bodies, recomputeInertia=False)
            self._envs.append(env)
            self._actors.append(actor)

    def _acquire(self) -> None:
        gym, sim, wrap = self._gym, self._sim, self._gymtorch.wrap_tensor
        n = self.num_envs
        self._root = wrap(gym.acquire_actor_root_state_tensor(sim)).view(n, 13)
        self._dof = wrap(gym.acquire_dof_state_tensor(sim)).view(n, len(self._dof_names), 2)
        self._contact = wrap(gym.acquire_net_contact_force_tensor(sim)).view(
            n, len(self._body_names), 3
        )
        gym.refresh_actor_root_state_tensor(sim)
        gym.refresh_dof_state_tensor(sim)
        gym.refresh_net_contact_force_tensor(sim)
        dev = self.device
        self._joint = torch.tensor(
            [self._dof_names.index(name) for name in r.JOINT_NAMES], device=dev
        )
        self._feet = torch.tensor(
            [self._body_names.index(f"{leg}_foot") for leg in r.LEGS], device=dev
        )
        self._bodies = torch.tensor(
            [self._body_names.index(name) for name in r.CONTACT_BODIES], device=dev
        )

    # ---- protocol
    # ------------------------------------------------------------------------------------------

    def assign(
        self, env_ids: torch.Tensor, course_ids: torch.Tensor, dynamics: Optional[Dynamics] = None
    ) -> None:
        """See :class:`Simulator`.

        The payload of ``dynamics`` is ignored: it is :attr:`fixed_payload` for good.

        PhysX averages the materials of robot and ground, so the robot's coefficient is set to 2 f g
        - g, where g is the course's coefficient and f the factor asked for; their mean is then f g.
        Factors below 0.5 are not possible.

        Raises:
            ValueError: a friction factor below 0.5.
        """
        ids, courses = env_ids.to(self.device), course_ids.to(self.device)
        self._course_of[ids] = courses
        factor = torch.ones(len(ids), device=self.device)
        if dynamics is not None:
            factor = dynamics.friction.to(self.device)
            self._strength[ids] = dynamics.motor_strength.to(self.device)
        if len(ids) and float(factor.min()) < 0.5:
            raise ValueError(
                f"friction factor is {float(factor.min()):g}, expected at least 0.5 on Isaac Gym"
            )
        robot = (2.0 * factor - 1.0) * self._ground[courses]
        for i, value in zip(ids.tolist(), robot.tolist()):
            shapes = self._gym.get_actor_rigid_shape_properties(self._envs[i], self._actors[i])
            for shape in shapes:
                shape.friction, shape.restitution = value, 0.0
            self._gym.set_actor_rigid_shape_properties(self._envs[i], self._actors[i], shapes)

    def write(self, env_ids: torch.Tensor, state: RobotState) -> None:
        """See :class:`Simulator`. Reaches the simulation at the beginning of the next step."""
        i = env_ids.to(self.device)
        s = {k: v.to(self.device) for k, v in vars(state).items()}
        w, xyz = s["base_quaternion"][:, :1], s["base_quaternion"][:, 1:]
        position = s["base_position"] + self._origin[self._course_of[i]]
        self._root[i] = torch.cat(
            [position, xyz, w, s["base_linear_velocity"], s["base_angular_velocity"]], dim=1
        )
        dof = torch.zeros(len(i), len(self._dof_names), 2, device=self.device)
        dof[:, self._joint, 0], dof[:, self._joint, 1] = s["joint_position"], s["joint_velocity"]
        self._dof[i] = dof
        self._target[i] = s["joint_position"]
        self._torque[i], self._foot[i], self._body[i] = 0.0, 0.0, 0.0
        self._dirty[i] = True

    def push(self, env_ids: torch.Tensor, velocity: torch.Tensor) -> None:
        """See :class:`Simulator`. Reaches the simulation at the beginning of the next step."""
        i = env_ids.to(self.device)
        self._root[i, 7:10] = self._root[i, 7:10] + velocity.to(self.device)
        self._dirty[i] = True

    def _flush(self) -> None:
        """Hand everything written since the last physics step to the simulation, each setter once."""
        ids = self._dirty.nonzero()[:, 0].to(torch.int32)
        if not len(ids):
            return
        unwrap, n = self._gymtorch.unwrap_tensor, len(ids)
        self._gym.set_actor_root_state_tensor_indexed(self._sim, unwrap(self._root), unwrap(ids), n)
        self._gym.set_dof_state_tensor_indexed(self._sim, unwrap(self._dof), unwrap(ids), n)
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
        wait = (
            None
            if delay is None
            else torch.round(delay.to(self.device) * self._substeps / r.CONTROL_DT)
        )
        strength, limit = self._strength[:, None], self._limit * self._strength[:, None]
        body = torch.zeros_like(self._body)
        for k in range(self._substeps):
            now = (
                targets if wait is None else torch.where((k < wait)[:, None], self._target, targets)
            )
            q, qd = self._dof[:, self._joint, 0], self._dof[:, self._joint, 1]
            torque = (strength * (r.KP * (now - q) - r.KD * qd)).clamp(-limit, limit)
            self._force[:, self._joint] = torque
            if k == 0:
                self._flush()
            gym.set_dof_actuation_force_tensor(sim, self._gymtorch.unwrap_tensor(self._force))
            gym.simulate(sim)
            if not self._gpu:
                gym.fetch_results(sim, True)
            gym.refresh_dof_state_tensor(sim)
            gym.refresh_net_contact_force_tensor(sim)
            force = self._contact.norm(dim=-1)
            body = torch.maximum(body, force[:, self._bodies])
        gym.refresh_actor_root_state_tensor(sim)
        self._torque, self._foot, self._body = torque, force[:, self._feet].clone(), body
        self._target = targets.clone()
        if active is not None:
            stands = ~active.to(self.device)
            for x, before in zip(self._own(), kept):
                x[stands] = before[stands]
            self._dirty |= stands
        self._check(joint_targets)
        if self.window is not None:
            self.window.draw(self._root[0, :3].tolist())

    def _own(self) -> List[torch.Tensor]:
        return [self._root, self._dof, self._target, self._torque, self._foot, self._body]

    def _check(self, targets: torch.Tensor) -> None:
        fine = torch.isfinite(self._root).all(1) & torch.isfinite(self._dof).flatten(1).all(1)
        if bool(fine.all()):
            return
        world = int((~fine).nonzero()[0])
        course = self.courses[int(self._course_of[world])]
        raise SimulationError(
            f"world {world} has a non-finite state on course {course.kind} (difficulty {course.difficulty}, "
            f"seed {course.seed}); its targets were {targets[world].tolist()}"
        )

    def read(self) -> RobotState:
        """See :class:`Simulator`."""
        root = self._root
        quat = torch.cat([root[:, 6:7], root[:, 3:6]], dim=1)
        return RobotState(
            base_position=root[:, :3] - self._origin[self._course_of],
            base_quaternion=quat / quat.norm(dim=1, keepdim=True),
            base_linear_velocity=root[:, 7:10].clone(),
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
        names = ("root", "dof", "target", "torque", "foot", "body")
        return {name: getattr(self, f"_{name}").cpu().clone() for name in names}

    def load_state_dict(self, state: Dict[str, Any]) -> None:
        """See :class:`Simulator`."""
        for name, value in state.items():
            getattr(self, f"_{name}").copy_(value)
        self._dirty[:] = True

    def visual_state(self, env_id: int) -> Any:
        """Return ``(course, qpos)`` of one world in MuJoCo's order, for a viewer."""
        s = self.read()
        row = torch.cat(
            [s.base_position[env_id], s.base_quaternion[env_id], s.joint_position[env_id]]
        )
        return self.courses[int(self._course_of[env_id])], row.cpu().numpy().astype(np.float64)

    def render(
        self, env_id: int, width: int = 640, height: int = 360, camera: Any = None
    ) -> np.ndarray:
        """See :class:`Simulator`.

        Drawn by MuJoCo, so that pictures look alike on every back end.
        """
        return self._pictures.render(*self.visual_state(env_id), width, height, camera)

    def close(self) -> None:
        """See :class:`Simulator`."""
        self._pictures.close()
        if self.window is not None:
            self.window.close()
            self.window = None
        if self._sim is not None:
            self._gym.destroy_sim(self._sim)
            self._sim = None
