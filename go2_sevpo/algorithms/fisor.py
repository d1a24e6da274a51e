"""FISOR (Zheng et al. 2024), the baseline nearest to SEVPO, as published.

Reward values by IQL; cost values by Hamilton-Jacobi reachability on h, the constraint's value (> 0:
violated); a diffusion actor cloned with weights exp(.) of the reward advantage where V_h <= 0 and
Q_h <= 0, and of the reachability advantage where V_h > 0. Everything is trained at once. Acting:
the candidate with the least Q_h.

As their authors do it: returns are scaled to the length of the longest episode; every step has two
actor updates on a half each of one draw, then one update of the values on its first rows; the
actor's learning rate follows a cosine that training leaves at a quarter of its first value; h is
two-valued on tasks that only know costs and the constraint's own value where the data hold it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Optional, Tuple

import torch

from go2_sevpo.algorithms import base
from go2_sevpo.algorithms.conservative import check_choice, expectile_loss
from go2_sevpo.data.dataset import Batch, OfflineDataset
from go2_sevpo.networks.layers import Critic, Value, polyak
from go2_sevpo.policies.torch_policy import CHOICES, DiffusionPolicy

SOURCES_OF_H = ("cost", "data")


@dataclass(frozen=True)
class FisorConfig:
    """Hyper-parameters; the values are the authors'.

    Raises:
        ValueError: an option that is none, or a number out of its range.
    """

    gamma: float = 0.99
    reward_tau: float = 0.9
    """Expectile of the reward value."""
    cost_tau: float = 0.9
    """Expectile of the reachability value, reversed."""
    violated: float = 25.0
    """h where the cost is positive; its distance from ``satisfied`` only matters relative to it."""
    satisfied: float = -1.0
    """h where the cost is zero."""
    h: str = "cost"
    """Where h comes from: ``cost`` (the two numbers above) or ``data`` (its ``constraint``)."""
    normalize_returns: bool = True
    """Multiply rewards by the longest episode's steps over the range of returns."""
    reward_temperature: float = 3.0
    reward_clip: float = 100.0
    cost_temperature: float = 5.0
    cost_clip: float = 150.0
    # training
    steps: int = 1000000
    critic_batch: int = 256
    actor_batch: int = 1024
    actor_updates: int = 2
    """Actor updates per step, each on its own part of one draw."""
    rate: float = 3e-4
    decay_length: float = 1.5
    """The actor's cosine decay would reach zero after this many times ``steps``: at 1.5, the
    authors' 3e6 of 2e6 updates, training ends at a quarter of ``rate``.
    """
    critic_decay: bool = False
    """Cosine decay to zero of the critics' learning rate too."""
    target_rate: float = 0.005
    ema: float = 0.001
    warmup: float = 0.0
    """Share of the steps in which the actor clones all data unweighted; none as published."""
    # networks
    critic_hidden: Tuple[int, ...] = (256, 256)
    actor: str = "resnet"
    width: int = 256
    depth: int = 3
    dropout: float = 0.1
    diffusion_steps: int = 5
    prediction: str = "noise"
    # acting
    temperature: float = 1.0
    choice: str = "argmin_cost"

    def __post_init__(self) -> None:
        """Check the options.

        Raises:
            ValueError: naming the option, what was found and what was expected.
        """
        check_choice(self, "choice", CHOICES)
        check_choice(self, "h", SOURCES_OF_H)
        if self.decay_length < 1.0:
            raise ValueError(f"decay_length is {self.decay_length:g}, expected at least 1")
        if not 0.0 < self.gamma < 1.0:
            raise ValueError(f"gamma is {self.gamma}, expected a number in (0, 1)")
        if not self.satisfied < 0.0 < self.violated:
            raise ValueError(
                f"h is {self.satisfied} and {self.violated}, expected satisfied < 0 < violated"
            )


def reachability_target(
    h: torch.Tensor, next_v: torch.Tensor, alive: torch.Tensor, gamma: float
) -> torch.Tensor:
    """(1 - gamma) h + gamma max(h, V_h(s')), and h where the episode ends; all (B,)."""
    going_on = (1.0 - gamma) * h + gamma * torch.maximum(h, next_v)
    return torch.where(alive > 0, going_on, h)


class Fisor(base.State):
    """Five networks, trained together."""

    stages = ("policy",)
    modules = ("v_r", "q_r", "q_r_target", "v_h", "q_h", "q_h_target", "actor", "average")
    optimizers = ("v_optimizer", "q_optimizer", "actor_optimizer")

    def __init__(
        self, config: FisorConfig, data: OfflineDataset, members: Optional[int] = None
    ) -> None:
        c = self.config = config
        self.members = members
        n_obs, n_act, hidden = data.num_obs, data.num_actions, list(c.critic_hidden)
        self.q_r, self.q_h = (
            Critic(n_obs, n_act, hidden, members=members).to(data.device) for _ in range(2)
        )
        self.v_r, self.v_h = (Value(n_obs, hidden, members).to(data.device) for _ in range(2))
        self.q_r_target, self.q_h_target = base.frozen_copy(self.q_r), base.frozen_copy(self.q_h)
        self.actor = base.make_actor(
            data, c.actor, c.width, c.depth, c.dropout, c.diffusion_steps, c.prediction, members
        )
        self.average = base.frozen_copy(self.actor)
        self.v_optimizer = base.adam([*self.v_r.parameters(), *self.v_h.parameters()], c.rate)
        self.q_optimizer = base.adam([*self.q_r.parameters(), *self.q_h.parameters()], c.rate)
        self.actor_optimizer = base.adam(self.actor.parameters(), c.rate)
        self.normalizer = base.make_normalizer(data)
        if c.h == "data" and data.constraint is None:
            raise ValueError(
                "h=data needs the constraint's value in the data, found none; "
                "collect them anew, or use h=cost"
            )
        self.reward_scale = data.return_scale() if c.normalize_returns else 1.0

    def steps(self, stage: str) -> int:
        """See :class:`base.Algorithm`."""
        return self.config.steps

    def update(
        self, stage: str, step: int, data: OfflineDataset, generator: torch.Generator
    ) -> base.Metrics:
        """See :class:`base.Algorithm`."""
        c = self.config
        if c.critic_decay:
            for optimizer in (self.v_optimizer, self.q_optimizer):
                base.set_rate(optimizer, base.cosine(c.rate, step, c.steps))
        count = max(c.critic_batch, c.actor_updates * c.actor_batch)
        drawn = data.sample(self.shape(count), generator)
        drawn.reward = self.reward_scale * drawn.reward
        warm, metrics = step < c.warmup * c.steps, {}
        for number in range(c.actor_updates):
            done = step + number / c.actor_updates
            base.set_rate(self.actor_optimizer, base.cosine(c.rate, done, c.decay_length * c.steps))
            part = drawn.part(number * c.actor_batch, c.actor_batch)
            metrics.update(self.update_actor(part, warm, generator))
        metrics.update(self.update_critics(drawn.part(0, c.critic_batch)))
        return metrics

    def values_of_h(self, batch: Batch) -> torch.Tensor:
        """The constraint's values h (B,): above 0 where it is violated."""
        c = self.config
        if c.h == "data":
            assert batch.constraint is not None
            return batch.constraint
        return torch.where(batch.cost > 0, c.violated, c.satisfied)

    def update_critics(self, batch: Batch) -> base.Metrics:
        """The values, then the Q functions, on one batch."""
        c = self.config
        # The careful head of each: the least reward, the greatest h.
        with torch.no_grad():
            q_r = self.q_r_target(batch.obs, batch.act).amin(0)
            q_h = self.q_h_target(batch.obs, batch.act).amax(0)
        v_r, v_h = self.v_r(batch.obs), self.v_h(batch.obs)
        # IQL's own expectile weighs q > v more; the cost's is the reversed one of SEVPO's Eq. 6.
        r_loss = expectile_loss(v_r - q_r, c.reward_tau)  # (B,)
        h_loss = expectile_loss(q_h - v_h, c.cost_tau)
        base.descend(self.v_optimizer, base.loss_of(r_loss + h_loss))
        alive = 1.0 - batch.terminal
        with torch.no_grad():
            # Q_r -> r + gamma V_r(s').
            target_r = batch.reward + c.gamma * alive * self.v_r(batch.next_obs)
            h = self.values_of_h(batch)
            target_h = reachability_target(h, self.v_h(batch.next_obs), alive, c.gamma)
        q_loss = (self.q_r(batch.obs, batch.act) - target_r).square().sum(0)
        q_loss = q_loss + (self.q_h(batch.obs, batch.act) - target_h).square().sum(0)
        base.descend(self.q_optimizer, base.loss_of(q_loss))
        polyak(self.q_r_target, self.q_r, c.target_rate)
        polyak(self.q_h_target, self.q_h, c.target_rate)
        return base.summary(
            v_loss=r_loss + h_loss, q_loss=q_loss, q_r=target_r, v_h=v_h, v_h_max=v_h.max()
        )

    def weights(self, batch: Batch) -> Tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """The actor's weights (B,), and the masks (B,) of safe transitions and unsafe states."""
        c = self.config
        q_r = self.q_r_target(batch.obs, batch.act).amin(0)
        q_h = self.q_h_target(batch.obs, batch.act).amax(0)
        v_r, v_h = self.v_r(batch.obs), self.v_h(batch.obs)
        # V_h <= 0 < Q_h is in neither region.
        unsafe = v_h > 0
        safe = ~unsafe & (q_h <= 0)
        # exp(3 A_r) in safe places, exp(-5 A_h) in unsafe ones; clipped before exp() overflows.
        reward = torch.exp((c.reward_temperature * (q_r - v_r)).clamp(max=math.log(c.reward_clip)))
        cost = torch.exp((c.cost_temperature * (v_h - q_h)).clamp(max=math.log(c.cost_clip)))
        return reward * safe + cost * unsafe, safe, unsafe

    def update_actor(self, batch: Batch, warm: bool, generator: torch.Generator) -> base.Metrics:
        """Weighted cloning on one batch; all weights are 1 while ``warm``."""
        with torch.no_grad():
            weight, safe, unsafe = self.weights(batch)
            if warm:
                weight = torch.ones_like(weight)
        self.actor.train()
        loss, _, _ = base.cloning_loss(self.actor, batch.obs, batch.act, generator)
        # Rows in neither region have weight 0.
        base.descend(self.actor_optimizer, base.loss_of(weight * loss))
        polyak(self.average, self.actor, self.config.ema)
        return base.summary(
            actor_loss=weight * loss, clone_loss=loss, safe_share=safe, unsafe_share=unsafe
        )

    def policy(self, choice: Optional[str] = None, member: int = 0) -> DiffusionPolicy:
        """See :class:`base.Algorithm`: the averaged actor; candidates judged by Q_h and Q_r."""
        c = self.config
        return DiffusionPolicy(
            self.normalizer,
            self.one(self.average, member),
            c.temperature,
            choice or c.choice,
            cost_critic=self.one(self.q_h_target, member),
            reward_critic=self.one(self.q_r_target, member),
            cost_value=self.one(self.v_h, member),
            limit=0.0,
        )


__all__ = ["Fisor", "FisorConfig", "reachability_target"]
