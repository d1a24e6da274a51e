"""Playing policies on the Safety-Gymnasium tasks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Callable, List, Tuple

import gymnasium
import numpy as np

from go2_sevpo.envs.safety_gymnasium.environment import SafetyEnv


@dataclass
class Played:
    """Per episode: return, cost and steps, each (E,)."""

    returns: np.ndarray
    costs: np.ndarray
    steps: np.ndarray


Act = Callable[[np.ndarray, np.ndarray], np.ndarray]
"""Observations (N, S) and the episodes' cost so far (N,) to actions (N, A)."""


def play(task: str, act: Act, episodes: int, first_seed: int, processes: int = 0) -> Played:
    """Play ``episodes`` episodes, each with a seed of its own, from ``first_seed`` on.

    They run in as many worlds side by side, at most 16.

    ``processes`` > 0 steps the worlds in processes of their own. Results do not depend on how many
    there are if ``act`` treats rows alike and independently.
    """
    worlds = min(episodes, 16)
    makers = [lambda: SafetyEnv(task)] * worlds
    mode = gymnasium.vector.AutoresetMode.DISABLED
    vector: gymnasium.vector.VectorEnv
    if processes > 0:
        vector = gymnasium.vector.AsyncVectorEnv(makers, autoreset_mode=mode)
    else:
        vector = gymnasium.vector.SyncVectorEnv(makers, autoreset_mode=mode)
    found: List[Tuple[float, float, int]] = []
    try:
        while len(found) < episodes:
            first, n = len(found), min(worlds, episodes - len(found))
            obs, _ = vector.reset(seed=[first_seed + first + k for k in range(worlds)])
            # Return, cost and steps of each world's episode; of the last round only n count.
            live, totals = np.ones(worlds, dtype=bool), np.zeros((worlds, 3))
            while live[:n].any():
                action = act(obs, totals[:, 1].astype(np.float32))
                obs, reward, terminated, truncated, info = vector.step(
                    np.asarray(action, dtype=np.float32)
                )
                totals[live] += np.stack([reward, info["cost"], np.ones(worlds)], axis=1)[live]
                ended = live & (terminated | truncated)
                live &= ~ended
                if ended.any() and live[:n].any():
                    # Ended worlds must not be stepped on: they start anew and are not counted.
                    again, _ = vector.reset(options={"reset_mask": ended})
                    obs = np.where(ended[:, None], again, obs)
            found += [(float(r), float(c), int(s)) for r, c, s in totals[:n]]
    finally:
        vector.close()
    returns, costs, steps = zip(*found)
    return Played(np.array(returns), np.array(costs), np.array(steps))
