"""Robot and controller in one thread, one physics step after the other: exact and repeatable."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, Callable, Dict, List, Mapping, Optional, Tuple

import numpy as np

from go2_sevpo.deploy.robot.bus.memory import MemoryBus
from go2_sevpo.deploy.robot.control import ControlStep, Settings
from go2_sevpo.deploy.robot.controller import Act, Controller
from go2_sevpo.deploy.robot.machine import Mode
from go2_sevpo.deploy.robot.plant.robot import Plant
from go2_sevpo.deploy.robot.plant.settings import PlantSettings
from go2_sevpo.envs.go2.description.course import Course
from go2_sevpo.policies.onnx_policy import OnnxPolicy

EachStep = Callable[["Lockstep"], None]


def acting(policy: OnnxPolicy, seed: int, scale: Optional[float] = None) -> Act:
    """A policy file as the controller calls it, with a stream of noise of its own.

    ``scale`` of the noise is the policy's own if not given.
    """
    rng = np.random.default_rng(seed)
    factor = policy.contract["sampler"].get("noise_scale", 1.0) if scale is None else scale

    def act(observation: np.ndarray, spent: float) -> Tuple[np.ndarray, float]:
        noise = (factor * rng.normal(size=policy.noise_shape(1))).astype(np.float32)
        cost = np.array([spent], dtype=np.float32)
        before = policy.non_finite
        action, value, _ = policy.act(observation[None], noise, cost)
        if policy.non_finite > before:  # the controller is to know
            return np.full(action.shape[1], np.nan), float(value[0])
        return action[0], float(value[0])

    return act


@dataclass
class Episode:
    """What came of one episode."""

    success: bool
    fall: bool
    seconds: float
    distance: float
    """m to the destination at the end."""
    modes: List[str] = field(default_factory=list)


class Lockstep:
    """One virtual robot and one controller on a bus in memory.

    Args:
        course: where.
        contract: of the policy.
        act: the policy; None to stand only.
        plant: the robot; its seed decides everything.
        settings: the controller's; goal and start follow from the course.
        on_step: see :class:`Controller`.
    """

    def __init__(
        self,
        course: Course,
        contract: Mapping[str, Any],
        act: Optional[Act],
        plant: PlantSettings,
        settings: Optional[Settings] = None,
        on_step: Optional[Callable[[ControlStep], None]] = None,
    ) -> None:
        self.bus = MemoryBus()
        self.plant = Plant(self.bus, course, plant)
        x, y, _ = course.destination
        settings = settings or Settings(automatic=True, settle=0.2)
        settings = replace(settings, goal=(float(x), float(y)), goal_frame="odom")
        self.controller = Controller(self.bus, contract, act, settings, on_step)

    def step(self) -> None:
        """2 ms."""
        self.plant.step()
        self.controller.tick(self.plant.time)

    def run(self, seconds: float = 25.0, each_step: Optional[EachStep] = None) -> Episode:
        """Play until success, a fall, DAMP, the policy's end or ``seconds``."""
        while self.plant.time < seconds:
            self.step()
            if each_step is not None:
                each_step(self)
            truth, machine = self.plant.truth, self.controller.machine
            if truth.success or truth.fall or machine.mode is Mode.DAMP or machine.finished:
                break
        truth = self.plant.truth
        modes = self.controller.modes
        return Episode(truth.success, truth.fall, self.plant.time, truth.distance, modes)


def summary(episodes: List[Episode]) -> Dict[str, float]:
    """Counts and means of some episodes."""
    return {
        "episodes": len(episodes),
        "success": sum(e.success for e in episodes),
        "fall": sum(e.fall for e in episodes),
        "seconds": float(np.mean([e.seconds for e in episodes])) if episodes else 0.0,
    }
