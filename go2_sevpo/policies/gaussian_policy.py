"""Plain actors behind the interface of policies: PPO, TD3, and those with a cost budget."""

from __future__ import annotations

from typing import Any, Dict, List, Optional, Sequence, Tuple

import torch
from torch import nn

from go2_sevpo.networks.layers import Normalizer


class GaussianPolicy(nn.Module):
    """A PPO, TD3 or CPQ actor behind the same interface.

    action = clip(unit * (mean + std * noise[:, 0, 0]), -1, 1). ``squash`` passes the mean through
    tanh first, as TD3's actors do. Without a ``normalizer`` observations are taken raw.

    Args:
        sizes: of the layers: (S, hidden ..., A).
        std: (A,) standard deviation, in the units of the mean.
        unit: what one unit of the mean is as an action.
        activation: ``elu`` or ``relu``.
        squash: see above.
        normalizer: see above.
    """

    needs_cost = False
    std: torch.Tensor

    def __init__(
        self,
        sizes: Sequence[int],
        std: torch.Tensor,
        unit: float,
        activation: str = "elu",
        squash: bool = False,
        normalizer: Optional[Normalizer] = None,
    ) -> None:
        super().__init__()
        if activation not in ("elu", "relu"):
            raise ValueError(f"unknown activation '{activation}', expected elu or relu")
        layers: List[nn.Module] = []
        for a, b in zip(sizes[:-2], sizes[1:-1]):
            layers += [nn.Linear(a, b), nn.ELU() if activation == "elu" else nn.ReLU()]
        layers.append(nn.Linear(sizes[-2], sizes[-1]))
        self.mlp = nn.Sequential(*layers, nn.Tanh()) if squash else nn.Sequential(*layers)
        self.sizes, self.unit, self.activation, self.squash = list(sizes), unit, activation, squash
        self.register_buffer("std", std.clone())
        self.normalizer = normalizer

    def forward(
        self, observation: torch.Tensor, noise: torch.Tensor
    ) -> Tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """See :class:`DiffusionPolicy`; there is no cost value (0) and one candidate."""
        obs = observation if self.normalizer is None else self.normalizer(observation)
        # One candidate and one step: of the noise (B, N, T, A) only (B, A) is used.
        action = self.mlp(obs) + self.std * noise[:, 0, 0]
        zero = observation[:, 0] * 0.0
        return (self.unit * action).clamp(-1.0, 1.0), zero, zero.long()

    def describe(self) -> Dict[str, Any]:
        """Plain data from which :func:`load_policy` rebuilds the module's shape."""
        shape: Dict[str, Any] = {
            "type": "gaussian",
            "sizes": self.sizes,
            "unit": self.unit,
            "activation": self.activation,
            "squash": self.squash,
        }
        if self.normalizer is not None:
            shape["lidar"] = self.normalizer.lidar
        return {**shape, "normalizer": self.normalizer is not None}

    @property
    def sampler(self) -> Dict[str, Any]:
        """One step of Gaussian noise; played without it unless asked for."""
        return {
            "kind": "gaussian",
            "steps": 1,
            "temperature": 1.0,
            "choice": "first",
            "noise_scale": 0.0,
        }


def budget_feature(budget: torch.Tensor, scale: float) -> torch.Tensor:
    """How networks see cost budgets (B,): budget / (budget + scale), (B, 1) in [0, 1).

    With a scale of 0: as they are.
    """
    if scale == 0:
        return budget.unsqueeze(-1)
    return (budget / (budget + scale)).unsqueeze(-1)


class BudgetPolicy(GaussianPolicy):
    """An actor that also sees what is left of its cost budget.

    It has a third input ``spent_cost`` (B,), the episode's cost so far. ``budget`` is the cost
    allowed per episode, ``scale`` that of :func:`budget_feature`; ``sizes`` counts the budget as
    one more observation.
    """

    needs_cost = True

    def __init__(
        self, sizes: Sequence[int], normalizer: Normalizer, budget: float, scale: float
    ) -> None:
        super().__init__(sizes, torch.zeros(sizes[-1]), 1.0, "relu", True, normalizer)
        self.budget, self.scale = budget, scale

    def forward(  # type: ignore[override]  # the third input; see :func:`act`
        self, observation: torch.Tensor, noise: torch.Tensor, spent_cost: torch.Tensor
    ) -> Tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """See :class:`DiffusionPolicy`; the cost value is what is left, and one candidate."""
        assert self.normalizer is not None
        left = (self.budget - spent_cost).clamp(min=0.0)  # (B,)
        seen = [self.normalizer(observation), budget_feature(left, self.scale)]
        action = self.mlp(torch.cat(seen, dim=-1)) + self.std * noise[:, 0, 0]
        return action.clamp(-1.0, 1.0), left, (observation[:, 0] * 0.0).long()

    def describe(self) -> Dict[str, Any]:
        """See :class:`GaussianPolicy`."""
        return {**super().describe(), "type": "budget", "budget": self.budget, "scale": self.scale}

    @property
    def sampler(self) -> Dict[str, Any]:
        """See :class:`GaussianPolicy`; says that the cost of the episode so far is an input."""
        return {**super().sampler, "cost_budget": self.budget}
