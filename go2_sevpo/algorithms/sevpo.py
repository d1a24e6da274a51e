"""SEVPO: selective value learning and policy optimization (Zhu, Ying, Wei).

Equation numbers are the paper's.

Stage ``critics`` learns the conservative cost values V_c, Q_c (Eqs. 6, 7) and freezes them; stage
``policy`` learns Q_r, Q_c^pi (Eqs. 8, 9) and the diffusion actor (Eqs. 10-16). Where the paper
contradicts itself the default follows the reading explained in docs/algorithm.md and every other
reading is an option.
"""

from __future__ import annotations

import math
from typing import Any, Dict, Optional, Tuple

import torch

from go2_sevpo.algorithms import base
from go2_sevpo.algorithms.conservative import expectile_loss
from go2_sevpo.algorithms.selection import Selection, select
from go2_sevpo.algorithms.sevpo_config import ADVANTAGES, PENALTIES, TRUST_REGIONS, SevpoConfig
from go2_sevpo.algorithms.unsafe import UnsafeObjective, soft_exp
from go2_sevpo.data.dataset import Batch, OfflineDataset
from go2_sevpo.networks.layers import polyak
from go2_sevpo.policies.torch_policy import DiffusionPolicy

MEASURED_EVERY = 500
"""Steps between measurements of the noise that sampling loses."""
MEASURED_ROWS = 4096
"""Rows of the data, per member, that it is measured on."""
LIDAR_ACTING_SHARE = 0.3
"""``acting_share`` where networks see a lidar's nearness (measured on CarGoal1)."""


def constrained_reward(
    q_r: torch.Tensor, q_c: torch.Tensor, delta: float, penalty: str
) -> torch.Tensor:
    """Eq. 10 at given values (B,): Q_r, made worse where Q_c > delta.

    ``penalty``: see :class:`SevpoConfig`.
    """
    if penalty == "none":
        return q_r
    if penalty == "paper":
        return torch.where(q_c > delta, q_r / q_c.clamp_min(1e-6), q_r)
    # max(1, Q_c / delta): without a jump at delta; a negative Q_r is multiplied by it.
    factor = (q_c / max(delta, 1e-6)).clamp_min(1.0)
    return torch.where(q_r >= 0, q_r / factor, q_r * factor)


class Sevpo(UnsafeObjective):
    """The five networks and their two-stage training.

    Beside what :class:`UnsafeObjective` says, with l = ``limit``:

    Attributes:
        q_r, q_pi: Q_r and Q_c^pi of Eqs. 8 and 9; each has a ``_target``.
        baseline, cost_baseline: means of Eq. 10 and of Q_c^pi over the policy's actions.
        average: the averaged actor, which acts.
        lost_noise: standard deviation of S1's actions that the last sampling step leaves out, (A,)
            or (members, A).
        scale_r: running root mean square of A_r in S1, () or (members,).
        delta: of Eq. 10, in units of discounted cost value.
        selection: S1 and S2 among the data; found when stage 2 begins.
        fixed_shapes: sample own actions on ``unsafe_samples`` states whatever their number, as
            CUDA graphs need it.
    """

    stages = ("critics", "policy")
    modules = (
        *UnsafeObjective.modules,
        *("q_r", "q_r_target", "q_pi", "q_pi_target", "baseline", "cost_baseline"),
        *("actor", "average", "previous"),
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
        self.lost_noise = torch.zeros((*self.shape(1)[:-1], self.n_act), device=self.device)
        self.delta = self.threshold(c.delta, c.episode_delta, c.gamma)
        self.selection: Optional[Selection] = None
        self.fixed_shapes = False

    def steps(self, stage: str) -> int:
        """See :class:`base.Algorithm`."""
        return self.config.critic_steps if stage == "critics" else self.config.policy_steps

    def state_dict(self) -> Dict[str, Any]:
        """See :class:`base.Algorithm`."""
        return {
            **super().state_dict(),
            "scale_r": self.scale_r.clone(),
            "scale_c": self.scale_c.clone(),
            "lost_noise": self.lost_noise.clone(),
        }

    def load_state_dict(self, state: Dict[str, Any]) -> None:
        """See :class:`base.Algorithm`."""
        super().load_state_dict(state)
        self.scale_r.copy_(state["scale_r"])
        self.scale_c.copy_(state["scale_c"])
        self.lost_noise.copy_(state["lost_noise"])
        self.selection = None  # of other critics

    def update(
        self, stage: str, step: int, data: OfflineDataset, generator: torch.Generator
    ) -> base.Metrics:
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
        rate = base.cosine(c.actor_rate or c.rate, step, c.policy_steps)
        base.set_rate(self.actor_optimizer, rate)

    def on_device(
        self, stage: str, step: int, data: OfflineDataset, generator: torch.Generator
    ) -> base.Metrics:
        """Everything of a step that happens on the device.

        For all steps of one :meth:`phase` these are the same operations.
        """
        c = self.config
        if stage == "critics":
            return self.descend_conservative(data.sample(self.shape(c.critic_batch), generator))
        if self.selection is None:
            self.settle_limit(data)
            with_objective = c.unsafe_objective != "none" and c.b2 > 0
            self.selection = select(self, data, c.unsafe_cloning > 0 or with_objective)
        batch = data.sample(self.shape(c.critic_batch), generator)
        metrics = self.update_policy_critics(batch, generator)
        for _ in range(c.actor_updates):
            batch = self.selection.sample(data, self.shape(c.actor_batch), generator)
            metrics.update(self.update_actor(batch, step / c.policy_steps, generator))
        return metrics

    def finish(self, stage: str, step: int) -> None:
        """Part of a step after it: counts, the copy that Eq. 15 compares with, measurements."""
        if stage == "critics":
            self.critics_trained += 1
            return
        if (step + 1) % self.config.trust_interval == 0:
            for old, new in zip(self.previous.parameters(), self.actor.parameters()):
                old.data.copy_(new.data)  # z' of Eq. 15
        if (step + 1) % MEASURED_EVERY == 0 or step + 1 == self.config.policy_steps:
            self._measure_lost_noise(step)

    def _measure_lost_noise(self, step: int) -> None:
        """Measure it on S1, with draws that depend on the step alone."""
        if self.selection is None or self.selection.data is None:
            return
        generator = torch.Generator(device=self.device).manual_seed(step)
        shape = self.shape(MEASURED_ROWS)
        batch = self.selection.sample(self.selection.data, shape, generator)
        safe = self.selection.masks(batch)[0].float()
        # In place, as graphs hold the tensor.
        self.lost_noise.copy_(base.lost_noise(self.average, batch.obs, batch.act, safe, generator))

    def next_actions(self, obs: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        """Actions (B, A) as the policy acts, without a choice: a' of Eqs. 8 and 9."""
        c = self.config
        with_noise = c.acting_noise > 0
        noise = base.own_noise(obs, self.average, self.n_act, generator, int(with_noise))
        warm = c.temperature if c.critic_temperature is None else c.critic_temperature
        act = self.average.sample(obs, noise[..., : self.average.steps, :], warm)
        if with_noise:
            lost = c.acting_noise * self.lost_noise[..., None, :]
            act = (act + lost * noise[..., -1, :]).clamp(-1.0, 1.0)
        return act

    def phase(self, stage: str, step: int) -> Tuple[str, bool, bool]:
        """Steps of one phase are the same operations on the device.

        A phase is the stage, whether the actor still warms up, and whether Eq. 15 is in force.
        """
        progress = step / max(self.steps(stage), 1)
        policy = stage == "policy"
        warm = policy and progress < self.config.warmup
        trusting = policy and progress >= self.config.trust_start
        return stage, warm, trusting

    def update_policy_critics(self, batch: Batch, generator: torch.Generator) -> base.Metrics:
        """Eqs. 8 and 9 on one batch: a' from the averaged actor, each head on its own target.

        The same a' trains the baselines: V(s') -> E[objective(s', a')], which costs no further
        sampling.
        """
        c = self.config
        with torch.no_grad():
            act = self.next_actions(batch.next_obs, generator)  # a', (B, A)
            next_r = self.q_r_target(batch.next_obs, act)  # (H, B)
            next_c = self.q_pi_target(batch.next_obs, act)
            go_on = c.gamma * self.alive(batch)
            target_r = batch.reward + go_on * next_r  # Eq. 8
            target_c = c.cost_scale * batch.cost + go_on * next_c  # Eq. 9
            # Where heads are compared with limits, the larger cost and the smaller reward count.
            mean_c = next_c.amax(0)
            objective = constrained_reward(next_r.amin(0), mean_c, self.delta, c.penalty)
        # Behind a terminal there is no state to have a value; time-outs have one.
        alive = 1.0 - batch.terminal
        # Squared errors, summed over heads: (B,).
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
        """Eq. 13's weights (B,), zero outside S1, and the share of S1 at the clip.

        Weights: exp(mu1 A_r) with A_r = Eq. 10 minus its baseline; ``safe`` (B,) is S1. The share
        is () or (members,).
        """
        c = self.config
        q_r, q_c = self.q_r(batch.obs, batch.act).amin(0), self.q_pi(batch.obs, batch.act).amax(0)
        value = constrained_reward(q_r, q_c, self.delta, c.penalty)  # (B,)
        if c.advantage == "baseline":
            value = value - self.baseline(batch.obs)
        if c.data_cost_penalty > 0:
            excess = (q_c - self.cost_baseline(batch.obs)).clamp_min(0.0)
            value = value - c.data_cost_penalty * excess
        mask = safe.float()
        if c.normalize_advantage:
            # In place, as graphs hold the tensor. A batch without S1 says nothing about its scale.
            size = base.mean_over(value.square(), mask).sqrt().detach()
            moved = self.scale_r.lerp(size, 0.01)
            self.scale_r.copy_(torch.where(mask.sum(-1) > 0, moved, self.scale_r))
            value = value / self.scale_r.clamp_min(1e-6)[..., None]
        # Clipped before exp() can overflow.
        raw = torch.exp((c.mu1 * value).clamp(max=math.log(c.weight_clip)))
        clipped = base.mean_over((raw >= 0.999 * c.weight_clip).float(), mask)
        if c.normalize_weights:
            # Of mean 1 over S1, so that b1 and b2 keep their meaning whatever mu1 is.
            raw = raw / base.mean_over(raw, mask).clamp_min(1e-6)[..., None]
        return raw * mask, clipped

    def update_actor(
        self, batch: Batch, progress: float, generator: torch.Generator
    ) -> base.Metrics:
        """Eqs. 13-16 on one batch of ``selection``.

        ``progress`` in [0, 1) is the share of the stage that is done.
        """
        c = self.config
        warm = progress < c.warmup
        assert self.selection is not None
        with torch.no_grad():
            v_c, q_c = self.v_c(batch.obs), self.q_c_target(batch.obs, batch.act).amax(0)
            safe, unsafe = self.selection.masks(batch)
            weight, clipped = self.safe_weights(batch, safe)  # (B,)
            if warm:
                # Plain cloning of S1.
                weight = safe.float()
            if c.unsafe_cloning > 0:
                # Over b1, as Eq. 16 multiplies all of the safe loss by it.
                weight = weight + c.unsafe_cloning / max(c.b1, 1e-9) * unsafe.float()
        self.actor.train()
        loss, _, _ = base.cloning_loss(self.actor, batch.obs, batch.act, generator)
        safe_loss = (weight * loss).mean(-1)  # Eq. 13, () or (members,)
        unsafe_loss = torch.zeros_like(safe_loss)
        if not warm and c.unsafe_objective != "none" and c.b2 > 0:
            if c.unsafe_objective == "awr":
                unsafe_loss = self.unsafe_awr(loss, unsafe, q_c - v_c)  # A_c of the data's actions
            else:
                unsafe_loss = self.unsafe_sampled(batch, v_c, unsafe, progress, generator)
        total = c.b1 * safe_loss + c.b2 * unsafe_loss  # Eq. 16
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
        """See :class:`base.Algorithm`: the averaged actor.

        Candidates are judged by stage 1's Q_c and by Q_r.
        """
        c = self.config
        share = c.acting_share
        if share is None:
            share = 1.0 if self.normalizer.lidar is None else LIDAR_ACTING_SHARE
        return DiffusionPolicy(
            self.normalizer,
            self.one(self.average, member),
            c.temperature,
            choice or c.choice,
            cost_critic=self.one(self.q_c_target, member),
            reward_critic=self.one(self.q_r_target, member),
            cost_value=self.one(self.v_c, member),
            limit=share * self.limit_of(member),
            acting_noise=c.acting_noise,
            lost_noise=self.lost_noise if self.members is None else self.lost_noise[member],
        )


__all__ = [
    "ADVANTAGES",
    "PENALTIES",
    "TRUST_REGIONS",
    "Sevpo",
    "SevpoConfig",
    "constrained_reward",
    "expectile_loss",
    "soft_exp",
]
