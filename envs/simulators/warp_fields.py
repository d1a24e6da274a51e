"""What of a MuJoCo Warp model differs from world to world, and the package itself."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

PAYLOADS = np.linspace(-5.0, 15.0, 401)
"""Payloads, kg, at which the inertia constants are computed; between them they are interpolated."""

COURSE_FIELDS = ("geom_pos", "geom_quat", "geom_size", "geom_rbound", "geom_aabb", "geom_friction")
PAYLOAD_FIELDS = ("body_mass", "body_subtreemass", "body_invweight0", "dof_invweight0")
JOINT_FIELDS = {
    "dof_damping": "damping",
    "dof_armature": "armature",
    "dof_frictionloss": "friction_loss",
}
"""Fields of the model and what of Dynamics they are; inertia constants stay those of the model's
own armature."""
MOTOR_FIELDS = ("actuator_gainprm", "actuator_biasprm", "actuator_forcerange")


def load_warp() -> Any:
    """Import mujoco_warp and quieten Warp.

    Raises:
        ValueError: it is not installed.
    """
    try:
        import mujoco_warp
        import warp
    except ImportError as error:
        raise ValueError(
            f"the simulator mujoco-warp needs the packages mujoco-warp and warp-lang ({error}); "
            "install them with: pip install 'go2-sevpo[warp]'"
        ) from None
    warp.config.log_level = warp.LOG_WARNING  # not a line for every kernel that is compiled
    warp.init()
    return mujoco_warp


def like(values: torch.Tensor, field: torch.Tensor) -> torch.Tensor:
    """``values`` (K,) in the shape (K, 1, ...) that broadcasts over rows of ``field``."""
    return values.view(-1, *([1] * (field.dim() - 1)))
