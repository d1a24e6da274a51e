"""The robot's observation against the environment's golden records and against its own sensors."""

import json

import numpy as np
import pytest

from go2_sevpo.deploy.robot.elevation import Grid
from go2_sevpo.deploy.robot.observe import ObserveError, Observer, Place, Sensors
from go2_sevpo.envs.go2.contract import environment_contract
from go2_sevpo.envs.go2.golden import golden_records


@pytest.fixture(scope="module")
def contract():
    return json.loads(json.dumps(environment_contract(2)))


@pytest.fixture(scope="module")
def golden():
    def act(observations):
        rng = np.random.default_rng(3)
        return rng.uniform(-0.4, 0.4, (len(observations), 12)).astype(np.float32)

    return json.loads(json.dumps(golden_records(act)))


def play(golden, contract, change=lambda record: record):
    observer, found = Observer(contract), []
    maps = [
        Grid(tuple(m["origin"]), m["cell"], np.array(m["heights"], dtype=float))
        for m in golden["maps"]
    ]
    order = observer.joint_to_motor
    for record in map(change, golden["records"]):
        if record["first"]:
            observer.start(record["start"], record["goal"])
        motors = [np.array(record[f"motor_{k}"])[order] for k in ("q", "dq", "tau")]
        sensors = Sensors(np.array(record["gyro"]), np.array(record["quaternion"]), *motors)
        place = Place(np.array(record["position"]), record["yaw"])
        last = np.array(record["last_action"])
        seen = observer.observe(sensors, last, place, maps[record["map"]])
        found.append(np.abs(seen - np.array(record["observation"], dtype=np.float32)))
    return np.array(found)


def test_observations_equal_the_environments(golden, contract):
    found = play(golden, contract)
    assert found.shape == (64, 265)
    assert found.max() < 1e-6


def test_a_turned_map_is_noticed(golden, contract):
    assert play(golden, contract, lambda r: {**r, "yaw": r["yaw"] + 0.3}).max() > 0.1


def test_targets_stay_within_the_limits_and_follow_the_rule(contract):
    observer = Observer(contract)
    assert np.allclose(observer.targets(np.zeros(12)), contract["default_joint_positions"])
    rng = np.random.default_rng(0)
    for action in rng.uniform(-3, 3, (50, 12)):
        targets = observer.targets(action)
        assert (targets >= contract["target_lower"]).all()
        assert (targets <= contract["target_upper"]).all()
    small = 0.1 * rng.uniform(-1, 1, 12)
    wanted = np.array(contract["default_joint_positions"]) + 1.2 * small
    assert np.allclose(observer.targets(small), wanted)


def test_contracts_that_are_not_understood_are_told(contract):
    with pytest.raises(ObserveError, match="version 1"):
        Observer({**contract, "contract_version": 1})
    other = json.loads(json.dumps(contract))
    other["observation"]["fields"][0]["name"] = "base_velocity"
    with pytest.raises(ObserveError, match="base_velocity"):
        Observer(other)
    with pytest.raises(ObserveError, match="where the robot stands"):
        Observer(contract).start([1.0, 2.0], [1.0, 2.0])
