"""Playing policies on the Safety-Gymnasium tasks."""

from __future__ import annotations

import multiprocessing
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any, Callable, List, Protocol, Sequence, Tuple

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


Stepped = Tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]
"""Observations (W, S), rewards, costs and whether the episode has ended, (W,)."""


class Worlds(Protocol):
    """Worlds that are reset and stepped together, by number."""

    def reset(self, seeds: Sequence[int]) -> np.ndarray:
        """Start an episode in every world; observations (W, S)."""

    def step(self, numbers: np.ndarray, actions: np.ndarray) -> Stepped:
        """Step the worlds ``numbers`` (W,) with actions (W, A)."""

    def close(self) -> None:
        """Let the worlds go."""


class LocalWorlds:
    """Worlds of this process."""

    def __init__(self, task: str, count: int) -> None:
        self.envs = [SafetyEnv(task) for _ in range(count)]

    def reset(self, seeds: Sequence[int]) -> np.ndarray:
        """See :class:`Worlds`."""
        return np.stack([env.reset(seed=seed)[0] for env, seed in zip(self.envs, seeds)])

    def step(self, numbers: np.ndarray, actions: np.ndarray) -> Stepped:
        """See :class:`Worlds`."""
        size = self.envs[0].task.num_obs
        obs = np.empty((len(numbers), size), np.float32)
        rest = np.empty((3, len(numbers)))
        for k, (number, action) in enumerate(zip(numbers, actions)):
            obs[k], reward, terminated, truncated, info = self.envs[number].step(action)
            rest[:, k] = reward, info["cost"], terminated or truncated
        return obs, rest[0], rest[1], rest[2] > 0

    def close(self) -> None:
        """See :class:`Worlds`."""
        for env in self.envs:
            env.close()


def _serve(pipe: Connection, task: str, count: int) -> None:
    """Worlds in a process of their own: does what ``pipe`` asks until it asks nothing."""
    worlds = LocalWorlds(task, count)
    while True:
        asked: Any = pipe.recv()
        if asked is None:
            return
        name, arguments = asked
        pipe.send(getattr(worlds, name)(*arguments))


class SharedWorlds:
    """Worlds in several processes: number w is in process w % P, so that all have some."""

    def __init__(self, task: str, count: int, processes: int) -> None:
        context = multiprocessing.get_context("spawn")
        self.count, self.pipes, self.processes = count, [], []
        for k in range(min(processes, count)):
            here, there = context.Pipe()
            share = len(range(k, count, min(processes, count)))
            process = context.Process(target=_serve, args=(there, task, share), daemon=True)
            process.start()
            there.close()
            self.pipes.append(here)
            self.processes.append(process)

    def reset(self, seeds: Sequence[int]) -> np.ndarray:
        """See :class:`Worlds`."""
        p = len(self.pipes)
        for k, pipe in enumerate(self.pipes):
            pipe.send(("reset", (list(seeds[k::p]),)))
        parts = [pipe.recv() for pipe in self.pipes]
        obs = np.empty((self.count, parts[0].shape[1]), np.float32)
        for k, part in enumerate(parts):
            obs[k::p] = part
        return obs

    def step(self, numbers: np.ndarray, actions: np.ndarray) -> Stepped:
        """See :class:`Worlds`."""
        p = len(self.pipes)
        owners = [np.flatnonzero(numbers % p == k) for k in range(p)]
        asked = [(k, mine) for k, mine in enumerate(owners) if len(mine)]
        for k, mine in asked:
            self.pipes[k].send(("step", (numbers[mine] // p, actions[mine])))
        answers = [self.pipes[k].recv() for k, _ in asked]
        order = np.argsort(np.concatenate([mine for _, mine in asked]))
        obs, rewards, costs, ended = (np.concatenate(x)[order] for x in zip(*answers))
        return obs, rewards, costs, ended

    def close(self) -> None:
        """See :class:`Worlds`."""
        for pipe, process in zip(self.pipes, self.processes):
            if process.is_alive():
                pipe.send(None)
            process.join(10)
            pipe.close()


def play(task: str, act: Act, episodes: int, first_seed: int, processes: int = 0) -> Played:
    """Play ``episodes`` episodes, each with a seed of its own, from ``first_seed`` on.

    They run in as many worlds side by side, at most 16.

    ``processes`` > 0 steps the worlds in so many processes of their own. Results do not depend on
    how many there are if ``act`` treats rows alike and independently.
    """
    count = min(episodes, 16)
    worlds: Worlds
    worlds = SharedWorlds(task, count, processes) if processes > 0 else LocalWorlds(task, count)
    found: List[Tuple[float, float, int]] = []
    try:
        while len(found) < episodes:
            first, n = len(found), min(count, episodes - len(found))
            obs = worlds.reset([first_seed + first + k for k in range(count)])
            # Return, cost and steps of each world's episode; of the last round only n count.
            totals, live = np.zeros((count, 3)), np.arange(n)
            while len(live):
                # All rows are asked, so that noise does not depend on how long episodes are.
                action = np.asarray(act(obs, totals[:, 1].astype(np.float32)), np.float32)
                seen, rewards, costs, ended = worlds.step(live, action[live])
                obs[live] = seen
                totals[live] += np.stack([rewards, costs, np.ones(len(live))], axis=1)
                live = live[~ended]
            found += [(float(r), float(c), int(s)) for r, c, s in totals[:n]]
    finally:
        worlds.close()
    columns = [np.array(column) for column in zip(*found)]
    return Played(*columns)
