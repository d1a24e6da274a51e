"""CCAC as its authors' code has it (Guo et al., ICLR 2025); they build on OSRL.

:mod:`go2_sevpo.algorithms.ccac` is a corrected form. Theirs, and kept here: budgets kappa are raw
sums of cost, compared with discounted cost values; both critics end in a softplus; auto-encoder and
classifier go on learning beside the policy; one budget of the batch, its first, is the classifier's
reference; generated pairs are judged at the budget that they were generated for; what is clipped
passes gradients on; the multipliers' networks are held small.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Optional, Tuple

import torch
from torch import nn

from go2_sevpo.algorithms import base
from go2_sevpo.algorithms.osrl import common
from go2_sevpo.algorithms.osrl.common import Noise, OsrlConfig, OsrlState
from go2_sevpo.data.dataset import Batch, OfflineDataset
from go2_sevpo.networks.gaussian import (
    LATENT_LOG_STD,
    Mlp,
    PairVae,
    SquashedGaussian,
    copy_mean,
    policy_layers,
)
from go2_sevpo.networks.layers import Critic, polyak
from go2_sevpo.policies.torch_policy import BudgetPolicy

DECAY = 0.01
"""Weight of the multipliers' squared parameters."""


@dataclass(frozen=True)
class CcacOsrlConfig(OsrlConfig):
    """Hyper-parameters; the values are the authors'."""

    vae_steps: int = 200000
    steps: int = 200000
    actor_rate: float = 1e-4
    """Of the actor and of the multipliers."""
    heads: int = 4
    vae_beta: float = 0.5
    vae_hidden: int = 512
    """Also of the classifier and of the multipliers' networks."""
    latent: int = 64
    log_weight: Tuple[float, float] = (-20.0, 5.0)


def clipped(x: torch.Tensor, low: torch.Tensor, high: torch.Tensor) -> torch.Tensor:
    """X within bounds, with the gradient of x itself."""
    return x + (torch.minimum(torch.maximum(x, low), high) - x).detach()


class CcacOsrl(OsrlState):
    """Actor and critics on (s, kappa), auto-encoder, classifier and two multipliers."""

    stages = ("vae", "policy")
    modules = (
        *("actor", "q_r", "q_r_target", "q_c", "q_c_target"),
        *("vae", "classifier", "weight_pairs", "weight_policy"),
    )
    optimizers = (
        *("actor_optimizer", "critic_optimizer", "vae_optimizer"),
        *("pairs_optimizer", "policy_optimizer"),
    )
    config: CcacOsrlConfig

    def __init__(
        self, config: CcacOsrlConfig, data: OfflineDataset, members: Optional[int] = None
    ) -> None:
        super().__init__(config, data, members)
        c, s, a, hidden = config, self.n_obs, self.n_act, list(config.hidden)
        wide = (c.vae_hidden, c.vae_hidden)
        self.actor = SquashedGaussian(s + 1, a, hidden, members, common.LOG_STD).to(self.device)
        self.q_r = Critic(s + 1, a, hidden, c.heads, members).to(self.device)
        self.q_c = Critic(s + 1, a, hidden, c.heads, members).to(self.device)
        self.q_r_target, self.q_c_target = base.frozen_copy(self.q_r), base.frozen_copy(self.q_c)
        self.vae = PairVae(s, a, 1, c.latent, c.vae_hidden, members).to(self.device)
        self.classifier = Mlp(s + a + 1, wide, 1, members).to(self.device)
        self.weight_pairs = Mlp(1, wide, 1, members).to(self.device)
        self.weight_policy = Mlp(1, wide, 1, members).to(self.device)
        self.actor_optimizer = base.adam(self.actor.parameters(), c.actor_rate)
        self.critic_optimizer = base.adam([*self.q_r.parameters(), *self.q_c.parameters()], c.rate)
        learned = [*self.vae.parameters(), *self.classifier.parameters()]
        self.vae_optimizer = base.adam(learned, c.rate)
        self.pairs_optimizer = base.adam(self.weight_pairs.parameters(), c.actor_rate)
        self.policy_optimizer = base.adam(self.weight_policy.parameters(), c.actor_rate)
        frames, one = data.frames[data.first], torch.ones(a, device=self.device)
        self.low = torch.cat([frames.amin(0), -one])  # (S + A,)
        self.high = torch.cat([frames.amax(0), one])
        self.kappa = data.cost_to_go  # (M,)
        # Of the next transition; nothing is left behind an episode's end.
        ends = data.last_row() == torch.arange(len(data), device=self.device)
        self.kappa_next = self.kappa.roll(-1) * (~ends).float()

    def steps(self, stage: str) -> int:
        """See :class:`base.Algorithm`."""
        return self.config.vae_steps if stage == "vae" else self.config.steps

    def draw(self, generator: torch.Generator) -> Noise:
        """See :class:`OsrlState`: latents of the loss and of generated pairs, next and own act."""
        a, z = self.n_act, self.vae.latent
        return {
            "latent": self.normal(generator, z),
            "next_r": self.normal(generator, a),
            "next_c": self.normal(generator, a),
            "pairs": self.normal(generator, z),
            "actor": self.normal(generator, a),
        }

    def multiplier(self, network: Mlp, kappa: torch.Tensor) -> torch.Tensor:
        """Lambda (B,) at budgets (B,)."""
        value = network(kappa.unsqueeze(-1)).squeeze(-1)
        low, high = (torch.full_like(value, x) for x in self.config.log_weight)
        return clipped(value, low, high).exp()

    def pairs(self, z: torch.Tensor, kappa: torch.Tensor) -> torch.Tensor:
        """Decoded states and actions (B, S + A) of latents (B, Z) at budgets (B,)."""
        return clipped(self.vae.decoder(z, kappa.unsqueeze(-1)), self.low, self.high)

    def _update_vae(self, batch: Batch, kappa: torch.Tensor, z: torch.Tensor) -> base.Metrics:
        """Auto-encoder and classifier."""
        true = torch.cat([batch.obs, batch.act], -1)  # (B, S + A)
        out = self.vae.encoder(true, kappa.unsqueeze(-1))
        mean, log_std = out.chunk(2, dim=-1)
        std = log_std.clamp(*LATENT_LOG_STD).exp()
        found = self.pairs(mean + std * z, kappa)
        divergence = 0.5 * (mean.square() + std.square() - 2.0 * std.log() - 1.0).mean(-1)
        vae_loss = (found - true).square().mean(-1) + self.config.vae_beta * divergence
        # The classifier tells, of true and of decoded pairs, whether they are dearer than the
        # first budget of the batch.
        reference = kappa[..., :1].expand_as(kappa)
        label = (kappa > reference).float()
        logits = [
            self.classifier(x, reference.unsqueeze(-1)).squeeze(-1) for x in (true, found.detach())
        ]
        class_loss = torch.stack(
            [
                nn.functional.binary_cross_entropy_with_logits(x, label, reduction="none")
                for x in logits
            ]
        ).mean(0)
        base.descend(self.vae_optimizer, base.loss_of(vae_loss + class_loss))
        return base.summary(vae_loss=vae_loss, class_loss=class_loss)

    def descend(self, stage: str, batch: Batch, noise: Noise) -> base.Metrics:
        """See :class:`OsrlState`."""
        assert batch.index is not None
        kappa, left = self.kappa[batch.index], self.kappa_next[batch.index]
        metrics = self._update_vae(batch, kappa, noise["latent"])
        if stage == "vae":
            return metrics
        metrics.update(self._update_critics(batch, kappa, left, noise))
        obs = torch.cat([batch.obs, kappa.unsqueeze(-1)], -1)
        act = self.actor.sample(obs, noise["actor"])
        soft = nn.functional.softplus
        q_r, over = soft(self.q_r(obs, act)).amin(0), soft(self.q_c(obs, act)).amin(0) - kappa
        weight = self.multiplier(self.weight_policy, kappa)
        actor_loss = weight.detach() * over - q_r
        base.descend(self.actor_optimizer, base.loss_of(actor_loss))
        weight_loss = base.loss_of(-weight * over.detach()) + DECAY * size(self.weight_policy)
        base.descend(self.policy_optimizer, weight_loss)
        polyak(self.q_r_target, self.q_r, self.config.target_rate)
        polyak(self.q_c_target, self.q_c, self.config.target_rate)
        summary = base.summary(
            actor_loss=actor_loss,
            weight_policy_loss=weight_loss / (self.members or 1),
            q_c_policy=over + kappa,
            weight_policy=weight,
        )
        return {**metrics, **summary}

    def _update_critics(
        self, batch: Batch, kappa: torch.Tensor, left: torch.Tensor, noise: Noise
    ) -> base.Metrics:
        """Both critics, and the multiplier of generated pairs."""
        c, soft = self.config, nn.functional.softplus
        obs = torch.cat([batch.obs, kappa.unsqueeze(-1)], -1)
        after = torch.cat([batch.next_obs, left.unsqueeze(-1)], -1)
        with torch.no_grad():
            go_on = c.gamma * (1.0 - common.over(batch))
            value = soft(self.q_r_target(after, self.actor.sample(after, noise["next_r"])))
            target_r = batch.reward + go_on * value.amin(0)
            value = soft(self.q_c_target(after, self.actor.sample(after, noise["next_c"])))
            target_c = batch.cost + go_on * value.amin(0)
            made = self.pairs(noise["pairs"].clamp(-1.0, 1.0), kappa)  # (B, S + A)
            dear = (self.classifier(made, kappa.unsqueeze(-1)).squeeze(-1) > 0).float()
        r_loss = (soft(self.q_r(obs, batch.act)) - target_r).square().sum(0)
        c_loss = (soft(self.q_c(obs, batch.act)) - target_c).square().sum(0)
        wide = torch.cat([made[..., : self.n_obs], kappa.unsqueeze(-1)], -1)
        # Above their budget, generated pairs that look dear: () or (members,).
        gap = soft(self.q_c(wide, made[..., self.n_obs :])).amin(0) - kappa
        weight = self.multiplier(self.weight_pairs, kappa)
        push = base.mean_over(-weight.detach() * gap, dear)
        base.descend(self.critic_optimizer, base.loss_of(r_loss + c_loss) + push.sum())
        any_dear = dear.amax(-1)
        weight_loss = base.mean_over(weight * gap.detach(), dear).sum()
        weight_loss = weight_loss + DECAY * (size(self.weight_pairs) * any_dear.amax())
        # Without a single such pair the multiplier rests (all members' at once).
        if bool(any_dear.amax() > 0):
            base.descend(self.pairs_optimizer, weight_loss)
        return base.summary(
            q_r_loss=r_loss,
            # With the push, as the authors report it.
            q_c_loss=c_loss.mean(-1) + push,
            weight_pairs_loss=weight_loss / (self.members or 1),
            q_r=target_r,
            q_c=target_c,
            dear_share=dear,
        )

    def policy(self, choice: Optional[str] = None, member: int = 0) -> BudgetPolicy:
        """See :class:`base.Algorithm`: tanh of the mean, with the budget ``episode_limit``.

        ``choice`` has no meaning here.
        """
        layers = policy_layers(self.one(self.actor, member).body)
        sizes = [layers[0].in_features, *(x.out_features for x in layers[:-1]), self.n_act]
        policy = BudgetPolicy(sizes, self.normalizer, self.config.episode_limit, 0.0)
        copy_mean(layers, policy.mlp)
        return policy.eval()


def size(network: nn.Module) -> torch.Tensor:
    """Sum of squared parameters, over all members."""
    return torch.stack([p.square().sum() for p in network.parameters()]).sum()


__all__ = ["CcacOsrl", "CcacOsrlConfig", "clipped"]
