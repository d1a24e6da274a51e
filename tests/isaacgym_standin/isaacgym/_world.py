"""A simulation and its worlds, each a MuJoCo model with one actor on all of the ground."""

import copy
import os

import mujoco
import numpy as np
from isaacgym._semantics import SEMANTICS
from isaacgym._types import DOF_MODE_EFFORT


class Sim:
    """One simulation: parameters, ground, worlds, and what has been done since the last step."""

    def __init__(self, params, graphics_device):
        self.params, self.ground, self.envs, self.ready = params, [], [], False
        self.gpu = SEMANTICS.pipeline == "gpu" or params.use_gpu_pipeline
        self.fetched, self.graphics_fresh = True, False
        self.set_since_step, self.pending, self.forces = set(), [], None
        self.graphics_device, self.steps = graphics_device, 0
        self.random = np.random.default_rng(0)
        self._models = {}

    def model(self, env):
        """The compiled world of an actor: a copy of the first of its kind."""
        key = (id(env.asset), env.filter == 0)
        if key not in self._models:
            self._models[key] = _compile(self.params, self.ground, env)
        return copy.copy(self._models[key])


def _compile(params, ground, env):
    robot = env.asset.robot
    names = [f"ground_{k}" for k in range(len(ground))]
    parts = [g.xml(name) for g, name in zip(ground, names)]
    assets = "".join(asset for asset, _ in parts)
    still = "".join(
        f'<geom name="{name}" class="ground" {geom}/>' for name, (_, geom) in zip(names, parts)
    )
    bits = 'contype="2" conaffinity="3"' if env.filter == 0 else 'contype="0" conaffinity="1"'
    gravity = params.gravity.array() * (not env.asset.options.disable_gravity)
    xml = f"""<mujoco><compiler angle="radian" autolimits="true" balanceinertia="true"/>
<option timestep="{params.dt}" gravity="{gravity[0]} {gravity[1]} {gravity[2]}"
 integrator="implicitfast" cone="pyramidal"/>
<default><default class="robot"><geom {bits} condim="3" solref="0.01 1"/></default>
<default class="ground"><geom contype="1" conaffinity="0" priority="1" solref="0.01 1"/></default>
</default>
<asset>{assets}</asset><worldbody>{still}{chr(10).join(robot.mjcf_body())}</worldbody></mujoco>"""
    model = mujoco.MjModel.from_xml_string(xml)
    model.opt.disableflags |= mujoco.mjtDisableBit.mjDSBL_AUTORESET.value
    for g, name in zip(ground, names):
        g.fill(model, name)
    return model


class Env:
    """One world."""

    def __init__(self, sim, index):
        self.sim, self.index, self.asset, self.model = sim, index, None, None

    def build(self):
        """Compile the world and give it the actor's properties."""
        self.model = self.sim.model(self)
        m, robot = self.model, self.asset.robot
        self.data = mujoco.MjData(m)
        self.qadr = np.array([m.joint(n).qposadr[0] for n in robot.dofs])
        self.vadr = np.array([m.joint(n).dofadr[0] for n in robot.dofs])
        self.body_ids = np.array([m.body(n).id for n in robot.bodies])
        self.joint_bodies = m.dof_bodyid[self.vadr]
        m.dof_armature[self.vadr] = self.dof_props["armature"]
        self.mu = self.dof_props["friction"].astype(float)
        if SEMANTICS.joint_friction != "load":
            m.dof_frictionloss[self.vadr] = self.mu
        for k, body in enumerate(self.body_props):
            m.body_mass[self.body_ids[k]] = body.mass
        for k, factor in self.inertia_factors.items():
            m.body_inertia[self.body_ids[k]] *= factor
        mujoco.mj_setConst(m, self.data)  # leaves the data in its first pose
        p, r = self.pose.p, self.pose.r
        self.data.qpos[:7] = (p.x, p.y, p.z, r.w, r.x, r.y, r.z)
        self.com = m.body_ipos[self.body_ids[0]].copy()
        self.hidden = np.zeros(len(self.body_ids), dtype=bool)
        self.ground_ids = np.array([m.geom(f"ground_{k}").id for k in range(len(self.sim.ground))])
        self.is_mesh = np.zeros(m.ngeom, dtype=bool)
        self.is_mesh[self.ground_ids] = [g.mesh for g in self.sim.ground]
        self.set_friction()

    def set_friction(self):
        """PhysX averages the materials; MuJoCo takes that of the geom with the higher priority,
        the ground's.
        """
        if self.model is None:
            return
        values = {s.friction for s in self.shape_props}
        if len(values) != 1:
            raise NotImplementedError(
                "the stand-in wants one friction coefficient for all shapes of an actor"
            )
        robot = values.pop()
        ground = np.array([g.friction for g in self.sim.ground])
        self.model.geom_friction[self.ground_ids, 0] = 0.5 * (ground + robot)

    def load(self):
        """|F| + |T| that each joint transmits, N and N m, as of the last step."""
        m, d = self.model, self.data
        mujoco.mj_rnePostConstraint(m, d)
        wrench = d.cfrc_int[self.joint_bodies]  # torque, force about the tree's centre of mass
        root = m.body_rootid[self.joint_bodies]
        arm = d.xanchor[m.dof_jntid[self.vadr]] - d.subtree_com[root]
        torque = wrench[:, :3] - np.cross(arm, wrench[:, 3:])
        return np.linalg.norm(wrench[:, 3:], axis=1) + np.linalg.norm(torque, axis=1)

    def step(self, forces):
        """One physics step under ``forces`` (dofs,)."""
        m, d, props = self.model, self.data, self.dof_props
        takes = props["driveMode"] == DOF_MODE_EFFORT
        top = props["effort"]
        d.qfrc_applied[self.vadr] = np.clip(forces, -top, top) * takes
        if SEMANTICS.joint_friction == "load" and self.mu.any():
            m.dof_frictionloss[self.vadr] = self.mu * self.load()
        mujoco.mj_step(m, d)
        limit = props["velocity"]
        d.qvel[self.vadr] = np.clip(d.qvel[self.vadr], -limit, limit)
        # Reports that drop out now; what dropped out last time does not again.
        chance = self.sim.random.random(len(self.hidden)) < SEMANTICS.contact_dropouts
        self.hidden = chance & ~self.hidden

    # ---- states ----

    def root_state(self):
        """Position, quaternion xyzw, linear and angular velocity, world frame, (13,)."""
        q, v = self.data.qpos, self.data.qvel
        rotation = np.zeros(9)
        mujoco.mju_quat2Mat(rotation, q[3:7] / max(np.linalg.norm(q[3:7]), 1e-9))
        rotation = rotation.reshape(3, 3)
        spin = rotation @ v[3:6]
        linear = v[:3].copy()
        if SEMANTICS.root_velocity != "link":
            linear += np.cross(spin, rotation @ self.com)
        return np.concatenate([q[:3], q[4:7], q[3:4], linear, spin])

    def set_root_state(self, x):
        """The reverse of :meth:`root_state`."""
        q, v = self.data.qpos, self.data.qvel
        q[:3], q[3], q[4:7] = x[:3], x[6], x[3:6]
        rotation = np.zeros(9)
        mujoco.mju_quat2Mat(rotation, q[3:7])
        rotation = rotation.reshape(3, 3)
        v[:3], v[3:6] = x[7:10], rotation.T @ x[10:13]
        if SEMANTICS.root_velocity != "link":
            v[:3] -= np.cross(x[10:13], rotation @ self.com)
        self.data.qacc_warmstart[:] = 0.0

    def body_states(self):
        """As the root state, of all bodies, (bodies, 13)."""
        m, d = self.model, self.data
        mujoco.mj_forward(m, d)
        rows, velocity = [], np.zeros(6)
        for b in self.body_ids:
            mujoco.mj_objectVelocity(m, d, mujoco.mjtObj.mjOBJ_BODY, b, velocity, 0)
            q = d.xquat[b]
            rows.append(np.concatenate([d.xpos[b], q[1:], q[:1], velocity[3:], velocity[:3]]))
        return np.array(rows)

    def contact_forces(self):
        """Sum of the contact forces on each body that are reported, world frame, N."""
        m, d = self.model, self.data
        out, force = np.zeros((m.nbody, 3)), np.zeros(6)
        hidden = np.zeros(m.nbody, dtype=bool)
        hidden[self.body_ids] = self.hidden
        for k in range(d.ncon):
            contact = d.contact[k]
            first, second = m.geom_bodyid[contact.geom1], m.geom_bodyid[contact.geom2]
            on_mesh = self.is_mesh[contact.geom1] or self.is_mesh[contact.geom2]
            if on_mesh and (hidden[first] or hidden[second]):
                continue
            mujoco.mj_contactForce(m, d, k, force)
            push = contact.frame[:3] * force[0]
            if not SEMANTICS.normal_only:
                push = contact.frame.reshape(3, 3).T @ force[:3]
            out[second] += push
            out[first] -= push
        return out[self.body_ids]


class Viewer:
    """A window nobody sees; its user closes it after ISAACGYM_STANDIN_FRAMES frames."""

    def __init__(self, sim):
        self.sim, self.drawn, self.in_sight = sim, 0, 0
        self.frames = int(os.environ.get("ISAACGYM_STANDIN_FRAMES", 10))
        self.position, self.target = np.array([-10.0, 0.0, 5.0]), np.zeros(3)

    def sees(self, point):
        """Whether a point (3,), m, lies within 35 degrees of the line of sight and 15 m."""
        ahead, to = self.target - self.position, point - self.position
        distance = np.linalg.norm(to)
        cosine = ahead @ to / max(np.linalg.norm(ahead) * distance, 1e-9)
        return distance < 15.0 and cosine > np.cos(np.radians(35.0))

    def draw(self):
        self.drawn += 1
        self.in_sight += any(self.sees(env.data.qpos[:3]) for env in self.sim.envs)
