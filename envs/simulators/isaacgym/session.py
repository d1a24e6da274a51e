"""Loading Isaac Gym and creating a simulation."""

from __future__ import annotations

import importlib.util
import sys
from dataclasses import dataclass
from typing import Any, Tuple

import torch

from go2_sevpo.envs.simulators.isaacgym.early import MISSING


def load_isaacgym() -> Tuple[Any, Any]:
    """Return ``(gymapi, gymtorch)``.

    Raises:
        ValueError: Isaac Gym is absent, or torch was imported before it.
    """
    if "isaacgym" not in sys.modules and "torch" in sys.modules:
        try:
            found = importlib.util.find_spec("isaacgym") is not None
        except (ImportError, ValueError):
            found = False
        if found:
            raise ValueError(
                "Isaac Gym must be imported before torch: give '--simulator isaacgym' on the "
                "command line (not only in a preset), or 'import isaacgym' first in a script of "
                "your own"
            )
    try:
        from isaacgym import gymapi, gymtorch
    except ImportError as error:
        raise ValueError(f"{MISSING} ({error})") from None
    return gymapi, gymtorch


@dataclass
class Session:
    """What calls of Isaac Gym need: the module ``gymapi``, its ``Gym`` and a simulation's handle.

    The package has no type stubs and its handles no classes.
    """

    api: Any
    gym: Any
    sim: Any


def open_session(
    api: Any, device: torch.device, threads: int, physics_dt: float, viewer: bool
) -> Session:
    """Create an empty simulation with the module ``api`` (``gymapi``).

    Args:
        api: what :func:`load_isaacgym` returns first; it has no type stubs.
        device: where PhysX runs and the tensors lie.
        threads: PhysX threads on the CPU; 0 means its default.
        physics_dt: physics step, s.
        viewer: whether a window will be opened.

    Raises:
        ValueError: Isaac Gym could not create it.
    """
    gym = api.acquire_gym()
    gpu = device.type == "cuda"
    params = api.SimParams()
    # One physics step a call: the PD law acts between them.
    params.dt, params.substeps = physics_dt, 1
    params.up_axis, params.gravity = api.UP_AXIS_Z, api.Vec3(0.0, 0.0, -9.81)
    params.use_gpu_pipeline = params.physx.use_gpu = gpu
    params.physx.num_threads = threads or 4
    params.physx.solver_type = 1  # TGS
    params.physx.num_position_iterations, params.physx.num_velocity_iterations = 4, 1
    # Contacts are made from 1 cm on and rest without a gap, m; speeds in m/s.
    params.physx.contact_offset, params.physx.rest_offset = 0.01, 0.0
    params.physx.bounce_threshold_velocity, params.physx.max_depenetration_velocity = 0.5, 1.0
    # Memory on the GPU, enough for thousands of robots.
    params.physx.max_gpu_contact_pairs, params.physx.default_buffer_size_multiplier = 2**23, 5
    params.physx.contact_collection = api.CC_ALL_SUBSTEPS
    index = device.index or 0
    # A graphics device of -1: nothing is ever drawn.
    sim = gym.create_sim(index, index if viewer else -1, api.SIM_PHYSX, params)
    if sim is None:
        raise ValueError(
            "Isaac Gym could not create a simulation; its own messages above say why "
            "(often the GPU driver)"
        )
    return Session(api, gym, sim)
