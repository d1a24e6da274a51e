"""BEAR with a Lagrange multiplier (Kumar et al. 2019, Stooke et al. 2020), as in OSRL.

The actor's distribution is held near a VAE's by the maximum mean discrepancy of samples before the
tanh. Theirs, and kept here: the cost value takes the *dearest* of the next actions and is backed up
across episodes' ends.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Optional, Tuple

import torch

from go2_sevpo.algorithms import base
from go2_sevpo.algorithms.osrl import common
from go2_sevpo.algorithms.osrl.common import (
    LogWeight,
    Noise,
    OsrlConfig,
    OsrlState,
    PidMultiplier,
)
from go2_sevpo.data.dataset import Batch, OfflineDataset
from go2_sevpo.networks.gaussian import SquashedGaussian, Vae
from go2_sevpo.networks.layers import Critic, polyak
from go2_sevpo.policies.squashed_policy import LATENT_RANGE, SquashedPolicy


@dataclass(frozen=True)
class BearLagConfig(OsrlConfig):
    """Hyper-parameters; the values are OSRL's."""

    steps: int = 300000
    alpha_rate: float = 1e-3
    mix: float = 0.75
    """lambda of :func:`common.mixed_target`."""
    draws: int = 10
    """Next actions of which the largest value counts."""
    heads: int = 2
    """Critics in each of two groups."""
    pid: Tuple[float, float, float] = (0.1, 0.003, 0.001)
    samples: int = 10
    """Actions of either distribution that are compared."""
    width: float = 50.0
    """sigma of the Gaussian kernel exp(-d^2 / (2 sigma))."""
    threshold: float = 0.05
    """Discrepancy that is allowed."""
    vae_beta: float = 0.5
    vae_hidden: int = 400
    choice: str = "first"
    """How a candidate is chosen in use; OSRL acts by the mean alone."""
    acting_share: float = 1.0
    """A choice by the limit judges by this share of it."""


def discrepancy(x: torch.Tensor, y: torch.Tensor, width: float) -> torch.Tensor:
    """Maximum mean discrepancy (B,) of samples (B, n, A) and (B, n, A), Gaussian kernel."""

    def kernel(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        square = (a.unsqueeze(-2) - b.unsqueeze(-3)).square().sum(-1)  # (B, n, n)
        return torch.exp(-square / (2.0 * width)).mean((-2, -1))

    return (kernel(x, x) + kernel(y, y) - 2.0 * kernel(x, y) + 1e-6).sqrt()


class BearLag(OsrlState):
    """Actor, VAE, critics, log alpha of the discrepancy and the controlled multiplier."""

    stages = ("policy",)
    modules = (
        *("actor", "actor_target", "q_r", "q_r_target", "q_c", "q_c_target"),
        *("vae", "pid", "weight"),
    )
    optimizers = ("actor_optimizer", "critic_optimizer", "vae_optimizer")
    config: BearLagConfig

    def __init__(
        self, config: BearLagConfig, data: OfflineDataset, members: Optional[int] = None
    ) -> None:
        super().__init__(config, data, members)
        c, s, a, hidden = config, self.n_obs, self.n_act, list(config.hidden)
        self.actor = SquashedGaussian(s, a, hidden, members, common.LOG_STD).to(self.device)
        self.q_r = Critic(s, a, hidden, 2 * c.heads, members).to(self.device)
        self.q_c = Critic(s, a, hidden, 2 * c.heads, members).to(self.device)
        self.actor_target = base.frozen_copy(self.actor)
        self.q_r_target, self.q_c_target = base.frozen_copy(self.q_r), base.frozen_copy(self.q_c)
        self.vae = Vae(s, a, c.vae_hidden, members).to(self.device)
        self.pid = PidMultiplier(c.pid, self.zero())
        self.weight = LogWeight(self.zero())
        self.actor_optimizer = base.adam(self.actor.parameters(), c.rate)
        self.critic_optimizer = base.adam([*self.q_r.parameters(), *self.q_c.parameters()], c.rate)
        self.vae_optimizer = base.adam(self.vae.parameters(), c.rate)

    def draw(self, generator: torch.Generator) -> Noise:
        """See :class:`OsrlState`: latents for the VAE's loss, next actions, samples of either."""
        a, z, c = self.n_act, self.vae.latent, self.config
        return {
            "latent": self.normal(generator, z),
            "next_r": self.normal(generator, c.draws, a),
            "next_c": self.normal(generator, c.draws, a),
            "decoded": self.normal(generator, c.samples, z),
            "actor": self.normal(generator, c.samples, a),
        }

    def _next(self, batch: Batch, noise: torch.Tensor) -> Tuple[torch.Tensor, torch.Tensor]:
        """Next observations (B n, S) and the target's actions (B n, A) of noise (B, n, A)."""
        wide = common.repeated(batch.next_obs, noise.shape[-2])
        return wide, self.actor_target.sample(wide, noise.flatten(-3, -2))

    def descend(self, stage: str, batch: Batch, noise: Noise) -> base.Metrics:
        """See :class:`OsrlState`."""
        c, obs = self.config, batch.obs
        vae_loss = common.vae_loss(self.vae, obs, batch.act, noise["latent"], c.vae_beta)
        base.descend(self.vae_optimizer, base.loss_of(vae_loss))
        with torch.no_grad():
            value = self.q_r_target(*self._next(batch, noise["next_r"]))
            go_on = c.gamma * (1.0 - common.over(batch))
            target_r = batch.reward + go_on * common.mixed_target(value, c.mix, c.draws)
            value = self.q_c_target(*self._next(batch, noise["next_c"]))
            target_c = batch.cost + c.gamma * common.mixed_target(value, c.mix, c.draws)
        r_loss = common.squares(self.q_r, batch, target_r)
        c_loss = common.squares(self.q_c, batch, target_c)
        base.descend(self.critic_optimizer, base.loss_of(r_loss + c_loss))
        n = c.samples
        with torch.no_grad():
            z = noise["decoded"].clamp(-LATENT_RANGE, LATENT_RANGE).flatten(-3, -2)
            theirs = self.vae.decoder(common.repeated(obs, n), z).unflatten(-2, (-1, n))
        mean, std = self.actor.parameters_of(obs)
        own = mean.unsqueeze(-2) + std.unsqueeze(-2) * noise["actor"]  # (B, n, A), before the tanh
        gap = discrepancy(theirs, own, c.width)
        act = torch.tanh(own[..., 0, :])
        q_r, q_c = self.q_r(obs, act).amin(0), self.q_c(obs, act).amin(0)
        over = q_c - self.limit
        multiplier = self.pid(over.detach().mean(-1))
        penalty = multiplier[..., None] * over
        alpha = self.weight.value.exp()
        actor_loss = alpha[..., None] * (gap - c.threshold) + penalty - q_r
        base.descend(self.actor_optimizer, base.loss_of(actor_loss))
        self.weight.ascend((gap - c.threshold).mean(-1), c.alpha_rate)
        polyak(self.q_r_target, self.q_r, c.target_rate)
        polyak(self.q_c_target, self.q_c, c.target_rate)
        polyak(self.actor_target, self.actor, c.target_rate)
        return base.summary(
            vae_loss=vae_loss,
            q_r_loss=r_loss,
            q_c_loss=c_loss,
            actor_loss=actor_loss,
            discrepancy=gap,
            penalty=penalty,
            multiplier=multiplier,
            alpha=alpha,
            q_r=target_r,
            q_c=target_c,
            q_c_policy=q_c,
        )

    def policy(self, choice: Optional[str] = None, member: int = 0) -> SquashedPolicy:
        """See :class:`base.Algorithm`: tanh of the mean, or a choice among it and samples."""
        return SquashedPolicy(
            self.normalizer,
            self.one(self.actor, member),
            choice or self.config.choice,
            cost_critic=self.one(self.q_c_target, member),
            reward_critic=self.one(self.q_r_target, member),
            limit=self.config.acting_share * self.limit,
        )


__all__ = ["BearLag", "BearLagConfig", "discrepancy"]
