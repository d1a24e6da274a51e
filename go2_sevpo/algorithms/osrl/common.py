"""What the benchmark's methods share: settings, the actor's bounds, VAE loss, PID multiplier."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Dict, Optional, Tuple

import torch
from torch import nn

from go2_sevpo.algorithms import base, regions
from go2_sevpo.data.dataset import Batch, OfflineDataset
from go2_sevpo.networks.gaussian import Vae
from go2_sevpo.networks.layers import Critic

LOG_STD = (-20.0, 2.0)
"""Bounds of an actor's log standard deviation."""

Noise = Dict[str, torch.Tensor]
"""All random numbers of a step by name, so that a step can be repeated elsewhere."""


@dataclass(frozen=True)
class OsrlConfig:
    """What all methods have; the values are OSRL's."""

    episode_limit: float = 10.0
    """l: cost per episode, converted by :func:`regions.state_limit` over ``horizon``."""
    limit: Optional[float] = None
    """If given, replaces the converted ``episode_limit``, in units of discounted cost value."""
    horizon: int = 1000
    gamma: float = 0.99
    steps: int = 100000
    batch: int = 512
    rate: float = 1e-3
    target_rate: float = 0.005
    hidden: Tuple[int, ...] = (256, 256)


class OsrlState(base.State):
    """Sizes, threshold and the step's order, shared by the methods.

    A step is :meth:`draw`, which draws all noise, and :meth:`descend`, which is deterministic.
    """

    config: OsrlConfig

    def __init__(
        self, config: OsrlConfig, data: OfflineDataset, members: Optional[int] = None
    ) -> None:
        c = self.config = config
        self.members, self.device = members, data.device
        self.n_obs, self.n_act = data.num_obs, data.num_actions
        self.normalizer = base.make_normalizer(data)
        converted = regions.state_limit(c.episode_limit, c.gamma, c.horizon)
        self.limit = converted if c.limit is None else c.limit

    def steps(self, stage: str) -> int:
        """See :class:`base.Algorithm`."""
        return self.config.steps

    def zero(self) -> torch.Tensor:
        """Zero, () or (members,)."""
        return torch.zeros(self.shape(1)[:-1], device=self.device)

    def normal(self, generator: torch.Generator, *sizes: int) -> torch.Tensor:
        """Standard normal numbers (B, sizes), with members before B."""
        shape = (*self.shape(self.config.batch), *sizes)
        return torch.randn(shape, generator=generator, device=self.device)

    def draw(self, generator: torch.Generator) -> Noise:
        """All noise of a step."""
        raise NotImplementedError

    def descend(self, stage: str, batch: Batch, noise: Noise) -> base.Metrics:
        """One step on ``batch`` with ``noise`` of :meth:`draw`; its losses as means over samples.

        With members the means are over them, too.
        """
        raise NotImplementedError

    def update(
        self, stage: str, step: int, data: OfflineDataset, generator: torch.Generator
    ) -> base.Metrics:
        """See :class:`base.Algorithm`."""
        batch = data.sample(self.shape(self.config.batch), generator)
        return self.descend(stage, batch, self.draw(generator))


def over(batch: Batch) -> torch.Tensor:
    """1 where an episode ends, by time-out as well, (B,)."""
    return torch.maximum(batch.terminal, batch.timeout)


def vae_loss(
    vae: Vae, obs: torch.Tensor, act: torch.Tensor, noise: torch.Tensor, beta: float
) -> torch.Tensor:
    """Per sample (B,): mean squared error plus ``beta`` times the latent's KL.

    Both are means over dimensions; :meth:`Vae.loss` has sums.

    Args:
        vae: see :class:`Vae`.
        obs: (B, S).
        act: (B, A).
        noise: (B, Z), standard normal.
        beta: weight of the divergence.
    """
    mean, std = vae.encode(obs, act)
    error = (torch.tanh(vae.decoder(obs, mean + std * noise)) - act).square().mean(-1)
    return error + beta * vae.divergence(obs, act) / vae.latent


def squares(critic: Critic, batch: Batch, target: torch.Tensor) -> torch.Tensor:
    """Squared errors (B,) from ``target`` (B,), summed over heads."""
    return (critic(batch.obs, batch.act) - target).square().sum(0)


def mixed_target(values: torch.Tensor, weight: float, draws: int) -> torch.Tensor:
    """BCQ's target (B,) of head values (H, B n) at ``draws`` n actions for each of B states.

    The heads are two groups, the smallest of a group counts. Of the two groups ``weight`` times
    the smaller and (1 - weight) times the larger value; of the actions the largest.
    """
    first, second = (half.amin(0) for half in values.chunk(2, 0))  # (B n,) each
    mix = weight * torch.minimum(first, second) + (1.0 - weight) * torch.maximum(first, second)
    return mix.unflatten(-1, (-1, draws)).amax(-1)


def repeated(x: torch.Tensor, n: int) -> torch.Tensor:
    """Rows (B, D), each ``n`` times in a row: (B n, D)."""
    return x.repeat_interleave(n, dim=-2)


class PidMultiplier(nn.Module):
    """Lagrange multiplier under PID control (Stooke et al. 2020), one per member.

    kp relu(e) + ki I + kd relu(e - e') with e the mean cost value above the limit, I its sum kept
    above 0, e' the last e.
    """

    integral: torch.Tensor
    last: torch.Tensor

    def __init__(self, gains: Tuple[float, float, float], zero: torch.Tensor) -> None:
        super().__init__()
        self.gains = gains
        self.register_buffer("integral", zero.clone())
        self.register_buffer("last", zero.clone())

    def forward(self, error: torch.Tensor) -> torch.Tensor:
        """The multiplier at the error e, () or (members,); it also remembers e."""
        kp, ki, kd = self.gains
        rise = torch.relu(error - self.last)
        self.integral.copy_(torch.relu(self.integral + error))
        self.last.copy_(error)
        return torch.relu(kp * torch.relu(error) + ki * self.integral + kd * rise)


class LogWeight(nn.Module):
    """log alpha by plain ascent within +-5, one per member."""

    value: torch.Tensor

    def __init__(self, zero: torch.Tensor) -> None:
        super().__init__()
        self.register_buffer("value", zero.clone())

    def ascend(self, slope: torch.Tensor, rate: float) -> None:
        """Alpha's logarithm moves by ``rate`` alpha ``slope``, () or (members,)."""
        step = rate * self.value.exp() * slope.detach()
        self.value.add_(step).clamp_(-5.0, 5.0)
