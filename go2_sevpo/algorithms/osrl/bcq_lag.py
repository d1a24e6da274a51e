"""BCQ with a Lagrange multiplier (Fujimoto et al. 2019, Stooke et al. 2020), as in OSRL.

Actions are a VAE's, perturbed by at most ``phi``. Theirs, and kept here: the cost value takes the
*dearest* of the next actions, as the reward value takes the best, and is backed up across episodes'
ends; in use one action is drawn, not the best of several (that is what ``choice`` is for).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Optional, Tuple

import torch
from torch import nn

from go2_sevpo.algorithms import base
from go2_sevpo.algorithms.osrl import common
from go2_sevpo.algorithms.osrl.common import Noise, OsrlConfig, OsrlState, PidMultiplier
from go2_sevpo.data.dataset import Batch, OfflineDataset
from go2_sevpo.networks.gaussian import Mlp, Vae
from go2_sevpo.networks.layers import Critic, polyak
from go2_sevpo.policies.squashed_policy import PerturbedPolicy, perturbed


@dataclass(frozen=True)
class BcqLagConfig(OsrlConfig):
    """Hyper-parameters; the values are OSRL's."""

    phi: float = 0.05
    """Largest perturbation of an action."""
    mix: float = 0.75
    """lambda of :func:`common.mixed_target`."""
    draws: int = 10
    """Next actions of which the largest value counts."""
    heads: int = 2
    """Critics in each of two groups."""
    pid: Tuple[float, float, float] = (0.1, 0.003, 0.001)
    vae_beta: float = 0.5
    vae_hidden: int = 400
    choice: str = "first"
    """How a candidate is chosen in use; OSRL takes one draw."""
    acting_share: float = 1.0
    """A choice by the limit judges by this share of it."""


class BcqLag(OsrlState):
    """Perturbation network, VAE, critics and the controlled multiplier."""

    stages = ("policy",)
    modules = ("actor", "actor_target", "q_r", "q_r_target", "q_c", "q_c_target", "vae", "pid")
    optimizers = ("actor_optimizer", "critic_optimizer", "vae_optimizer")
    config: BcqLagConfig

    def __init__(
        self, config: BcqLagConfig, data: OfflineDataset, members: Optional[int] = None
    ) -> None:
        super().__init__(config, data, members)
        c, s, a, hidden = config, self.n_obs, self.n_act, list(config.hidden)
        self.actor = Mlp(s + a, hidden, a, members, nn.Tanh).to(self.device)
        self.q_r = Critic(s, a, hidden, 2 * c.heads, members).to(self.device)
        self.q_c = Critic(s, a, hidden, 2 * c.heads, members).to(self.device)
        self.actor_target = base.frozen_copy(self.actor)
        self.q_r_target, self.q_c_target = base.frozen_copy(self.q_r), base.frozen_copy(self.q_c)
        self.vae = Vae(s, a, c.vae_hidden, members).to(self.device)
        self.pid = PidMultiplier(c.pid, self.zero())
        self.actor_optimizer = base.adam(self.actor.parameters(), c.rate)
        self.critic_optimizer = base.adam([*self.q_r.parameters(), *self.q_c.parameters()], c.rate)
        self.vae_optimizer = base.adam(self.vae.parameters(), c.rate)

    def draw(self, generator: torch.Generator) -> Noise:
        """See :class:`OsrlState`: latents for the VAE's loss, next actions and own actions."""
        z, n = self.vae.latent, self.config.draws
        return {
            "latent": self.normal(generator, z),
            "next_r": self.normal(generator, n, z),
            "next_c": self.normal(generator, n, z),
            "actor": self.normal(generator, z),
        }

    def _next(self, batch: Batch, noise: torch.Tensor) -> Tuple[torch.Tensor, torch.Tensor]:
        """Next observations (B n, S) and the target's actions (B n, A) of latents (B, n, Z)."""
        wide = common.repeated(batch.next_obs, noise.shape[-2])
        z = noise.flatten(-3, -2)
        return wide, perturbed(self.vae.decoder, self.actor_target, self.config.phi, wide, z)

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
        act = perturbed(self.vae.decoder, self.actor, c.phi, obs, noise["actor"])
        q_r, q_c = self.q_r(obs, act).amin(0), self.q_c(obs, act).amin(0)
        over = q_c - self.limit
        multiplier = self.pid(over.detach().mean(-1))
        penalty = multiplier[..., None] * over
        actor_loss = penalty - q_r
        base.descend(self.actor_optimizer, base.loss_of(actor_loss))
        polyak(self.q_r_target, self.q_r, c.target_rate)
        polyak(self.q_c_target, self.q_c, c.target_rate)
        polyak(self.actor_target, self.actor, c.target_rate)
        return base.summary(
            vae_loss=vae_loss,
            q_r_loss=r_loss,
            q_c_loss=c_loss,
            actor_loss=actor_loss,
            penalty=penalty,
            multiplier=multiplier,
            q_r=target_r,
            q_c=target_c,
            q_c_policy=q_c,
        )

    def policy(self, choice: Optional[str] = None, member: int = 0) -> PerturbedPolicy:
        """See :class:`base.Algorithm`: a draw of the VAE, perturbed, or a choice among several."""
        return PerturbedPolicy(
            self.normalizer,
            self.one(self.vae, member).decoder,
            self.one(self.actor, member),
            self.config.phi,
            choice or self.config.choice,
            cost_critic=self.one(self.q_c_target, member),
            reward_critic=self.one(self.q_r_target, member),
            limit=self.config.acting_share * self.limit,
        )


__all__ = ["BcqLag", "BcqLagConfig"]
