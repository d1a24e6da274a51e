"""Golden records: sensors in, observation and action out, for whoever builds the robot's side.

Short sequences of an undisturbed robot, each from its start, with a map of cells that has holes and
wrong heights. What comes out is the environment's own observation.
"""

from __future__ import annotations

import math
from typing import Any, Callable, Dict, List, Optional

import numpy as np
import torch

from go2_sevpo.envs.go2.config import ParkourConfig, Randomization
from go2_sevpo.envs.go2.description import robot as r
from go2_sevpo.envs.go2.parkour import Go2Parkour
from go2_sevpo.envs.go2.robot_view import CELL
from go2_sevpo.envs.seeds import TRAINING

GOLDEN_KEY = "go2_sevpo.golden"
"""Key of the records in an ONNX file's metadata."""
SEQUENCES, STEPS = 4, 16
IMU_YAW = 0.4
"""rad by which the records' IMU is turned against odometry: its yaw must not matter."""
_WORLDS = 24
_REACH = 1.6
"""m around the robot that every point asked for lies in."""
_MARGIN = 3e-5
"""Share of a cell that every point keeps from its cell's edge: single precision finds it, too."""
_COURSES = 4_000_000

Act = Callable[[np.ndarray], np.ndarray]
"""Actions (B, 12) of observations (B, 265), without noise."""


def golden_records(act: Act) -> Dict[str, Any]:
    """64 records of ``act``: four sequences of 16 control steps.

    Returns:
        ``maps`` (one for each sequence: ``origin`` m, ``cell`` m, ``heights`` by rows along x, m,
        None if unknown) and ``records``. A record has ``map`` (number), ``first`` (whether it
        starts a sequence), ``gyro`` rad/s, ``quaternion`` wxyz (IMU), ``motor_q``, ``motor_dq``,
        ``motor_tau`` in the motors' order, ``position`` m and ``yaw`` rad in the odometry frame,
        ``start`` and ``goal`` m, ``last_action``, ``observation`` and ``action``.

    Raises:
        RuntimeError: no four sequences keep off the cells' edges.
    """
    env = Go2Parkour(_config())
    try:
        return _play(env, act)
    finally:
        env.close()


def _config() -> ParkourConfig:
    off = Randomization.off()
    faults = {"start_pose": True, "map_cells": True, "map_outliers": True}
    return ParkourConfig(
        version=2,
        num_envs=_WORLDS,
        courses=("simple", "hard"),
        shares=(0.5, 0.5),
        variants=_WORLDS,
        course_seed=TRAINING.number(0, _COURSES, _WORLDS),
        random_start=0.75,
        threads=1,
        randomization=Randomization(**{**vars(off), **faults}),
    )


def _play(env: Go2Parkour, act: Act) -> Dict[str, Any]:
    obs = env.reset(0)
    assert env.view is not None
    starts = env.view.odometry.clone()
    # Worlds whose sequences can be used: on their legs, and off the edges of cells.
    usable = torch.ones(env.num_envs, dtype=torch.bool)
    steps: List[List[Dict[str, Any]]] = [[] for _ in range(env.num_envs)]
    for k in range(STEPS):
        usable &= _keeps_off_edges(env) & env.active
        action = torch.from_numpy(act(obs.numpy()))
        for i in range(env.num_envs):
            steps[i].append(_record(env, i, k == 0, starts[i], obs[i], action[i]))
        obs = env.step(action)[0]
    chosen = _choose(usable, env.kind_ids)
    maps, records = [], []
    for number, i in enumerate(chosen):
        maps.append(_map(env, i, [s["position"] for s in steps[i]]))
        records += [{"map": number, **s} for s in steps[i]]
    return {"maps": maps, "records": records}


def _choose(usable: torch.Tensor, kinds: torch.Tensor) -> List[int]:
    """As many usable worlds of either kind of course."""
    half = SEQUENCES // 2
    found = [(usable & (kinds == k)).nonzero()[:half, 0].tolist() for k in (0, 1)]
    if any(len(f) < half for f in found):
        raise RuntimeError(
            f"{int(usable.sum())} of {len(usable)} sequences can be golden records, "
            f"expected {half} on either course: the policy falls at once"
        )
    return found[0] + found[1]


def _keeps_off_edges(env: Go2Parkour) -> torch.Tensor:
    """Worlds (N,) in which no point asked for lies on the edge of a cell."""
    view, state = env.view, env._state
    assert view is not None
    pose = view.past[:, 0]
    cos, sin = pose[:, 3], pose[:, 4]
    u = view.direction
    heading = torch.stack([cos * u[:, 0] + sin * u[:, 1], cos * u[:, 1] - sin * u[:, 0]], dim=1)
    feet = env._sensed.feet - state.base_position[:, None]
    at, _ = view.places(slice(None), view.points(pose, heading, feet))
    part = torch.remainder(at / CELL, 1.0)
    return ((part > _MARGIN) & (part < 1.0 - _MARGIN)).all(2).all(1)


def _record(
    env: Go2Parkour,
    i: int,
    first: bool,
    start: torch.Tensor,
    observation: torch.Tensor,
    action: torch.Tensor,
) -> Dict[str, Any]:
    """What world ``i`` measures now, and what it does."""
    state, sensed, view = env._state, env._sensed, env.view
    assert view is not None
    motors = [r.JOINT_NAMES.index(name) for name in r.SDK_JOINT_NAMES]
    # The IMU's own idea of the yaw: a turn about the vertical before everything else.
    w, x, y, z = (float(v) for v in state.base_quaternion[i])
    c, s = math.cos(IMU_YAW / 2), math.sin(IMU_YAW / 2)
    imu = [c * w - s * z, c * x - s * y, c * y + s * x, c * z + s * w]
    heading = sensed.heading[i]
    return {
        "first": first,
        "gyro": _floats(sensed.angular_velocity[i]),
        "quaternion": imu,
        "motor_q": _floats(state.joint_position[i, motors]),
        "motor_dq": _floats(state.joint_velocity[i, motors]),
        "motor_tau": _floats(state.joint_torque[i, motors]),
        "position": _floats(state.base_position[i]),
        "yaw": math.atan2(float(heading[1]), float(heading[0])),
        "start": _floats(start),
        "goal": _floats(view.goals[env.course_ids[i]]),
        "last_action": _floats(env.last_action[i]),
        "observation": _floats(observation),
        "action": _floats(action),
    }


def _map(env: Go2Parkour, i: int, positions: List[List[float]]) -> Dict[str, Any]:
    """The map around all ``positions`` of world ``i``."""
    assert env.view is not None
    xy = np.array(positions)[:, :2]
    low = np.floor((xy.min(0) - _REACH) / CELL).astype(int)
    high = np.ceil((xy.max(0) + _REACH) / CELL).astype(int)
    first, shape = (int(low[0]), int(low[1])), (int(high[0] - low[0]), int(high[1] - low[1]))
    heights = env.view.cells(i, int(env.course_ids[i]), first, shape)
    rows: List[List[Optional[float]]] = [
        [None if math.isnan(h) else round(h, 7) for h in row] for row in heights.tolist()
    ]
    return {"origin": [first[0] * CELL, first[1] * CELL], "cell": CELL, "heights": rows}


def _floats(values: torch.Tensor) -> List[float]:
    """Numbers for JSON; eight digits are a float32."""
    return [float(f"{float(v):.9g}") for v in values]
