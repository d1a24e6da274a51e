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


MODEL_JOINTS = {
    "damping": 0.0,
    "armature": r.ARMATURE,
    "friction_loss": r.FRICTION_LOSS,
    "droop": 0.0,
}
"""The model files' joints: see :class:`Dynamics`."""
MAX_LATE = 2
"""Control steps that a target may be late by."""


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

    Of every joint: ``damping`` N m s/rad, ``armature`` kg m^2 and ``friction_loss`` (dry friction)
    N m. ``droop`` is a motor's torque-speed line: the share of the torque limit that is lost at the
    joint's velocity limit. With limit L, velocity limit V and b = droop L / V the motor gives

        tau = clip(kp (target - q) - kd qd, -L - b qd, L - b qd).

    What is not given is the model's own.
    """

    friction: torch.Tensor
    payload: torch.Tensor
    motor_strength: torch.Tensor
    damping: Optional[torch.Tensor] = None
    armature: Optional[torch.Tensor] = None
    friction_loss: Optional[torch.Tensor] = None
    droop: Optional[torch.Tensor] = None

    def __post_init__(self) -> None:
        """Fill in the model's own values."""
        for name, value in MODEL_JOINTS.items():
            if getattr(self, name) is None:
                setattr(self, name, torch.full_like(self.friction, value))

    @staticmethod
    def nominal(n: int, device: Optional[torch.device] = None) -> Dynamics:
        """Factors of one, no payload, the model's own joints."""
        ones = torch.ones(n, device=device)
        return Dynamics(ones, torch.zeros_like(ones), ones.clone())


def joint_value(name: str, value: float) -> float:
    """``value`` of a field of :data:`MODEL_JOINTS`; the model's own in full precision."""
    own = MODEL_JOINTS[name]
    return own if np.float32(own) == np.float32(value) else value


def late_targets(wait: np.ndarray, substeps: int) -> np.ndarray:
    """Which targets hold at each physics step of a control step, (N, ``substeps``) int.

    0 are the ones just given, 1 those of the control step before, 2 the ones before those.
    ``wait`` (N,) is the delay in physics steps.

    Raises:
        ValueError: a delay of more than two control steps.
    """
    if len(wait) and wait.max() > MAX_LATE * substeps:
        raise ValueError(
            f"delay is {wait.max():g} physics steps, expected at most {MAX_LATE * substeps} "
            f"({MAX_LATE} control steps)"
        )
    # Targets given m steps ago arrive at physics step wait - m * substeps of this one.
    left = wait[:, None] - np.arange(substeps)
    return np.maximum(np.ceil(left / substeps), 0).astype(np.int64)


class Simulator(Protocol):
    """What the environment asks of a physics back end."""

    num_envs: int
    device: torch.device
    courses: List[Course]
    fixed_payload: Optional[torch.Tensor]
    """Payloads (N,), kg, that :meth:`assign` cannot change; None where it can."""
    joint_dynamics: Tuple[str, ...]
    """Fields of :class:`Dynamics` about joints that :meth:`assign` can change."""

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

        Worlds not ``active`` (N,) bool stand still. Targets take effect ``delay`` (N,) seconds,
        rounded to physics steps, after they were given; until then the previous ones hold (after
        :meth:`write`: the joint positions written). The PD law, the torque limits and the velocity
        limits act at the physics rate.

        Raises:
            ValueError: a delay of more than :data:`MAX_LATE` control steps.
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
