"""The Go2 environment's side of the policy contract."""

from __future__ import annotations

from typing import Any, Dict

from go2_sevpo.envs.go2.description import robot as r
from go2_sevpo.envs.go2.observations import observation_spec
from go2_sevpo.policies.contract import CONTRACT_VERSION

ENVIRONMENTS = {1: "go2_sevpo/Go2Parkour-v0", 2: "go2_sevpo/Go2Parkour-v2"}
"""What datasets and policies call the environment, by the task's version."""


def environment_contract() -> Dict[str, Any]:
    """What a policy must have been made for to be played on this environment."""
    return {
        "contract_version": CONTRACT_VERSION,
        "robot": "unitree_go2",
        "joint_names": list(r.JOINT_NAMES),
        "default_joint_positions": list(r.DEFAULT_JOINT_POSITIONS),
        "kp": [r.KP] * len(r.JOINT_NAMES),
        "kd": [r.KD] * len(r.JOINT_NAMES),
        "action_scale": [r.ACTION_SCALE] * len(r.JOINT_NAMES),
        "action_clip": 1.0,
        "torque_limits": list(r.TORQUE_LIMITS),
        "control_dt": r.CONTROL_DT,
        "observation": observation_spec().to_dict(),
    }
