"""The physics back ends by name. Each is imported only when it is asked for."""

from __future__ import annotations

from typing import Optional, Sequence, Tuple

import torch

from go2_sevpo.envs.go2.description.course import Course
from go2_sevpo.envs.simulators.base import Simulator

SIMULATORS = ("mujoco", "mujoco-warp", "isaacgym")


def announce(requests: Sequence[Tuple[str, int, Sequence[Course], torch.Tensor]]) -> None:
    """Say what simulators this process will make, one after the other, before the first.

    Each as (name, worlds, courses, payloads (worlds,) in kg). Only Isaac Gym needs it: there a
    process has one simulation, to which nothing can be added.
    """
    needed = [(n, courses, payload) for name, n, courses, payload in requests if name == "isaacgym"]
    if needed:
        from go2_sevpo.envs.simulators.isaacgym import process

        process.announce([process.Request(*rest) for rest in needed])


def make_simulator(
    name: str,
    num_envs: int,
    courses: Sequence[Course],
    threads: int = 0,
    physics_dt: float = 0.005,
    payload: Optional[torch.Tensor] = None,
    device: Optional[str] = None,
    viewer: bool = False,
) -> Simulator:
    """Make the back end called ``name``.

    ``payload`` (num_envs,), kg, is for those that cannot change masses later; ``viewer`` opens a
    window of the simulator's own, which only Isaac Gym has.

    Raises:
        ValueError: an unknown name, a back end that is not installed, or arguments it does not
            accept.
    """
    if viewer and name in SIMULATORS and name != "isaacgym":
        raise ValueError(f"the simulator {name} has no window of its own")
    if name == "mujoco":
        if device not in (None, "cpu"):
            raise ValueError(f"the simulator mujoco runs on the CPU, device is '{device}'")
        from go2_sevpo.envs.simulators.mujoco import MujocoSimulator

        return MujocoSimulator(num_envs, courses, threads, physics_dt)
    if name == "mujoco-warp":
        from go2_sevpo.envs.simulators.mujoco_warp import MujocoWarpSimulator

        return MujocoWarpSimulator(num_envs, courses, threads, physics_dt, device)
    if name == "isaacgym":
        from go2_sevpo.envs.simulators.isaacgym.simulator import IsaacGymSimulator

        return IsaacGymSimulator(num_envs, courses, threads, physics_dt, payload, device, viewer)
    raise ValueError(f"unknown simulator '{name}', expected one of {', '.join(SIMULATORS)}")
