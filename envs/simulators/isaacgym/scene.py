"""What stands in Isaac Gym's one scene: the courses as triangle meshes, the robots as actors."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, Dict, List, Sequence, Tuple

import numpy as np

from go2_sevpo.envs.go2.description import robot as r
from go2_sevpo.envs.go2.description.course import Box, Course
from go2_sevpo.envs.go2.description.model_files import ASSET_DIR
from go2_sevpo.envs.simulators.isaacgym.session import Session

CELL_LENGTH, CELL_WIDTH = 20.0, 5.0
"""Size of a course's cell, m; courses are at most 17 m long and 2 m wide."""
EFFORT = 3
"""gymapi's drive mode in which torques are given."""
_CUBE = np.array([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)], dtype=np.float64)
# Twelve triangles of a box with these corners, two a side, counter-clockwise seen from outside.
_FACES = np.array(
    [
        *([0, 1, 3], [0, 3, 2], [4, 6, 7], [4, 7, 5]),  # -x, +x
        *([0, 4, 5], [0, 5, 1], [2, 3, 7], [2, 7, 6]),  # -y, +y
        *([0, 2, 6], [0, 6, 4], [1, 5, 7], [1, 7, 3]),  # -z, +z
    ],
    dtype=np.uint32,
)


@dataclass
class Robots:
    """The actors, one a world: their handles, and the names in the simulation's own order.

    ``base_com`` is the base's centre of mass in its frame, m, as the simulation has it.
    """

    dof_names: List[str]
    body_names: List[str]
    base_com: Tuple[float, float, float] = (0.0, 0.0, 0.0)
    envs: List[Any] = field(default_factory=list)
    actors: List[Any] = field(default_factory=list)


def box_mesh(boxes: Sequence[Box], shift: np.ndarray) -> Tuple[np.ndarray, np.ndarray]:
    """Vertices (V, 3) float32 and triangles (T, 3) uint32 of boxes moved by ``shift`` (3,)."""
    # Corner = R (+-half size) + position, 8 a box.
    vertices = [
        (_CUBE * np.array(b.half_size)) @ b.rotation().T + np.array(b.position) + shift
        for b in boxes
    ]
    triangles = [_FACES + 8 * k for k in range(len(boxes))]
    return np.concatenate(vertices).astype(np.float32), np.concatenate(triangles).astype(np.uint32)


def cell_origins(n: int) -> np.ndarray:
    """Origins (n, 3) of the courses' cells, m.

    The grid is nearly square: small numbers keep float32 precise.
    """
    rows = max(1, round(math.sqrt(n * CELL_WIDTH / CELL_LENGTH)))
    k = np.arange(n)
    return np.stack([(k % rows) * CELL_LENGTH, (k // rows) * CELL_WIDTH, np.zeros(n)], axis=1)


def add_courses(session: Session, courses: Sequence[Course], origins: np.ndarray) -> None:
    """Put each course at its origin (3,), m: one triangle mesh per friction coefficient.

    The pit's floor is a slab under each course.
    """
    groups: Dict[float, List[Tuple[np.ndarray, np.ndarray]]] = {}
    for course, origin in zip(courses, origins):
        slab = Box(
            (CELL_LENGTH / 2 - 2.0, 0.0, course.floor - 0.5),
            (CELL_LENGTH / 2, CELL_WIDTH / 2, 0.5),
        )
        groups.setdefault(course.friction, []).append(box_mesh([*course.boxes, slab], origin))
    for friction, meshes in groups.items():
        # Triangles count their vertices from the mesh's first one.
        firsts = np.cumsum([0] + [len(vertices) for vertices, _ in meshes[:-1]])
        vertices = np.concatenate([v for v, _ in meshes])
        triangles = np.concatenate([t + np.uint32(k) for (_, t), k in zip(meshes, firsts)])
        params = session.api.TriangleMeshParams()
        params.nb_vertices, params.nb_triangles = len(vertices), len(triangles)
        params.static_friction = params.dynamic_friction = friction
        params.restitution = 0.0
        session.gym.add_triangle_mesh(session.sim, vertices.flatten(), triangles.flatten(), params)


def _asset_options(session: Session) -> Any:
    options = session.api.AssetOptions()
    options.default_dof_drive_mode = EFFORT
    options.collapse_fixed_joints = True  # the feet's joints are marked dont_collapse
    options.replace_cylinder_with_capsule = True
    options.flip_visual_attachments = options.fix_base_link = options.disable_gravity = False
    options.angular_damping = options.linear_damping = 0.0
    options.max_angular_velocity = options.max_linear_velocity = 1000.0
    options.thickness, options.density = 0.01, 0.001
    # This one goes into the links' inertia; the motors' is the DOFs', and would count twice.
    options.armature = 0.0
    return options


def add_robots(
    session: Session, positions: Sequence[Sequence[float]], payloads: Sequence[float]
) -> Robots:
    """Put one robot into each world, its course at ``positions`` (N, 3), m, with a payload, kg."""
    gym, api = session.gym, session.api
    asset = gym.load_asset(session.sim, str(ASSET_DIR), "go2.urdf", _asset_options(session))
    robots = Robots(
        list(gym.get_asset_dof_names(asset)), list(gym.get_asset_rigid_body_names(asset))
    )
    dofs = gym.get_asset_dof_properties(asset)
    for k, name in enumerate(robots.dof_names):
        limits = r.joint_limits(name)
        # Torques come from the PD law of the back end, so the drive's own gains are zero.
        dofs["driveMode"][k], dofs["stiffness"][k], dofs["damping"][k] = EFFORT, 0.0, 0.0
        dofs["velocity"][k] = limits.velocity
        dofs["effort"][k] = limits.torque * 2.0  # motor strength may exceed 1
        # PhysX's friction is a coefficient on the load that a joint transmits, without unit: dry
        # friction in N m is the back end's own.
        dofs["friction"][k], dofs["armature"][k] = 0.0, r.ARMATURE
    base = robots.body_names.index("base")
    per_row = max(1, round(math.sqrt(len(positions))))
    corner = (0.0, 0.0, 0.0)  # worlds have no room of their own: the courses' cells keep them apart
    for i, ((x, y, _), payload) in enumerate(zip(positions, payloads)):
        env = gym.create_env(session.sim, api.Vec3(*corner), api.Vec3(*corner), per_row)
        pose = api.Transform()
        pose.p = api.Vec3(x, y, r.NOMINAL_BASE_HEIGHT)
        # Group i isolates the world; filter 1 switches self-collision off, as in the MuJoCo model.
        actor = gym.create_actor(env, asset, pose, "go2", i, 1, 0)
        gym.set_actor_dof_properties(env, actor, dofs)
        bodies = gym.get_actor_rigid_body_properties(env, actor)
        bodies[base].mass += payload
        # The payload sits at the base's centre of mass: the inertia about it stays. [check]
        gym.set_actor_rigid_body_properties(env, actor, bodies, recomputeInertia=False)
        com = bodies[base].com
        robots.base_com = (float(com.x), float(com.y), float(com.z))
        robots.envs.append(env)
        robots.actors.append(actor)
    return robots
