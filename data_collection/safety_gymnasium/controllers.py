"""Behaviour for generated Safety-Gymnasium data.

Scripted lidar driving, and linear policies found by random search. Neither is meant to be good:
together they must cover careful and careless behaviour in the same states.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Callable, List, Tuple

import numpy as np

from go2_sevpo.envs.seeds import SAFETY_SEARCH
from go2_sevpo.runs.progress import Progress

if TYPE_CHECKING:
    from go2_sevpo.envs.safety_gymnasium.environment import SafetyEnv

GOAL_LIDAR, HAZARD_LIDAR, VASE_LIDAR = slice(24, 40), slice(40, 56), slice(56, 72)
"""In CarGoal1's and CarGoal2's observation: 16 bins each, counter-clockwise from the body's x."""
LIDAR_RANGE = 3.0
"""m: a bin's value is 1 - distance / range."""
FORWARD = -0.5 * np.pi
"""The car drives along its -y axis when both wheels turn forwards."""
BIN_ANGLES = (np.arange(16) + 0.5) * (2.0 * np.pi / 16)
"""rad, of the bins' middles."""
BIN_WAYS = np.stack([np.cos(BIN_ANGLES), np.sin(BIN_ANGLES)], axis=1)
"""Unit vectors to the bins' middles, (16, 2)."""
BEYOND = np.array([np.cos(FORWARD + 0.3), np.sin(FORWARD + 0.3)])
"""The way where the goal is out of the lidar's range: on in a wide curve."""
HAZARD_RADIUS = 0.2
"""m"""
SOLID_MARGIN = 0.5
"""m: at which every driver, careless or not, goes around what stands in the way."""


def wrap(angle: np.ndarray) -> np.ndarray:
    """Angle in [-pi, pi)."""
    return (angle + np.pi) % (2.0 * np.pi) - np.pi


@dataclass(frozen=True)
class Driver:
    """Drives to the goal's lidar and along the edge of hazards nearer than ``margin``.

    ``margin`` is in m from their centres; up to the radius ignores them. The way is a continuous
    function of the observation (but for the goal straight behind), so that it can be learned from a
    few hundred episodes: rules that switch between hazards, sides or gears could not be imitated
    even from its safe episodes alone.
    """

    margin: float
    speed: float = 1.0
    noise: float = 0.0
    vases: bool = False
    """Goes around vases too: touching them costs in CarGoal2."""
    radius: float = HAZARD_RADIUS
    """m: what is nearer than this is driven through straight on."""

    def senses(self, obs: np.ndarray) -> Tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The way to go (2,), of any length, and what to keep away from as lidars (16,).

        The first is of what can be driven through, the second of what is in the way.
        """
        goal, hazard = obs[GOAL_LIDAR], obs[HAZARD_LIDAR]
        if self.vases:
            hazard = np.maximum(hazard, obs[VASE_LIDAR])
        # The bins' ways weighted by nearness: (16,) @ (16, 2) -> (2,).
        return goal @ BIN_WAYS if goal.max() > 0 else BEYOND, hazard, np.zeros(16)

    def act(self, obs: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Wheel commands (2,) in [-1, 1] for one observation (S,)."""
        way, hazard, solid = self.senses(obs)
        way = way / max(float(np.linalg.norm(way)), 1e-3)
        if self.margin > self.radius:
            way = around(way, hazard, self.margin, self.radius)
        if solid.any():
            way = around(way, solid, SOLID_MARGIN, 0.0)
        error = float(wrap(np.arctan2(way[1], way[0]) - FORWARD))  # rad, counter-clockwise
        # Slower in turns, never standing.
        forward = self.speed * max(np.cos(error), 0.0) + 0.1
        turn = np.tanh(3.0 * error)
        wheels = np.array([forward + turn, forward - turn]) + self.noise * rng.normal(size=2)
        return np.clip(wheels, -1.0, 1.0).astype(np.float32)


def around(way: np.ndarray, hazard: np.ndarray, margin: float, radius: float) -> np.ndarray:
    """The way to drive (2,), given the unit vector to the goal and the hazards' lidar (16,).

    Hazards nearer than ``margin`` are gone around along their edge; from within ``radius`` the way
    leads straight on. Both in m.
    """
    distance = LIDAR_RANGE * (1.0 - hazard)  # m; the range where there is nothing
    nearest = float(distance.min())
    # A bin's weight: a smooth step at the margin, 0 for empty bins, and for those behind.
    near = hazard / (1.0 + np.exp((distance - margin) / 0.08)) * (hazard > 0)
    near = near * np.clip(BIN_WAYS @ way + 0.5, 0.0, 1.5) / 1.5  # cos to the way, (16,)
    total = float(near.sum())
    if total < 1e-3:
        return way
    there = near @ BIN_WAYS / total  # mean direction of what is near, (2,)
    there = there / max(float(np.linalg.norm(there)), 1e-3)
    # Along the edge on the goal's side (the sign of way x there, smoothed), and away from the
    # hazard the deeper inside the margin; from within a hazard straight on.
    side = -np.tanh((way[0] * there[1] - way[1] * there[0]) / 0.15)
    deep = np.clip((margin - nearest) / max(margin - radius, 0.1), 0.0, 1.0)
    edge = side * np.array([-there[1], there[0]]) - deep * there
    weight = min(1.5 * total, 1.0) / (1.0 + np.exp((radius - nearest) / 0.03))
    out: np.ndarray = (1.0 - weight) * way + weight * edge
    return out


def random_driver(rng: np.random.Generator, vases: bool = False) -> Driver:
    """Careless to careful, slow to fast."""
    margin, speed, noise = (float(rng.uniform(*x)) for x in ((0.0, 0.6), (0.5, 1.0), (0.05, 0.25)))
    return Driver(margin, speed, noise, vases)


@dataclass
class Linear:
    """a = clip(W (o - mean) / std + noise): linear on normalised observations.

    Attributes:
        weights: W, (A, S).
        mean, std: of the observations, (S,).
        noise: standard deviation of the action noise.
    """

    weights: np.ndarray
    mean: np.ndarray
    std: np.ndarray
    noise: float = 0.0

    def act(self, obs: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Actions (A,) in [-1, 1]."""
        action = self.weights @ np.clip((obs - self.mean) / self.std, -5.0, 5.0)
        action = action + self.noise * rng.normal(size=len(action))
        return np.clip(action, -1.0, 1.0).astype(np.float32)


class Statistics:
    """Running mean and standard deviation of observations."""

    def __init__(self, size: int) -> None:
        # Number of rows, their mean, and the sum of squared deviations from it.
        self.n, self.mean, self.square = 0, np.zeros(size), np.zeros(size)

    def add(self, rows: np.ndarray) -> None:
        """Take in rows (M, S)."""
        # Welford's update: (x - old mean)(x - new mean), by blocks.
        self.n += len(rows)
        change = rows - self.mean  # (M, S)
        self.mean = self.mean + change.sum(0) / self.n
        self.square = self.square + (change * (rows - self.mean)).sum(0)

    @property
    def std(self) -> np.ndarray:
        """Standard deviation (S,), never tiny."""
        return np.sqrt(np.maximum(self.square / max(self.n - 1, 1), 1e-4))


def rollout(
    env: SafetyEnv, act: Callable[[np.ndarray], np.ndarray], seed: int, steps: int
) -> Tuple[float, float, np.ndarray]:
    """Return, cost and observations (T, S) of one episode of at most ``steps`` steps."""
    obs, _ = env.reset(seed=seed)
    total, cost, seen = 0.0, 0.0, []
    for _ in range(steps):
        seen.append(obs)
        obs, reward, terminated, truncated, info = env.step(act(obs))
        total, cost = total + reward, cost + info["cost"]
        if terminated or truncated:
            break
    return total, cost, np.array(seen, dtype=np.float64)


def random_search(
    env: SafetyEnv,
    n_obs: int,
    n_act: int,
    iterations: int,
    seed: int,
    penalty: float = 0.0,
    directions: int = 16,
    best: int = 8,
    step: float = 0.02,
    spread: float = 0.03,
    horizon: int = 1000,
    say: Callable[[str], None] = print,
    keep: int = 6,
) -> List[Linear]:
    """Augmented random search for return - ``penalty`` x cost; ``keep`` snapshots, early to last.

    Mania et al. 2018, V2-t: the ``best`` of the ``directions`` are used, observations are
    normalised. ``step`` and ``spread`` are their alpha and nu; episodes end after ``horizon``
    steps.
    """
    rng = np.random.default_rng(seed)
    weights, statistics = np.zeros((n_act, n_obs)), Statistics(n_obs)
    quiet = np.random.default_rng(0)
    found: List[Linear] = []
    marks = {round(x) for x in np.linspace(iterations / keep, iterations, keep)}
    progress = Progress(iterations)
    for k in range(iterations):
        deltas = rng.normal(size=(directions, n_act, n_obs))
        scores, costs = np.zeros((directions, 2)), 0.0
        # One normalisation for all episodes of an iteration.
        mean, std, seen = statistics.mean.copy(), statistics.std, []
        for i, delta in enumerate(deltas):
            number = SAFETY_SEARCH.number(seed, k * directions + i)  # the same start for both signs
            for j, sign in enumerate((1.0, -1.0)):
                policy = Linear(weights + sign * spread * delta, mean, std)
                total, cost, rows = rollout(env, partial(policy.act, rng=quiet), number, horizon)
                scores[i, j], costs = total - penalty * cost, costs + cost
                seen.append(rows)
        for rows in seen:
            statistics.add(rows)
        # W <- W + alpha / (b sigma) sum over the b best of (r+ - r-) delta
        order = np.argsort(-scores.max(1))[:best]
        sigma = scores[order].std() + 1e-6
        slope = ((scores[order, 0] - scores[order, 1])[:, None, None] * deltas[order]).sum(0)
        weights = weights + step / (best * sigma) * slope  # (A, S)
        if k + 1 in marks:
            found.append(Linear(weights.copy(), statistics.mean.copy(), statistics.std.copy()))
            progress.done = k + 1
            say(
                f"random search {k + 1}/{iterations}, penalty {penalty:g}: "
                f"mean score {scores.mean():.0f}, cost {costs / (2 * directions):.0f}, "
                f"{progress.text()}"
            )
    return found
