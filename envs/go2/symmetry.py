"""Left-right mirror of observations and actions, as an index and a sign per number."""

from __future__ import annotations

from typing import List, Tuple

import torch

from go2_sevpo.envs.go2.observations import FOOT_RING, SCAN_X, SCAN_Y, observation_spec

# FL FR RL RR: left and right change places.
_SWAPPED_LEGS = (1, 0, 3, 2)
Mirror = Tuple[torch.Tensor, torch.Tensor]


def _joints() -> Tuple[List[int], List[float]]:
    index = [3 * leg + k for leg in _SWAPPED_LEGS for k in range(3)]
    # Hips turn about x, so they change sign; thighs and calves turn about y.
    return index, [-1.0, 1.0, 1.0] * 4


def _foot_heights() -> Tuple[List[int], List[float]]:
    points = [(0.0, 0.0), *FOOT_RING]

    def opposite(x: float, y: float) -> int:
        """Number of the point at (x, -y)."""
        return min(range(len(points)), key=lambda k: abs(points[k][0] - x) + abs(points[k][1] + y))

    flip = [opposite(x, y) for x, y in points]
    index = [leg * len(points) + k for leg in _SWAPPED_LEGS for k in flip]
    return index, [1.0] * len(index)


def _scan() -> Tuple[List[int], List[float]]:
    rows = len(SCAN_Y)
    index = [i * rows + (rows - 1 - j) for i in range(len(SCAN_X)) for j in range(rows)]
    return index, [1.0] * len(index)


# Mirroring in the xz plane: y changes sign in vectors, x and z in axial ones (turn rates).
_FIELD_MIRRORS = {
    "base_angular_velocity": ([0, 1, 2], [-1.0, 1.0, -1.0]),
    "gravity_direction": ([0, 1, 2], [1.0, -1.0, 1.0]),
    "joint_position_offset": _joints(),
    "joint_velocity": _joints(),
    "last_action": _joints(),
    "foot_contact": (list(_SWAPPED_LEGS), [1.0] * 4),
    "waypoints": ([0, 1, 2, 3, 4, 5], [1.0, -1.0, 1.0, 1.0, -1.0, 1.0]),
    "height_scan": _scan(),
    "foot_heights": _foot_heights(),
}


def observation_mirror() -> Mirror:
    """Index and sign, both (265,): mirrored = observation[..., index] * sign."""
    index: List[int] = []
    sign: List[float] = []
    for field in observation_spec().fields:
        # Earlier frames, ``name@-1``, mirror like the present one.
        field_index, field_sign = _FIELD_MIRRORS[field.name.split("@")[0]]
        index.extend(len(sign) + k for k in field_index)
        sign.extend(field_sign)
    return torch.tensor(index), torch.tensor(sign)


def action_mirror() -> Mirror:
    """Index and sign, both (12,), of an action.

    The default pose is mirror-symmetric, so offsets mirror too.
    """
    index, sign = _joints()
    return torch.tensor(index), torch.tensor(sign)


def privileged_mirror(version: int = 1) -> Mirror:
    """Index and sign, both (14,), or (27,) in version 2, of :meth:`Go2Parkour.privileged`."""
    # Velocity, foot forces, seven numbers without a side.
    index = [0, 1, 2] + [3 + k for k in _SWAPPED_LEGS] + list(range(7, 14))
    sign = [1.0, -1.0] + [1.0] * 12
    if version > 1:
        # Three numbers of the joints; two waypoints; the map's error in x, y, z and yaw.
        index += list(range(14, 27))
        sign += [1.0] * 3 + [1.0, -1.0, 1.0] * 2 + [1.0, -1.0, 1.0, -1.0]
    return torch.tensor(index), torch.tensor(sign)
