"""COptiDICE: offline constrained RL by stationary distribution correction (Lee et al., ICLR 2022).

w is the optimal policy's occupancy over the data's. Corrected where public code is not consistent:
w is a *normalised* occupancy, so the limit its expected cost is compared with is (1 - gamma) times
the discounted limit; the actor's likelihood is that of the tanh-squashed action.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Optional, Tuple

import numpy as np
import torch
from torch import nn

from go2_sevpo.algorithms import base, regions
from go2_sevpo.algorithms.cpq import deterministic
from go2_sevpo.data.dataset import Batch, OfflineDataset
from go2_sevpo.networks.gaussian import SquashedGaussian
from go2_sevpo.networks.layers import Value
from go2_sevpo.policies.torch_policy import GaussianPolicy


@dataclass(frozen=True)
class CoptidiceConfig:
    """Hyper-parameters; the values are the authors' and OSRL's."""

    episode_limit: float = 10.0
    """l: cost per episode, converted by :func:`regions.state_limit` over ``horizon``."""
    limit: Optional[float] = None
    """If given, replaces the converted ``episode_limit``, in units of discounted cost value."""
    horizon: int = 1000
    gamma: float = 0.99
    cost_scale: float = 1.0
    reward_scale: float = 0.1
    alpha: float = 0.5
    """Weight of the divergence from the data's distribution."""
    epsilon: float = 0.01
    """Radius of the cost's upper confidence bound, a divergence; 0 takes the estimate itself."""
    # training
    steps: int = 100000
    batch: int = 512
    rate: float = 1e-4
    hidden: Tuple[int, ...] = (256, 256)


def f_soft(w: torch.Tensor) -> torch.Tensor:
    """Softened chi-square divergence: (w - 1)^2 / 2 from 1 on, w log w - w + 1 below."""
    # The logarithm needs w > 0.
    small = w.clamp_min(1e-10)
    return torch.where(w < 1.0, small * small.log() - small + 1.0, 0.5 * (w - 1.0).square())


def f_soft_inverse(y: torch.Tensor) -> torch.Tensor:
    """Inverse of its derivative: y + 1 from 0 on, exp(y) below; positive everywhere."""
    # The clamp keeps exp() finite where its branch is not taken.
    return torch.where(y < 0.0, y.clamp(max=0.0).exp(), y + 1.0)


class Coptidice(base.State):
    """nu, chi, the actor, and the multipliers lambda (cost) and tau (confidence)."""

    stages = ("policy",)
    modules = ("actor", "nu", "chi", "multipliers")
    optimizers = ("actor_optimizer", "nu_optimizer", "chi_optimizer", "multiplier_optimizer")

    def __init__(
        self, config: CoptidiceConfig, data: OfflineDataset, members: Optional[int] = None
    ) -> None:
        c = self.config = config
        self.members, self.device, self.n_act = members, data.device, data.num_actions
        s, hidden = data.num_obs, list(c.hidden)
        self.actor = SquashedGaussian(s, data.num_actions, hidden, members).to(self.device)
        self.nu = Value(s, hidden, members).to(self.device)
        self.chi = Value(s, hidden, members).to(self.device)
        zero = torch.zeros(self.shape(1)[:-1], device=self.device)
        # Raw values; softplus keeps both multipliers positive.
        self.multipliers = nn.ParameterList(
            [nn.Parameter(zero.clone()), nn.Parameter(zero.clone())]
        )
        self.actor_optimizer = base.adam(self.actor.parameters(), c.rate)
        self.nu_optimizer = base.adam(self.nu.parameters(), c.rate)
        self.chi_optimizer = base.adam(self.chi.parameters(), c.rate)
        self.multiplier_optimizer = base.adam(self.multipliers.parameters(), c.rate)
        self.normalizer = base.make_normalizer(data)
        converted = regions.state_limit(c.episode_limit, c.gamma, c.horizon, c.cost_scale)
        value = converted if c.limit is None else c.limit
        # Of a normalised occupancy.
        self.limit = (1.0 - c.gamma) * value
        # First row of every episode.
        length = np.asarray(data.episodes["length"], dtype=np.int64)
        starts = np.concatenate([[0], np.cumsum(length)[:-1]])
        self.starts = torch.from_numpy(starts).to(self.device)

    def steps(self, stage: str) -> int:
        """See :class:`base.Algorithm`."""
        return self.config.steps

    def initial(self, data: OfflineDataset, generator: torch.Generator) -> torch.Tensor:
        """First observations (B, S) of random episodes, one per transition of a batch."""
        shape = self.shape(self.config.batch)
        pick = torch.randint(len(self.starts), shape, generator=generator, device=self.device)
        return data.rows(self.starts[pick]).obs

    def weights(self, batch: Batch, cost_weight: torch.Tensor) -> Tuple[torch.Tensor, torch.Tensor]:
        """Occupancy ratio w (B,) and advantage e (B,), with a gradient to nu.

        e = r - lambda c + gamma nu(s') - nu(s) at lambda = ``cost_weight``, () or (members,), and
        w = f'^-1(e / alpha).
        """
        c = self.config
        reward, cost = c.reward_scale * batch.reward, c.cost_scale * batch.cost
        after = c.gamma * (1.0 - batch.terminal) * self.nu(batch.next_obs)
        e = reward - cost_weight[..., None] * cost + after - self.nu(batch.obs)
        return f_soft_inverse(e / c.alpha), e

    def bound(
        self, batch: Batch, start: torch.Tensor, w: torch.Tensor, tau: torch.Tensor
    ) -> Tuple[torch.Tensor, torch.Tensor]:
        """Per sample: the estimate ell (B,) of the cost, and the bound's weights (B,), of mean 1.

        ell = (1 - gamma) chi(s0) + w (c + gamma chi(s') - chi(s)) has a gradient to chi. ``start``
        is (B, S), ``tau`` () or (members,).
        """
        c = self.config
        cost = c.cost_scale * batch.cost
        after = c.gamma * (1.0 - batch.terminal) * self.chi(batch.next_obs)
        ell = (1.0 - c.gamma) * self.chi(start) + w * (cost + after - self.chi(batch.obs))
        # An upper bound: dear samples weigh more, the more so the smaller tau is.
        share = torch.softmax(ell.detach() / tau[..., None], dim=-1) * ell.shape[-1]
        return ell, share

    def update(
        self, stage: str, step: int, data: OfflineDataset, generator: torch.Generator
    ) -> base.Metrics:
        """See :class:`base.Algorithm`."""
        c = self.config
        batch, start = data.sample(self.shape(c.batch), generator), self.initial(data, generator)
        cost_weight, tau = (nn.functional.softplus(p) for p in self.multipliers)
        tau = tau + 1e-4  # it divides
        w, e = self.weights(batch, cost_weight.detach())
        nu_loss = (1.0 - c.gamma) * self.nu(start) + w * e - c.alpha * f_soft(w)
        base.descend(self.nu_optimizer, base.loss_of(nu_loss))
        w = w.detach()
        # chi and tau: the cost's upper confidence bound, its weights within epsilon of the data's.
        if c.epsilon > 0:
            ell, share = self.bound(batch, start, w, tau.detach())
            base.descend(self.chi_optimizer, base.loss_of(share * ell))
            divergence = (share * share.clamp_min(1e-10).log()).mean(-1)
            tau_loss = tau * (c.epsilon - divergence)
        else:
            share = torch.ones_like(w)
            divergence, tau_loss = torch.zeros_like(tau), torch.zeros_like(tau)
        expected = (share * w * c.cost_scale * batch.cost).mean(-1)  # () or (members,)
        # lambda grows while the expected cost is above the limit.
        weight_loss = cost_weight * (self.limit - expected)
        base.descend(self.multiplier_optimizer, (weight_loss + tau_loss).sum())
        # Cloning weighted by w.
        actor_loss = -w * self.actor.log_prob(batch.obs, batch.act)
        base.descend(self.actor_optimizer, base.loss_of(actor_loss))
        return base.summary(
            nu_loss=nu_loss,
            actor_loss=actor_loss,
            w=w,
            cost=expected,
            cost_weight=cost_weight,
            tau=tau,
            divergence=divergence,
        )

    def policy(self, choice: Optional[str] = None, member: int = 0) -> GaussianPolicy:
        """See :class:`base.Algorithm`: tanh of the mean; ``choice`` has no meaning here."""
        return deterministic(self.one(self.actor, member), self.normalizer, self.n_act)


__all__ = ["Coptidice", "CoptidiceConfig", "f_soft", "f_soft_inverse"]
