"""Building a simulation: ground, assets, actors and their properties."""

import os

import numpy as np
from isaacgym import _ground
from isaacgym._semantics import SEMANTICS, GymError, Process
from isaacgym._types import (
    DOF_MODE_EFFORT,
    DOF_MODE_NONE,
    DOF_PROPERTIES,
    SIM_PHYSX,
    RigidBodyProperties,
    RigidShapeProperties,
    Vec3,
)
from isaacgym._urdf import Robot
from isaacgym._world import Env, Sim


class _Asset:
    def __init__(self, robot, options):
        self.robot, self.options = robot, options
        self.shape_props = [RigidShapeProperties() for _ in range(robot.shapes)]


class SceneCalls:
    """Methods that may be called before prepare_sim."""

    def create_sim(self, compute_device, graphics_device, kind, params):
        if kind != SIM_PHYSX:
            raise GymError("the stand-in has PhysX only")
        if params.use_gpu_pipeline and not params.physx.use_gpu:
            raise GymError("the GPU pipeline needs PhysX on the GPU")
        if params.substeps != 1:
            raise GymError("the stand-in makes one substep a step")
        Process.open_simulation()
        return Sim(params, graphics_device)

    def _open(self, sim):
        if sim.ready:
            raise GymError("the scene is closed: prepare_sim was called already")

    # ---- ground ----

    def add_ground(self, sim, params):
        self._open(sim)
        if (params.normal.array() != (0.0, 0.0, 1.0)).any():
            raise GymError("the ground's normal is not z: the plane stands upright")
        Process.use_material(params.dynamic_friction, params.restitution)
        sim.ground.append(_ground.Plane(-params.distance, params.dynamic_friction))

    def add_heightfield(self, sim, samples, params):
        self._open(sim)
        if samples.dtype != np.int16 or samples.size != params.nbRows * params.nbColumns:
            raise GymError("samples must be int16, as many as nbRows x nbColumns")
        if params.row_scale != params.column_scale:
            raise NotImplementedError("the stand-in wants square cells")
        Process.use_material(params.dynamic_friction, params.restitution)
        heights = samples.reshape(params.nbColumns, params.nbRows) * params.vertical_scale
        origin = params.transform.p.array()
        sim.ground.append(
            _ground.Heights(heights, params.row_scale, origin, params.dynamic_friction)
        )

    def add_triangle_mesh(self, sim, vertices, triangles, params):
        self._open(sim)
        types = (vertices.dtype, triangles.dtype, vertices.ndim, triangles.ndim)
        if types != (np.float32, np.uint32, 1, 1):
            raise GymError("vertices must be flat float32 and triangles flat uint32")
        if len(vertices) != 3 * params.nb_vertices or len(triangles) != 3 * params.nb_triangles:
            raise GymError("nb_vertices or nb_triangles does not fit the arrays")
        points = vertices.reshape(-1, 3) + params.transform.p.array()
        faces = triangles.reshape(-1, 3).astype(int)
        if faces.max() >= len(points):
            raise GymError("a triangle names a vertex that does not exist")
        Process.use_material(params.dynamic_friction, params.restitution)
        sim.ground += _ground.solids_of_mesh(points, faces, params.dynamic_friction)

    # ---- assets ----

    def load_asset(self, sim, root, file, options):
        if options.fix_base_link:
            raise NotImplementedError("the stand-in has free robots only")
        return _Asset(Robot(os.path.join(root, file), options), options)

    def get_asset_dof_names(self, asset):
        return list(asset.robot.dofs)

    def get_asset_rigid_body_names(self, asset):
        return list(asset.robot.bodies)

    def get_asset_dof_count(self, asset):
        return len(asset.robot.dofs)

    def get_asset_rigid_body_count(self, asset):
        return len(asset.robot.bodies)

    def get_asset_dof_properties(self, asset):
        robot, options = asset.robot, asset.options
        props = np.zeros(len(robot.dofs), dtype=DOF_PROPERTIES)
        props["hasLimits"] = robot.limited
        props["lower"] = robot.dof_numbers("limit", "lower", 0.0)
        props["upper"] = robot.dof_numbers("limit", "upper", 0.0)
        huge = float(np.finfo(np.float32).max)
        props["velocity"] = props["effort"] = huge
        if SEMANTICS.limits_from_urdf:
            props["velocity"] = robot.dof_numbers("limit", "velocity", huge)
            props["effort"] = robot.dof_numbers("limit", "effort", huge)
        props["friction"] = robot.dof_numbers("dynamics", "friction", 0.0)
        props["damping"] = robot.dof_numbers("dynamics", "damping", 0.0)
        if SEMANTICS.armature == "joints" or options.use_physx_armature:
            props["armature"] = options.armature
        props["driveMode"] = DOF_MODE_EFFORT
        if SEMANTICS.drive_mode_from_options:
            props["driveMode"] = options.default_dof_drive_mode
        return props

    def get_asset_rigid_shape_properties(self, asset):
        return [s.copy() for s in asset.shape_props]

    def set_asset_rigid_shape_properties(self, asset, props):
        asset.shape_props = self._checked(props, len(asset.shape_props))

    # ---- worlds and actors ----

    def create_env(self, sim, lower, upper, per_row):
        self._open(sim)
        env = Env(sim, len(sim.envs))
        sim.envs.append(env)
        return env

    def create_actor(self, env, asset, pose, name, group, collision_filter, segmentation=0):
        self._open(env.sim)
        if group != env.index:
            raise GymError(
                "collision group is not the world's number: worlds would touch each other"
            )
        if env.asset is not None:
            raise NotImplementedError("the stand-in has one actor a world")
        env.asset, env.filter = asset, collision_filter
        # Copied: callers change one Transform from actor to actor.
        env.pose = type(pose)(Vec3(pose.p.x, pose.p.y, pose.p.z), pose.r)
        env.dof_props = self.get_asset_dof_properties(asset)
        env.shape_props = [s.copy() for s in asset.shape_props]
        env.inertia_factors = {}
        env.body_props = []
        for mass, com in zip(asset.robot.masses, asset.robot.coms):
            body = RigidBodyProperties()
            body.mass, body.com = mass, Vec3(*com)
            env.body_props.append(body)
        return 0

    def get_actor_dof_properties(self, env, actor):
        return env.dof_props.copy()

    def set_actor_dof_properties(self, env, actor, props):
        self._open(env.sim)
        active = (props["driveMode"] != DOF_MODE_EFFORT) & (props["driveMode"] != DOF_MODE_NONE)
        if active.any() or (props["stiffness"].any() or props["damping"].any()):
            raise GymError("torques are given, but a drive is active too")
        env.dof_props = props.copy()
        return True

    def find_actor_rigid_body_handle(self, env, actor, name):
        return env.asset.robot.bodies.index(name) if name in env.asset.robot.bodies else -1

    def get_actor_rigid_body_properties(self, env, actor):
        copies = [body.copy() for body in env.body_props]
        for body in copies:
            body.com = Vec3(body.com.x, body.com.y, body.com.z)
        return copies

    def set_actor_rigid_body_properties(self, env, actor, props, recomputeInertia=False):  # noqa: N803
        if env.sim.ready:
            raise GymError("masses cannot be changed once the simulation is prepared")
        for k, (old, new) in enumerate(zip(env.body_props, props)):
            if (old.com.array() != new.com.array()).any():
                raise NotImplementedError("the stand-in cannot move a centre of mass")
            if recomputeInertia and new.mass != old.mass:
                env.inertia_factors[k] = new.mass / old.mass
        env.body_props = [body.copy() for body in props]
        return True

    def get_actor_rigid_shape_properties(self, env, actor):
        return [s.copy() for s in env.shape_props]

    def set_actor_rigid_shape_properties(self, env, actor, props):
        env.shape_props = self._checked(props, len(env.shape_props))
        env.set_friction()
        return True

    def _checked(self, props, expected):
        """Copies of shape properties with plain numbers; their materials are made."""
        copies = [s.copy() for s in props]
        for s in copies:
            s.friction, s.restitution = float(s.friction), float(s.restitution)
            Process.use_material(s.friction, s.restitution)
        if len(copies) != expected or any(s.friction < 0 for s in copies):
            raise GymError("shape properties do not fit the actor, or a friction is negative")
        return copies
