"""CPQ: constraints-penalised Q-learning (Xu, Zhan, Zhu: AAAI 2022).

As published, where public code is not.

The reward value is backed up through actions that keep the cost value within the limit only; the
cost value is pushed up on actions unlike the data. Public code (OSRL) takes that push from the
target network without a gradient, so that it does nothing, and draws the actions before the tanh;
here it acts on the trained critic, at actions the policy can really take. As printed the push goes
on without end once the margin is reached, until the multiplier has fallen; its bootstrapped value
then runs away before that (docs/algorithm.md). By default it stops at the margin.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import List, Optional, Tuple

import torch
from torch import nn

from go2_sevpo.algorithms import base, regions
from go2_sevpo.algorithms.conservative import check_choice
from go2_sevpo.data.dataset import Batch, OfflineDataset
from go2_sevpo.networks.gaussian import SquashedGaussian, Vae, copy_mean, policy_layers
from go2_sevpo.networks.layers import Critic, Normalizer, polyak
from go2_sevpo.policies.torch_policy import GaussianPolicy

PIECE = 256
"""Rows a CPU computes divergences of at a time."""


@dataclass(frozen=True)
class CpqConfig:
    """Hyper-parameters; the values are OSRL's.

    Raises:
        ValueError: a ``push`` that is none.
    """

    episode_limit: float = 10.0
    """l: cost per episode, converted by :func:`regions.state_limit` over ``horizon``."""
    limit: Optional[float] = None
    """If given, replaces the converted ``episode_limit``, in units of discounted cost value."""
    horizon: int = 1000
    gamma: float = 0.99
    cost_scale: float = 1.0
    ood_actions: int = 10
    ood_quantile: float = 0.75
    """Actions with a VAE divergence from this quantile of the batch on count as unlike the data."""
    ood_margin: float = 1.5
    """The cost value of such actions is pushed towards this times the limit, at least."""
    push: str = "margin"
    """margin: only as far as the margin; linear: as printed."""
    vae_beta: float = 0.5
    vae_hidden: int = 400
    # training
    steps: int = 100000
    batch: int = 512
    actor_rate: float = 1e-4
    rate: float = 1e-3
    target_rate: float = 0.005
    hidden: Tuple[int, ...] = (256, 256)

    def __post_init__(self) -> None:
        """Check the options.

        Raises:
            ValueError: naming the option, what was found and what was expected.
        """
        check_choice(self, "push", ("margin", "linear"))


class Cpq(base.State):
    """Actor, two reward critics, two cost critics, a VAE and the weight alpha.

    Of the cost critics the smaller counts: the push makes it careful.
    """

    stages = ("policy",)
    modules = ("actor", "q_r", "q_r_target", "q_c", "q_c_target", "vae", "weight")
    optimizers = ("actor_optimizer", "critic_optimizer", "vae_optimizer", "weight_optimizer")

    def __init__(
        self, config: CpqConfig, data: OfflineDataset, members: Optional[int] = None
    ) -> None:
        c = self.config = config
        self.members, self.device, self.n_act = members, data.device, data.num_actions
        s, a, hidden = data.num_obs, data.num_actions, list(c.hidden)
        self.actor = SquashedGaussian(s, a, hidden, members).to(self.device)
        self.q_r = Critic(s, a, hidden, members=members).to(self.device)
        self.q_c = Critic(s, a, hidden, members=members).to(self.device)
        self.q_r_target, self.q_c_target = base.frozen_copy(self.q_r), base.frozen_copy(self.q_c)
        self.vae = Vae(s, a, c.vae_hidden, members).to(self.device)
        # log alpha, one per member, in a module so that it is saved like everything else.
        zero = torch.zeros(self.shape(1)[:-1], device=self.device)
        self.weight = nn.ParameterList([nn.Parameter(zero)])
        self.actor_optimizer = base.adam(self.actor.parameters(), c.actor_rate)
        self.critic_optimizer = base.adam([*self.q_r.parameters(), *self.q_c.parameters()], c.rate)
        self.vae_optimizer = base.adam(self.vae.parameters(), c.rate)
        self.weight_optimizer = base.adam(self.weight.parameters(), c.rate)
        self.normalizer = base.make_normalizer(data)
        converted = regions.state_limit(c.episode_limit, c.gamma, c.horizon, c.cost_scale)
        self.limit = converted if c.limit is None else c.limit

    def steps(self, stage: str) -> int:
        """See :class:`base.Algorithm`."""
        return self.config.steps

    def _noise(self, obs: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        """Standard normal noise (B, A) for the actor at ``obs`` (B, S)."""
        return torch.randn((*obs.shape[:-1], self.n_act), generator=generator, device=obs.device)

    def update(
        self, stage: str, step: int, data: OfflineDataset, generator: torch.Generator
    ) -> base.Metrics:
        """See :class:`base.Algorithm`."""
        batch = data.sample(self.shape(self.config.batch), generator)
        shape = (*batch.act.shape[:-1], self.vae.latent)
        z = torch.randn(shape, generator=generator, device=self.device)
        vae_loss = self.vae.loss(batch.obs, batch.act, z, self.config.vae_beta)
        base.descend(self.vae_optimizer, base.loss_of(vae_loss))
        metrics = self.update_critics(batch, generator)
        act = self.actor.sample(batch.obs, self._noise(batch.obs, generator))
        q_r, q_c = self.q_r(batch.obs, act).amin(0), self.q_c(batch.obs, act).amin(0)
        # Where the policy's action breaks the limit there is nothing to gain from reward; Q_c
        # itself is not descended.
        actor_loss = -(q_c <= self.limit).float() * q_r
        base.descend(self.actor_optimizer, base.loss_of(actor_loss))
        return {**metrics, **base.summary(vae_loss=vae_loss, actor_loss=actor_loss, q_c_policy=q_c)}

    def ood_value(self, obs: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        """Mean cost value of policy actions unlike the data, () or (members,).

        It has a gradient to Q_c. ``obs`` is (B, S); n actions are judged at each.
        """
        c, n = self.config, self.config.ood_actions
        # (B n, S)
        wide = obs.unsqueeze(-2).expand(*obs.shape[:-1], n, obs.shape[-1]).flatten(-3, -2)
        with torch.no_grad():
            # The actor's distribution is computed once per observation, not once per action.
            mean, std = (x.repeat_interleave(n, dim=-2) for x in self.actor.parameters_of(obs))
            act = torch.tanh(mean + std * self._noise(wide, generator))  # (B n, A)
            # On a CPU in pieces, whose arrays stay in its cache.
            pieces = (
                zip(wide.split(PIECE, -2), act.split(PIECE, -2))
                if self.device.type == "cpu"
                else [(wide, act)]
            )
            kl = torch.cat([self.vae.divergence(o, a) for o, a in pieces], dim=-1)
            # As many as lie at or above the quantile; the others have no part in the mean.
            total = kl.shape[-1]
            count = total - math.ceil(c.ood_quantile * (total - 1))
            far = kl.topk(count, dim=-1).indices.unsqueeze(-1)  # (count, 1)
            wide = wide.gather(-2, far.expand(*far.shape[:-1], wide.shape[-1]))
            act = act.gather(-2, far.expand(*far.shape[:-1], act.shape[-1]))
        return self.q_c(wide, act).mean((0, -1))  # over heads and actions

    def update_critics(self, batch: Batch, generator: torch.Generator) -> base.Metrics:
        """Both critics on one batch, and alpha by dual ascent."""
        c = self.config
        with torch.no_grad():
            act = self.actor.sample(batch.next_obs, self._noise(batch.next_obs, generator))
            next_c = self.q_c_target(batch.next_obs, act).amin(0)
            next_r = self.q_r_target(batch.next_obs, act).amin(0)
            go_on = c.gamma * (1.0 - batch.terminal)
            # Rewards beyond an action that breaks the limit do not count.
            target_r = batch.reward + go_on * (next_c <= self.limit).float() * next_r
            target_c = c.cost_scale * batch.cost + go_on * next_c
            alpha = self.weight[0].clamp(-5.0, 5.0).exp()
        r_loss = (self.q_r(batch.obs, batch.act) - target_r).square().sum(0)
        c_loss = (self.q_c(batch.obs, batch.act) - target_c).square().sum(0)
        outside = self.ood_value(batch.obs, generator)
        gap = outside - c.ood_margin * self.limit  # below 0: cheaper than the margin
        push = gap if c.push == "linear" else gap.clamp(max=0.0)
        base.descend(self.critic_optimizer, base.loss_of(r_loss + c_loss) - (alpha * push).sum())
        # alpha grows while actions unlike the data look cheaper than the margin.
        weight_loss = self.weight[0].clamp(-5.0, 5.0).exp() * gap.detach()
        base.descend(self.weight_optimizer, weight_loss.sum())
        with torch.no_grad():
            # Beyond its bounds clamp() has no gradient, so log alpha must not stay there.
            self.weight[0].clamp_(-5.0, 5.0)
        polyak(self.q_r_target, self.q_r, c.target_rate)
        polyak(self.q_c_target, self.q_c, c.target_rate)
        return base.summary(
            q_r_loss=r_loss,
            q_c_loss=c_loss,
            q_r=target_r,
            q_c=target_c,
            q_c_ood=outside,
            alpha=alpha,
        )

    def policy(self, choice: Optional[str] = None, member: int = 0) -> GaussianPolicy:
        """See :class:`base.Algorithm`: tanh of the mean; ``choice`` has no meaning here."""
        return deterministic(self.one(self.actor, member), self.normalizer, self.n_act)


def deterministic(actor: SquashedGaussian, normalizer: Normalizer, n_act: int) -> GaussianPolicy:
    """A squashed Gaussian actor's mean as a deployable policy."""
    layers: List[nn.Linear] = policy_layers(actor.body)
    sizes = [layers[0].in_features, *(x.out_features for x in layers[:-1]), n_act]
    policy = GaussianPolicy(sizes, torch.zeros(n_act), 1.0, "relu", True, normalizer)
    copy_mean(layers, policy.mlp)
    return policy.eval()


__all__ = ["Cpq", "CpqConfig", "deterministic"]
