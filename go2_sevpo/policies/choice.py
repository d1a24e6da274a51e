"""How one of several actions is chosen by critics, the same for every policy."""

from __future__ import annotations

import math
from typing import Callable, Optional, Tuple, Union

import torch

from go2_sevpo.networks.layers import Critic

CHOICES = ("first", "first_safe", "escape", "argmin_cost", "argmax_reward")
LIMITED = ("first_safe", "escape", "argmax_reward")
"""Choices that ask whether Q_c is within the limit."""
IN_ORDER = ("first_safe", "escape")
"""Choices that take the first candidate wherever it is within the limit."""


def check_choice(
    choice: str, cost_critic: Optional[Critic], reward_critic: Optional[Critic]
) -> None:
    """Check that a choice is one and has the critics that it asks.

    Raises:
        ValueError: saying which.
    """
    if choice not in CHOICES:
        raise ValueError(
            f"unknown candidate choice '{choice}', expected one of {', '.join(CHOICES)}"
        )
    lacks_cost = choice != "first" and cost_critic is None
    lacks_reward = choice == "argmax_reward" and reward_critic is None
    if lacks_cost or lacks_reward:
        raise ValueError(f"candidate choice '{choice}' needs critics, found none")


def with_uniform(actions: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
    """The actor's actions (B, N, A) and N * T uniform ones made of ``noise`` (B, N, T, A)."""
    # erf(z / sqrt(2)) = 2 Phi(z) - 1: uniform numbers in [-1, 1], made of normal ones.
    count = noise.shape[1] * noise.shape[2]
    uniform = torch.erf(noise / math.sqrt(2.0)).reshape(-1, count, noise.shape[3])
    return torch.cat([actions, uniform], 1)  # (B, N + N T, A)


def choose(
    obs: torch.Tensor,
    actions: torch.Tensor,
    own: int,
    choice: str,
    cost_critic: Optional[Critic],
    reward_critic: Optional[Critic],
    limit: Union[float, torch.Tensor],
) -> torch.Tensor:
    """Number (B,) of an action (B, N, A); the first ``own`` are the actor's.

    ``obs`` (B, S) are what the critics see, ``limit`` a number or (B, 1).
    """
    n = actions.shape[1]
    if choice == "first" or cost_critic is None:
        return (obs[:, 0] * 0.0).long()
    # No size is computed from B, which may be 0 (:func:`first_safe_or`).
    wide = obs.unsqueeze(1).expand(-1, n, -1).flatten(0, 1)  # (B N, S)
    flat = actions.flatten(0, 1)  # (B N, A)
    # Of several heads the largest cost and the smallest reward count: where the data are thin
    # and heads disagree, an action looks worse.
    cost = cost_critic(wide, flat).amax(0).reshape(-1, n)
    if choice == "argmin_cost":
        return cost.argmin(1)
    if choice in ("first_safe", "escape") or reward_critic is None:
        # The greatest score is that of the lowest number.
        score = torch.zeros_like(cost) - torch.arange(n, device=cost.device, dtype=cost.dtype)
    else:
        score = reward_critic(wide, flat).amin(0).reshape(-1, n)
    # Found actions beyond the actor's own are never "safe": they only serve where none is.
    safe = (cost <= limit) & (torch.arange(n, device=cost.device) < own)
    best = torch.where(safe, score, torch.full_like(score, -math.inf)).argmax(1)
    return torch.where(safe.any(1), best, cost.argmin(1))


Answer = Tuple[torch.Tensor, torch.Tensor]
"""Action (B, A) and its number (B,)."""


def first_safe_or(
    obs: torch.Tensor,
    noise: torch.Tensor,
    first: torch.Tensor,
    cost_critic: Critic,
    limit: Union[float, torch.Tensor],
    others: Callable[[torch.Tensor, torch.Tensor], Answer],
) -> Answer:
    """The first candidate (B, A) where it is within the limit, else what ``others`` choose.

    Candidates are then drawn for the rows (R,) that need them alone; R may be 0. ``others`` takes
    their observations (R, S) and noise (R, N, T, A).
    """
    unsafe = cost_critic(obs, first).amax(0) > limit  # (B,)
    rows = unsafe.nonzero()[:, 0]  # (R,)
    action, number = others(obs[rows], noise[rows])
    place = rows.unsqueeze(-1).expand(-1, first.shape[-1])  # (R, A)
    return first.scatter(0, place, action), torch.zeros_like(unsafe, dtype=torch.long).scatter(
        0, rows, number
    )


__all__ = [
    "CHOICES",
    "IN_ORDER",
    "LIMITED",
    "Answer",
    "check_choice",
    "choose",
    "first_safe_or",
    "with_uniform",
]
