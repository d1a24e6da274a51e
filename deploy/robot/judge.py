"""What a robot can tell of costs and rewards by itself: no simulator, no truth.

cost 1 on a step with a fall, a body other than a foot touching, or a foot in a gap:

- fall: tilted more than 75 degrees, or the supervisor ended the run.
- touch: the accelerometer says which force holds the robot up, m a; the motors say how much of it
  goes through the feet. What is missing for some steps in a row goes through the base, a thigh or a
  calf. (In flight both are near zero.)
- gap: a foot deeper than 6 cm below the map's surface around it, where the map knows no ground.

Rewards are the task's (:mod:`go2_sevpo.envs.go2.rewards`), as far as a robot can measure their
terms: base velocity from odometry, direction from the way to the goal.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Optional

import numpy as np

from go2_sevpo.deploy.robot.control import ControlStep
from go2_sevpo.deploy.robot.legs import Legs, rotation_matrix
from go2_sevpo.deploy.robot.observe import Heights, Observer
from go2_sevpo.envs.go2.rewards import GAP_DEPTH, RewardWeights

MASS = 15.02
"""kg, of the robot without a payload."""
MISSING = 70.0
"""N that do not go through the feet, from which something else touches."""
IN_A_ROW = 2
"""Steps that force must be missing: swinging legs disturb single ones."""
MAX_TILT = math.radians(75.0)
RIM_RADIUS = 0.35
"""m around a foot within which the map is asked for the stones' surface."""


@dataclass
class Verdict:
    """Of one step: what it cost, and why."""

    reward: float
    cost: float
    fall: bool
    touch: bool
    gap: bool


class Judge:
    """Judges the step from one observation to the next.

    Args:
        observer: for the legs and the default pose.
        dt: control step, s.
        weights: of the rewards.
    """

    def __init__(self, observer: Observer, dt: float, weights: RewardWeights) -> None:
        self._legs: Legs = observer.legs
        self._default, self._dt, self._w = observer.default, dt, weights
        self._missing = 0
        angles = np.linspace(0, 2 * math.pi, 12, endpoint=False)
        ring = np.stack([np.cos(angles), np.sin(angles)], axis=1)
        radii = np.arange(0.05, RIM_RADIUS + 1e-9, 0.05)
        self._around = (radii[:, None, None] * ring).reshape(-1, 2)  # nearest first

    def start(self) -> None:
        """A new episode."""
        self._missing = 0

    def touch(self, step: ControlStep) -> bool:
        """Whether something other than a foot touches, by the missing force."""
        up = rotation_matrix(step.sensors.quaternion)[2]  # world z in the base frame
        held = MASS * float(step.accelerometer @ up)
        through = float((self._legs.ground_forces(step.sensors.q, step.sensors.tau) @ up).sum())
        self._missing = self._missing + 1 if held - through > MISSING else 0
        return self._missing >= IN_A_ROW

    def gap(self, step: ControlStep) -> bool:
        """Whether a foot is in a gap of the map."""
        rotation = rotation_matrix(step.sensors.quaternion)
        turn = step.place.yaw - math.atan2(rotation[1, 0], rotation[0, 0])
        cos, sin = math.cos(turn), math.sin(turn)
        level = np.array([[cos, -sin, 0.0], [sin, cos, 0.0], [0.0, 0.0, 1.0]]) @ rotation
        feet = self._legs.feet(step.sensors.q) @ level.T + step.place.position
        return any(self._in_gap(foot, step.place.position[2], step.heights) for foot in feet)

    def _in_gap(self, foot: np.ndarray, base: float, heights: Heights) -> bool:
        rim = self._rim(foot[:2], base, heights)
        if rim is None or foot[2] >= rim - GAP_DEPTH:
            return False
        under = float(heights.sample(foot[None, :2])[0])
        return not math.isfinite(under) or under < rim - GAP_DEPTH / 2

    def _rim(self, xy: np.ndarray, base: float, heights: Heights) -> Optional[float]:
        """The nearest stone's height around a point, m; None where the map knows none."""
        found = heights.sample(np.concatenate([xy[None], xy + self._around]))
        solid = np.isfinite(found) & (found > base - 0.7)
        return float(found[np.argmax(solid)]) if solid.any() else None

    def judge(
        self, before: ControlStep, after: ControlStep, direction: np.ndarray, ended: str
    ) -> Verdict:
        """Judge the action of ``before`` by what ``after`` shows.

        ``direction`` (2,) is the unit vector to the goal, odometry frame. ``ended`` is empty,
        ``goal``, ``operator`` or ``supervisor``.
        """
        rotation = rotation_matrix(after.sensors.quaternion)
        tilted = math.acos(max(-1.0, min(1.0, float(rotation[2, 2])))) > MAX_TILT
        fall = tilted or ended == "supervisor"
        touch, gap = self.touch(after), self.gap(after)
        reward = self._dt * self._terms(before, after, direction, rotation, touch, gap)
        reward += self._w.fall * fall + self._w.success * (ended == "goal")
        return Verdict(reward, float(fall or touch or gap), fall, touch, gap)

    def _terms(
        self,
        before: ControlStep,
        after: ControlStep,
        direction: np.ndarray,
        rotation: np.ndarray,
        touch: bool,
        gap: bool,
    ) -> float:
        """The measurable rewards per second; each as in the task."""
        w, sensors = self._w, after.sensors
        velocity = (after.place.position - before.place.position) / self._dt
        speed = float(velocity[:2] @ direction)
        heading = np.array([math.cos(after.place.yaw), math.sin(after.place.yaw)])
        bearing = max(-1.0, min(1.0, float(heading @ direction)))
        offset = sensors.q - self._default
        acceleration = (sensors.dq - before.sensors.dq) / self._dt
        change = float(np.linalg.norm(before.action - before.last_action))
        return (
            w.speed * min(speed, w.target_speed) / w.target_speed
            + w.overspeed * max(speed - 1.5 * w.target_speed, 0.0)
            + w.heading * math.exp(-math.acos(bearing * 0.9999))
            + w.vertical_velocity * float(velocity[2]) ** 2
            + w.roll_pitch_rate * float((sensors.gyro[:2] ** 2).sum())
            + w.tilt * float((rotation[2, :2] ** 2).sum())
            + w.torque * float((sensors.tau**2).sum())
            + w.joint_acceleration * float((acceleration**2).sum())
            + w.action_rate * 4.0 * change
            + w.hip_offset * float((offset[0::3] ** 2).sum())
            + w.joint_offset * float((offset**2).sum())
            + w.scrape * touch
            + w.gap * gap
        )
