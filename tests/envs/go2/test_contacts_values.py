"""Contacts from torques: against numerical derivatives, and against MuJoCo's own contact forces."""

import mujoco
import numpy as np
import pytest
import torch

from go2_sevpo.envs.go2.contacts import CONTACT_THRESHOLD, leg_jacobians, vertical_forces
from go2_sevpo.envs.go2.description.course import make_course
from go2_sevpo.envs.go2.description.geometry import foot_positions
from go2_sevpo.envs.go2.description.scene import scene_xml
from tests.envs.fake_simulator import DEFAULT_POSE

LEGS = ("FL", "FR", "RL", "RR")
JOINTS = [f"{leg}_{segment}_joint" for leg in LEGS for segment in ("hip", "thigh", "calf")]
POSES = torch.tensor(DEFAULT_POSE, dtype=torch.float64) + torch.tensor(
    np.random.default_rng(0).uniform(-0.4, 0.4, (6, 12))
)


def test_the_threshold_is_the_documented_one():
    assert CONTACT_THRESHOLD == 20.0  # docs/courses.md


def test_jacobians_are_the_derivatives_of_the_feet():
    step = 1e-6
    for k in range(12):
        shift = torch.zeros(12, dtype=torch.float64)
        shift[k] = step
        slope = (foot_positions(POSES + shift) - foot_positions(POSES - shift)) / (2 * step)
        found = leg_jacobians(POSES)[k % 3]
        leg = k // 3
        np.testing.assert_allclose(found[:, leg], slope[:, leg], atol=1e-8)
        others = [i for i in range(4) if i != leg]
        assert slope[:, others].abs().max() < 1e-9


def test_forces_come_back_from_the_torques_that_hold_them():
    rng = np.random.default_rng(1)
    force = rng.uniform(-60, 120, (6, 4, 3))  # N, of the ground on the feet, base frame
    gravity = rng.normal(size=(6, 3))
    gravity /= np.linalg.norm(gravity, axis=1, keepdims=True)
    columns = [x.numpy() for x in leg_jacobians(POSES)]
    # Held by the motors: tau = -J^T f.
    torque = -np.stack([(c * force).sum(-1) for c in columns], axis=-1).reshape(6, 12)
    found = vertical_forces(POSES, torch.from_numpy(torque), torch.from_numpy(gravity))
    np.testing.assert_allclose(found, -(force @ gravity[:, :, None])[..., 0], rtol=2e-3, atol=0.1)


def test_a_straight_leg_has_no_force_without_bounds():
    pose = torch.tensor([[0.0, 0.0, 0.0] * 4], dtype=torch.float64)
    torque = torch.full((1, 12), 5.0, dtype=torch.float64)
    down = torch.tensor([[0.0, 0.0, -1.0]], dtype=torch.float64)
    assert vertical_forces(pose, torque, down).abs().max() < 2000.0


@pytest.mark.parametrize("lean", [0.0, 0.1])
def test_a_standing_robot_in_mujoco(lean):
    # MuJoCo's sensors of motors and feet; our estimate leaves out the legs' own weight (2 kg each).
    model = mujoco.MjModel.from_xml_string(scene_xml(make_course("flat", 1.0, 0)))
    data = mujoco.MjData(model)
    data.qpos[7:] = DEFAULT_POSE
    data.qpos[2] = 0.33
    target = np.array(DEFAULT_POSE)
    target[[1, 4]] += lean  # the front lower than the rear
    for k, name in enumerate(JOINTS):
        data.ctrl[model.actuator(name).id] = target[k]
    for _ in range(600):
        mujoco.mj_step(model, data)
    torque = [data.sensor(f"{name}_torque").data[0] for name in JOINTS]
    joints = [data.joint(name).qpos[0] for name in JOINTS]
    rotation = data.body("base").xmat.reshape(3, 3)
    found = vertical_forces(
        torch.tensor([joints]), torch.tensor([torque]), torch.tensor(-rotation[2:])
    )[0]
    touch = [data.sensor(f"{leg}_foot").data[0] for leg in LEGS]
    assert min(touch) > CONTACT_THRESHOLD
    # Dry friction of 0.2 N m in a joint is 1-2 N at the foot.
    np.testing.assert_allclose(found, touch, atol=20.0)
    assert (found > CONTACT_THRESHOLD).all()
    # In the air the same estimate says none.
    data.qpos[2] += 1.0
    data.qvel[:] = 0
    for _ in range(20):
        mujoco.mj_step(model, data)
    torque = [data.sensor(f"{name}_torque").data[0] for name in JOINTS]
    joints = [data.joint(name).qpos[0] for name in JOINTS]
    found = vertical_forces(
        torch.tensor([joints]), torch.tensor([torque]), torch.tensor(-rotation[2:])
    )
    assert (found < CONTACT_THRESHOLD).all()
