"""The controller: messages in, commands out. It knows no clock and no bus but those it is given."""

from __future__ import annotations

import math
from collections import deque
from typing import Any, Callable, Deque, Dict, FrozenSet, List, Mapping, Optional, Tuple

import numpy as np

from go2_sevpo.deploy.robot.bus import base
from go2_sevpo.deploy.robot.contacts import FootSensors
from go2_sevpo.deploy.robot.control import ControlStep, Settings
from go2_sevpo.deploy.robot.elevation import ElevationMap, Grid
from go2_sevpo.deploy.robot.envelope import Envelope
from go2_sevpo.deploy.robot.legs import rotation_matrix
from go2_sevpo.deploy.robot.machine import Machine, Mode
from go2_sevpo.deploy.robot.messages.fixed import (
    LowCmd,
    LowState,
    MessageError,
    SportModeState,
    WirelessController,
)
from go2_sevpo.deploy.robot.messages.variable import HeightMap, Odometry, PointCloud
from go2_sevpo.deploy.robot.observe import Heights, Observer, Place, Sensors
from go2_sevpo.deploy.robot.remote import mask_in_state, pressed
from go2_sevpo.deploy.robot.supervisor import Supervisor

Act = Callable[[np.ndarray, float], Tuple[np.ndarray, float]]
"""From an observation (S,) and the cost so far, an action (12,) and the cost value."""

FOLDED = (0.0, 1.36, -2.65)
"""Hip, thigh, calf of a leg under a lying robot, rad."""
SQUAT = 0.4
"""rad by which thighs and, twice, calves bend to stop: the lower, the less it tips over."""
BRAKE_KP, BRAKE_KD = 80.0, 3.0
"""N m/rad, N m s/rad while stopping."""
MOST_OWN = 256
"""Commands of our own that are remembered, to tell others' from them."""


class Controller:
    """See the module. :meth:`tick` is called whenever something may have come.

    Args:
        bus: where the robot is.
        contract: of the policy (:mod:`go2_sevpo.deploy.robot.observe`).
        act: the policy; None to stand only.
        settings: see there.
        on_step: called with every step of the policy.

    Raises:
        ObserveError: a contract that this runtime cannot act for.
    """

    def __init__(
        self,
        bus: base.Bus,
        contract: Mapping[str, Any],
        act: Optional[Act],
        settings: Settings,
        on_step: Optional[Callable[[ControlStep], None]] = None,
    ) -> None:
        self.settings, self.act, self.on_step = settings, act, on_step
        self.observer, self.envelope = Observer(contract), Envelope.from_contract(contract)
        self.supervisor = Supervisor(contract, settings.limits)
        self.machine = Machine(settings.automatic, settings.settle, policy=act is not None)
        self.feet, self.elevation = FootSensors(len(self.observer.legs.side)), ElevationMap()
        self._kp, self._kd = np.array(contract["kp"]), np.array(contract["kd"])
        self._dt = float(contract["control_dt"])
        self._states = bus.subscriber(base.LOW_STATE, 32)
        self._commands = bus.subscriber(base.LOW_COMMAND, 16)
        self._tick_log = getattr(bus, "tick", None)
        self._remote = bus.subscriber(base.REMOTE)
        self._odometry = bus.subscriber(base.ODOMETRY)
        self._sport = bus.subscriber(base.SPORT_STATE)
        self._cloud = bus.subscriber(base.CLOUD, 2)
        self._heights = bus.subscriber(base.HEIGHT_MAP)
        self._out: Optional[base.Publisher] = None
        self._bus = bus
        self._own: Deque[int] = deque(maxlen=MOST_OWN)
        self.place: Optional[Place] = None
        self.goal: Optional[np.ndarray] = None
        self.state: Optional[LowState] = None
        """The newest good one."""
        self.grid: Optional[Grid] = None
        self.command: Optional[LowCmd] = None
        """The last one sent."""
        self.waits_for: Optional[str] = None
        """The fault that keeps the robot from standing up, if there is one."""
        self.spent, self.value = 0.0, 0.0
        self.last_action = np.zeros(12)
        self.counts: Dict[str, int] = {"states": 0, "bad_states": 0, "commands": 0, "foreign": 0}
        self._sensors: Optional[Sensors] = None
        self._accelerometer = np.zeros(3)
        self._last_state = self._last_pose = self._last_map = -math.inf
        self._last_sent = self._next_control = -math.inf
        self._target: Optional[np.ndarray] = None  # of the command before
        self._policy_target = np.array(contract["default_joint_positions"])
        self._pose_at_start: Optional[np.ndarray] = None
        self._keys: FrozenSet[str] = frozenset()
        self._topic_keys: FrozenSet[str] = frozenset()
        self._mode_before = Mode.WAIT

    # ---- what comes in ----

    def _read_states(self, now: float) -> Optional[str]:
        """Take the states that came; returns a fault."""
        fault = None
        for raw in self._states.take():
            try:
                state = LowState(raw)
            except MessageError:
                self.counts["bad_states"] += 1
                continue
            if self.settings.checksums and not state.intact():
                self.counts["bad_states"] += 1
                continue
            self.counts["states"] += 1
            self.state, self._last_state = state, now
            motors = self.observer.joint_to_motor
            self._sensors = Sensors(
                state.gyroscope.astype(float),
                state.quaternion.astype(float),
                state.q[motors].astype(float),
                state.dq[motors].astype(float),
                state.tau_est[motors].astype(float),
            )
            self._accelerometer = state.accelerometer.astype(float)
            self._keys = pressed(mask_in_state(state.wireless_remote))
            fault = fault or self.supervisor.sensors(self._sensors)
            fault = fault or self.supervisor.state(now, state)
            # The sensors' order is the motors': feet of the policy's legs.
            legs = motors[0::3] // 3
            self.feet.update(state.foot_force[legs], self.observer.contact)
        return fault

    def _read_rest(self, now: float) -> Optional[str]:
        """Take what came on the other topics; returns a fault."""
        remote = self._remote.latest()
        if remote is not None:
            self._topic_keys = pressed(WirelessController(remote).keys)
        raw = self._odometry.latest()
        if raw is not None:
            odometry = Odometry.from_bytes(raw)
            self._set_place(now, odometry.position, odometry.quaternion)
        raw = self._sport.latest()
        if raw is not None and self._sensors is not None and self._odometry.writers() == 0:
            # Unitree's simulator gives a position here; the turn is the IMU's.
            position = SportModeState(raw).position.astype(float)
            self._set_place(now, position, self._sensors.quaternion)
        for raw in self._cloud.take():
            cloud = PointCloud.from_bytes(raw)
            self.elevation.add(cloud.points, cloud.stamp)
            self._last_map = now
        raw = self._heights.latest()
        if raw is not None:
            self.grid, self._last_map = Grid.from_message(HeightMap.from_bytes(raw)), now
        foreign = 0
        for raw in self._commands.take():
            foreign += LowCmd(raw).crc not in self._own
        self.counts["foreign"] += foreign
        return "somebody else writes on rt/lowcmd" if foreign else None

    def _set_place(self, now: float, position: np.ndarray, quaternion: np.ndarray) -> None:
        if not (np.isfinite(position).all() and np.isfinite(quaternion).all()):
            return  # as good as none: the pose grows old
        rotation = rotation_matrix(quaternion)
        self.place = Place(np.array(position), math.atan2(rotation[1, 0], rotation[0, 0]))
        self.elevation.move(self.place.position)
        self._last_pose = now

    # ---- what goes out ----

    def other_writers(self) -> int:
        """How many others publish commands."""
        return self._commands.writers() - (self._out is not None)

    @property
    def sensors(self) -> Optional[Sensors]:
        """The newest ones."""
        return self._sensors

    def set_grid(self, grid: Grid, now: float) -> None:
        """Take a map that did not come over the bus."""
        self.grid, self._last_map = grid, now

    def tick(self, now: float) -> None:
        """Look at what came, and send a command if it is time; ``now`` in s, never backwards."""
        if self._tick_log is not None:
            self._tick_log(now)  # a log of messages keeps the looks, too
        try:
            fault = self._read_states(now)
            fault = fault or self._read_rest(now)
        except MessageError as error:
            fault = str(error)
        alive = self._sensors is not None
        if alive:
            fault = fault or self.supervisor.silence(now, self._last_state)
        if self.machine.mode is Mode.WAIT and fault is None and self.other_writers() > 0:
            fault = f"{self.other_writers()} other program(s) on rt/lowcmd"
        self.waits_for = fault
        keys = self._keys | self._topic_keys
        self.machine.update(now, keys, fault, alive, self._has_stood(now))
        if self.machine.mode is not self._mode_before:
            self._enter(now)
        if self.machine.mode is Mode.POLICY and now >= self._next_control - 1e-9:
            self._control(now)
        due = now - self._last_sent >= self.settings.command_period - 1e-9
        if self.machine.mode is not Mode.WAIT and alive and due:
            self._send(now)

    def _has_stood(self, now: float) -> bool:
        return self.machine.mode is Mode.STAND and self._stand_share(now) >= 2.0

    def _stand_share(self, now: float) -> float:
        """How far standing up is: 1 folded, 2 standing."""
        elapsed, s = now - self.machine.since, self.settings
        if self._pose_at_start is not None and self._near_default(self._pose_at_start):
            return 1.0 + elapsed / 0.2 if elapsed < 0.2 else 2.0
        if elapsed < s.fold_seconds:
            return elapsed / s.fold_seconds
        return min(1.0 + (elapsed - s.fold_seconds) / s.rise_seconds, 2.0)

    def _near_default(self, q: np.ndarray) -> bool:
        return bool(np.abs(q - self.observer.default).max() < 0.35)

    def _enter(self, now: float) -> None:
        """A new state of the machine begins."""
        before, self._mode_before = self._mode_before, self.machine.mode
        if self._sensors is None:
            return
        if before is Mode.POLICY and self.goal is not None:
            self._report_end(now)
        if self.machine.mode in (Mode.STAND, Mode.HOLD):
            self._pose_at_start = self._sensors.q.copy()
        if self.machine.mode is Mode.POLICY:
            self._start_policy(now)

    def _start_policy(self, now: float) -> None:
        assert self._sensors is not None
        if self.place is None:
            self.machine.end_policy(now, "no odometry: the policy needs a pose")
            self._mode_before = self.machine.mode
            return
        x, y = self.settings.goal
        if self.settings.goal_frame == "robot":
            cos, sin = math.cos(self.place.yaw), math.sin(self.place.yaw)
            x, y = cos * x - sin * y, sin * x + cos * y
            x, y = x + self.place.position[0], y + self.place.position[1]
        self.goal = np.array([x, y])
        self.observer.start(self.place.position[:2], self.goal)
        # The ground that the robot stands on, which its camera has not seen.
        soles = self.soles(self._sensors, self.place)
        self.elevation.move(self.place.position)
        self.elevation.stand(soles)
        self.last_action, self.spent = np.zeros(12), 0.0
        self._next_control = now

    def soles(self, sensors: Sensors, place: Place) -> np.ndarray:
        """Lowest points of the feet (4, 3), m, odometry frame."""
        rotation = rotation_matrix(sensors.quaternion)
        turn = place.yaw - math.atan2(rotation[1, 0], rotation[0, 0])
        cos, sin = math.cos(turn), math.sin(turn)
        level = np.array([[cos, -sin, 0.0], [sin, cos, 0.0], [0.0, 0.0, 1.0]]) @ rotation
        feet = self.observer.legs.feet(sensors.q) @ level.T + place.position
        feet[:, 2] -= self.observer.legs.foot_radius
        return feet

    def _control(self, now: float) -> None:
        """One step of the policy."""
        assert self._sensors is not None and self.place is not None and self.goal is not None
        assert self.act is not None
        # Steps keep their rhythm; after a pause they start anew.
        late = now - self._next_control > self._dt
        self._next_control = (now if late else self._next_control) + self._dt
        if now - self._last_pose > self.settings.pose_age:
            self.machine.end_policy(now, f"pose older than {self.settings.pose_age:g} s")
        elif now - self._last_map > self.settings.map_age:
            self.machine.end_policy(now, f"map older than {self.settings.map_age:g} s")
        elif np.linalg.norm(self.place.position[:2] - self.goal) < self.settings.goal_radius:
            self.machine.end_policy(now, "the goal")
        if self.machine.mode is not Mode.POLICY:
            self._enter(now)
            return
        step = self._observed(now, "policy")
        action, self.value = self.act(step.observation, self.spent)
        if not np.isfinite(action).all():
            self.machine.to(Mode.DAMP, now, "the policy's action is not finite")
            return
        action = np.clip(action, -self.observer.action_clip, self.observer.action_clip)
        step.action, step.value = action, self.value
        if self.on_step is not None:
            self.on_step(step)
        self.last_action = action
        self._policy_target = self.observer.targets(action)

    def _observed(self, now: float, actor: str) -> ControlStep:
        """What the policy sees now, with no action yet."""
        assert self._sensors is not None and self.place is not None
        heights: Heights = self.elevation if self.grid is None else self.grid
        observation = self.observer.observe(self._sensors, self.last_action, self.place, heights)
        place = Place(self.place.position.copy(), self.place.yaw)
        sensed = (self._sensors, self._accelerometer.copy(), place, self.observer.contact.copy())
        return ControlStep(
            now, observation, np.zeros(12), 0.0, *sensed, heights, actor, self.last_action
        )

    def _report_end(self, now: float) -> None:
        """The policy has ended: its last observation, and who ended it."""
        if self.on_step is None or self._sensors is None:
            return
        numbers = np.concatenate([np.ravel(v) for v in vars(self._sensors).values()])
        if np.isfinite(numbers).all():
            self.on_step(self._observed(now, "end"))

    def _wanted(self, now: float) -> Tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Targets (12,), rad, and gains (12,) of the present state."""
        assert self._sensors is not None
        mode, ones, default = self.machine.mode, np.ones(12), self.observer.default
        if mode is Mode.DAMP:
            return self._sensors.q, 0.0 * ones, self.settings.damp_kd * ones
        if mode is Mode.POLICY:
            return self._policy_target, self._kp, self._kd
        kp, kd = self.settings.stand_kp * ones, self.settings.stand_kd * ones
        start = self._pose_at_start if self._pose_at_start is not None else default
        if mode is Mode.HOLD and self.machine.finished:
            return self._brake(now)
        if mode is Mode.HOLD:
            share = min((now - self.machine.since) / 0.3, 1.0)
            return start + share * (default - start), kp, kd
        share, folded = self._stand_share(now), np.tile(FOLDED, len(default) // 3)
        if self._near_default(start):
            return start + max(share - 1.0, 0.0) * (default - start), kp, kd
        if share < 1.0:
            return start + share * (folded - start), kp, kd
        return folded + (share - 1.0) * (default - folded), kp, kd

    def _brake(self, now: float) -> Tuple[np.ndarray, np.ndarray, np.ndarray]:
        """From walking to standing: squat at once and stiffly, then rise."""
        elapsed, default = now - self.machine.since, self.observer.default
        squat = default + np.tile([0.0, SQUAT, -2 * SQUAT], len(default) // 3)
        brake = self.settings.brake_seconds
        if elapsed < brake:
            share = min(elapsed / 0.1, 1.0)
            target = self._policy_target + share * (squat - self._policy_target)
        else:
            target = squat + min(elapsed - brake, 1.0) * (default - squat)
        ones = np.ones(len(default))
        return target, BRAKE_KP * ones, BRAKE_KD * ones

    def _send(self, now: float) -> None:
        """Send the present state's command, within the envelope."""
        assert self._sensors is not None
        q = np.nan_to_num(self._sensors.q, nan=0.0, posinf=0.0, neginf=0.0)
        dq = np.nan_to_num(self._sensors.dq, nan=0.0, posinf=0.0, neginf=0.0)
        wanted, kp, kd = self._wanted(now)
        envelope, first = self.envelope, self._target is None
        if self._target is None:
            self._target = np.clip(q, envelope.lower, envelope.upper)
        elapsed = min(max(now - self._last_sent, 0.0), 0.02)
        if self.machine.mode is Mode.DAMP:
            wanted = self._target  # without stiffness a target means nothing: it stays
        limited = envelope.limit(np.nan_to_num(wanted), kp, kd, q, dq, self._target, elapsed)
        envelope.check(*limited, q, dq, None if first else self._target, elapsed)
        target, kp, kd = limited
        command, motors = LowCmd.idle(), self.observer.joint_to_motor
        command.q[motors], command.dq[motors], command.tau[motors] = target, 0.0, 0.0
        command.kp[motors], command.kd[motors] = kp, kd
        command.seal()
        self._own.append(command.crc)
        if self._out is None:
            self._out = self._bus.publisher(base.LOW_COMMAND)  # nobody could be heard before
        self._out.send(command.to_bytes())
        self.counts["commands"] += 1
        self.command, self._target, self._last_sent = command, target, now

    @property
    def modes(self) -> List[str]:
        """The states so far, each with its reason."""
        return [f"{mode.value}: {reason}" for _, mode, reason in self.machine.history]
