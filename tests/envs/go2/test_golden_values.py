"""Golden records and the contract of version 2, held against a second implementation.

It is made from the contract alone (:mod:`tests.envs.go2.second_robot`) and imports nothing of ours.
"""

import json

import numpy as np
import pytest

from go2_sevpo.envs.go2.contract import environment_contract
from go2_sevpo.envs.go2.golden import golden_records
from tests.envs.go2.second_robot import SecondRobot


@pytest.fixture(scope="module")
def golden():
    """Records of a robot that only moves a little, through JSON."""

    def act(observations):
        rng = np.random.default_rng(0)
        return rng.uniform(-0.4, 0.4, (len(observations), 12)).astype(np.float32)

    return json.loads(json.dumps(golden_records(act)))


@pytest.fixture(scope="module")
def contract():
    return json.loads(json.dumps(environment_contract(2)))


def differences(golden, contract, change=lambda record: record):
    robot, history, found = SecondRobot(contract), [], []
    for record in golden["records"]:
        seen = robot.observe(change(dict(record)), golden["maps"][record["map"]], history)
        found.append(np.abs(seen - np.array(record["observation"])))
    return np.array(found)


def test_a_second_implementation_sees_the_same(golden, contract):
    found = differences(golden, contract)
    assert found.shape == (64, 265)
    assert found.max() < 1e-6


def test_records_cover_what_can_go_wrong(golden):
    records = golden["records"]
    assert [r["first"] for r in records] == ([True] + [False] * 15) * 4
    assert [r["map"] for r in records] == [0] * 16 + [1] * 16 + [2] * 16 + [3] * 16
    cells = [h for m in golden["maps"] for row in m["heights"] for h in row]
    assert 0.005 < sum(h is None for h in cells) / len(cells) < 0.02
    contacts = np.array([r["observation"][42:46] for r in records])
    assert 0.1 < contacts.mean() < 0.95
    # The IMU's yaw is not odometry's.
    w, x, y, z = np.array([r["quaternion"] for r in records]).T
    yaw = np.arctan2(2 * (w * z + x * y), 1 - 2 * (y * y + z * z))
    turned = yaw - np.array([r["yaw"] for r in records])
    assert np.allclose(np.arctan2(np.sin(turned), np.cos(turned)), 0.4, atol=1e-5)


@pytest.mark.parametrize(
    ("wrong", "changed"),
    [
        ("motor_q", lambda r: {**r, "motor_q": r["motor_q"][3:] + r["motor_q"][:3]}),
        ("motor_tau", lambda r: {**r, "motor_tau": [-t for t in r["motor_tau"]]}),
        ("yaw", lambda r: {**r, "yaw": r["yaw"] + 0.4}),
        ("position", lambda r: {**r, "position": [*r["position"][:2], r["position"][2] + 0.01]}),
    ],
)
def test_records_notice_wrong_sensors(golden, contract, wrong, changed):
    assert differences(golden, contract, changed).max() > 1e-3


@pytest.mark.parametrize("points", ["scan_points", "foot_points"])
def test_records_notice_points_in_another_order(golden, contract, points):
    other = json.loads(json.dumps(contract))
    other["observation"][points] = [[x, -y] for x, y in other["observation"][points]]
    assert differences(golden, other).max() > 1e-3
