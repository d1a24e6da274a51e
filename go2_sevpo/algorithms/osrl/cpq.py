"""CPQ as in OSRL (Xu, Zhan, Zhu: AAAI 2022; :mod:`go2_sevpo.algorithms.cpq` is as published).

Theirs, and kept here: the value of actions unlike the data is the target network's, without a
gradient, so that it moves alpha and nothing else; these actions are drawn before the tanh; values
below the quantile count as zeros in its mean; the cost value is backed up across episodes' ends.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Optional

import torch

from go2_sevpo.algorithms import base
from go2_sevpo.algorithms.osrl import common
from go2_sevpo.algorithms.osrl.common import LogWeight, Noise, OsrlConfig, OsrlState
from go2_sevpo.data.dataset import Batch, OfflineDataset
from go2_sevpo.networks.gaussian import SquashedGaussian, Vae
from go2_sevpo.networks.layers import Critic, polyak
from go2_sevpo.policies.squashed_policy import SquashedPolicy


@dataclass(frozen=True)
class CpqOsrlConfig(OsrlConfig):
    """Hyper-parameters; the values are OSRL's."""

    actor_rate: float = 1e-4
    alpha_rate: float = 1e-4
    ood_actions: int = 10
    ood_quantile: float = 0.75
    ood_margin: float = 1.5
    vae_beta: float = 0.5
    vae_hidden: int = 400
    choice: str = "first"
    """How a candidate is chosen in use; OSRL acts by the mean alone."""
    acting_share: float = 1.0
    """A choice by the limit judges by this share of it."""


class CpqOsrl(OsrlState):
    """Actor, two reward critics, two cost critics, a VAE and log alpha."""

    stages = ("policy",)
    modules = ("actor", "q_r", "q_r_target", "q_c", "q_c_target", "vae", "weight")
    optimizers = ("actor_optimizer", "critic_optimizer", "vae_optimizer")
    config: CpqOsrlConfig

    def __init__(
        self, config: CpqOsrlConfig, data: OfflineDataset, members: Optional[int] = None
    ) -> None:
        super().__init__(config, data, members)
        c, s, a, hidden = config, self.n_obs, self.n_act, list(config.hidden)
        self.actor = SquashedGaussian(s, a, hidden, members, common.LOG_STD).to(self.device)
        self.q_r = Critic(s, a, hidden, members=members).to(self.device)
        self.q_c = Critic(s, a, hidden, members=members).to(self.device)
        self.q_r_target, self.q_c_target = base.frozen_copy(self.q_r), base.frozen_copy(self.q_c)
        self.vae = Vae(s, a, c.vae_hidden, members).to(self.device)
        self.weight = LogWeight(self.zero())
        self.actor_optimizer = base.adam(self.actor.parameters(), c.actor_rate)
        self.critic_optimizer = base.adam([*self.q_r.parameters(), *self.q_c.parameters()], c.rate)
        self.vae_optimizer = base.adam(self.vae.parameters(), c.rate)

    def draw(self, generator: torch.Generator) -> Noise:
        """See :class:`OsrlState`: latents, next actions for either critic, trial actions, own."""
        a = self.n_act
        return {
            "latent": self.normal(generator, self.vae.latent),
            "next_r": self.normal(generator, a),
            "next_c": self.normal(generator, a),
            "trial": self.normal(generator, self.config.ood_actions, a),
            "actor": self.normal(generator, a),
        }

    def descend(self, stage: str, batch: Batch, noise: Noise) -> base.Metrics:
        """See :class:`OsrlState`."""
        c, obs, after = self.config, batch.obs, batch.next_obs
        vae_loss = common.vae_loss(self.vae, obs, batch.act, noise["latent"], c.vae_beta)
        base.descend(self.vae_optimizer, base.loss_of(vae_loss))
        with torch.no_grad():
            act = self.actor.sample(after, noise["next_r"])
            within = (self.q_c_target(after, act).amin(0) <= self.limit).float()
            go_on = c.gamma * (1.0 - common.over(batch))
            target_r = batch.reward + go_on * within * self.q_r_target(after, act).amin(0)
            act = self.actor.sample(after, noise["next_c"])
            target_c = batch.cost + c.gamma * self.q_c_target(after, act).amin(0)
            outside = self.ood_value(obs, noise["trial"])
            alpha = self.weight.value.exp()
        r_loss = common.squares(self.q_r, batch, target_r)
        c_loss = common.squares(self.q_c, batch, target_c)
        base.descend(self.critic_optimizer, base.loss_of(r_loss + c_loss))
        gap = c.ood_margin * self.limit - outside
        self.weight.ascend(gap, c.alpha_rate)
        act = self.actor.sample(obs, noise["actor"])
        q_r, q_c = self.q_r(obs, act).amin(0), self.q_c(obs, act).amin(0)
        actor_loss = -(q_c <= self.limit).float() * q_r
        base.descend(self.actor_optimizer, base.loss_of(actor_loss))
        polyak(self.q_r_target, self.q_r, c.target_rate)
        polyak(self.q_c_target, self.q_c, c.target_rate)
        return base.summary(
            vae_loss=vae_loss,
            q_r_loss=r_loss,
            # With the term that has no gradient, as OSRL reports it.
            q_c_loss=c_loss.mean(-1) + alpha * gap,
            actor_loss=actor_loss,
            q_r=target_r,
            q_c=target_c,
            q_c_policy=q_c,
            alpha=alpha,
        )

    def ood_value(self, obs: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
        """Mean value, () or (members,), of trial actions; those like the data count as zero.

        ``obs`` is (B, S), ``noise`` (B, n, A) standard normal.
        """
        n = noise.shape[-2]
        mean, std = self.actor.parameters_of(obs)
        act = mean.unsqueeze(-2) + std.unsqueeze(-2) * noise  # (B, n, A), not squashed
        wide, flat = common.repeated(obs, n), act.flatten(-3, -2)  # (B n, S), (B n, A)
        kl = self.vae.divergence(wide, flat)  # (B n,)
        far = kl >= torch.quantile(kl, self.config.ood_quantile, dim=-1, keepdim=True)
        return (far.float() * self.q_c_target(wide, flat).amin(0)).mean(-1)

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


__all__ = ["CpqOsrl", "CpqOsrlConfig"]
