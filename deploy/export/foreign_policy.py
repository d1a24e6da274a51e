"""A policy made of an actor that was trained elsewhere, with its observation normaliser."""

from __future__ import annotations

from typing import Optional, Sequence, Tuple

import torch
from torch import nn

from go2_sevpo.policies.torch_policy import GaussianPolicy


class Standardize(nn.Module):
    """(x - mean) / (std + epsilon), as rsl_rl's EmpiricalNormalization; ``mean``, ``std`` (S,).

    The sum is formed here as it is there, not folded into one factor: the rounding is the same.
    """

    mean: torch.Tensor
    scale: torch.Tensor

    def __init__(self, mean: torch.Tensor, std: torch.Tensor, epsilon: float) -> None:
        super().__init__()
        self.register_buffer("mean", mean.reshape(1, -1).clone())
        self.register_buffer("scale", std.reshape(1, -1) + epsilon)

    def forward(self, observation: torch.Tensor) -> torch.Tensor:
        """Standardise (B, S)."""
        return (observation - self.mean) / self.scale


class FirstHalf(nn.Module):
    """The mean of a last layer that gives means (A) and behind them standard deviations (A)."""

    def forward(self, out: torch.Tensor) -> torch.Tensor:
        """(B, 2 A) to (B, A)."""
        return out[:, : out.shape[1] // 2]


class BetaMean(nn.Module):
    """Mean of a Beta distribution from raw alphas (A) and betas (A) of a last layer.

    alpha / (alpha + beta), each softplus(raw) + 1, spread over ``low`` to ``high``.
    """

    def __init__(self, low: float, high: float) -> None:
        super().__init__()
        self.low, self.span = low, high - low

    def forward(self, out: torch.Tensor) -> torch.Tensor:
        """(B, 2 A) to (B, A)."""
        half = out.shape[1] // 2
        alpha = nn.functional.softplus(out[:, :half]) + 1.0
        beta = nn.functional.softplus(out[:, half:]) + 1.0
        return alpha / (alpha + beta) * self.span + self.low


class ForeignPolicy(GaussianPolicy):
    """action = clip(unit * (mean(standardised observation) + std * noise[:, 0, 0]), -clip, clip).

    With a ``limit`` the bracket is kept within +-limit first, as the environment it comes from did.

    Args:
        mean: from (B, S), standardised, to (B, A), in units of the network's output.
        sizes: (S, A).
        std: (A,) of the noise, in the same units; zeros where it depends on the state.
        unit: what one unit of the mean is as an action.
        clip: largest action.
        standardize: what stands before the mean, if anything.
        limit: see above.
    """

    def __init__(
        self,
        mean: nn.Module,
        sizes: Sequence[int],
        std: torch.Tensor,
        unit: float,
        clip: float = 1.0,
        standardize: Optional[Standardize] = None,
        limit: Optional[float] = None,
    ) -> None:
        super().__init__([sizes[0], sizes[-1]], std, unit)
        self.mlp = mean  # type: ignore[assignment]  # any module from (B, S) to (B, A)
        self.clip, self.standardize, self.limit = clip, standardize, limit

    def forward(
        self, observation: torch.Tensor, noise: torch.Tensor
    ) -> Tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """See :class:`go2_sevpo.policies.torch_policy.GaussianPolicy`."""
        obs = observation if self.standardize is None else self.standardize(observation)
        action = self.mlp(obs) + self.std * noise[:, 0, 0]  # (B, A)
        if self.limit is not None:
            action = action.clamp(-self.limit, self.limit)
        zero = observation[:, 0] * 0.0
        return (self.unit * action).clamp(-self.clip, self.clip), zero, zero.long()
