"""Scripted driving for the Button and Push tasks, like :class:`controllers.Driver`'s for Goal.

Observations: 24 numbers of the car, then four lidars of 16 bins. Button: buttons, goal (where the
right button is), hazards, gremlins. Push: goal, hazards, pillars, the box.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Callable, Dict, Tuple

import numpy as np

from go2_sevpo.data_collection.safety_gymnasium.controllers import (
    BEYOND,
    BIN_WAYS,
    LIDAR_RANGE,
    Driver,
    random_driver,
)

FIRST, SECOND, THIRD, FOURTH = (slice(24 + 16 * k, 40 + 16 * k) for k in range(4))
BIN = 2.0 * np.pi / 16
"""rad"""
TOUCH = 0.15
"""m: how much farther from its middle a thing that must not be touched begins to cost than a hazard
that must not be entered: the car is some 0.3 m long."""
GREMLIN = 0.5
"""m: the same of gremlins, which go round on a circle of 0.35 m."""
BEHIND = 0.35
"""m behind the box is where the car starts to push."""
PUSH_RADIUS = 0.3
"""m: of the hazards in the Push tasks."""


def nearer(lidar: np.ndarray, by: float) -> np.ndarray:
    """A lidar (16,) of things that are to look nearer by so many m; empty bins stay empty."""
    return np.where(lidar > 0, np.minimum(lidar + by / LIDAR_RANGE, 1.0), 0.0)


def place(lidar: np.ndarray) -> np.ndarray:
    """Where the only thing that a lidar (16,) sees is, m in the body's frame, (2,); 0: nowhere.

    The thing's own bin has the greatest reading s; of the bins beside it the next has s times its
    place in the bin, 0 to 1, the one before the rest.
    """
    number = int(lidar.argmax())
    reading = float(lidar[number])
    if reading <= 0:
        return np.zeros(2)
    share = float(lidar[(number + 1) % 16]) / reading
    angle = (number + min(max(share, 0.0), 1.0)) * BIN
    return LIDAR_RANGE * (1.0 - reading) * np.array([np.cos(angle), np.sin(angle)])


def unit(way: np.ndarray) -> np.ndarray:
    """A way (2,) of length 1."""
    out: np.ndarray = way / max(float(np.linalg.norm(way)), 1e-3)
    return out


@dataclass(frozen=True)
class ButtonDriver(Driver):
    """Drives over the right button, around hazards, gremlins and the wrong buttons."""

    def senses(self, obs: np.ndarray) -> Tuple[np.ndarray, np.ndarray, np.ndarray]:
        """See :class:`Driver`."""
        buttons, goal = obs[FIRST], obs[SECOND]
        # The right button reads like the goal; what reads nearer is another one.
        wrong = np.where(buttons > goal + 1e-3, buttons, 0.0)
        way = goal @ BIN_WAYS if goal.max() > 0 else BEYOND
        return way, np.maximum(obs[THIRD], nearer(obs[FOURTH], GREMLIN)), nearer(wrong, TOUCH)


@dataclass(frozen=True)
class PushDriver(Driver):
    """Gets behind the box and pushes it to the goal, around hazards and pillars."""

    radius: float = PUSH_RADIUS

    def senses(self, obs: np.ndarray) -> Tuple[np.ndarray, np.ndarray, np.ndarray]:
        """See :class:`Driver`."""
        rest = obs[SECOND], obs[THIRD]  # hazards, pillars
        box, goal = place(obs[FOURTH]), place(obs[FIRST])
        if not box.any():
            return (BEYOND, *rest)
        if not goal.any():
            return (BEYOND, *rest)  # no pushing where it is not known where to
        ahead = unit(goal - box)
        side = np.array([-ahead[1], ahead[0]])
        # Where the car is, seen from the box: behind it the first is below 0.
        along, beside = float(-box @ ahead), float(-box @ side)
        distance = max(float(np.linalg.norm(box)), 1e-3)
        # Near the box along the lines of a dipole, which lead around it and end in a push; from
        # afar straight to the place behind it.
        cos, sin = along / distance, beside / distance
        dipole = (2.0 * cos * cos - 1.0) * ahead + 2.0 * cos * sin * side
        there = unit(box - BEHIND * ahead)
        far = 1.0 / (1.0 + np.exp((0.7 - distance) / 0.1))
        return ((1.0 - far) * dipole + far * there, *rest)


def _button(rng: np.random.Generator) -> ButtonDriver:
    driver = random_driver(rng)
    return ButtonDriver(2.0 * driver.margin, driver.speed, driver.noise)


def _push(rng: np.random.Generator) -> PushDriver:
    driver = random_driver(rng)
    return PushDriver(driver.margin, driver.speed, driver.noise)


def _goal(rng: np.random.Generator) -> Driver:
    return random_driver(rng)


def _goal_and_vases(rng: np.random.Generator) -> Driver:
    return random_driver(rng, vases=True)


DRIVERS: Dict[str, Callable[[np.random.Generator], Driver]] = {
    "CarGoal1": _goal,
    "CarGoal2": _goal_and_vases,
    "CarButton1": _button,
    "CarButton2": _button,
    "CarPush1": _push,
    "CarPush2": _push,
}
"""What draws an episode's driver, by the task's name; careless to careful, slow to fast."""
