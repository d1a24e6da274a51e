"""Configuration of the parkour environment."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
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

    @staticmethod
    def off() -> Randomization:
        """No randomisation at all."""
        return Randomization(False, False, False, False, False, False, False)


@dataclass(frozen=True)
class ParkourConfig:
    """What is simulated. ``courses`` are the kinds used, with their ``shares`` of the worlds.

    Evaluation and collection give every world one course of ``difficulty`` and one episode;
    training (``curriculum``) draws courses by level, starts some episodes at a random stone and
    ends stuck ones.
    """

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
        if not 0.0 <= self.difficulty <= 1.0:
            raise ValueError(f"difficulty is {self.difficulty}, expected a number in [0, 1]")

    def to_dict(self) -> Dict[str, Any]:
        """Return plain data for JSON or YAML."""
        return asdict(self)
