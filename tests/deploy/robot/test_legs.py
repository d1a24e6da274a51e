"""Leg kinematics against MuJoCo's own."""

import json

import mujoco
import numpy as np

from go2_sevpo.deploy.robot.contacts import FootSensors
from go2_sevpo.deploy.robot.observe import Observer
from go2_sevpo.envs.go2.contract import environment_contract
from go2_sevpo.envs.go2.description import robot as r
from go2_sevpo.envs.go2.description.model_files import mjcf

LEGS = Observer(json.loads(json.dumps(environment_contract(2)))).legs


def at_random(seed):
    rng = np.random.default_rng(seed)
    return rng.uniform(np.array(r.LOWER_LIMITS) + 0.05, np.array(r.UPPER_LIMITS) - 0.05)


def test_feet_and_jacobians_are_mujocos():
    model = mujoco.MjModel.from_xml_string(mjcf())
    data = mujoco.MjData(model)
    addresses = [model.joint(n).qposadr[0] for n in r.JOINT_NAMES]
    for seed in range(5):
        q = at_random(seed)
        data.qpos[:7], data.qpos[addresses] = (0, 0, 0, 1, 0, 0, 0), q
        mujoco.mj_forward(model, data)
        feet = np.array([data.geom(f"{leg}_foot").xpos for leg in r.LEGS])
        assert np.allclose(LEGS.feet(q), feet, atol=1e-9)
        for leg, jacobian in zip(r.LEGS, LEGS.jacobians(q)):
            full = np.zeros((3, model.nv))
            point = data.geom(f"{leg}_foot").xpos
            mujoco.mj_jac(model, data, full, None, point, model.body(f"{leg}_calf").id)
            dofs = [model.joint(f"{leg}_{s}_joint").dofadr[0] for s in r.SEGMENTS]
            assert np.allclose(jacobian, full[:, dofs], atol=1e-9)


def test_forces_hold_the_robots_weight():
    # Virtual work: the torques of forces f on the feet are -J^T f.
    q, forces = np.array(r.DEFAULT_JOINT_POSITIONS), np.random.default_rng(0).normal(size=(4, 3))
    tau = -np.einsum("lxj,lx->lj", LEGS.jacobians(q), forces).reshape(-1)
    assert np.allclose(LEGS.ground_forces(q, tau), forces)


def test_foot_sensors_agree_or_are_none():
    sensors, rng = FootSensors(), np.random.default_rng(0)
    for k in range(2000):
        touching = np.array([k // 20 % 2 == leg % 2 for leg in range(4)])
        zero = np.array([30, 10, 55, 20]) + 0.01 * k  # each its own, and drifting
        raw = zero + 80 * touching + rng.normal(0, 2, 4)
        raw[3] = 0.0  # a sensor that says nothing
        raw[2] = zero[2] + 80 * (not touching[2])  # one that says the contrary
        sensors.update(raw, touching)
    assert (sensors.agreement[:2] > 0.95).all()
    assert sensors.agreement[2] < 0.1
    assert np.isnan(sensors.agreement[3])
