"""Configuration of the parkour environment."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from typing import Any, Dict, Optional, Tuple

from go2_sevpo.envs.go2.description.course import KINDS, Shape
from go2_sevpo.envs.go2.rewards import RewardWeights


@dataclass(frozen=True)
class Randomization:
    """Domain randomisation; each part has its flag. Ranges are uniform."""

    friction: bool = True
    payload: bool = True
    motor_strength: bool = True
    delay: bool = True
    pushes: bool = True
    sensor_noise: bool = True
    start_pose: bool = True
    friction_factor: Tuple[float, float] = (0.75, 1.25)
    payload_kg: Tuple[float, float] = (-1.0, 2.0)
    motor_factor: Tuple[float, float] = (0.9, 1.1)
    delay_s: Tuple[float, float] = (0.0, 0.015)
    push_speed: float = 0.4
    """m/s, along x and y, added to the base every ``push_interval`` seconds."""
    push_interval: float = 4.0
    map_error: float = 0.02
    """m, constant height error of the map during an episode."""
    # From here on what a real robot adds; off in version 1 of the task.
    joint_damping: bool = False
    armature: bool = False
    dry_friction: bool = False
    torque_speed: bool = False
    contact_faults: bool = False
    odometry_drift: bool = False
    map_drift: bool = False
    map_cells: bool = False
    map_unknown: bool = False
    map_age: bool = False
    map_outliers: bool = False
    damping: Tuple[float, float] = (0.0, 1.0)
    """N m s/rad, of every joint."""
    armature_inertia: Tuple[float, float] = (0.005, 0.02)
    """kg m^2."""
    friction_loss: Tuple[float, float] = (0.0, 0.5)
    """N m, dry friction of every joint."""
    droop: Tuple[float, float] = (0.0, 0.8)
    """Share of the torque limit that a motor loses at the joint's velocity limit."""
    contact_miss: float = 0.02
    """Share of the steps on which a touching foot is not noticed."""
    contact_false: float = 0.02
    """Share of the steps on which a foot in the air is taken to touch."""
    drift_position: float = 0.02
    """m per m of way, rms, of the odometry along x and y."""
    drift_height: float = 0.01
    """m per m of way, rms."""
    drift_yaw: float = 0.5
    """Degrees per s, rms."""
    map_age_s: Tuple[float, float] = (0.02, 0.1)
    """s, age of the pose and the map that the heights are read with."""
    map_hole: float = 0.01
    """Share of the map's cells that are unknown for no reason."""
    map_outlier: float = 0.01
    """Share of the map's cells with a wrong height."""
    map_outlier_height: float = 0.15
    """m, how wrong they are at most."""
    true_map_share: float = 0.0
    """Share of the episodes without any fault of the map or of odometry, for training."""

    @staticmethod
    def off() -> Randomization:
        """No randomisation at all."""
        return Randomization(False, False, False, False, False, False, False)

    @staticmethod
    def of(version: int) -> Randomization:
        """Everything on, as it belongs to a version of the task."""
        if version == 1:
            return Randomization()
        on = {name: True for name in ROBOT_FAULTS}
        wider: Dict[str, Any] = {
            "friction_factor": (0.6, 1.25),
            "payload_kg": (-1.0, 4.0),
            "delay_s": (0.0, 0.025),
        }
        return replace(Randomization(), **on, **wider)


MAP_FAULTS = ("map_drift", "map_cells", "map_unknown", "map_age", "map_outliers")
"""Flags of the faults of the map."""
JOINT_FLAGS = {
    "joint_damping": "damping",
    "armature": "armature",
    "dry_friction": "friction_loss",
    "torque_speed": "droop",
}
"""Flags about the joints and what they change in the simulator's Dynamics."""
ROBOT_FAULTS = (*JOINT_FLAGS, "contact_faults", "odometry_drift", *MAP_FAULTS)
"""Flags that version 2 of the task adds."""
VERSIONS = (1, 2)


@dataclass(frozen=True)
class ParkourConfig:
    """What is simulated. ``courses`` are the kinds used, with their ``shares`` of the worlds.

    Evaluation and collection give every world one course of ``difficulty`` and one episode;
    training (``curriculum``) draws courses by level, starts some episodes at a random stone and
    ends stuck ones.
    """

    version: int = 1
    """Version of the task: 1 as the first policies were trained on, 2 as a robot could give it
    (``docs/courses.md``). A policy's contract says which one it is for."""
    num_envs: int = 64
    courses: Tuple[str, ...] = ("simple",)
    shares: Tuple[float, ...] = (1.0,)
    difficulty: float = 1.0
    course_seed: int = 0
    """First course seed; course number k of the pool has seed ``course_seed + k``."""
    variants: int = 64
    """Courses in the pool per kind (and per level with a curriculum)."""
    episode_seconds: float = 20.0
    curriculum: bool = False
    levels: int = 10
    first_level: int = 0
    """Level of the curriculum that every world begins at."""
    max_level_difficulty: float = 1.0
    random_start: float = 0.0
    """Share of episodes that start on a random stone."""
    stuck_seconds: float = 0.0
    """An episode without 0.3 m of progress for this long is truncated; 0 switches it off."""
    seed: int = 0
    threads: int = 0
    physics_dt: float = 0.005
    simulator: str = "mujoco"
    """Physics back end (:data:`go2_sevpo.envs.simulators.registry.SIMULATORS`)."""
    device: Optional[str] = None
    """For back ends that can choose: cpu, cuda:0; their own choice if None."""
    viewer: bool = False
    """Isaac Gym: open its window."""
    shape: Shape = field(default_factory=Shape)
    """Departures from the courses' definition, for measuring limits."""
    randomization: Randomization = field(default_factory=Randomization)
    reward: RewardWeights = field(default_factory=RewardWeights)

    def __post_init__(self) -> None:
        """Check the values.

        Raises:
            ValueError: naming what was found and what was expected.
        """
        if self.version not in VERSIONS:
            raise ValueError(f"version is {self.version}, expected one of {VERSIONS}")
        unknown = [k for k in ROBOT_FAULTS if getattr(self.randomization, k)]
        if self.version == 1 and unknown:
            raise ValueError(f"randomization.{unknown[0]} is on, which version 1 does not have")
        for kind in self.courses:
            if kind not in KINDS:
                raise ValueError(f"unknown course '{kind}', expected one of {', '.join(KINDS)}")
        if len(self.shares) != len(self.courses):
            raise ValueError(
                f"{len(self.shares)} shares for {len(self.courses)} courses, expected one each"
            )
        if self.num_envs < 1 or self.variants < 1:
            raise ValueError(
                f"num_envs {self.num_envs} and variants {self.variants}, expected at least 1"
            )
        if not 0 <= self.first_level < self.levels:
            raise ValueError(f"first_level is {self.first_level}, expected 0 to {self.levels - 1}")
        if not 0.0 <= self.difficulty <= 1.0:
            raise ValueError(f"difficulty is {self.difficulty}, expected a number in [0, 1]")

    def to_dict(self) -> Dict[str, Any]:
        """Return plain data for JSON or YAML."""
        return asdict(self)
