"""Recording, training's view of it, logs and their replay; a bus over DDS."""

import json
import subprocess
import sys
import time

import numpy as np
import pytest

from go2_sevpo.data import shards
from go2_sevpo.data.dataset import load
from go2_sevpo.deploy.robot import cli
from go2_sevpo.deploy.robot.bus import base
from go2_sevpo.deploy.robot.bus.base import BusError
from go2_sevpo.deploy.robot.bus.memory import MemoryBus
from go2_sevpo.deploy.robot.control import ControlStep, Settings
from go2_sevpo.deploy.robot.controller import Controller
from go2_sevpo.deploy.robot.elevation import Grid
from go2_sevpo.deploy.robot.judge import Judge
from go2_sevpo.deploy.robot.legs import rotation_matrix
from go2_sevpo.deploy.robot.messagelog import LogError, RecordingBus, ReplayBus, looks, read_log
from go2_sevpo.deploy.robot.messages.fixed import LowState
from go2_sevpo.deploy.robot.observe import Observer, Place, Sensors
from go2_sevpo.deploy.robot.plant.robot import Plant
from go2_sevpo.deploy.robot.plant.settings import Drift, PlantSettings
from go2_sevpo.deploy.robot.recorder import Recorder
from go2_sevpo.envs.go2.contract import environment_contract
from go2_sevpo.envs.go2.description.course import make_course
from go2_sevpo.envs.go2.rewards import RewardWeights

CONTRACT = json.loads(json.dumps(environment_contract(2)))


class StandIn:
    """What the recorder asks of a policy file."""

    contract, path = CONTRACT, "stand-in.onnx"
    identity = {"name": "stand-in", "sha256": "0" * 64, "kind": "?"}


def still(observation, spent):
    return np.zeros(12), 0.0


def play(bus, controller, plant, seconds):
    while plant.time < seconds:
        plant.step()
        controller.tick(plant.time)


def robot(bus, **settings):
    plant = Plant(bus, make_course("flat"), PlantSettings(perception="map", drift=Drift()))
    return plant, Settings(automatic=True, settle=0.02, goal=(3.0, 0.0), **settings)


def test_a_recorded_run_is_a_dataset_that_training_reads(tmp_path):
    bus = MemoryBus()
    plant, settings = robot(bus)
    controller = Controller(bus, CONTRACT, still, settings)
    recorder = Recorder(tmp_path, StandIn(), {"robot": "virtual"})
    recorder.attach(controller)
    play(bus, controller, plant, 0.9)

    def broken(raw):
        state = LowState(bytearray(raw))
        state.quaternion = (0.0, 1.0, 0.0, 0.0)
        state.seal()
        return state.to_bytes()

    bus.filters[base.LOW_STATE.name] = broken
    play(bus, controller, plant, 0.95)
    manifest = recorder.finish()
    assert (manifest["episodes"], manifest["falls"], manifest["successes"]) == (1, 1, 0)
    assert shards.validate(tmp_path)["transitions"] == manifest["transitions"]
    data = shards.read_shard(tmp_path / "robot_0000.hdf5")
    assert data.columns["observations"].shape == (data.rows, 265)
    assert data.columns["terminals"].sum() == 1 and data.columns["terminals"][-1] == 1
    # Standing costs nothing; the end does.
    assert data.columns["costs"][:-1].sum() == 0 and data.columns["costs"][-1] == 1
    (record,) = shards.shard_info(tmp_path / "robot_0000.hdf5")["records"]
    assert record["actors"] == [["policy", data.rows - 1], ["supervisor", 1]]
    assert "tilt" in record["reason"]
    assert len(load(tmp_path)) == data.rows


def test_what_the_operator_cuts_has_a_future(tmp_path):
    bus = MemoryBus()
    plant, settings = robot(bus)
    controller = Controller(bus, CONTRACT, still, settings)
    recorder = Recorder(tmp_path, StandIn(), {})
    recorder.attach(controller)
    play(bus, controller, plant, 0.6)
    controller.machine.end_policy(plant.time, "the operator")
    play(bus, controller, plant, 0.65)
    recorder.finish()
    data = shards.read_shard(tmp_path / "robot_0000.hdf5")
    assert data.columns["timeouts"][-1] == 1 and data.columns["terminals"].sum() == 0
    assert data.columns["costs"].sum() == 0


def test_a_log_gives_the_same_commands_again(tmp_path):
    inner = MemoryBus()
    bus = RecordingBus(inner, tmp_path / "run.log", {"policy": "none"})
    plant, settings = robot(inner)
    controller = Controller(bus, CONTRACT, still, settings)
    play(inner, controller, plant, 0.6)
    bus.close()
    info, entries = read_log(tmp_path / "run.log")
    replay = ReplayBus()
    again, commands = Controller(replay, CONTRACT, still, settings), 0
    for now, came, sent in looks(entries):
        for kind, data in came:
            replay.incoming[base.TOPICS[kind].name].append(data)
        replay.sent.clear()
        again.tick(now)
        assert replay.sent == sent
        commands += len(sent)
    assert info == {"policy": "none"} and commands == controller.counts["commands"] > 50
    (tmp_path / "other").write_text("something else")
    with pytest.raises(LogError, match="no log of go2-robot"):
        read_log(tmp_path / "other")


def step_of(q=None, tau=None, accelerometer=(0, 0, 9.81), quaternion=(1, 0, 0, 0), heights=None):
    default = np.array(CONTRACT["default_joint_positions"])
    q = default if q is None else q
    tau = np.zeros(12) if tau is None else tau
    sensors = Sensors(np.zeros(3), np.array(quaternion, float), q, np.zeros(12), tau)
    heights = heights or Grid((-2.0, -2.0), 0.05, np.zeros((80, 80)))
    place = Place(np.array([0.0, 0.0, 0.33]), 0.0)
    zeros = np.zeros(12)
    acceleration = np.array(accelerometer, float)
    return ControlStep(
        0.0, zeros, zeros, 0.0, sensors, acceleration, place, zeros[:4], heights, "policy", zeros
    )


def test_what_a_robot_can_tell_of_costs():
    observer = Observer(CONTRACT)
    judge = Judge(observer, 0.02, RewardWeights())
    q = np.array(CONTRACT["default_joint_positions"])
    weight = np.zeros((4, 3))
    weight[:, 2] = 15.02 * 9.81 / 4
    standing = -np.einsum("lxj,lx->lj", observer.legs.jacobians(q), weight).reshape(-1)
    ahead = np.array([1.0, 0.0])

    def verdict(**changes):
        judge.start()
        step = step_of(**{"tau": standing, **changes})
        judge.judge(step, step, ahead, "")
        return judge.judge(step, step, ahead, "")

    good = verdict()
    assert (good.cost, good.fall, good.touch, good.gap) == (0.0, False, False, False)
    lying = verdict(tau=0.2 * standing)
    assert (lying.cost, lying.touch, lying.fall) == (1.0, True, False)
    flying = verdict(tau=0.0 * standing, accelerometer=(0, 0, 0.3))
    assert flying.cost == 0.0
    half = np.sqrt(0.5)
    over = verdict(quaternion=(half, half, 0, 0))
    assert over.fall and over.cost == 1.0
    # A stone whose surface is 10 cm above the front feet, which hang in a hole.
    heights = np.full((80, 80), 0.11)
    heights[42:, :] = np.nan
    deep = verdict(heights=Grid((-2.0, -2.0), 0.05, heights))
    assert deep.gap and deep.cost == 1.0
    step = step_of(tau=standing)
    goal = judge.judge(step, step, ahead, "goal")
    assert goal.reward > good.reward + 2.9 and goal.cost == 0.0
    assert judge.judge(step, step, ahead, "supervisor").fall
    assert np.allclose(rotation_matrix(np.array([2.0, 0, 0, 0])), np.eye(3))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["run", "expert", "--net", "eth9"], "--real-robot"),
        (["run", "expert", "--net", "eth9", "--real-robot", "--motion.auto"], "--auto is for lo"),
        (["check", "--net", "a b", "--real-robot"], "no name of a network interface"),
        (["plant", "--net", "eth9", "--real-robot"], "for lo alone"),
        (["replay", "missing.log"], "No such file"),
        (["demo", "nothing"], "no policy 'nothing'"),
        (["record", "nothing", "--virtual", "1"], "no policy 'nothing'"),
    ],
)
def test_bad_input_gets_one_line(words, message, monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(tmp_path)
    words = [w.replace("--motion.auto", "--auto") for w in words]
    monkeypatch.setattr(sys, "argv", ["go2-robot", *words])
    with pytest.raises(SystemExit) as stopped:
        cli.main()
    assert message in str(stopped.value)
    assert "Traceback" not in capsys.readouterr().err


def test_real_interfaces_are_not_opened_without_the_flag(monkeypatch):
    from go2_sevpo.deploy.robot import network
    from go2_sevpo.deploy.robot.arguments import Network

    opened = []
    monkeypatch.setattr(network, "DdsBus", lambda *a: opened.append(a))
    with pytest.raises(BusError, match="walk it"):
        network.open_bus(Network(net="eth0"), "walk it")
    assert opened == []
    network.open_bus(Network(net="eth0", real_robot=True), "walk it")
    network.open_bus(Network(), "walk it")
    assert opened == [("eth0", 0), ("lo", 1)]


@pytest.mark.slow
def test_messages_pass_between_processes_over_lo():
    pytest.importorskip("cyclonedds")
    from go2_sevpo.deploy.robot.bus.dds import DdsBus

    words = ["plant", "--course", "flat", "--seconds", "60", "--perception", "depth"]
    child = subprocess.Popen([sys.executable, "-m", cli.__name__, *words])
    bus = DdsBus("lo", 1)
    try:
        states = bus.subscriber(base.LOW_STATE, 32)
        clouds = bus.subscriber(base.CLOUD)
        found, cloud, end = [], None, time.monotonic() + 50
        while time.monotonic() < end and (len(found) < 200 or cloud is None):
            bus.wait(0.05)
            found += [LowState(raw) for raw in states.take()]
            cloud = clouds.latest() or cloud
        assert len(found) >= 200 and all(state.intact() for state in found)
        ticks = [state.tick for state in found]
        assert ticks == sorted(ticks) and len(set(ticks)) == len(ticks)
        assert cloud is not None and states.writers() == 1
    finally:
        bus.close()
        child.terminate()
        child.wait()
