"""The simulator protocol: what every physics back end offers to the environment.

A back end holds ``num_envs`` separate worlds, each with one Go2 on one course of a fixed list. All
tensors are float32 torch tensors on ``device``, batched over worlds. Canonical joint order
(:data:`go2_sevpo.envs.go2.description.robot.JOINT_NAMES`) at every boundary; back ends map by name.
Nobody writes into a returned state.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, Dict, List, Optional, Protocol, Sequence, Tuple

import numpy as np
import torch

from go2_sevpo.envs.go2.description import robot as r
from go2_sevpo.envs.go2.description.course import Course

if TYPE_CHECKING:
    import mujoco


class SimulationError(RuntimeError):
    """The physics produced something unusable (a non-finite state, an overflow)."""


def physics_steps(num_envs: int, courses: Sequence[Course], physics_dt: float) -> int:
    """Physics steps in a control step, after checking what every back end is made from.

    Raises:
        ValueError: no course, no world, or a physics step that does not divide the control step.
    """
    if num_envs < 1 or not courses:
        raise ValueError(
            f"got {num_envs} worlds and {len(courses)} courses, expected at least one of each"
        )
    steps = round(r.CONTROL_DT / physics_dt) if physics_dt > 0 else 0
    if steps < 1 or abs(steps * physics_dt - r.CONTROL_DT) > 1e-9:
        raise ValueError(
            f"physics step is {physics_dt} s, "
            f"expected a divisor of the control step {r.CONTROL_DT} s"
        )
    return steps


def describe(course: Course) -> str:
    """What a message says of the course a world is on."""
    return f"course {course.kind} (difficulty {course.difficulty}, seed {course.seed})"


@dataclass
class RobotState:
    """State of N robots.

    ``base_position`` (N, 3) m; ``base_quaternion`` (N, 4) wxyz, base to world;
    ``base_linear_velocity`` (N, 3) m/s and ``base_angular_velocity`` (N, 3) rad/s, both in the
    **world** frame; ``joint_position``, ``joint_velocity``, ``joint_torque`` (N, 12) rad, rad/s, N
    m; ``foot_force`` (N, 4) normal contact force, N, legs FL FR RL RR; ``body_force`` (N, 9) normal
    contact force on :data:`go2_sevpo.envs.go2.description.robot.CONTACT_BODIES`, the largest of the
    last control step, N.
    """

    base_position: torch.Tensor
    base_quaternion: torch.Tensor
    base_linear_velocity: torch.Tensor
    base_angular_velocity: torch.Tensor
    joint_position: torch.Tensor
    joint_velocity: torch.Tensor
    joint_torque: torch.Tensor
    foot_force: torch.Tensor
    body_force: torch.Tensor

    def select(self, index: torch.Tensor) -> RobotState:
        """Return the rows ``index`` as a new state."""
        return RobotState(**{f.name: getattr(self, f.name)[index] for f in fields(self)})


@dataclass
class Dynamics:
    """Randomised physics of N worlds, each (N,).

    ``friction`` is a factor on the course's own coefficient; ``payload`` a mass added to the base
    at its centre of mass, kg; ``motor_strength`` a factor on the PD gains and the torque limits.
    """

    friction: torch.Tensor
    payload: torch.Tensor
    motor_strength: torch.Tensor

    @staticmethod
    def nominal(n: int, device: Optional[torch.device] = None) -> Dynamics:
        """Factors of one, no payload."""
        ones = torch.ones(n, device=device)
        return Dynamics(ones, torch.zeros_like(ones), ones.clone())


class Simulator(Protocol):
    """What the environment asks of a physics back end."""

    num_envs: int
    device: torch.device
    courses: List[Course]
    fixed_payload: Optional[torch.Tensor]
    """Payloads (N,), kg, that :meth:`assign` cannot change; None where it can."""

    def assign(
        self, env_ids: torch.Tensor, course_ids: torch.Tensor, dynamics: Optional[Dynamics] = None
    ) -> None:
        """Give worlds ``env_ids`` (K,) the courses ``course_ids`` (K,), and new dynamics if any."""

    def write(self, env_ids: torch.Tensor, state: RobotState) -> None:
        """Set worlds ``env_ids`` (K,) to the pose and velocity of ``state`` (K rows).

        Its torques and forces are ignored.
        """

    def push(self, env_ids: torch.Tensor, velocity: torch.Tensor) -> None:
        """Add ``velocity`` (K, 3), m/s, world frame, to the base's linear velocity."""

    def step(
        self,
        joint_targets: torch.Tensor,
        active: Optional[torch.Tensor] = None,
        delay: Optional[torch.Tensor] = None,
    ) -> None:
        """Advance one control step towards ``joint_targets`` (N, 12) rad.

        Worlds not ``active`` (N,) bool stand still. For the first ``delay`` (N,) seconds, rounded
        to physics steps, the previous targets still hold (after :meth:`write`: the joint positions
        written). The PD law, the torque limits and the velocity limits act at the physics rate.

        Raises:
            SimulationError: a world's state became non-finite; the message names the world.
        """

    def read(self) -> RobotState:
        """Return the present state of all worlds as fresh tensors."""

    def state_dict(self) -> Dict[str, Any]:
        """Return the physical state of all worlds, exact, as tensors.

        Courses and dynamics are the caller's.
        """

    def load_state_dict(self, state: Dict[str, Any]) -> None:
        """Restore :meth:`state_dict`."""

    def visual_state(self, env_id: int) -> Tuple[Course, np.ndarray]:
        """Return one world's course and its pose ``qpos`` (19,), MuJoCo order, for a viewer."""

    def render(
        self,
        env_id: int,
        width: int = 640,
        height: int = 360,
        camera: Optional[mujoco.MjvCamera] = None,
    ) -> np.ndarray:
        """Return an image (height, width, 3) uint8 of one world.

        The camera follows the robot unless another one is given.
        """

    def close(self) -> None:
        """Free threads and graphics."""
