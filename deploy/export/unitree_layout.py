"""How Unitree's runners lay an observation out, and the files that tell them.

unitree_rl_lab's and unitree_rl_mjlab's C++ runner computes an observation term by term: a term's
frames stand together, the oldest first, each clipped and then scaled. Ours has whole frames, the
present one first, each number scaled and then clipped (:mod:`go2_sevpo.envs.go2.observations`).
"""

from __future__ import annotations

import re
from typing import Any, Dict, List, NamedTuple, Tuple

from go2_sevpo.envs.go2.description import model_files
from go2_sevpo.envs.go2.description import robot as r
from go2_sevpo.policies.contract import ContractError

RUNNER_TERMS = {
    "base_angular_velocity": "base_ang_vel",
    "gravity_direction": "projected_gravity",
    "joint_position_offset": "joint_pos_rel",
    "joint_velocity": "joint_vel_rel",
    "last_action": "last_action",
}
"""Fields of our observation that the runners compute, and what they call them."""


class Term(NamedTuple):
    """A field and its frames; ``name`` is the runner's where it has one, else ours."""

    name: str
    size: int
    scale: float
    clip: float
    frames: int
    unit: str

    @property
    def registered(self) -> bool:
        """Whether the runners can compute it."""
        return self.name in RUNNER_TERMS.values()


def runner_terms(contract: Dict[str, Any]) -> List[Term]:
    """The terms of a contract's observation, in the order of their first appearance.

    Raises:
        ContractError: the contract does not say what its observation consists of.
    """
    fields = contract["observation"].get("fields")
    if not fields:
        raise ContractError(
            f"the contract says of its observation {', '.join(contract['observation'])}, "
            "Unitree's files need its fields, too (name, size, scale, clip)"
        )
    terms: Dict[str, Term] = {}
    for field in fields:
        name = field["name"].split("@")[0]
        known = terms.get(name)
        numbers = int(field["size"]), float(field["scale"]), float(field["clip"])
        if known is not None:
            terms[name] = known._replace(frames=known.frames + 1)
            continue
        shown = RUNNER_TERMS.get(name, name)
        terms[name] = Term(shown, *numbers, 1, str(field.get("unit", "")))
    return list(terms.values())


def our_order(contract: Dict[str, Any]) -> List[int]:
    """For each number of our observation its place in the runners': ours = theirs[index].

    Raises:
        ContractError: see :func:`runner_terms`.
    """
    start: Dict[str, Tuple[int, Term]] = {}
    place = 0
    for term in runner_terms(contract):
        start[term.name] = place, term
        place += term.size * term.frames
    index: List[int] = []
    for field in contract["observation"]["fields"]:
        name, _, back = field["name"].partition("@-")
        first, term = start[RUNNER_TERMS.get(name, name)]
        frame = term.frames - 1 - int(back or 0)  # theirs: the oldest first
        if not 0 <= frame < term.frames:
            raise ContractError(f"field {field['name']} has no frame {back} among {term.frames}")
        begin = first + frame * term.size
        index.extend(range(begin, begin + term.size))
    return index


def missing_terms(contract: Dict[str, Any]) -> Dict[str, str]:
    """What the runners cannot compute, by name: how many numbers of what."""
    return {
        t.name: f"{t.size} x {t.frames}: {t.unit}" if t.frames > 1 else f"{t.size}: {t.unit}"
        for t in runner_terms(contract)
        if not t.registered
    }


def runner_config(contract: Dict[str, Any]) -> Dict[str, Any]:
    """``params/deploy.yaml``. Gains are in the order of the SDK's motors, the rest in the policy's.

    Raises:
        ContractError: see :func:`runner_terms`.
    """
    names = contract["joint_names"]
    motors = [r.SDK_JOINT_NAMES.index(n) for n in names]
    stiffness, damping = [0.0] * len(names), [0.0] * len(names)
    for motor, kp, kd in zip(motors, contract["kp"], contract["kd"]):
        stiffness[motor], damping[motor] = kp, kd
    default = list(contract["default_joint_positions"])
    return {
        "joint_ids_map": motors,
        "step_dt": contract["control_dt"],
        "stiffness": stiffness,
        "damping": damping,
        "default_joint_pos": default,
        "commands": {},
        "actions": {
            "JointPositionAction": {
                "clip": None,
                "joint_names": [".*"],
                "scale": list(contract["action_scale"]),
                "offset": list(default),
                "joint_ids": None,
            }
        },
        "observations": {
            term.name: {
                "params": {},
                # Theirs clips first: the same limits before the scale.
                "clip": [-term.clip / term.scale, term.clip / term.scale],
                "scale": [term.scale] * term.size,
                "history_length": term.frames,
            }
            for term in runner_terms(contract)
        },
    }


def scripts_config(contract: Dict[str, Any], folder: str) -> Dict[str, Any]:
    """What unitree_rl_gym's ``deploy_real`` and ``deploy_mujoco`` load.

    ``folder`` is the exported folder's name under ``deploy/pre_train``.

    Raises:
        ContractError: see :func:`runner_terms`; or joints differ in their action scale.
    """
    names, dt = contract["joint_names"], contract["control_dt"]
    if len(set(contract["action_scale"])) != 1:
        raise ContractError(
            f"action_scale is {contract['action_scale']}, unitree_rl_gym's scripts take one for all"
        )
    terms = runner_terms(contract)
    scale = {term.name: term.scale for term in terms}
    home = f"{{LEGGED_GYM_ROOT_DIR}}/deploy/pre_train/{folder}"
    return {
        "policy_path": f"{home}/exported/policy.pt",
        # deploy_real
        "control_dt": dt,
        "msg_type": "go",
        "imu_type": "pelvis",  # the IMU sits on the base: no turning into another frame
        "lowcmd_topic": "rt/lowcmd",
        "lowstate_topic": "rt/lowstate",
        "weak_motor": list(range(len(names))),  # mode 1, which a Go2's motors want
        "leg_joint2motor_idx": [r.SDK_JOINT_NAMES.index(n) for n in names],
        "arm_waist_joint2motor_idx": [],
        "arm_waist_kps": [],
        "arm_waist_kds": [],
        "arm_waist_target": [],
        "max_cmd": [0.0, 0.0, 0.0],
        # deploy_mujoco
        "xml_path": f"{home}/go2.xml",
        "simulation_duration": 60.0,
        "simulation_dt": r.PHYSICS_DT,
        "control_decimation": round(dt / r.PHYSICS_DT),
        "cmd_init": [0.0, 0.0, 0.0],
        # both
        "kps": list(contract["kp"]),
        "kds": list(contract["kd"]),
        "default_angles": list(contract["default_joint_positions"]),
        "ang_vel_scale": scale.get("base_ang_vel", 1.0),
        "dof_pos_scale": scale.get("joint_pos_rel", 1.0),
        "dof_vel_scale": scale.get("joint_vel_rel", 1.0),
        "action_scale": contract["action_scale"][0],  # rad per unit, the same for all joints
        "cmd_scale": [0.0, 0.0, 0.0],
        "num_actions": len(names),
        "num_obs": contract["observation"]["size"],
        # not theirs: what the observation consists of, and what of it they do not compute
        "observation_order": [[t.name, t.size, t.frames] for t in terms],
        "missing_terms": missing_terms(contract),
    }


def torque_model() -> str:
    """MJCF of the robot on a plane with motors that take torques, for ``deploy_mujoco``."""
    floor = (
        '\n    <light pos="0 0 3" dir="0 0 -1" directional="true"/>'
        '\n    <geom name="floor" type="plane" size="40 40 1" contype="1" conaffinity="0" '
        'priority="1" friction="1 0.005 0.0001" rgba="0.3 0.33 0.37 1"/>\n'
    )
    motors = "\n".join(
        f'    <motor name="{name}" joint="{name}" ctrlrange="-{limit:g} {limit:g}"/>'
        for name, limit in zip(r.JOINT_NAMES, r.TORQUE_LIMITS)
    )
    text = model_files.mjcf(True, "", floor)
    actuators = f"<actuator>\n{motors}\n  </actuator>"
    return re.sub(r"<actuator>.*</actuator>", lambda _: actuators, text, flags=re.DOTALL)
