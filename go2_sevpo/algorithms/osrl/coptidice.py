"""COptiDICE as in OSRL (Lee et al., ICLR 2022).

Theirs, and kept here: w's cost is compared with the discounted limit itself, not with (1 - gamma)
times it; the actor's likelihood is the Gaussian's before the tanh at actions after it, with noise
on both observations and actions; the bound's weights have a gradient.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Optional, Tuple

import numpy as np
import torch
from torch import nn

from go2_sevpo.algorithms import base
from go2_sevpo.algorithms.coptidice import f_soft_inverse
from go2_sevpo.algorithms.cpq import deterministic
from go2_sevpo.algorithms.osrl import common
from go2_sevpo.algorithms.osrl.common import Noise, OsrlConfig, OsrlState
from go2_sevpo.data.dataset import Batch, OfflineDataset
from go2_sevpo.networks.gaussian import SquashedGaussian
from go2_sevpo.networks.layers import Critic
from go2_sevpo.policies.torch_policy import GaussianPolicy

NOISE = 0.1
"""Of the data's standard deviation: what is added to observations and actions to clone."""


@dataclass(frozen=True)
class CoptidiceOsrlConfig(OsrlConfig):
    """Hyper-parameters; the values are OSRL's."""

    rate: float = 1e-4
    alpha: float = 0.5
    epsilon: float = 0.01
    """Radius of the cost's upper confidence bound, a divergence; above 0."""

    def __post_init__(self) -> None:
        """Check the radius.

        Raises:
            ValueError: it is not above 0.
        """
        if self.epsilon <= 0:
            raise ValueError(f"epsilon is {self.epsilon:g}, expected a number above 0")


def f_soft(w: torch.Tensor) -> torch.Tensor:
    """Softened chi-square divergence: (w - 1)^2 / 2 from 1 on, w (log w - 1) + 1 below."""
    return torch.where(w < 1.0, w * (torch.log(w + 1e-10) - 1.0) + 1.0, 0.5 * (w - 1.0).square())


class CoptidiceOsrl(OsrlState):
    """nu and chi with two heads each (the smaller counts), the actor, lambda and tau."""

    stages = ("policy",)
    modules = ("actor", "nu", "chi", "multipliers")
    optimizers = ("actor_optimizer", "nu_optimizer", "chi_optimizer", "multiplier_optimizer")
    config: CoptidiceOsrlConfig

    def __init__(
        self, config: CoptidiceOsrlConfig, data: OfflineDataset, members: Optional[int] = None
    ) -> None:
        super().__init__(config, data, members)
        c, s, hidden = config, self.n_obs, list(config.hidden)
        self.actor = SquashedGaussian(s, self.n_act, hidden, members, common.LOG_STD)
        self.actor = self.actor.to(self.device)
        self.nu = Critic(s, 0, hidden, members=members).to(self.device)
        self.chi = Critic(s, 0, hidden, members=members).to(self.device)
        # Before softplus: lambda, tau.
        one = self.zero() + 1.0
        self.multipliers = nn.ParameterList([nn.Parameter(one.clone()), nn.Parameter(one)])
        self.actor_optimizer = base.adam(self.actor.parameters(), c.rate)
        self.nu_optimizer = base.adam(self.nu.parameters(), c.rate)
        self.chi_optimizer = base.adam(self.chi.parameters(), c.rate)
        self.multiplier_optimizer = base.adam(self.multipliers.parameters(), c.rate)
        length = np.asarray(data.episodes["length"], dtype=np.int64)
        first = torch.zeros(len(data), device=self.device)
        first[torch.from_numpy(np.cumsum(length) - length).to(self.device)] = 1.0
        self.initial = first / first.mean()  # (M,): one over the share of first rows, or zero
        self.obs_std = data.frames[data.first].std(0, unbiased=False)  # (S,)
        self.act_std = data.act.std(0, unbiased=False)  # (A,)

    def draw(self, generator: torch.Generator) -> Noise:
        """See :class:`OsrlState`: of the observations and actions that are cloned."""
        return {
            "obs": self.normal(generator, self.n_obs),
            "act": self.normal(generator, self.n_act),
        }

    def value(self, network: Critic, obs: torch.Tensor) -> torch.Tensor:
        """Nu or chi (B,) at ``obs`` (B, S)."""
        return network(obs, obs[..., :0]).amin(0)

    def weights(
        self, batch: Batch, cost_weight: torch.Tensor
    ) -> Tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Nu (B,), e (B,) and w (B,); see :meth:`go2_sevpo.algorithms.coptidice.Coptidice`."""
        nu = self.value(self.nu, batch.obs)
        go_on = self.config.gamma * (1.0 - common.over(batch))
        e = batch.reward - cost_weight[..., None] * batch.cost
        e = e + go_on * self.value(self.nu, batch.next_obs) - nu
        return nu, e, torch.relu(f_soft_inverse(e / self.config.alpha))

    def descend(self, stage: str, batch: Batch, noise: Noise) -> base.Metrics:
        """See :class:`OsrlState`."""
        c = self.config
        assert batch.index is not None
        initial = self.initial[batch.index]
        cost_weight, tau = (nn.functional.softplus(p) for p in self.multipliers)
        nu, e, w = self.weights(batch, cost_weight.detach())
        fixed = w.detach()
        chi, go_on = self.value(self.chi, batch.obs), c.gamma * (1.0 - common.over(batch))
        after = go_on * self.value(self.chi, batch.next_obs)
        ell = (1.0 - c.gamma) * chi * initial + fixed * (batch.cost + after - chi)
        logits, size = ell / tau.detach()[..., None], ell.shape[-1]
        share = torch.softmax(logits, dim=-1) * size
        log_share = torch.log_softmax(logits, dim=-1) + math.log(size)
        divergence = (share * log_share - share + 1.0).mean(-1).detach()
        expected = (share * fixed * batch.cost).mean(-1).detach()
        chi_loss = share * ell
        base.descend(self.chi_optimizer, base.loss_of(chi_loss))
        nu_loss = (1.0 - c.gamma) * nu * initial + w * e - c.alpha * f_soft(w)
        base.descend(self.nu_optimizer, base.loss_of(nu_loss))
        tau_loss = tau * (c.epsilon - divergence)
        weight_loss = cost_weight * (self.limit - expected)
        base.descend(self.multiplier_optimizer, (tau_loss + weight_loss).sum())
        # Cloning weighted by w of the nu just updated, at the multiplier from before.
        with torch.no_grad():
            w = self.weights(batch, cost_weight.detach())[2]
        mean, std = self.actor.parameters_of(batch.obs + NOISE * self.obs_std * noise["obs"])
        act = batch.act + NOISE * self.act_std * noise["act"]
        log_prob = torch.distributions.Normal(mean, std).log_prob(act).sum(-1)
        actor_loss = -w * log_prob
        base.descend(self.actor_optimizer, base.loss_of(actor_loss))
        return base.summary(
            chi_loss=chi_loss,
            tau_loss=tau_loss,
            nu_loss=nu_loss,
            weight_loss=weight_loss,
            actor_loss=actor_loss,
            divergence=divergence,
            w=w,
            cost=expected,
            cost_weight=cost_weight,
            tau=tau,
        )

    def policy(self, choice: Optional[str] = None, member: int = 0) -> GaussianPolicy:
        """See :class:`base.Algorithm`: tanh of the mean; without critics ``choice`` is nothing."""
        return deterministic(self.one(self.actor, member), self.normalizer, self.n_act)


__all__ = ["CoptidiceOsrl", "CoptidiceOsrlConfig"]
