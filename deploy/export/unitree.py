"""The YAML file Unitree's deployment scripts read, written beside an exported policy.

Keys and meanings follow unitree_rl_gym's ``deploy_mujoco`` / ``deploy_real`` configurations; the
arrays are in the policy's joint order, and ``leg_joint2motor_idx`` says which motor of the robot
(SDK order FR FL RR RL) each joint is.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Dict

import yaml

from go2_sevpo.envs.go2.description import robot as r
from go2_sevpo.runs.files import write_atomically


def deploy_config(contract: Dict[str, Any], policy: Path) -> Dict[str, Any]:
    """The file's content from a policy's contract.

    Raises:
        ValueError: the policy is not a Go2's.
    """
    if contract.get("robot") != "unitree_go2":
        raise ValueError(f"the policy is for {contract.get('robot')!r}, expected 'unitree_go2'")
    names = contract["joint_names"]
    scales = {f["name"]: f["scale"] for f in contract["observation"]["fields"]}
    dt = contract["control_dt"]  # s
    return {
        "policy_path": policy.name,
        "xml_path": "assets/go2/go2.xml",
        "simulation_dt": r.PHYSICS_DT,
        "control_decimation": round(dt / r.PHYSICS_DT),
        "control_dt": dt,
        "joint_names": list(names),
        # Joint i of the policy is the motor leg_joint2motor_idx[i] of the SDK.
        "leg_joint2motor_idx": [r.SDK_JOINT_NAMES.index(n) for n in names],
        "kps": list(contract["kp"]),
        "kds": list(contract["kd"]),
        "default_angles": list(contract["default_joint_positions"]),
        "torque_limits": list(contract["torque_limits"]),
        "ang_vel_scale": scales["base_angular_velocity"],
        "dof_pos_scale": scales["joint_position_offset"],
        "dof_vel_scale": scales["joint_velocity"],
        "height_scale": scales["height_scan"],
        "action_scale": contract["action_scale"][0],  # rad per unit, the same for all joints
        "action_clip": contract["action_clip"],
        "num_actions": len(names),
        "num_obs": contract["observation"]["size"],
        "history_frames": contract["observation"]["frames"],
        "candidates": contract["sampler"].get("candidates", 1),
        "sampling_steps": contract["sampler"]["steps"],
    }


def write_deploy_yaml(contract: Dict[str, Any], policy: Path) -> Path:
    """Write ``NAME.yaml`` beside ``NAME.onnx``; returns its path."""
    path = policy.with_suffix(".yaml")
    head = (
        "# For Unitree's deployment scripts. Joint arrays are in the policy's order (joint_names); "
        "motor of joint i is\n"
        "# leg_joint2motor_idx[i] (SDK order FR FL RR RL). target = default_angles + action_scale "
        "* clip(action, +-action_clip).\n"
        "# The ONNX file's inputs are observation [B, num_obs] (raw; its layout is in the file's "
        "metadata) and noise\n"
        "# [B, candidates, sampling_steps, num_actions].\n"
    )
    config = yaml.safe_dump(deploy_config(contract, policy), sort_keys=False)
    write_atomically(path, head + config)
    return path
