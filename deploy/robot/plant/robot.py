"""The virtual Go2: MuJoCo on a course behind the robot's messages.

Physics and ``LowState_`` at 500 Hz, the motors' PD law at every physics step, commands with a wrong
checksum refused, and a watchdog that damps when commands stop. Everything the robot would know goes
over the bus; the truth stays here, for tables and films.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass
from typing import Callable, Deque, Optional, Tuple

import mujoco
import numpy as np

from go2_sevpo.deploy.robot.bus import base
from go2_sevpo.deploy.robot.messages.fixed import LowCmd, LowState, MessageError
from go2_sevpo.deploy.robot.messages.variable import HeightMap, Odometry, PointCloud
from go2_sevpo.deploy.robot.plant.odometry import DriftingOdometry
from go2_sevpo.deploy.robot.plant.sensors import DEPTH, LIDAR, Rays
from go2_sevpo.deploy.robot.plant.settings import PlantSettings
from go2_sevpo.envs.go2.description import robot as r
from go2_sevpo.envs.go2.description.course import (
    DESTINATION_RADIUS,
    MAP_RESOLUTION,
    MAP_X0,
    MAP_Y0,
    Course,
    height_maps,
)
from go2_sevpo.envs.go2.description.scene import scene_xml

DT = 0.002
DAMPING = 2.0
"""N m s/rad of a motor whose commands stopped."""
FOLDED = np.tile([0.0, 1.36, -2.65], 4)
_SENSORS = {"depth": DEPTH, "lidar": LIDAR}
FALL_DROP, FALL_COS, TOUCH = 0.30, 0.26, 1.0
"""m, cosine of the tilt, N: the task's definition of a fall (docs/courses.md)."""


@dataclass
class Truth:
    """What really happened; only tables and films look at it."""

    success: bool = False
    fall: bool = False
    distance: float = 0.0
    """m to the destination."""


class Plant:
    """One robot on one course, on a bus; :meth:`step` is one physics step.

    Args:
        bus: where its topics are.
        course: see :mod:`go2_sevpo.envs.go2.description.course`.
        settings: see there.

    Raises:
        ValueError: perception that is not known.
    """

    def __init__(self, bus: base.Bus, course: Course, settings: PlantSettings) -> None:
        if settings.perception not in (*_SENSORS, "map", "none"):
            raise ValueError(
                f"perception is '{settings.perception}', expected depth, lidar, map or none"
            )
        self.course, self.settings = course, settings
        self.rng = np.random.default_rng(settings.seed)
        self.model = self._model(course)
        self.data = mujoco.MjData(self.model)
        names = r.SDK_JOINT_NAMES  # motor order, as on the bus
        self._qadr = np.array([self.model.joint(n).qposadr[0] for n in names])
        self._vadr = np.array([self.model.joint(n).dofadr[0] for n in names])
        self._act = np.array([self.model.actuator(n).id for n in names])
        self._limit = np.array([r.joint_limits(n).torque for n in names])
        self._speed = np.array([r.joint_limits(n).velocity for n in names])
        feet = ("FR", "FL", "RR", "RL")
        self._feet = np.array([self.model.sensor(f"{leg}_foot").adr[0] for leg in feet])
        self._touch = int(self.model.sensor("base").adr[0])
        self.base = self.model.body("base").id
        self._states = bus.publisher(base.LOW_STATE)
        self._odometry_out = bus.publisher(base.ODOMETRY)
        self._commands = bus.subscriber(base.LOW_COMMAND, 8)
        self._rays, self._range = Rays(self.model), _SENSORS.get(settings.perception)
        self._cloud = bus.publisher(base.CLOUD) if self._range else None
        self._heights = bus.publisher(base.HEIGHT_MAP) if settings.perception == "map" else None
        maps = height_maps(course)
        self.height, self.rim = maps["height"], maps["rim"]
        self.stamp: Optional[Callable[[], int]] = None
        """Gives the number in the states' spare field; a clock, for measuring latency."""
        self.keys = 0
        """Mask of the remote's keys held down."""
        self.steps, self.truth = 0, Truth()
        self.torque = np.zeros(12)
        self.refused = 0
        """Commands with a wrong checksum or size."""
        self.watchdog_since: Optional[float] = None
        self._waiting: Deque[Tuple[float, np.ndarray]] = deque()  # commands on their way
        self._command: Optional[np.ndarray] = None  # (5, 12): q, dq, tau, kp, kd
        self._last_command = -math.inf
        self._on_the_way: Deque[Tuple[float, base.Publisher, bytes]] = deque()
        self._next_scan = self._next_map = 0.0
        self._foot_zero = self.rng.uniform(10, 60, 4)
        self._foot_gain = self.rng.uniform(0.5, 1.2, 4)
        self._acceleration = np.zeros(3)
        self._place()
        self.odometry = DriftingOdometry(settings.drift, self.data.qpos[:3].copy(), self.rng)

    def _model(self, course: Course) -> mujoco.MjModel:
        """The task's model with motors of torque instead of position."""
        model, s = mujoco.MjModel.from_xml_string(scene_xml(course)), self.settings
        model.opt.timestep = DT
        model.opt.disableflags |= mujoco.mjtDisableBit.mjDSBL_AUTORESET.value
        model.actuator_gainprm[:, 0], model.actuator_biasprm[:, :3] = 1.0, 0.0
        model.geom_friction[:, 0] *= s.friction
        model.body_mass[model.body("base").id] += s.payload
        model.dof_damping[6:] = s.damping
        mujoco.mj_setConst(model, mujoco.MjData(model))
        return model

    def _place(self) -> None:
        """Put the robot at the start, standing or lying."""
        q, j = self.data.qpos, self.settings.jitter
        pose = dict(zip(r.JOINT_NAMES, r.DEFAULT_JOINT_POSITIONS))
        standing = np.array([pose[n] for n in r.SDK_JOINT_NAMES])
        q[:3] = np.array(self.course.start)
        q[0] += self.rng.uniform(-j, j)
        q[1] += self.rng.uniform(-j / 2, j / 2)
        q[2] += 0.075 if self.settings.lying else r.NOMINAL_BASE_HEIGHT + 0.005
        yaw = self.rng.uniform(-j, j)
        q[3:7] = (math.cos(yaw / 2), 0.0, 0.0, math.sin(yaw / 2))
        q[self._qadr] = FOLDED if self.settings.lying else standing
        mujoco.mj_forward(self.model, self.data)
        self._command = np.zeros((5, 12))
        self._command[0] = q[self._qadr]
        if not self.settings.lying:
            # Held until the first command comes, like a robot that its operator holds.
            self._command[3], self._command[4] = 60.0, 3.0
        self._last_command = 0.0

    @property
    def time(self) -> float:
        """Seconds since the start."""
        return self.steps * DT

    # ---- commands ----

    def _read_commands(self) -> None:
        for raw in self._commands.take():
            try:
                command = LowCmd(raw)
            except MessageError:
                self.refused += 1
                continue
            if not command.intact() or tuple(command.head) != (0xFE, 0xEF):
                self.refused += 1
                continue
            numbers = np.stack(
                [getattr(command, n)[:12].astype(float) for n in ("q", "dq", "tau", "kp", "kd")]
            )
            self._waiting.append((self.time + self.settings.delay, numbers))
        while self._waiting and self._waiting[0][0] <= self.time + 1e-9:
            self._command = self._waiting.popleft()[1]
            self._last_command, self.watchdog_since = self.time, None

    def _motor_torque(self) -> np.ndarray:
        """Torques (12,), N m, of the PD law at this physics step, or of the watchdog."""
        q, dq = self.data.qpos[self._qadr], self.data.qvel[self._vadr]
        assert self._command is not None
        if self.time - self._last_command > self.settings.watchdog:
            if self.watchdog_since is None:
                self.watchdog_since = self.time
            tau = -DAMPING * dq
        else:
            target, speed, feed, kp, kd = self._command
            # Unitree's "no position" would be a huge number times a zero gain.
            tau = feed + np.where(kp > 0, kp * (target - q), 0.0)
            tau = tau + np.where(kd > 0, kd * (np.where(np.abs(speed) < 1e3, speed, 0.0) - dq), 0.0)
        slope = self.settings.droop * self._limit / self._speed
        return np.clip(tau, -self._limit - slope * dq, self._limit - slope * dq)

    # ---- one step ----

    def step(self) -> None:
        """One physics step: commands in, physics, messages out."""
        self._read_commands()
        self.torque = self._motor_torque()
        self.data.ctrl[self._act] = self.torque
        before = self.data.qvel[:3].copy()
        mujoco.mj_step(self.model, self.data)
        v = self.data.qvel
        v[self._vadr] = np.clip(v[self._vadr], -self._speed, self._speed)
        self._acceleration = (v[:3] - before) / DT + np.array([0.0, 0.0, 9.81])
        self.steps += 1
        if not np.isfinite(self.data.qpos).all():
            raise RuntimeError("the virtual robot's state is not finite")
        self.odometry.advance(self.data.qpos[:3], DT)
        self._judge()
        self._send_state()
        self._send_pose_and_map()

    def cell(self, xy: np.ndarray) -> Tuple[np.ndarray, np.ndarray]:
        """Cells of the course's maps at points (..., 2), m, clipped."""
        nx, ny = self.height.shape
        i = np.clip(((xy[..., 0] - MAP_X0) / MAP_RESOLUTION).astype(int), 0, nx - 1)
        j = np.clip(((xy[..., 1] - MAP_Y0) / MAP_RESOLUTION).astype(int), 0, ny - 1)
        return i, j

    def _judge(self) -> None:
        """The task's success and fall, from the truth."""
        position, truth = self.data.qpos[:3], self.truth
        truth.distance = float(np.linalg.norm(self.course.destination[:2] - position[:2]))
        upright = self.data.xmat[self.base].reshape(3, 3)[2, 2]
        sunk = position[2] < self.rim[self.cell(position[:2])] - FALL_DROP
        touching = self.data.sensordata[self._touch] > TOUCH
        # A robot that lies down at the start has not fallen.
        if not self.settings.lying or self.time > 5.0:
            truth.fall = truth.fall or bool(touching or upright < FALL_COS or sunk)
        truth.success = truth.success or (truth.distance < DESTINATION_RADIUS and not truth.fall)

    def _send_state(self) -> None:
        rng, noise = self.rng, 1.0 if self.settings.noise else 0.0
        state, data = LowState(), self.data
        rotation = data.xmat[self.base].reshape(3, 3)
        state.head, state.level_flag = (0xFE, 0xEF), 0xFF
        state.quaternion = data.qpos[3:7]
        state.gyroscope = data.qvel[3:6] + noise * rng.normal(0.0, 0.05, 3)
        state.accelerometer = rotation.T @ self._acceleration + noise * rng.normal(0.0, 0.1, 3)
        state.q[:12] = data.qpos[self._qadr] + noise * rng.normal(0.0, 0.002, 12)
        state.dq[:12] = data.qvel[self._vadr] + noise * rng.normal(0.0, 0.2, 12)
        state.tau_est[:12] = self.torque + noise * rng.normal(0.0, 0.2, 12)
        state.temperature[:12] = 35
        self._foot_zero += noise * rng.normal(0.0, 0.02, 4)  # raw and drifting
        raw = self._foot_zero + self._foot_gain * data.sensordata[self._feet]
        state.foot_force = np.clip(raw, -32768, 32767).astype(np.int16)
        state.tick = int(round(1000 * self.time))
        state.wireless_remote[2], state.wireless_remote[3] = self.keys & 0xFF, self.keys >> 8
        state.power_voltage, state.state_of_charge = 29.0, 90
        state.first_mode, state.other_modes = 1, 1
        if self.stamp is not None:
            state.reserve = self.stamp()
        state.seal()
        self._states.send(state.to_bytes())

    def _later(self, publisher: base.Publisher, data: bytes) -> None:
        self._on_the_way.append((self.time + self.settings.perception_delay, publisher, data))

    def _send_pose_and_map(self) -> None:
        position, quaternion = self.odometry.position, self.data.qpos[3:7]
        if self.steps % 5 == 0:  # 100 Hz
            turned = self.odometry.quaternion(quaternion)
            self._odometry_out.send(Odometry(self.time, position, turned).to_bytes())
        if self._cloud is not None and self._range is not None and self.time >= self._next_scan:
            self._next_scan += self._range.period
            points = self._rays.scan(self.data, self._range, self.rng)
            seen = self.odometry.points(points).astype(np.float32)
            self._later(self._cloud, PointCloud(self.time, "odom", seen).to_bytes())
        if self._heights is not None and self.time >= self._next_map:
            self._next_map += 0.02
            self._later(self._heights, self._true_map().to_bytes())
        while self._on_the_way and self._on_the_way[0][0] <= self.time + 1e-9:
            _, publisher, data = self._on_the_way.popleft()
            publisher.send(data)

    def _true_map(self) -> HeightMap:
        """The course's heights around the robot, in cells that lie still in the odometry frame."""
        cell, n = self.settings.map_resolution, 64
        position, origin = self.odometry.position, np.zeros(2)
        origin = (np.floor(position[:2] / cell) - n // 2) * cell
        x = origin[0] + (np.arange(n) + 0.5) * cell
        y = origin[1] + (np.arange(n) + 0.5) * cell
        there = np.stack(np.meshgrid(x, y), axis=-1) - position[:2]  # rows along y
        cos, sin = math.cos(-self.odometry.turn), math.sin(-self.odometry.turn)
        turned = np.stack(
            [cos * there[..., 0] - sin * there[..., 1], sin * there[..., 0] + cos * there[..., 1]],
            axis=-1,
        )
        heights = self.height[self.cell(turned + self.data.qpos[:2])]
        heights = heights + float(position[2] - self.data.qpos[2])
        corner = (float(origin[0]), float(origin[1]))
        return HeightMap(self.time, "odom", cell, corner, heights.astype(np.float32))
