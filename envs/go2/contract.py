"""The Go2 environment's side of the policy contract.

``docs/contract.md`` describes every field of version 2.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import Any, Dict, Mapping, Optional

from go2_sevpo.envs.go2 import robot_view as view
from go2_sevpo.envs.go2.config import Randomization
from go2_sevpo.envs.go2.contacts import CONTACT_THRESHOLD, SINGULAR
from go2_sevpo.envs.go2.description import robot as r
from go2_sevpo.envs.go2.observations import (
    FOOT_RING,
    FRAME_FIELDS,
    FRAME_SIZE,
    SCAN_CENTRE,
    SCAN_X,
    SCAN_Y,
    observation_spec,
)
from go2_sevpo.policies.contract import CONTRACT_VERSION, ContractError

ENVIRONMENTS = {1: "go2_sevpo/Go2Parkour-v0", 2: "go2_sevpo/Go2Parkour-v2"}
"""What datasets and policies call the environment, by the task's version."""


def environment_contract(version: int = 1) -> Dict[str, Any]:
    """What a policy must have been made for to be played on this environment.

    ``version`` is the task's, :attr:`go2_sevpo.envs.go2.config.ParkourConfig.version`.
    """
    contract = {
        "contract_version": version if version > 1 else CONTRACT_VERSION,
        "robot": "unitree_go2",
        "joint_names": list(r.JOINT_NAMES),
        "default_joint_positions": list(r.DEFAULT_JOINT_POSITIONS),
        "kp": [r.KP] * len(r.JOINT_NAMES),
        "kd": [r.KD] * len(r.JOINT_NAMES),
        "action_scale": [r.ACTION_SCALE] * len(r.JOINT_NAMES),
        "action_clip": 1.0,
        "torque_limits": list(r.TORQUE_LIMITS),
        "control_dt": r.CONTROL_DT,
        "observation": observation_spec(version).to_dict(),
    }
    if version == 1:
        return contract
    contract["environment"] = ENVIRONMENTS[version]
    contract["observation"].update(_observation())
    return {**contract, **_robot(), **_surroundings()}


def task_version(contract: Mapping[str, Any]) -> int:
    """The version of the task that a Go2 policy with this ``contract`` is for.

    Raises:
        ContractError: a version that is not known here.
    """
    version = contract.get("contract_version", 1)
    if version not in ENVIRONMENTS:
        known = ", ".join(str(v) for v in ENVIRONMENTS)
        raise ContractError(f"the policy's contract has version {version}, expected one of {known}")
    return int(version)


def _observation() -> Dict[str, Any]:
    """How the numbers of an observation come about."""
    return {
        "frame_fields": [f.name for f in FRAME_FIELDS],
        "frame_size": FRAME_SIZE,
        "history": {
            "order": "the present frame, the one a control step before, the one two steps before",
            "fill": "at the start every frame of the history is the present one",
        },
        "clip_rule": "number = clip(scale * value, -clip, clip); the last thing done to it",
        "noise_rule": "in training sensor noise is added before the clip; a robot adds none",
        "scan_points": [[x, y] for x in SCAN_X for y in SCAN_Y],
        "scan_frame": "heading: origin at the base, x forward, y left, level",
        "scan_value": "base height - scan_centre - ground",
        "scan_centre": SCAN_CENTRE,
        "foot_points": [[0.0, 0.0], *([x, y] for x, y in FOOT_RING)],
        "foot_frame": "heading, origin at the foot; leg by leg in the order of legs",
        "foot_value": "foot centre's height - foot_radius - ground",
        "last_action_value": (
            "the action as the policy gave it, clipped to action_clip, before the limits of the "
            "joints' targets; zeros at the start"
        ),
    }


def _robot() -> Dict[str, Any]:
    """Joints, motors, legs, and what is derived from them."""
    return {
        "legs": list(r.LEGS),
        "motor_names": list(r.SDK_JOINT_NAMES),
        "joint_to_motor": [r.SDK_JOINT_NAMES.index(name) for name in r.JOINT_NAMES],
        "joint_lower": list(r.LOWER_LIMITS),
        "joint_upper": list(r.UPPER_LIMITS),
        "velocity_limits": list(r.VELOCITY_LIMITS),
        "target_lower": list(r.TARGET_LOWER),
        "target_upper": list(r.TARGET_UPPER),
        "target_rule": (
            "target = clip(default_joint_positions + action_scale * clip(action, -action_clip, "
            "action_clip), target_lower, target_upper); torque = kp (target - q) - kd dq"
        ),
        "quaternion": {"order": "wxyz", "rotates": "base to world"},
        "kinematics": {
            "hip_origins": [list(r.hip_origin(leg)) for leg in r.LEGS],
            "thigh_offsets": [list(r.thigh_origin(leg)) for leg in r.LEGS],
            "thigh_length": r.LINK_LENGTH,
            "foot_in_calf": list(r.FOOT_OFFSET),
            "foot_radius": r.FOOT_RADIUS,
            "axes": [[1, 0, 0], [0, 1, 0], [0, 1, 0]],
            "rule": (
                "foot = hip_origin + Rx(q0) (thigh_offset + Ry(q1) ((0, 0, -thigh_length) + Ry(q2) "
                "foot_in_calf)), base frame, right-handed turns"
            ),
        },
        "contact": {
            "threshold": CONTACT_THRESHOLD,
            "singular": SINGULAR,
            "rule": (
                "1 where the vertical force is above threshold, N. j0, j1, j2 are the derivatives "
                "of the foot's position by its joints (base frame, m/rad), d = j0 . (j1 x j2), "
                "p = tau0 j1 x j2 + tau1 j2 x j0 + tau2 j0 x j1, vertical force = "
                "(p . g) d / (d^2 + singular^2) with g the gravity direction in the base frame"
            ),
            "torque": "N m, of the motors as they report it (tau_est), policy's joint order",
            "substitutes": [
                "a foot sensor that is calibrated to N, with the same threshold",
            ],
        },
    }


def _surroundings() -> Dict[str, Any]:
    """Pose, map and way."""
    return {
        "pose": {
            "position": "of the base's origin in the odometry frame, m, z up",
            "yaw": (
                "of the base's x axis in the odometry frame, rad; the heading frame is turned by "
                "it. Roll, pitch and gravity come from the IMU's quaternion, whose yaw is not used"
            ),
            "gravity_rule": "minus the third row of the quaternion's rotation matrix",
            "drift": "may drift; nothing in the observation asks for more than its last seconds",
        },
        "map": {
            "cell": view.CELL,
            "frame": "odometry",
            "lookup": (
                "the height of the cell that the point lies in: cell i spans origin + i cell to "
                "origin + (i + 1) cell along each axis"
            ),
            "unknown_drop": view.UNKNOWN_DROP,
            "unknown_rule": (
                "where the height of a cell is not known, ground = base height - unknown_drop: the "
                "numbers of the scan and of feet are then at their clip, as over a pit"
            ),
        },
        "way": {
            "ahead": list(view.WAY_AHEAD),
            "aside": list(view.WAY_ASIDE),
            "target": view.WAY_TARGET,
            "drop": view.WAY_DROP,
            "rule": view.WAY_RULE,
            "value": (
                "for either target, in the heading frame: x / d, y / d, d / 2 with d its distance "
                "in the plane, m, at least 0.001"
            ),
        },
    }


def trained_ranges(randomization: Optional[Mapping[str, Any]]) -> Dict[str, Any]:
    """What a policy was trained with, from its run's record; version 2's own if it has none."""
    found = dict(randomization or asdict(Randomization.of(2)))
    return {
        "randomization": found,
        "note": "parts switched off by their flags were not varied; units in docs/contract.md",
    }
