"""Faults on the way between robot and controller: each ends in DAMP or goes on as documented.

Every command on the bus is held against the envelope, from its bytes and the last state's.
"""

import json

import numpy as np
import pytest

from go2_sevpo.deploy.robot.bus import base
from go2_sevpo.deploy.robot.control import Settings
from go2_sevpo.deploy.robot.envelope import RATE, Envelope, EnvelopeError
from go2_sevpo.deploy.robot.lockstep import Lockstep
from go2_sevpo.deploy.robot.machine import Mode
from go2_sevpo.deploy.robot.messages.fixed import LowCmd, LowState
from go2_sevpo.deploy.robot.plant.settings import Drift, PlantSettings
from go2_sevpo.deploy.robot.remote import mask_of
from go2_sevpo.envs.go2.contract import environment_contract
from go2_sevpo.envs.go2.description import robot as r
from go2_sevpo.envs.go2.description.course import make_course

CONTRACT = json.loads(json.dumps(environment_contract(2)))
LIMITS = [r.joint_limits(n) for n in r.SDK_JOINT_NAMES]
LOWER, UPPER = np.array([x.lower for x in LIMITS]), np.array([x.upper for x in LIMITS])
TORQUE = np.array([x.torque for x in LIMITS])


def wild(observation, spent):
    """A policy that asks for the impossible, but seldom enough to stay on its feet a while."""
    rng = np.random.default_rng(abs(int(observation[0] * 1e4)))
    return np.clip(rng.normal(0, 0.15, 12), -1, 1), 0.0


class Watched(Lockstep):
    """Checks every command that goes over the bus."""

    def __init__(self, act=wild, settings=None, **plant):
        options = {"perception": "map", "drift": Drift(), "perception_delay": 0.0, **plant}
        settings = settings or Settings(automatic=True, settle=0.05)
        robot = PlantSettings(**options)
        super().__init__(make_course("flat"), CONTRACT, act, robot, settings)
        self.commands, self.last, self.state = 0, None, LowState()
        self.bus.filters[base.LOW_COMMAND.name] = self.check
        self.watching = self.bus.subscriber(base.LOW_STATE)

    def check(self, raw):
        seen = self.watching.latest()
        if seen is not None and LowState(seen).intact():
            numbers = np.concatenate([LowState(seen).q[:12], LowState(seen).dq[:12]])
            self.state = LowState(seen) if np.isfinite(numbers).all() else self.state
        command, now = LowCmd(raw), self.plant.time
        assert command.intact()
        q, kp, kd = (getattr(command, k)[:12].astype(float) for k in ("q", "kp", "kd"))
        assert np.isfinite(q).all() and (kp >= 0).all() and (kd >= 0).all()
        assert (q >= LOWER).all() and (q <= UPPER).all()
        # The states that the controller judged by may be older than ours by one.
        tau = kp * (q - self.state.q[:12]) - kd * self.state.dq[:12]
        if self.watched_torque:
            assert (np.abs(tau) <= TORQUE * 1.001 + 0.01).all(), tau
        if self.last is not None:
            moved = np.abs(q - self.last[1])
            assert (moved <= RATE * max(now - self.last[0], 0.004) + 1e-4).all(), moved
        self.last, self.commands = (now, q), self.commands + 1
        assert (command.kp[12:] == 0).all() and (command.kd[12:] == 0).all()
        return raw

    watched_torque = True

    def until(self, seconds):
        while self.plant.time < seconds:
            self.step()
        return self.controller.machine


@pytest.mark.slow
def test_it_stands_up_from_lying_and_lets_the_policy_act():
    run = Watched(act=lambda o, s: (np.zeros(12), 0.0), lying=True)
    machine = run.until(3.2)
    assert [m for _, m, _ in machine.history] == [Mode.STAND, Mode.HOLD, Mode.POLICY]
    assert 0.26 < run.plant.data.qpos[2] < 0.36
    assert run.commands > 700 and run.plant.refused == 0


def test_the_envelope_holds_for_a_wild_policy():
    def act(observation, spent):
        return np.sign(np.sin(np.arange(12) + 1e3 * observation[3])), 0.0

    run = Watched(act=act)
    run.until(1.0)
    assert Mode.POLICY in [m for _, m, _ in run.controller.machine.history]
    assert run.commands > 150


def test_the_envelope_refuses_what_it_should():
    envelope = Envelope.from_contract(CONTRACT)
    q, dq = np.array(CONTRACT["default_joint_positions"]), np.zeros(12)
    gains = np.full(12, 30.0), np.full(12, 0.7)
    envelope.check(q, *gains, q, dq, q, 0.004)
    for wrong, message in (
        ((q + 3.0, *gains, q, dq, None, 0.0), "limit"),
        ((q - 0.85, *gains, q, dq, None, 0.0), "torque"),
        ((q + 0.45, *gains, q, dq, q, 0.004), "too far"),
        ((q * np.nan, *gains, q, dq, q, 0.004), "finite"),
    ):
        with pytest.raises(EnvelopeError, match=message):
            envelope.check(*wrong)
    rng = np.random.default_rng(0)
    before = q
    for _ in range(200):
        state = rng.uniform(LOWER, UPPER), rng.normal(0, 15, 12)
        kp, kd = rng.uniform(0, 80, 12), rng.uniform(0, 6, 12)
        limited = envelope.limit(rng.normal(0, 4, 12), kp, kd, *state, before, 0.004)
        envelope.check(*limited, *state, before, 0.004)
        before = limited[0]


def test_a_killed_controller_leaves_a_damped_robot():
    run = Watched()
    run.until(0.8)
    last = run.plant.time
    for _ in range(60):
        run.plant.step()  # the controller is gone
    assert run.plant.watchdog_since is not None
    assert run.plant.watchdog_since - last <= 0.1
    motors = run.plant.torque
    speed = run.plant.data.qvel[run.plant._vadr]
    run.plant.step()
    assert np.abs(motors).max() < 24 and np.isfinite(speed).all()


@pytest.mark.parametrize("share", [0.01, 0.05, 0.2])
def test_lost_states_are_borne(share):
    run, rng = Watched(act=lambda o, s: (np.zeros(12), 0.0)), np.random.default_rng(0)
    run.bus.filters[base.LOW_STATE.name] = lambda raw: None if rng.random() < share else raw
    assert run.until(1.6).mode is Mode.POLICY


def start(**options):
    run = Watched(act=lambda o, s: (np.zeros(12), 0.0), **options)
    assert run.until(0.7).mode is Mode.POLICY
    return run


def ends(run, reason, within=0.15):
    began = run.plant.time
    run.until(began + within)
    machine = run.controller.machine
    assert machine.mode is Mode.DAMP and reason in machine.reason, machine.reason
    sent = run.controller.command
    assert (sent.kp == 0).all() and (sent.kd[:12] > 0).all()
    before = run.commands
    run.until(run.plant.time + 0.1)
    assert machine.mode is Mode.DAMP and run.commands > before  # latched, and still damping
    return machine.since - began


def test_states_that_stop_end_it_in_60_ms():
    run = start()
    run.bus.filters[base.LOW_STATE.name] = lambda raw: None
    run.watched_torque = False  # there is no state to hold commands against
    assert ends(run, "no state for") <= 0.07


def changed(change):
    def fault(raw):
        state = LowState(bytearray(raw))
        change(state)
        state.seal()
        return state.to_bytes()

    return fault


def set_nan(state):
    state.q[4] = np.nan


def flip(state):
    state.quaternion = (0.0, 1.0, 0.0, 0.0)


def bend(state):
    state.q[2] = -3.2


def heat(state):
    state.temperature[7] = 99


def lose(state):
    state.lost[3] = 400 + state.tick


def race(state):
    state.dq[1] = 70.0


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (set_nan, "q is not finite"),
        (flip, "tilt 180"),
        (bend, "beyond its limits"),
        (heat, "99 degrees"),
        (lose, "missed"),
        (race, "70 rad/s"),
    ],
)
def test_sensors_no_healthy_robot_has_end_it(change, reason):
    run = start()
    run.watched_torque = False  # the controller judges by the faulty state, the check by the true
    run.bus.filters[base.LOW_STATE.name] = changed(change)
    ends(run, reason)


def test_states_with_wrong_checksums_are_as_good_as_lost():
    run = start()

    def damage(raw):
        return raw[:90] + bytes([raw[90] ^ 1]) + raw[91:]

    run.bus.filters[base.LOW_STATE.name] = damage
    run.watched_torque = False
    ends(run, "no state for")
    assert run.controller.counts["bad_states"] > 20


def test_the_robot_refuses_commands_with_wrong_checksums():
    run = start()
    run.bus.filters[base.LOW_COMMAND.name] = lambda raw: raw[:40] + b"\1" + raw[41:]
    run.until(1.0)
    assert run.plant.refused > 20 and run.plant.watchdog_since is not None


def test_a_second_writer_ends_it():
    run = start()
    other = LowCmd.idle()
    other.seal()
    run.bus.filters.pop(base.LOW_COMMAND.name)
    run.bus.publisher(base.LOW_COMMAND).send(other.to_bytes())
    ends_reason = "somebody else writes"
    run.until(run.plant.time + 0.02)
    machine = run.controller.machine
    assert machine.mode is Mode.DAMP and ends_reason in machine.reason
    assert run.controller.counts["foreign"] == 1


def test_a_second_writer_beforehand_keeps_it_waiting():
    run = Watched()
    run.bus.publisher(base.LOW_COMMAND)
    assert run.until(0.3).mode is Mode.WAIT
    assert "on rt/lowcmd" in run.controller.waits_for and run.controller.command is None


def test_foot_sensors_of_zero_change_nothing():
    run = Watched(act=lambda o, s: (np.zeros(12), 0.0))
    run.bus.filters[base.LOW_STATE.name] = changed(lambda s: s.foot_force.fill(0))
    assert run.until(1.0).mode is Mode.POLICY
    assert run.controller.observer.contact.all()
    assert np.isnan(run.controller.feet.agreement).all()


def test_a_frozen_map_is_borne_for_half_a_second_and_then_holds():
    run = start()
    run.bus.filters[base.HEIGHT_MAP.name] = lambda raw: None
    assert run.until(run.plant.time + 0.55).mode is Mode.POLICY
    assert run.until(run.plant.time + 0.6).mode is Mode.HOLD
    assert "map older" in run.controller.machine.reason


def test_without_a_pose_it_holds():
    run = start()
    run.bus.filters[base.ODOMETRY.name] = lambda raw: None
    machine = run.until(run.plant.time + 0.4)
    assert machine.mode is Mode.HOLD and "pose older" in machine.reason


def test_an_action_that_is_not_finite_ends_it():
    run = Watched(act=lambda o, s: (np.full(12, np.nan), 0.0))
    machine = run.until(0.7)
    assert machine.mode is Mode.DAMP and "action is not finite" in machine.reason


def test_the_remote_starts_and_stops_it():
    run = Watched(act=lambda o, s: (np.zeros(12), 0.0), settings=Settings(), watchdog=9.0)
    assert run.until(0.1).mode is Mode.WAIT and run.controller.command is None

    def press(*keys):
        run.plant.keys = mask_of(keys)
        run.until(run.plant.time + 0.02)
        run.plant.keys = 0
        return run.until(run.plant.time + 0.4).mode

    assert press("A") is Mode.WAIT
    assert press("start") is Mode.HOLD
    assert press("A") is Mode.POLICY
    assert press("X") is Mode.HOLD
    assert press("B") is Mode.HOLD  # alone it does nothing
    assert press("L2", "B") is Mode.DAMP
    assert press("start") is Mode.DAMP


def test_lockstep_repeats_itself():
    a, b = Watched(seed=4), Watched(seed=4)
    a.until(0.8), b.until(0.8)
    assert np.array_equal(a.plant.data.qpos, b.plant.data.qpos)
    assert a.controller.command.to_bytes() == b.controller.command.to_bytes()
