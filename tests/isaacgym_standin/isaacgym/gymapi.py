"""The part of gymapi that the back end uses, on MuJoCo, strict about how it is used."""

import os

import mujoco
import numpy as np
import torch
from isaacgym._robot import Robot
from isaacgym.gymtorch import Handle

SIM_PHYSX, SIM_FLEX, UP_AXIS_Z, DOF_MODE_EFFORT, DOMAIN_SIM, CC_ALL_SUBSTEPS = 1, 0, 1, 3, 2, 2
SIBLINGS = "alphabetical"


class GymError(RuntimeError):
    """A rule of the API was broken."""


class Vec3:
    def __init__(self, x=0.0, y=0.0, z=0.0):
        self.x, self.y, self.z = x, y, z


class Quat:
    def __init__(self, x=0.0, y=0.0, z=0.0, w=1.0):
        self.x, self.y, self.z, self.w = x, y, z, w


class Transform:
    def __init__(self, p=None, r=None):
        self.p, self.r = p or Vec3(), r or Quat()


class _Fixed:
    """An object whose attributes are known: a misspelt one raises instead of being ignored."""

    fields = ()

    def __init__(self):
        for name, value in self.fields:
            object.__setattr__(self, name, value() if callable(value) else value)

    def __setattr__(self, name, value):
        if name not in dict(self.fields):
            raise AttributeError(f"{type(self).__name__} has no attribute {name}")
        object.__setattr__(self, name, value)


class PhysXParams(_Fixed):
    fields = (
        ("use_gpu", False),
        ("num_threads", 0),
        ("solver_type", 1),
        ("num_position_iterations", 4),
        ("num_velocity_iterations", 1),
        ("contact_offset", 0.02),
        ("rest_offset", 0.001),
        ("bounce_threshold_velocity", 0.2),
        ("max_depenetration_velocity", 100.0),
        ("max_gpu_contact_pairs", 2**20),
        ("default_buffer_size_multiplier", 2.0),
        ("contact_collection", CC_ALL_SUBSTEPS),
        ("num_subscenes", 0),
    )


class SimParams(_Fixed):
    fields = (
        ("dt", 1 / 60),
        ("substeps", 2),
        ("up_axis", 0),
        ("gravity", lambda: Vec3(0, -9.8, 0)),
        ("use_gpu_pipeline", False),
        ("physx", PhysXParams),
        ("num_client_threads", 0),
    )


class TriangleMeshParams(_Fixed):
    fields = (
        ("nb_vertices", 0),
        ("nb_triangles", 0),
        ("transform", Transform),
        ("static_friction", 1.0),
        ("dynamic_friction", 1.0),
        ("restitution", 0.0),
        ("segmentation_id", 0),
    )


class PlaneParams(_Fixed):
    fields = (
        ("normal", lambda: Vec3(0, 1, 0)),
        ("distance", 0.0),
        ("static_friction", 1.0),
        ("dynamic_friction", 1.0),
        ("restitution", 0.0),
        ("segmentation_id", 0),
    )


class AssetOptions(_Fixed):
    fields = (
        ("default_dof_drive_mode", 0),
        ("collapse_fixed_joints", False),
        ("replace_cylinder_with_capsule", False),
        ("flip_visual_attachments", True),
        ("fix_base_link", False),
        ("density", 1000.0),
        ("angular_damping", 0.5),
        ("linear_damping", 0.0),
        ("max_angular_velocity", 64.0),
        ("max_linear_velocity", 1000.0),
        ("armature", 0.0),
        ("thickness", 0.02),
        ("disable_gravity", False),
    )


class CameraProperties(_Fixed):
    fields = (("width", 1600), ("height", 900))


class RigidShapeProperties(_Fixed):
    fields = (
        ("friction", 1.0),
        ("restitution", 0.0),
        ("rolling_friction", 0.0),
        ("torsion_friction", 0.0),
    )


class RigidBodyProperties(_Fixed):
    fields = (("mass", 0.0), ("com", Vec3))


_DOF = np.dtype(
    [
        ("hasLimits", "?"),
        ("lower", "f4"),
        ("upper", "f4"),
        ("driveMode", "i4"),
        ("velocity", "f4"),
        ("effort", "f4"),
        ("stiffness", "f4"),
        ("damping", "f4"),
        ("friction", "f4"),
        ("armature", "f4"),
    ]
)


class _Asset:
    def __init__(self, robot):
        self.robot = robot


class _Env:
    def __init__(self, sim, index):
        self.sim, self.index, self.asset = sim, index, None


class _Sim:
    def __init__(self, params):
        self.params, self.meshes, self.envs, self.ready = params, [], [], False
        self.fetched, self.set_since_step, self.forces, self.pending = True, set(), None, []
        self.graphics_device, self.graphics_fresh = -1, False

    def build(self, env):
        """Compile the world of one actor."""
        p, robot = self.params, env.asset.robot
        hulls = [(f"ground_{k}", v) for k, (v, _) in enumerate(self.meshes)]
        gravity = (p.gravity.x, p.gravity.y, p.gravity.z)
        env.model = mujoco.MjModel.from_xml_string(
            robot.mjcf(p.dt, gravity, hulls, env.filter == 0)
        )
        env.model.opt.disableflags |= mujoco.mjtDisableBit.mjDSBL_AUTORESET.value
        env.data = mujoco.MjData(env.model)
        env.data.qpos[:3] = (env.pose.p.x, env.pose.p.y, env.pose.p.z)
        m = env.model
        env.qadr = np.array([m.joint(n).qposadr[0] for n in robot.dofs])
        env.vadr = np.array([m.joint(n).dofadr[0] for n in robot.dofs])
        env.body_ids = np.array([m.body(n).id for n in robot.bodies])
        m.dof_frictionloss[env.vadr], m.dof_armature[env.vadr] = (
            env.dof_props["friction"],
            env.dof_props["armature"],
        )
        for k, body in enumerate(env.body_props):
            m.body_mass[env.body_ids[k]] = body.mass
        mujoco.mj_setConst(m, env.data)
        self.friction(env)

    def friction(self, env):
        """PhysX averages the materials; MuJoCo takes that of the geom with the higher priority, the
        ground's.
        """
        if not hasattr(env, "model"):
            return
        values = {s.friction for s in env.shape_props}
        if len(values) != 1:
            raise NotImplementedError(
                "the stand-in wants one friction coefficient for all shapes of an actor"
            )
        for k, (_, ground) in enumerate(self.meshes):
            env.model.geom(f"ground_{k}").friction[0] = 0.5 * (ground + values.copy().pop())


class _Viewer:
    """A window nobody sees; its user closes it after ISAACGYM_STANDIN_FRAMES frames."""

    def __init__(self, sim, properties):
        if not isinstance(properties, CameraProperties):
            raise GymError("create_viewer needs CameraProperties")
        self.sim, self.drawn, self.frames = (
            sim,
            0,
            int(os.environ.get("ISAACGYM_STANDIN_FRAMES", 10)),
        )

    def draw(self):
        if self.drawn >= self.frames:
            raise GymError("the viewer's window is closed")
        self.drawn += 1


class Gym:
    """See the method names of Isaac Gym."""

    # ---- scene
    # ---------------------------------------------------------------------------------------------

    def create_sim(self, compute_device, graphics_device, kind, params):
        if kind != SIM_PHYSX or params.use_gpu_pipeline or params.physx.use_gpu:
            raise GymError("the stand-in has PhysX's CPU pipeline only")
        sim = _Sim(params)
        sim.graphics_device = graphics_device
        return sim

    def _open(self, sim):
        if sim.ready:
            raise GymError("the scene is closed: prepare_sim was called already")

    def add_triangle_mesh(self, sim, vertices, triangles, params):
        self._open(sim)
        if (
            vertices.dtype != np.float32
            or triangles.dtype != np.uint32
            or vertices.ndim != 1
            or triangles.ndim != 1
        ):
            raise GymError("vertices must be flat float32 and triangles flat uint32")
        if len(vertices) != 3 * params.nb_vertices or len(triangles) != 3 * params.nb_triangles:
            raise GymError("nb_vertices or nb_triangles does not fit the arrays")
        p = params.transform.p
        points, faces = (
            vertices.reshape(-1, 3) + np.array([p.x, p.y, p.z]),
            triangles.reshape(-1, 3).astype(int),
        )
        if faces.max() >= len(points):
            raise GymError("a triangle names a vertex that does not exist")
        for ids in _components(len(points), faces):
            _check_outward(points, faces[np.isin(faces[:, 0], ids)])
            sim.meshes.append((points[ids], params.dynamic_friction))

    def load_asset(self, sim, root, file, options):
        return _Asset(Robot(os.path.join(root, file), options, SIBLINGS))

    def get_asset_dof_names(self, asset):
        return list(asset.robot.dofs)

    def get_asset_rigid_body_names(self, asset):
        return list(asset.robot.bodies)

    def get_asset_dof_count(self, asset):
        return len(asset.robot.dofs)

    def get_asset_rigid_body_count(self, asset):
        return len(asset.robot.bodies)

    def get_asset_dof_properties(self, asset):
        props = np.zeros(len(asset.robot.dofs), dtype=_DOF)
        props["hasLimits"] = True
        props["lower"], props["upper"] = np.array(asset.robot.limits).T
        props["velocity"] = props["effort"] = 1e6
        return props

    def create_env(self, sim, lower, upper, per_row):
        self._open(sim)
        env = _Env(sim, len(sim.envs))
        sim.envs.append(env)
        return env

    def create_actor(self, env, asset, pose, name, group, collision_filter, segmentation=0):
        self._open(env.sim)
        if group != env.index:
            raise GymError(
                "collision group is not the world's number: worlds would touch each other"
            )
        env.asset, env.pose, env.filter = asset, pose, collision_filter
        env.dof_props = self.get_asset_dof_properties(asset)
        shapes = sum(len(asset.robot.links[b].findall("collision")) for b in asset.robot.bodies)
        env.shape_props = [RigidShapeProperties() for _ in range(shapes)]
        env.body_props = []
        for name_ in asset.robot.bodies:
            body = RigidBodyProperties()
            body.mass = float(asset.robot.links[name_].find("inertial/mass").get("value"))
            env.body_props.append(body)
        return 0

    def set_actor_dof_properties(self, env, actor, props):
        self._open(env.sim)
        if (
            (props["driveMode"] != DOF_MODE_EFFORT).any()
            or props["stiffness"].any()
            or props["damping"].any()
        ):
            raise GymError("torques are given, but a drive is active too")
        env.dof_props = props.copy()
        return True

    def get_actor_rigid_body_properties(self, env, actor):
        return env.body_props

    def set_actor_rigid_body_properties(self, env, actor, props, recomputeInertia=False):  # noqa: N803
        if env.sim.ready:
            raise GymError("masses cannot be changed once the simulation is prepared")
        env.body_props = props
        return True

    def get_actor_rigid_shape_properties(self, env, actor):
        copies = []
        for s in env.shape_props:
            copy = RigidShapeProperties()
            for name, _ in copy.fields:
                setattr(copy, name, getattr(s, name))
            copies.append(copy)
        return copies

    def set_actor_rigid_shape_properties(self, env, actor, props):
        if len(props) != len(env.shape_props) or any(s.friction < 0 for s in props):
            raise GymError("shape properties do not fit the actor, or a friction is negative")
        env.shape_props = props
        env.sim.friction(env)
        return True

    def prepare_sim(self, sim):
        self._open(sim)
        for env in sim.envs:
            sim.build(env)
        sim.ready = True
        robot, n = sim.envs[0].asset.robot, len(sim.envs)
        nan = float("nan")
        sim.root = torch.full((n, 13), nan)
        sim.dof = torch.full((n * len(robot.dofs), 2), nan)
        sim.contact = torch.full((n * len(robot.bodies), 3), nan)
        return True

    # ---- tensors
    # -------------------------------------------------------------------------------------------

    def _closed(self, sim):
        if not sim.ready:
            raise GymError("prepare_sim was not called yet")

    def acquire_actor_root_state_tensor(self, sim):
        self._closed(sim)
        return Handle(sim.root)

    def acquire_dof_state_tensor(self, sim):
        self._closed(sim)
        return Handle(sim.dof)

    def acquire_net_contact_force_tensor(self, sim):
        self._closed(sim)
        return Handle(sim.contact)

    def _fresh(self, sim):
        if not sim.fetched:
            raise GymError("fetch_results was not called after simulate (CPU pipeline)")

    def refresh_actor_root_state_tensor(self, sim):
        self._fresh(sim)
        for i, env in enumerate(sim.envs):
            q, v = env.data.qpos, env.data.qvel
            rotation = np.zeros(9)
            mujoco.mju_quat2Mat(rotation, q[3:7] / max(np.linalg.norm(q[3:7]), 1e-9))
            spin = rotation.reshape(3, 3) @ v[3:6]
            sim.root[i] = torch.tensor(
                np.concatenate([q[:3], q[4:7], q[3:4], v[:3], spin]), dtype=torch.float32
            )
        return True

    def refresh_dof_state_tensor(self, sim):
        self._fresh(sim)
        rows = [np.stack([e.data.qpos[e.qadr], e.data.qvel[e.vadr]], 1) for e in sim.envs]
        sim.dof.copy_(torch.from_numpy(np.concatenate(rows).astype(np.float32)))
        return True

    def refresh_net_contact_force_tensor(self, sim):
        self._fresh(sim)
        sim.contact.copy_(
            torch.from_numpy(
                np.concatenate([_normal_forces(e) for e in sim.envs]).astype(np.float32)
            )
        )
        return True

    def _full(self, handle, like, name):
        t = handle.tensor
        if t.dtype != torch.float32 or t.numel() != like.numel():
            raise GymError(
                f"{name} got {tuple(t.shape)} {t.dtype}, expected float32 of the full buffer "
                f"{tuple(like.shape)}"
            )
        return t.detach().clone().reshape(like.shape)

    def _indexed(self, sim, handle, like, indices, count, name):
        self._closed(sim)
        if name in sim.set_since_step:
            raise GymError(
                f"{name} was already called since the last simulate; the first call would be lost"
            )
        sim.set_since_step.add(name)
        ids = indices.tensor
        if ids.dtype != torch.int32 or ids.numel() < count:
            raise GymError(
                f"{name}: indices are {ids.dtype}, {ids.numel()} of them, expected int32 and "
                f"{count}"
            )
        return self._full(handle, like, name), ids[:count].tolist()

    def set_actor_root_state_tensor_indexed(self, sim, handle, indices, count):
        sim.pending.append(
            ("root", *self._indexed(sim, handle, sim.root, indices, count, "root setter"))
        )
        return True

    def set_dof_state_tensor_indexed(self, sim, handle, indices, count):
        sim.pending.append(
            ("dof", *self._indexed(sim, handle, sim.dof, indices, count, "dof setter"))
        )
        return True

    def set_dof_actuation_force_tensor(self, sim, handle):
        like = torch.empty(len(sim.envs), len(sim.envs[0].asset.robot.dofs))
        sim.forces = self._full(handle, like, "set_dof_actuation_force_tensor").numpy()
        return True

    # ---- time
    # ----------------------------------------------------------------------------------------------

    def _apply(self, sim):
        for kind, values, ids in sim.pending:
            for i in ids:
                env = sim.envs[i]
                if kind == "root":
                    x = values[i].double().numpy()
                    env.data.qpos[:3], env.data.qpos[3], env.data.qpos[4:7] = x[:3], x[6], x[3:6]
                    rotation = np.zeros(9)
                    mujoco.mju_quat2Mat(rotation, env.data.qpos[3:7])
                    env.data.qvel[:3], env.data.qvel[3:6] = (
                        x[7:10],
                        rotation.reshape(3, 3).T @ x[10:13],
                    )
                else:
                    rows = values.reshape(len(sim.envs), -1, 2)[i].double().numpy()
                    env.data.qpos[env.qadr], env.data.qvel[env.vadr] = rows[:, 0], rows[:, 1]
                env.data.qacc_warmstart[:] = 0.0
        sim.pending = []

    def simulate(self, sim):
        self._closed(sim)
        self._apply(sim)
        for i, env in enumerate(sim.envs):
            top = env.dof_props["effort"]
            env.data.qfrc_applied[env.vadr] = (
                0.0 if sim.forces is None else np.clip(sim.forces[i], -top, top)
            )
            mujoco.mj_step(env.model, env.data)
            limit = env.dof_props["velocity"]
            env.data.qvel[env.vadr] = np.clip(env.data.qvel[env.vadr], -limit, limit)
        sim.forces, sim.set_since_step, sim.fetched, sim.graphics_fresh = None, set(), False, False

    def fetch_results(self, sim, wait):
        sim.fetched = True

    # ---- viewer
    # --------------------------------------------------------------------------------------------

    def create_viewer(self, sim, properties):
        self._closed(sim)
        if sim.graphics_device < 0:
            raise GymError("a viewer needs a graphics device in create_sim")
        return _Viewer(sim, properties)

    def viewer_camera_look_at(self, viewer, env, position, target):
        if not isinstance(position, Vec3) or not isinstance(target, Vec3):
            raise GymError("the camera's position and target must be Vec3")

    def step_graphics(self, sim):
        self._fresh(sim)
        sim.graphics_fresh = True

    def draw_viewer(self, viewer, sim, render_collision_meshes):
        if not sim.graphics_fresh:
            raise GymError("draw_viewer without step_graphics after the last simulate")
        viewer.draw()

    def sync_frame_time(self, sim):
        self._closed(sim)

    def query_viewer_has_closed(self, viewer):
        return viewer.drawn >= viewer.frames

    def destroy_viewer(self, viewer):
        viewer.frames = 0
        print(f"stand-in: {viewer.drawn} frames drawn", flush=True)

    def destroy_sim(self, sim):
        sim.envs = []


def _components(n, faces):
    """Vertices of each connected part of a mesh."""
    group = np.arange(n)
    while True:
        least = group.copy()
        for column in range(3):
            np.minimum.at(least, faces[:, column], group[faces].min(axis=1))
        if (least == group).all():
            return [np.flatnonzero(group == g) for g in np.unique(group)]
        group = least


def _check_outward(points, faces):
    """PhysX's triangles are one-sided: their normals must point out of the solid."""
    middle = points[np.unique(faces)].mean(axis=0)
    a, b, c = (points[faces[:, k]] for k in range(3))
    if (np.einsum("ij,ij->i", np.cross(b - a, c - a), a - middle) <= 0).any():
        raise GymError("a triangle of the mesh faces inwards")


def _normal_forces(env):
    """Sum of the normal contact forces on each body, world frame, N."""
    out, force = np.zeros((env.model.nbody, 3)), np.zeros(6)
    for k in range(env.data.ncon):
        contact = env.data.contact[k]
        mujoco.mj_contactForce(env.model, env.data, k, force)
        push = contact.frame[:3] * force[0]
        out[env.model.geom_bodyid[contact.geom2]] += push
        out[env.model.geom_bodyid[contact.geom1]] -= push
    return out[env.body_ids]


def acquire_gym():
    """The one entry."""
    return Gym()
