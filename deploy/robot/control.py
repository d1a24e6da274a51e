"""How a controller behaves, and what it tells of its control steps."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Tuple

import numpy as np

from go2_sevpo.deploy.robot.observe import Heights, Place, Sensors
from go2_sevpo.deploy.robot.supervisor import Limits


@dataclass
class Settings:
    """How the controller behaves."""

    goal: Tuple[float, float] = (5.0, 0.0)
    """m ahead and to the left of where the policy starts, in the robot's heading there."""
    goal_frame: str = "robot"
    """``robot`` as above, or ``odom``: coordinates of the odometry frame."""
    goal_radius: float = 0.2
    """m from the goal at which the policy ends."""
    automatic: bool = False
    settle: float = 0.5
    fold_seconds: float = 1.0
    rise_seconds: float = 1.5
    stand_kp: float = 60.0
    stand_kd: float = 3.0
    damp_kd: float = 2.5
    brake_seconds: float = 1.0
    """A robot that walked squats this long before it rises to the default pose."""
    command_period: float = 0.004
    """s between commands."""
    map_age: float = 1.0
    """s; with an older map the policy ends in HOLD."""
    pose_age: float = 0.25
    """s; with an older pose the policy ends in HOLD."""
    checksums: bool = True
    """States without a right checksum are as good as lost."""
    limits: Limits = field(default_factory=Limits)


@dataclass
class ControlStep:
    """What a control step of the policy was, for recorders and films.

    ``observation`` (S,), ``action`` (12,) and the cost ``value``; ``heights`` is the map it saw;
    ``actor`` is ``policy``, or ``end`` for the observation after the last action.
    """

    time: float
    observation: np.ndarray
    action: np.ndarray
    value: float
    sensors: Sensors
    accelerometer: np.ndarray
    place: Place
    contact: np.ndarray
    heights: Heights
    actor: str
    last_action: np.ndarray
