"""One policy takes over from another: at a given step, or some steps before the other's fall.

States before a fall are kept while the falling policy plays, and put back exactly: whoever takes
over stands where the other stood, with its history of observations, its pushes and its delays.
"""

from __future__ import annotations

from typing import Any, Dict, List, Tuple

import torch

from go2_sevpo.envs.go2.description.robot import CONTROL_DT
from go2_sevpo.envs.go2.parkour import Go2Parkour
from go2_sevpo.envs.go2.rollout import Policy

State = Dict[str, Any]
"""What :meth:`Go2Parkour.state_dict` returns."""


class Moments:
    """States of all worlds some steps before each world falls.

    Give :meth:`keep` to :func:`run_episodes` as ``each_step``.

    Args:
        ago: (J, N) steps before the fall, at least 1: J moments of each of N worlds. 1 is the state
            in which the action that ends in the fall is chosen.

    Attributes:
        states: J states of the environment; in each, active worlds are those that have fallen and
            had begun so many steps before.
        known: (J, N) bool, which these are.
    """

    def __init__(self, ago: torch.Tensor) -> None:
        if ago.dim() != 2 or int(ago.min()) < 1:
            raise ValueError(
                f"steps before the fall have shape {tuple(ago.shape)} and are at least "
                f"{int(ago.min())}, expected (moments, worlds) of at least 1"
            )
        self.ago = ago
        self.states: List[State] = []
        self.known = torch.zeros(ago.shape, dtype=torch.bool)
        self._past: List[State] = []  # the last ones, the present one behind the others

    def keep(self, env: Go2Parkour, values: torch.Tensor, info: Dict[str, Any]) -> None:
        """Look at the environment after a step; ``values`` are not needed."""
        self._past.append(env.state_dict())
        self._past = self._past[-1 - int(self.ago.max()) :]
        if not self.states:
            self.states = [env.state_dict() for _ in self.ago]
            for state in self.states:
                state["buffers"]["active"][:] = False
        fallen = info["fall"].cpu().nonzero()[:, 0]
        for state, ago, known in zip(self.states, self.ago, self.known):
            for world in fallen.tolist():
                back = int(ago[world])
                if back < len(self._past):
                    _copy_world(self._past[-1 - back], state, world)
                    known[world] = True

    def start(self, env: Go2Parkour, moment: int) -> torch.Tensor:
        """Put ``env`` into moment number ``moment``; returns the observations (N, 265).

        Raises:
            ValueError: no world has fallen yet.
        """
        if not bool(self.known[moment].any()):
            raise ValueError("no world has fallen after so many steps, expected at least one")
        return env.load_state_dict(self.states[moment])


def _copy_world(source: State, target: State, world: int) -> None:
    """Copy what belongs to one world; what belongs to none (the generator) stays."""
    for part in ("buffers", "dynamics", "simulator"):
        for name, value in source[part].items():
            target[part][name][world] = value[world]


class Handover:
    """A :data:`Policy` that is ``first`` until a world's step ``at`` and then ``second``.

    Attributes:
        who: of every step, the worlds (K,) that acted and who did, 0 or 1, (K,).
    """

    def __init__(self, env: Go2Parkour, first: Policy, second: Policy, at: torch.Tensor) -> None:
        """``at`` (N,) counts the steps of the episode."""
        self.env, self.policies, self.at = env, (first, second), at.to(env.device)
        self.who: List[Tuple[torch.Tensor, torch.Tensor]] = []

    def __call__(
        self, obs: torch.Tensor, spent_cost: torch.Tensor
    ) -> Tuple[torch.Tensor, torch.Tensor]:
        """Act on the observations (K, S) of the active worlds."""
        ids = self.env.active.nonzero()[:, 0]
        second = self.env.episode_length[ids] >= self.at[ids]  # (K,)
        action = torch.zeros(len(ids), self.env.num_actions, device=obs.device)
        values = torch.zeros(len(ids), device=obs.device)
        for number, policy in enumerate(self.policies):
            mine = (second == bool(number)).nonzero()[:, 0]
            if len(mine):
                found = policy(obs[mine], spent_cost[mine])
                action[mine], values[mine] = (x.to(obs.device) for x in found)
        self.who.append((ids.cpu(), second.long().cpu()))
        return action, values

    def column(self) -> torch.Tensor:
        """Who acted in every transition, (rows,), worlds one after the other as in a rollout."""
        worlds, who = (torch.cat(parts) for parts in zip(*self.who))
        return who[torch.sort(worlds, stable=True).indices]


def uniform_steps(low: float, high: float, n: int, generator: torch.Generator) -> torch.Tensor:
    """Whole steps (n,) uniform between two times, s, both included."""
    first, last = round(low / CONTROL_DT), round(high / CONTROL_DT)
    return torch.randint(first, last + 1, (n,), generator=generator)


__all__ = ["Handover", "Moments", "uniform_steps"]
