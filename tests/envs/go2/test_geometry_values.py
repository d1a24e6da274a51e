"""Rotations, frames and leg kinematics against the physics engine, SciPy and plain rotations."""

import math

import mujoco
import numpy as np
import pytest
import torch
from torch.testing import assert_close

from go2_sevpo.envs.go2.description import geometry as g
from go2_sevpo.envs.go2.description.course import make_course
from go2_sevpo.envs.go2.description.scene import scene_xml
from tests.envs.go2 import reference as ref

ANGLES = [
    (0.3, -0.4, 0.9),
    (-1.2, 0.7, -2.6),
    (2.9, 1.1, 0.2),
    (0.05, -1.3, 3.0),
]  # roll, pitch, yaw
LEGS = ("FL", "FR", "RL", "RR")


def quaternions():
    return torch.tensor([ref.quaternion(*a) for a in ANGLES])


def test_rotation_matrix_of_hand_made_quarter_turns():
    half = math.sqrt(0.5)
    q = torch.tensor(
        [
            [1.0, 0, 0, 0],
            [half, half, 0, 0],
            [half, 0, half, 0],
            [half, 0, 0, half],
            [0.5, 0.5, 0.5, 0.5],
        ]
    )
    expected = [
        [[1, 0, 0], [0, 1, 0], [0, 0, 1]],
        [[1, 0, 0], [0, 0, -1], [0, 1, 0]],  # about x: y goes to z
        [[0, 0, 1], [0, 1, 0], [-1, 0, 0]],  # about y: z goes to x
        [[0, -1, 0], [1, 0, 0], [0, 0, 1]],  # about z: x goes to y
        [[0, 0, 1], [1, 0, 0], [0, 1, 0]],  # 120 degrees about (1, 1, 1): x to y to z to x
    ]
    assert g.rotation_matrix(q).numpy() == pytest.approx(np.array(expected), abs=1e-6)


def test_rotation_matrix_agrees_with_elementary_turns_and_with_the_physics_engine():
    found = g.rotation_matrix(quaternions().double()).numpy()
    for matrix, angles, q in zip(found, ANGLES, quaternions().double().numpy()):
        assert matrix == pytest.approx(ref.rotation(*angles), abs=1e-6)
        engine = np.zeros(9)
        mujoco.mju_quat2Mat(engine, q)
        assert matrix == pytest.approx(engine.reshape(3, 3), abs=1e-6)


def test_rotation_matrix_and_roll_yaw_agree_with_scipy():
    rotation = pytest.importorskip("scipy.spatial.transform").Rotation
    q = quaternions().double()
    by_scipy = rotation.from_quat(q.numpy()[:, [1, 2, 3, 0]]).as_matrix()  # SciPy's order is xyzw
    assert g.rotation_matrix(q).numpy() == pytest.approx(by_scipy, abs=1e-6)
    roll, yaw = torch.tensor([0.4, -0.7, 2.0]), torch.tensor([1.1, -2.0, 0.3])
    found = g.rotation_matrix(g.from_roll_yaw(roll, yaw)).numpy()
    by_scipy = rotation.from_euler("ZX", np.stack([yaw.numpy(), roll.numpy()], 1)).as_matrix()
    assert found == pytest.approx(by_scipy, abs=1e-6)


def test_rotation_matrix_keeps_leading_dimensions():
    q = quaternions().reshape(2, 2, 4)
    found = g.rotation_matrix(q)
    assert found.shape == (2, 2, 3, 3)
    assert found[1, 0].numpy() == pytest.approx(ref.rotation(*ANGLES[2]), abs=1e-6)


def test_to_body_is_the_transposed_rotation():
    rotations = torch.tensor(np.array([ref.rotation(*a) for a in ANGLES]), dtype=torch.float32)
    vectors = torch.tensor([[1.0, -2.0, 0.5], [0.3, 0.7, -1.1], [-0.4, 0.2, 2.0], [1.5, 0.1, -0.6]])
    pairs = zip(ANGLES, vectors.numpy())
    expected = np.array([np.linalg.solve(ref.rotation(*a), v) for a, v in pairs])
    assert_close(
        g.to_body(rotations, vectors),
        torch.tensor(expected, dtype=torch.float32),
        atol=1e-5,
        rtol=1e-5,
    )


def test_to_body_by_hand_after_a_left_turn():
    left = torch.tensor(ref.rotation(0, 0, math.pi / 2), dtype=torch.float32)[None]
    # Facing world y, world x is to the right (body -y) and world y ahead (body x).
    assert_close(
        g.to_body(left, torch.tensor([[2.0, 5.0, 7.0]])),
        torch.tensor([[5.0, -2.0, 7.0]]),
        atol=1e-5,
        rtol=0,
    )


def test_heading_is_the_yaw_of_the_body_x_axis_whatever_roll_and_pitch():
    angles = [
        (0.3, -0.4, 0.9),
        (-1.2, 0.7, -2.6),
        (0.9, 1.1, 0.2),
        (0.05, -1.3, 3.0),
        (0.0, 0.0, -1.5),
    ]
    rotations = torch.tensor(np.array([ref.rotation(*a) for a in angles]), dtype=torch.float32)
    cos, sin = g.yaw_cos_sin(rotations)
    assert_close(cos, torch.tensor([math.cos(a[2]) for a in angles]), atol=1e-5, rtol=0)
    assert_close(sin, torch.tensor([math.sin(a[2]) for a in angles]), atol=1e-5, rtol=0)


def test_heading_of_a_robot_on_its_nose_is_finite():
    rotation = torch.zeros(3, 3, 3)
    rotation[1, 0, 0], rotation[1, 1, 0] = 3e-7, -4e-7  # 5e-7 long, divided by no less than 1e-6
    rotation[2, 0, 0], rotation[2, 1, 0] = 3e-6, -4e-6  # long enough
    cos, sin = g.yaw_cos_sin(rotation)
    assert_close(cos, torch.tensor([0.0, 0.3, 0.6]), atol=1e-4, rtol=0)
    assert_close(sin, torch.tensor([0.0, -0.4, -0.8]), atol=1e-4, rtol=0)


def test_from_roll_yaw_rolls_first_and_then_turns():
    roll, yaw = (0.4, -0.7, 2.0), (1.1, -2.0, 0.3)
    found = g.from_roll_yaw(torch.tensor(roll), torch.tensor(yaw))
    # The product of the quaternion about z and the one about x, by Hamilton's rule.
    expected = [ref.quaternion(a, 0.0, b) for a, b in zip(roll, yaw)]
    assert_close(found, torch.tensor(expected), atol=1e-6, rtol=1e-5)
    half = math.sqrt(0.5)
    assert_close(
        g.from_roll_yaw(torch.tensor([math.pi / 2]), torch.tensor([0.0])),
        torch.tensor([[half, half, 0, 0]]),
    )
    assert_close(
        g.from_roll_yaw(torch.tensor([0.0]), torch.tensor([math.pi / 2])),
        torch.tensor([[half, 0, 0, half]]),
    )


def test_feet_of_straight_legs_by_hand():
    # Straight down: 2 x 0.213 m below the thigh joint and 2 mm behind it.
    feet = g.foot_positions(torch.zeros(1, 12))[0]
    expected = [
        [0.1914, 0.142, -0.426],
        [0.1914, -0.142, -0.426],
        [-0.1954, 0.142, -0.426],
        [-0.1954, -0.142, -0.426],
    ]
    assert_close(feet, torch.tensor(expected), atol=1e-6, rtol=0)


def test_feet_of_single_joints_turned_by_hand():
    quarter = math.pi / 2
    joints = torch.zeros(3, 12)
    joints[0, 3 * 1 + 0] = quarter  # FR hip about x: z goes to -y, y to z
    joints[1, 3 * 0 + 1] = quarter  # FL thigh about y: -z goes to -x
    joints[2, 3 * 2 + 2] = -quarter  # RL calf about -y: -z goes to x
    feet = g.foot_positions(joints)
    assert_close(feet[0, 1], torch.tensor([0.1914, -0.0465 + 0.426, -0.0955]), atol=1e-6, rtol=0)
    assert_close(feet[1, 0], torch.tensor([0.1934 - 0.426, 0.142, 0.002]), atol=1e-6, rtol=0)
    assert feet[2, 2].tolist() == pytest.approx([-0.1934 + 0.213, 0.142, -0.215], abs=1e-6)


def test_feet_agree_with_a_chain_of_rotations():
    joints = np.random.default_rng(1).uniform(-1.4, 1.4, size=(6, 12))
    expected = np.array([ref.feet_in_base(q) for q in joints])
    found = g.foot_positions(torch.tensor(joints, dtype=torch.float32))
    assert_close(found, torch.tensor(expected, dtype=torch.float32), atol=2e-6, rtol=1e-5)


def test_leg_constants_are_asked_for_on_the_joints_device(monkeypatch):
    asked, origins = [], g._origins
    monkeypatch.setattr(g, "_origins", lambda device: asked.append(device) or origins(device))
    g.foot_positions(torch.zeros(1, 12))
    assert asked == [torch.device("cpu")]
    hips, sides = origins(torch.device("cpu"))
    assert_close(hips, torch.tensor(ref.HIP_ORIGINS, dtype=torch.float32))
    assert_close(sides, torch.tensor([0.0955, -0.0955, 0.0955, -0.0955]))


def test_feet_agree_with_the_physics_engine():
    model = mujoco.MjModel.from_xml_string(scene_xml(make_course("flat")))
    data = mujoco.MjData(model)
    rng = np.random.default_rng(2)
    names = [f"{leg}_{part}_joint" for leg in LEGS for part in ("hip", "thigh", "calf")]
    address = [model.joint(name).qposadr[0] for name in names]
    for _ in range(3):
        joints = rng.uniform(-1.2, 1.2, size=12)
        data.qpos[:7] = [0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0]
        data.qpos[address] = joints
        mujoco.mj_kinematics(model, data)
        expected = np.array([data.geom(f"{leg}_foot").xpos for leg in LEGS])
        found = g.foot_positions(torch.tensor(joints, dtype=torch.float32)[None])[0]
        assert_close(found, torch.tensor(expected, dtype=torch.float32), atol=2e-6, rtol=1e-5)
