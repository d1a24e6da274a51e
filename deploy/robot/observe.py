"""Sensors, pose and map to the policy's observation, from the contract alone.

A second implementation of the environment's observation: it reads the contract that lies in the
policy's file (``docs/contract.md``) and imports nothing of the environment. numpy only.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Dict, List, Mapping, Optional, Protocol

import numpy as np

from go2_sevpo.deploy.robot.legs import Legs, rotation_matrix


class ObserveError(ValueError):
    """A contract that this runtime cannot act for."""


class Heights(Protocol):
    """A map in the odometry frame."""

    def sample(self, xy: np.ndarray) -> np.ndarray:
        """Heights (...) of the cells that points (..., 2), m, lie in; nan where not known."""


@dataclass
class Sensors:
    """What the motors and the IMU say at one moment; joints in the policy's order.

    ``gyro`` (3,) rad/s, base frame; ``quaternion`` (4,) w x y z, base to world, of any yaw; ``q``,
    ``dq``, ``tau`` (12,) rad, rad/s, N m.
    """

    gyro: np.ndarray
    quaternion: np.ndarray
    q: np.ndarray
    dq: np.ndarray
    tau: np.ndarray


@dataclass
class Place:
    """Where the robot believes to be: ``position`` (3,), m, and ``yaw``, rad, odometry frame."""

    position: np.ndarray
    yaw: float


class Observer:
    """Builds observations one control step after the other.

    Args:
        contract: of version 2.

    Raises:
        ObserveError: another robot or version, or fields this code does not know.
    """

    def __init__(self, contract: Mapping[str, Any]) -> None:
        found = contract.get("robot"), contract.get("contract_version")
        if found != ("unitree_go2", 2):
            raise ObserveError(
                f"the policy is for {found[0]!r} with a contract of version {found[1]}, expected "
                "'unitree_go2' and version 2 (version 1 leaves out what a robot needs)"
            )
        layout = contract["observation"]
        kinematics = contract["kinematics"]
        self.default = np.array(contract["default_joint_positions"])
        self.joint_to_motor = np.array(contract["joint_to_motor"])
        self.legs = Legs(
            np.array(kinematics["hip_origins"]),
            np.array(kinematics["thigh_offsets"])[:, 1],
            float(kinematics["thigh_length"]),
            np.array(kinematics["foot_in_calf"]),
            float(kinematics["foot_radius"]),
        )
        self.action_clip = float(contract["action_clip"])
        self.action_scale = np.array(contract["action_scale"])
        self.target_lower = np.array(contract["target_lower"])
        self.target_upper = np.array(contract["target_upper"])
        self._contact = contract["contact"]
        self._way = contract["way"]
        ahead, aside = np.array(self._way["ahead"]), np.array(self._way["aside"])
        self._grid = np.stack(np.meshgrid(ahead, aside, indexing="ij"), axis=-1).reshape(-1, 2)
        self._scan = np.array(layout["scan_points"])  # (85, 2)
        self._ring = np.array(layout["foot_points"])  # (9, 2)
        self._centre = float(layout["scan_centre"])
        self._unknown = float(contract["map"]["unknown_drop"])
        self._frames: int = layout["frames"]
        self._frame_fields: List[str] = layout["frame_fields"]
        fields = layout["fields"]
        self._scale = np.concatenate([np.full(f["size"], f["scale"]) for f in fields])
        self._clip = np.concatenate([np.full(f["size"], f["clip"]) for f in fields])
        later = [f"{n}@-{k}" for k in range(1, self._frames) for n in self._frame_fields]
        expected = [*self._frame_fields, *later, "waypoints", "height_scan", "foot_heights"]
        if [f["name"] for f in fields] != expected:
            raise ObserveError(
                f"the observation's fields are {[f['name'] for f in fields]}, expected {expected}"
            )
        self.contact = np.zeros(len(self.legs.side), dtype=bool)
        """Contacts (4,) of the last observation."""
        self._history: List[np.ndarray] = []
        self._direction: Optional[np.ndarray] = None

    def start(self, place: np.ndarray, goal: np.ndarray) -> None:
        """A run begins at ``place`` (2,) towards ``goal`` (2,), m, odometry frame."""
        self._history = []
        way = np.asarray(goal, dtype=float) - np.asarray(place, dtype=float)
        length = float(np.linalg.norm(way))
        if not length > 0.0:
            raise ObserveError("the goal is where the robot stands; name another one")
        self._direction, self._goal = way / length, np.asarray(goal, dtype=float)

    def contacts(self, sensors: Sensors, gravity: np.ndarray) -> np.ndarray:
        """Which feet touch the ground (4,), from the motors' torques.

        ``gravity`` (3,) is its direction in the base frame.
        """
        jacobian = self.legs.jacobians(sensors.q)  # (4, 3 axes, 3 joints)
        j0, j1, j2 = (jacobian[:, :, k] for k in range(3))
        c12, c20, c01 = np.cross(j1, j2), np.cross(j2, j0), np.cross(j0, j1)
        determinant = (j0 * c12).sum(axis=1)
        t0, t1, t2 = sensors.tau.reshape(-1, 3).T[:, :, None]
        along = (t0 * c12 + t1 * c20 + t2 * c01) @ gravity
        singular = float(self._contact["singular"])
        force = along * determinant / (determinant**2 + singular**2)
        return force > self._contact["threshold"]

    def observe(
        self, sensors: Sensors, last_action: np.ndarray, place: Place, heights: Heights
    ) -> np.ndarray:
        """The observation (S,) float32; ``last_action`` (12,) in the policy's units.

        Raises:
            ObserveError: no run was started.
        """
        if self._direction is None:
            raise ObserveError("no run was started: the goal is not known")
        rotation = rotation_matrix(sensors.quaternion)
        gravity = -rotation[2]
        self.contact = self.contacts(sensors, gravity)
        values: Dict[str, np.ndarray] = {
            "base_angular_velocity": sensors.gyro,
            "gravity_direction": gravity,
            "joint_position_offset": sensors.q - self.default,
            "joint_velocity": sensors.dq,
            "last_action": np.clip(last_action, -self.action_clip, self.action_clip),
            "foot_contact": self.contact.astype(float),
        }
        frame = np.concatenate([values[name] for name in self._frame_fields])
        self._history = [frame, *self._history[: self._frames - 1]]
        while len(self._history) < self._frames:
            self._history.append(frame)  # before the start nothing was
        around = self._around(sensors.q, rotation, place, heights)
        raw = np.concatenate([*self._history, around])
        return np.clip(raw * self._scale, -self._clip, self._clip).astype(np.float32)

    def _around(
        self, q: np.ndarray, rotation: np.ndarray, place: Place, heights: Heights
    ) -> np.ndarray:
        """Waypoints, height scan and foot heights, not scaled."""
        assert self._direction is not None
        cos, sin = np.cos(place.yaw), np.sin(place.yaw)
        turn = np.array([[cos, -sin], [sin, cos]])  # heading to odometry
        # Body to heading: the IMU's rotation without its own yaw.
        own = np.arctan2(rotation[1, 0], rotation[0, 0])
        c, s = np.cos(own), np.sin(own)
        level = np.array([[c, s, 0.0], [-s, c, 0.0], [0.0, 0.0, 1.0]]) @ rotation
        feet = self.legs.feet(q) @ level.T  # (4, 3) heading axes, from the base
        ring = (feet[:, None, :2] + self._ring).reshape(-1, 2)
        xy, z = place.position[:2], float(place.position[2])
        n = np.array([-self._direction[1], self._direction[0]])
        way = self._grid[:, :1] * self._direction + self._grid[:, 1:] * n
        asked = np.concatenate([xy + way, xy + ring @ turn.T, xy + self._scan @ turn.T])
        ground = heights.sample(asked)
        drop = np.where(np.isfinite(ground), z - ground, np.inf)  # base over ground, m
        count = len(way)
        walkable = drop[:count] < self._way["drop"]
        aside = self._grid[walkable, 1]
        lateral = float(aside.mean()) if len(aside) else 0.0
        first = self._way["target"] * self._direction + lateral * n
        targets = np.stack([first, self._goal - xy]) @ turn  # odometry to heading
        distance = np.maximum(np.linalg.norm(targets, axis=1, keepdims=True), 1e-3)
        ways = np.concatenate([targets / distance, distance / 2], axis=1).reshape(-1)
        drop = np.where(np.isfinite(ground), z - ground, self._unknown)
        under = drop[count : count + len(ring)].reshape(len(feet), -1) + feet[:, 2:]
        foot = (under - self.legs.foot_radius).reshape(-1)
        return np.concatenate([ways, drop[count + len(ring) :] - self._centre, foot])

    def targets(self, action: np.ndarray) -> np.ndarray:
        """Joint targets (12,), rad, of an action (12,), within the contract's limits."""
        clipped = np.clip(action, -self.action_clip, self.action_clip)
        wanted = self.default + self.action_scale * clipped
        return np.clip(wanted, self.target_lower, self.target_upper)
