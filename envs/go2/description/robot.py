"""The Unitree Go2 as one table of constants.

Every model file (MJCF, URDF), the PD law, the observation layout and the policy contract are made
from this table. SI units: metres, kilograms, radians, newton metres. Source: Unitree's published
``go2_description`` and data sheet (see NOTICE). Inertias are about the link's centre of mass, in
link axes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Dict, Tuple, TypedDict

import numpy as np

LEGS: Tuple[str, ...] = ("FL", "FR", "RL", "RR")
"""Canonical leg order of this project."""

SEGMENTS: Tuple[str, ...] = ("hip", "thigh", "calf")

JOINT_NAMES: Tuple[str, ...] = tuple(f"{leg}_{seg}_joint" for leg in LEGS for seg in SEGMENTS)
"""Canonical joint order; every back end maps to it by name."""

SDK_JOINT_NAMES: Tuple[str, ...] = tuple(
    f"{leg}_{seg}_joint" for leg in ("FR", "FL", "RR", "RL") for seg in SEGMENTS
)
"""Motor order of Unitree's SDK."""

CONTACT_BODIES: Tuple[str, ...] = ("base",) + tuple(
    f"{leg}_{seg}" for leg in LEGS for seg in ("thigh", "calf")
)
"""Bodies other than feet whose contacts are reported, in this order."""


@dataclass(frozen=True)
class Inertial:
    """Mass (kg), centre of mass (m, link frame) and inertia (kg m^2, about the centre of mass)."""

    mass: float
    com: Tuple[float, float, float]
    inertia: Tuple[float, float, float, float, float, float]  # ixx iyy izz ixy ixz iyz

    def matrix(self) -> np.ndarray:
        """Return the 3x3 inertia tensor."""
        xx, yy, zz, xy, xz, yz = self.inertia
        return np.array([[xx, xy, xz], [xy, yy, yz], [xz, yz, zz]])

    def mirrored(self, x: bool = False, y: bool = False) -> Inertial:
        """Mirror about the link's yz plane (``x``) and/or xz plane (``y``)."""
        sx, sy = (-1.0 if x else 1.0), (-1.0 if y else 1.0)
        # Products of inertia change sign with each axis that is mirrored.
        xx, yy, zz, xy, xz, yz = self.inertia
        com = (sx * self.com[0], sy * self.com[1], self.com[2])
        return Inertial(self.mass, com, (xx, yy, zz, sx * sy * xy, sx * xz, sy * yz))


BASE = Inertial(
    6.921, (0.021112, 0.0, -0.005366), (0.02448, 0.098077, 0.107, 0.00012166, 0.0014849, -3.12e-05)
)
_HIP_FL = Inertial(
    0.678,
    (-0.0054, 0.00194, -0.000105),
    (0.00048, 0.000884, 0.000596, -3.01e-06, 1.11e-06, -1.42e-06),
)
_THIGH_L = Inertial(
    1.152, (-0.00374, -0.0223, -0.0327), (0.00584, 0.0058, 0.00103, 8.72e-05, -0.000289, 0.000808)
)
_CALF_L = Inertial(
    0.154, (0.00548, -0.000975, -0.115), (0.00108, 0.0011, 3.29e-05, 3.4e-07, 1.72e-05, 8.28e-06)
)
FOOT = Inertial(0.04, (0.0, 0.0, 0.0), (9.6e-06, 9.6e-06, 9.6e-06, 0.0, 0.0, 0.0))
TOTAL_MASS = 15.02


class Ball(TypedDict):
    """A sphere of a link: radius and centre, m, link frame."""

    radius: float
    pos: Tuple[float, float, float]


class Cylinder(Ball):
    """A cylinder along z, m."""

    length: float


class TiltedCylinder(Cylinder):
    """A cylinder turned about y by ``pitch``, rad."""

    pitch: float


HIP_X, HIP_Y, THIGH_Y, LINK_LENGTH = 0.1934, 0.0465, 0.0955, 0.213
FOOT_RADIUS = 0.022
FOOT_OFFSET = (-0.002, 0.0, -LINK_LENGTH)
"""Centre of the foot sphere in the calf frame."""

IMU_POSITION = (-0.02557, 0.0, 0.04232)
BASE_BOX = (0.3762, 0.0935, 0.114)
HEAD_UPPER: Cylinder = {"radius": 0.05, "length": 0.09, "pos": (0.285, 0.0, 0.01)}
HEAD_LOWER: Ball = {"radius": 0.047, "pos": (0.293, 0.0, -0.06)}
HIP_CYLINDER = {"radius": 0.046, "length": 0.04, "y": 0.08}
THIGH_BOX = (0.0245, 0.034, 0.213)
CALF_CYLINDERS: Tuple[TiltedCylinder, ...] = (
    {"radius": 0.013, "length": 0.12, "pos": (0.01, 0.0, -0.06), "pitch": -0.2},
    {"radius": 0.011, "length": 0.065, "pos": (0.02, 0.0, -0.148), "pitch": 0.05},
)

ARMATURE = 0.01
FRICTION_LOSS = 0.2
NOMINAL_BASE_HEIGHT = 0.33
"""Height of the base above flat ground, m: follows from the default pose and the foot radius."""


@dataclass(frozen=True)
class JointLimits:
    """Position range (rad), torque (N m) and velocity (rad/s) limits of one joint."""

    lower: float
    upper: float
    torque: float
    velocity: float


def joint_limits(name: str) -> JointLimits:
    """Limits of the joint called ``name``.

    The calf uses the data sheet's 45.43 N m and 15.70 rad/s; some published simulation files say
    35.55 N m and 20.07 rad/s instead.

    Raises:
        KeyError: ``name`` is not a Go2 joint.
    """
    if name not in JOINT_NAMES:
        raise KeyError(f"unknown Go2 joint '{name}', expected one of {', '.join(JOINT_NAMES)}")
    leg, seg, _ = name.split("_")
    if seg == "hip":
        return JointLimits(-1.0472, 1.0472, 23.7, 30.1)
    if seg == "thigh":
        # The rear thighs' range is the front ones' shifted by 60 degrees.
        lower, upper = (-1.5708, 3.4907) if leg[0] == "F" else (-0.5236, 4.5379)
        return JointLimits(lower, upper, 23.7, 30.1)
    return JointLimits(-2.7227, -0.83776, 45.43, 15.70)


TORQUE_LIMITS = tuple(joint_limits(n).torque for n in JOINT_NAMES)
VELOCITY_LIMITS = tuple(joint_limits(n).velocity for n in JOINT_NAMES)
LOWER_LIMITS = tuple(joint_limits(n).lower for n in JOINT_NAMES)
UPPER_LIMITS = tuple(joint_limits(n).upper for n in JOINT_NAMES)

TARGET_MARGIN = 0.02
"""Joint targets of version 2 of the task stay this far inside the joints' ranges, rad."""
TARGET_LOWER = tuple(x + TARGET_MARGIN for x in LOWER_LIMITS)
TARGET_UPPER = tuple(x - TARGET_MARGIN for x in UPPER_LIMITS)

DEFAULT_POSE: Dict[str, float] = {
    f"{leg}_{seg}_joint": {
        "hip": 0.1 if leg[1] == "L" else -0.1,
        "thigh": 0.8 if leg[0] == "F" else 1.0,
        "calf": -1.5,
    }[seg]
    for leg in LEGS
    for seg in SEGMENTS
}
DEFAULT_JOINT_POSITIONS = tuple(DEFAULT_POSE[n] for n in JOINT_NAMES)

KP, KD = 30.0, 0.7
ACTION_SCALE = 1.2
"""Radians of joint target offset per unit action; actions live in [-1, 1]."""

PHYSICS_DT, DECIMATION = 0.005, 4
CONTROL_DT = PHYSICS_DT * DECIMATION


def hip_origin(leg: str) -> Tuple[float, float, float]:
    """Hip joint origin in the base frame, m."""
    return (HIP_X if leg[0] == "F" else -HIP_X, HIP_Y if leg[1] == "L" else -HIP_Y, 0.0)


def thigh_origin(leg: str) -> Tuple[float, float, float]:
    """Thigh joint origin in the hip frame, m."""
    return (0.0, THIGH_Y if leg[1] == "L" else -THIGH_Y, 0.0)


def link_inertial(leg: str, segment: str) -> Inertial:
    """Inertial of a leg's ``hip``, ``thigh`` or ``calf`` (without the foot), mirrored for it."""
    right, rear = leg[1] == "R", leg[0] == "R"
    if segment == "hip":
        return _HIP_FL.mirrored(x=rear, y=right)
    return (_THIGH_L if segment == "thigh" else _CALF_L).mirrored(y=right)


def combine(a: Inertial, b: Inertial, b_origin: Tuple[float, float, float]) -> Inertial:
    """Inertial of link ``a`` with link ``b`` welded on at ``b_origin`` (m, axes parallel)."""
    com_a, com_b = np.array(a.com), np.array(b.com) + np.array(b_origin)
    mass = a.mass + b.mass
    com = (a.mass * com_a + b.mass * com_b) / mass
    total = np.zeros((3, 3))
    for inertial, centre in ((a, com_a), (b, com_b)):
        # Parallel axes: I = I_c + m (d.d 1 - d d^T), d from the common centre of mass.
        d = centre - com
        total += inertial.matrix() + inertial.mass * (d @ d * np.eye(3) - np.outer(d, d))
    xx, yy, zz, xy, xz, yz = (total[k] for k in ((0, 0), (1, 1), (2, 2), (0, 1), (0, 2), (1, 2)))
    return Inertial(mass, tuple(com), (xx, yy, zz, xy, xz, yz))
