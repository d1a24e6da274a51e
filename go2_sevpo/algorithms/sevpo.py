"""SEVPO: selective value learning and policy optimization (Zhu, Ying, Wei).

Equation numbers are the paper's.

Stage ``critics`` learns the conservative cost values V_c, Q_c (Eqs. 6, 7) and freezes them; stage
``policy`` learns Q_r, Q_c^pi (Eqs. 8, 9) and the diffusion actor (Eqs. 10-16). Where the paper
contradicts itself the default follows the reading explained in docs/algorithm.md and every other
reading is an option.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Dict, Optional, Tuple

import torch

from go2_sevpo.algorithms import base
from go2_sevpo.algorithms.conservative import ConservativeConfig, check_choice, expectile_loss
from go2_sevpo.algorithms.selection import Selection, select
from go2_sevpo.algorithms.unsafe import UNSAFE_OBJECTIVES, UnsafeObjective, soft_exp
from go2_sevpo.data.dataset import Batch, OfflineDataset
from go2_sevpo.networks.layers import polyak
from go2_sevpo.policies.torch_policy import CHOICES, DiffusionPolicy

ADVANTAGES = ("baseline", "paper")
PENALTIES = ("signed", "paper", "none")
TRUST_REGIONS = ("added", "printed", "off")
LIDAR_ACTING_SHARE = 0.3
"""``acting_share`` where networks see a lidar's nearness (measured on CarGoal1)."""


@dataclass(frozen=True)
class SevpoConfig(ConservativeConfig):
    """Hyper-parameters; the comments name the paper's symbol or Table 8's entry."""

    delta: float = 1.0
    """delta of Eq. 10, in the units of ``limit``."""
    episode_delta: Optional[float] = None
    """If given, replaces ``delta`` as ``episode_limit`` does."""
    lookahead: int = 0
    """S1 also asks that the data's own cost over this many steps, and V_c where they lead, is at
    most l; 0: only Algorithm 1's test.
    """
    # safe objective
    mu1: float = 3.0
    b1: float = 1.0
    advantage: str = "baseline"
    """``baseline``: Eq. 10 minus its mean under the policy; ``paper``: Eq. 10 as printed."""
    normalize_advantage: bool = True
    """Divide the advantage by its running root mean square, so that mu1 has no unit."""
    normalize_weights: bool = True
    """Divide the weights by their mean over S1 of the batch."""
    penalty: str = "signed"
    """Eq. 10 above delta: ``signed`` moves Q_r down for either sign; ``paper`` divides by Q_c;
    ``none``.
    """
    data_cost_penalty: float = 0.0
    """Subtracts this times the data action's excess Q_c^pi from the advantage."""
    weight_clip: float = 100.0
    # unsafe objective
    unsafe_objective: str = "gradient"
    """Eq. 14: ``gradient`` through the sampler of exp(+mu2 A_c); ``printed`` with the minus sign;
    ``search`` imitates actions found by Q_c; ``awr`` weights data actions; ``none``.
    """
    mu2: float = 5.0
    b2: float = 3.0
    unsafe_candidates: int = 32
    """``search``: uniform actions judged per unsafe state, beside the data's."""
    unsafe_samples: int = 256
    """Own actions are sampled on at most this many unsafe states of a batch."""
    exponent_clip: float = 2.0
    """exp() is continued linearly beyond this exponent."""
    unsafe_cloning: float = 0.0
    """Weight of plain cloning on unsafe states."""
    trust_region: str = "added"
    """Eq. 15: ``added`` to Eq. 14, ``printed`` replaces it, ``off``."""
    trust_weight: float = 1.0
    trust_start: float = 0.5
    """K_trust as a share of the stage's steps."""
    trust_interval: int = 5
    # training
    policy_steps: int = 1000000
    actor_rate: Optional[float] = None
    """The actor's learning rate; ``rate`` if not given."""
    actor_batch: int = 1024
    actor_updates: int = 2
    """Actor updates per step, each on its own batch (the base method splits 2048 in two)."""
    warmup: float = 0.0
    """Share of the policy stage in which the actor clones S1 unweighted (warm start)."""
    ema: float = 0.001
    # networks
    actor: str = "resnet"
    width: int = 256
    depth: int = 3
    dropout: float = 0.1
    diffusion_steps: int = 5
    prediction: str = "noise"
    # acting
    temperature: float = 1.0
    choice: str = "argmin_cost"
    acting_share: Optional[float] = None
    """Candidates are judged by this share of l.

    None: 0.3 where networks see how near a lidar's readings are, as Q_c then comes out too small in
    places the data hardly hold (measured, docs/safety_gymnasium.md), else 1.
    """

    def __post_init__(self) -> None:
        """Check the options.

        Raises:
            ValueError: naming the option, what was found and what was expected.
        """
        super().__post_init__()
        check_choice(self, "unsafe_objective", UNSAFE_OBJECTIVES)
        check_choice(self, "advantage", ADVANTAGES)
        check_choice(self, "penalty", PENALTIES)
        check_choice(self, "trust_region", TRUST_REGIONS)
        check_choice(self, "choice", CHOICES)
        if self.acting_share is not None and self.acting_share < 0:
            raise ValueError(f"acting_share is {self.acting_share:g}, expected 0 or more")
        if self.lookahead < 0:
            raise ValueError(f"lookahead is {self.lookahead}, expected 0 or more steps")


def constrained_reward(
    q_r: torch.Tensor, q_c: torch.Tensor, delta: float, penalty: str
) -> torch.Tensor:
    """Eq. 10 at given values (B,): Q_r, made worse where Q_c > delta."""
    if penalty == "none":
        return q_r
    if penalty == "paper":
        return torch.where(q_c > delta, q_r / q_c.clamp_min(1e-6), q_r)
    factor = (q_c / max(delta, 1e-6)).clamp_min(1.0)
    return torch.where(q_r >= 0, q_r / factor, q_r * factor)


class Sevpo(UnsafeObjective):
    """The five networks and their two-stage training."""

    stages = ("critics", "policy")
    modules = (
        *UnsafeObjective.modules,
        "q_r",
        "q_r_target",
        "q_pi",
        "q_pi_target",
        "baseline",
        "cost_baseline",
        "actor",
        "average",
        "previous",
    )
    optimizers = (*UnsafeObjective.optimizers, "critic_optimizer", "actor_optimizer")

    def __init__(
        self, config: SevpoConfig, data: OfflineDataset, members: Optional[int] = None
    ) -> None:
        super().__init__(config, data, members)
        c = config
        self.q_r, self.q_pi = self.make_critic(), self.make_critic()
        self.q_r_target, self.q_pi_target = base.frozen_copy(self.q_r), base.frozen_copy(self.q_pi)
        self.baseline, self.cost_baseline = self.make_value(), self.make_value()
        self.actor = base.make_actor(
            data, c.actor, c.width, c.depth, c.dropout, c.diffusion_steps, c.prediction, members
        )
        self.average, self.previous = base.frozen_copy(self.actor), base.frozen_copy(self.actor)
        stage2 = [self.q_r, self.q_pi, self.baseline, self.cost_baseline]
        self.critic_optimizer = base.adam([p for m in stage2 for p in m.parameters()], c.rate)
        self.actor_optimizer = base.adam(self.actor.parameters(), c.rate)
        self.scale_r = torch.ones(self.shape(1)[:-1], device=self.device)
        self.scale_c = torch.ones(self.shape(1)[:-1], device=self.device)
        self.delta = self.threshold(c.delta, c.episode_delta)
        self.selection: Optional[Selection] = None
        """S1 and S2 among the data; found when stage 2 begins."""
        self.fixed_shapes = False
        """Sample own actions on ``unsafe_samples`` states whatever their number, as CUDA graphs
        need it.
        """

    def steps(self, stage: str) -> int:
        """See :class:`base.Algorithm`."""
        return self.config.critic_steps if stage == "critics" else self.config.policy_steps

    def state_dict(self) -> Dict[str, Any]:
        """See :class:`base.Algorithm`."""
        return {
            **super().state_dict(),
            "scale_r": self.scale_r.clone(),
            "scale_c": self.scale_c.clone(),
        }

    def load_state_dict(self, state: Dict[str, Any]) -> None:
        """See :class:`base.Algorithm`."""
        super().load_state_dict(state)
        self.scale_r.copy_(state["scale_r"])
        self.scale_c.copy_(state["scale_c"])
        self.selection = None  # of other critics

    def update(
        self, stage: str, step: int, data: OfflineDataset, generator: torch.Generator
    ) -> Dict[str, Any]:
        """See :class:`base.Algorithm`.

        Raises:
            RuntimeError: stage ``policy`` before stage ``critics`` was trained to its end.
        """
        self.prepare(stage, step)
        metrics = self.on_device(stage, step, data, generator)
        self.finish(stage, step)
        return metrics

    def prepare(self, stage: str, step: int) -> None:
        """Part of a step that only the host sees, before it: checks and learning rates."""
        c = self.config
        if stage == "critics":
            self.prepare_conservative()
            return
        self.require_critics()
        if c.critic_decay:
            base.set_rate(self.critic_optimizer, base.cosine(c.rate, step, c.policy_steps))
        base.set_rate(
            self.actor_optimizer, base.cosine(c.actor_rate or c.rate, step, c.policy_steps)
        )

    def on_device(
        self, stage: str, step: int, data: OfflineDataset, generator: torch.Generator
    ) -> Dict[str, Any]:
        """Everything of a step that happens on the device; for all steps of one :meth:`phase` the
        same operations.
        """
        c = self.config
        if stage == "critics":
            return self.descend_conservative(data.sample(self.shape(c.critic_batch), generator))
        if self.selection is None:
            self.selection = select(
                self, data, c.unsafe_cloning > 0 or (c.unsafe_objective != "none" and c.b2 > 0)
            )
        metrics = self.update_policy_critics(
            data.sample(self.shape(c.critic_batch), generator), generator
        )
        for _ in range(c.actor_updates):
            batch = self.selection.sample(data, self.shape(c.actor_batch), generator)
            metrics.update(self.update_actor(batch, step / c.policy_steps, generator))
        return metrics

    def finish(self, stage: str, step: int) -> None:
        """Part of a step after it: the count of stage 1, the copy that Eq. 15 compares with."""
        if stage == "critics":
            self.critics_trained += 1
        elif (step + 1) % self.config.trust_interval == 0:
            for old, new in zip(self.previous.parameters(), self.actor.parameters()):
                old.data.copy_(new.data)

    def phase(self, stage: str, step: int) -> Tuple[str, bool, bool]:
        """Steps of one phase are the same operations on the device."""
        progress = step / max(self.steps(stage), 1)
        policy = stage == "policy"
        return (
            stage,
            policy and progress < self.config.warmup,
            policy and progress >= self.config.trust_start,
        )

    def update_policy_critics(self, batch: Batch, generator: torch.Generator) -> Dict[str, Any]:
        """Eqs. 8 and 9 on one batch: a' from the averaged actor, each head on its own target, true
        terminals only.

        The same a' trains the baselines: V(s') -> E[objective(s', a')], which costs no further
        sampling.
        """
        c = self.config
        with torch.no_grad():
            noise = base.own_noise(batch.next_obs, self.average, self.n_act, generator)
            act = self.average.sample(batch.next_obs, noise)
            next_r, next_c = (
                self.q_r_target(batch.next_obs, act),
                self.q_pi_target(batch.next_obs, act),
            )
            go_on = c.gamma * self.alive(batch)
            target_r = batch.reward + go_on * next_r
            target_c = c.cost_scale * batch.cost + go_on * next_c
            mean_c = next_c.amax(0)
            objective = constrained_reward(next_r.amin(0), mean_c, self.delta, c.penalty)
        alive = 1.0 - batch.terminal
        r_loss = (self.q_r(batch.obs, batch.act) - target_r).square().sum(0)
        c_loss = (self.q_pi(batch.obs, batch.act) - target_c).square().sum(0)
        b_loss = alive * (self.baseline(batch.next_obs) - objective).square()
        b_loss = b_loss + alive * (self.cost_baseline(batch.next_obs) - mean_c).square()
        base.descend(self.critic_optimizer, base.loss_of(r_loss + c_loss + b_loss))
        polyak(self.q_r_target, self.q_r, c.target_rate)
        polyak(self.q_pi_target, self.q_pi, c.target_rate)
        return base.summary(
            q_r_loss=r_loss,
            q_pi_loss=c_loss,
            baseline_loss=b_loss,
            q_r=target_r,
            q_r_std=target_r.std(),
            q_pi=target_c,
        )

    def safe_weights(self, batch: Batch, safe: torch.Tensor) -> Tuple[torch.Tensor, torch.Tensor]:
        """Eq. 13's weights (B,), zero outside S1, and the share of S1 at the clip."""
        c = self.config
        q_r, q_c = self.q_r(batch.obs, batch.act).amin(0), self.q_pi(batch.obs, batch.act).amax(0)
        value = constrained_reward(q_r, q_c, self.delta, c.penalty)
        if c.advantage == "baseline":
            value = value - self.baseline(batch.obs)
        if c.data_cost_penalty > 0:
            value = value - c.data_cost_penalty * (q_c - self.cost_baseline(batch.obs)).clamp_min(
                0.0
            )
        mask = safe.float()
        if c.normalize_advantage:
            self.scale_r.lerp_(base.mean_over(value.square(), mask).sqrt().detach(), 0.01)
            value = value / self.scale_r.clamp_min(1e-6)[..., None]
        raw = torch.exp((c.mu1 * value).clamp(max=math.log(c.weight_clip)))
        clipped = base.mean_over((raw >= 0.999 * c.weight_clip).float(), mask)
        if c.normalize_weights:
            raw = raw / base.mean_over(raw, mask).clamp_min(1e-6)[..., None]
        return raw * mask, clipped

    def update_actor(
        self, batch: Batch, progress: float, generator: torch.Generator
    ) -> Dict[str, Any]:
        """Eqs. 13-16 on one batch of ``selection``; ``progress`` in [0, 1) is the share of the
        stage that is done.
        """
        c = self.config
        warm = progress < c.warmup
        assert self.selection is not None
        with torch.no_grad():
            v_c, q_c = self.v_c(batch.obs), self.q_c_target(batch.obs, batch.act).amax(0)
            safe, unsafe = self.selection.masks(batch)
            weight, clipped = self.safe_weights(batch, safe)
            if warm:
                weight = safe.float()
            if c.unsafe_cloning > 0:
                weight = weight + c.unsafe_cloning / max(c.b1, 1e-9) * unsafe.float()
        self.actor.train()
        loss, noise, t = base.cloning_loss(self.actor, batch.obs, batch.act, generator)
        safe_loss = (weight * loss).mean(-1)
        unsafe_loss = torch.zeros_like(safe_loss)
        if not warm and c.unsafe_objective != "none" and c.b2 > 0:
            if c.unsafe_objective == "awr":
                unsafe_loss = self.unsafe_awr(loss, unsafe, q_c - v_c)
            else:
                unsafe_loss = self.unsafe_sampled(batch, v_c, unsafe, progress, generator)
        total = c.b1 * safe_loss + c.b2 * unsafe_loss
        base.descend(self.actor_optimizer, total.sum())
        polyak(self.average, self.actor, c.ema)
        return base.summary(
            actor_loss=total,
            safe_loss=safe_loss,
            unsafe_loss=unsafe_loss,
            clone_loss=loss,
            safe_share=self.selection.shares[0],
            unsafe_share=self.selection.shares[1],
            clipped_share=clipped,
            weight_max=weight.max(),
            v_c=v_c,
        )

    def policy(self, choice: Optional[str] = None, member: int = 0) -> DiffusionPolicy:
        """See :class:`base.Algorithm`: the averaged actor; candidates judged by stage 1's Q_c and
        by Q_r.
        """
        c = self.config
        nets = [
            self.one(m, member) for m in (self.average, self.q_c_target, self.q_r_target, self.v_c)
        ]
        share = c.acting_share
        if share is None:
            share = 1.0 if self.normalizer.lidar is None else LIDAR_ACTING_SHARE
        limit = share * self.limit
        return DiffusionPolicy(
            self.normalizer, nets[0], c.temperature, choice or c.choice, *nets[1:], limit
        )


__all__ = ["Sevpo", "SevpoConfig", "constrained_reward", "expectile_loss", "soft_exp"]
