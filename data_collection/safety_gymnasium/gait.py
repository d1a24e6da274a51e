"""A walking pattern for Ant, and the random search that makes it fast.

Every hip and ankle follows a sine wave by a proportional-derivative law; the numbers of the pattern
(frequency, amplitudes, phases, gains) are found by the cross-entropy method. Linear policies, which
serve on the other velocity tasks, need a hundred times as many steps on Ant.
"""

from __future__ import annotations

import multiprocessing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Callable, Dict, List, Tuple

import numpy as np

from go2_sevpo.envs.seeds import SAFETY_SEARCH
from go2_sevpo.runs.progress import Progress

if TYPE_CHECKING:
    from go2_sevpo.envs.safety_gymnasium.environment import SafetyEnv

TASK = "AntVelocity"
STEP = 0.05
"""s, of Ant's environment."""
LEFT = np.array([1.0, 1.0, -1.0, -1.0])
"""Legs 1 to 4: the first two are on the left, where turning the hip on moves the body forward."""
BEND = np.array([1.0, -1.0, -1.0, 1.0])
"""Sign of the ankles' angles: two bend one way, two the other."""
ANKLE = (0.52, 1.22)
"""rad: between these bounds an ankle bends (30 to 70 degrees)."""
ACTUATORS = [3, 0, 1, 2]
"""The leg of each pair of actions (hip, ankle)."""
START = np.array([8.5, 0.7, 0.2, 0.7, 0.5, 3.6, 0.4, 3.5, 0.85, 0.55, 0.05, -0.4])
SPREAD = np.array([2.0, 0.2, 0.2, 0.2, 0.5, 0.5, 0.5, 0.5, 0.7, 0.3, 0.03, 0.3])
"""Where the search starts, a trot. In the order of :class:`Gait`'s numbers."""
LEAST_SPREAD = 0.1
"""Share of :data:`SPREAD` that is always searched."""


@dataclass
class Gait:
    """One walker, with its own clock.

    ``numbers`` (12,): frequency (rad/s), amplitudes of hips and ankles (rad), the ankles' middle
    (rad), the four legs' phases, the ankles' lag behind the hips (rad), gains on angle and speed,
    and how strongly the legs' amplitudes differ against a yaw (per rad). ``pace`` scales the
    frequency, ``noise`` is the standard deviation of the action noise.
    """

    numbers: np.ndarray
    pace: float = 1.0
    noise: float = 0.0
    time: float = field(default=0.0, compare=False)

    def act(self, obs: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Actions (8,) in [-1, 1] for one observation (27,); the clock goes on."""
        w, x, y, z = obs[1:5]
        yaw = np.arctan2(2.0 * (w * z + x * y), 1.0 - 2.0 * (y * y + z * z))
        angle, speed = obs[5:13].reshape(4, 2), obs[19:27].reshape(4, 2)  # (leg, hip or ankle)
        frequency, hips, ankles, middle = self.numbers[:4]
        lag, stiffness, damping, turn = self.numbers[8:]
        phase = self.pace * frequency * self.time + self.numbers[4:8]
        amplitude = hips * (1.0 - np.clip(turn * yaw, -0.9, 0.9) * LEFT)
        bend = BEND * np.clip(middle + ankles * np.sin(phase + lag), *ANKLE)
        target = np.stack([amplitude * np.sin(phase) * LEFT, bend], axis=1)
        torque = stiffness * (target - angle) - damping * speed
        self.time += STEP
        action = torque[ACTUATORS].ravel() + self.noise * rng.normal(size=8)
        return np.clip(action, -1.0, 1.0).astype(np.float32)


def walk(work: Tuple[np.ndarray, int, int]) -> Tuple[float, float]:
    """Return and cost of ``numbers`` from a start's seed over so many steps."""
    from go2_sevpo.envs.safety_gymnasium.environment import make

    numbers, seed, steps = work
    if TASK not in _ENVS:
        _ENVS[TASK] = make(TASK)
    env, gait, quiet = _ENVS[TASK], Gait(numbers), np.random.default_rng(0)
    obs, _ = env.reset(seed=seed)
    total = cost = 0.0
    for _ in range(steps):
        obs, reward, terminated, _, info = env.step(gait.act(obs, quiet))
        total, cost = total + reward, cost + info["cost"]
        if terminated:
            break
    return total, cost


_ENVS: Dict[str, SafetyEnv] = {}
"""Made in this process."""


def gait_search(
    rounds: int,
    seed: int,
    processes: int,
    population: int = 32,
    best: int = 6,
    steps: int = 250,
    keep: int = 8,
    say: Callable[[str], None] = print,
) -> List[Gait]:
    """Gaits from slow to fast: the best of ``keep`` rounds, evenly from the first to the last.

    Cross-entropy method: each round draws ``population`` patterns from a normal distribution and
    moves it to the ``best`` by return over ``steps`` steps, all from the same start.
    """
    rng = np.random.default_rng(seed)
    mean, spread = START.copy(), SPREAD.copy()
    marks = {round(x) for x in np.linspace(rounds / keep, rounds, keep)}
    found: List[Gait] = []
    progress = Progress(rounds)
    with multiprocessing.get_context("spawn").Pool(max(processes, 1)) as pool:
        for k in range(rounds):
            drawn = mean + spread * rng.normal(size=(population, len(mean)))
            drawn[:, 9:11] = np.abs(drawn[:, 9:11])  # gains
            start = SAFETY_SEARCH.number(seed, k)
            scores = np.array(pool.map(walk, [(numbers, start, steps) for numbers in drawn]))
            elite = drawn[np.argsort(-scores[:, 0])[:best]]
            mean = 0.3 * mean + 0.7 * elite.mean(0)
            spread = np.maximum(0.3 * spread + 0.7 * elite.std(0), LEAST_SPREAD * SPREAD)
            if k + 1 in marks:
                found.append(Gait(elite[0]))
                progress.done = k + 1
                top = int(scores[:, 0].argmax())
                say(
                    f"gait search {k + 1}/{rounds}: best return {scores[top, 0]:.0f} "
                    f"and cost {scores[top, 1]:.0f} in {steps} steps, {progress.text()}"
                )
    return found


def random_gait(rng: np.random.Generator, gaits: List[Gait]) -> Gait:
    """One of ``gaits``, somewhat slower or faster, with noise."""
    gait = gaits[int(rng.integers(len(gaits)))]
    return Gait(gait.numbers, float(rng.uniform(0.7, 1.15)), float(rng.uniform(0.0, 0.2)))
