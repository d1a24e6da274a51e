"""SEVPO: selective value learning and policy optimization (Zhu, Ying, Wei). Equation numbers are the paper's.

Stage ``critics`` learns the conservative cost values V_c, Q_c (Eqs. 6, 7) and freezes them; stage ``policy`` learns
Q_r, Q_c^pi (Eqs. 8, 9) and the diffusion actor (Eqs. 10-16). Where the paper contradicts itself the default follows the
reading explained in docs/algorithm.md and every other reading is an option.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Dict, Optional, Tuple

import torch

from go2_sevpo import regions
from go2_sevpo.algorithms import base
from go2_sevpo.data.dataset import Batch, OfflineDataset
from go2_sevpo.networks import Critic, Value, polyak
from go2_sevpo.policy import CHOICES, DiffusionPolicy

UNSAFE_OBJECTIVES = ("gradient", "awr", "none", "printed")
ADVANTAGES = ("baseline", "paper")
PENALTIES = ("signed", "paper", "none")
TRUST_REGIONS = ("added", "printed", "off")
BOOTSTRAPS = ("terminals", "release")


@dataclass(frozen=True)
class SevpoConfig:
    """Hyper-parameters; the comments name the paper's symbol or Table 8's entry."""

    # regions
    limit: float = 1.0
    """l, in units of discounted cost value."""
    delta: float = 1.0
    """delta of Eq. 10, in the same units."""
    episode_limit: Optional[float] = None
    """If given, replaces ``limit``: a cost per episode, converted by :func:`regions.state_limit` over ``horizon``."""
    episode_delta: Optional[float] = None
    """If given, replaces ``delta`` in the same way."""
    horizon: int = 1000
    tau: float = 0.9
    gamma: float = 0.99
    alpha: float = 0.99
    """Weight of the bootstrap in Eq. 7: the probability of not reaching the emergency exit; 1 is plain."""
    cost_scale: float = 1.0
    bootstrap: str = "terminals"
    """What ends a backup in Eqs. 7-9: ``terminals`` only; ``release`` counts time-outs too, as the authors' code does."""
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
    """Eq. 10 above delta: ``signed`` moves Q_r down for either sign; ``paper`` divides by Q_c; ``none``."""
    data_cost_penalty: float = 0.0
    """Subtracts this times the data action's excess Q_c^pi from the advantage."""
    weight_clip: float = 100.0
    # unsafe objective
    unsafe_objective: str = "gradient"
    """Eq. 14: ``gradient`` through the sampler of exp(+mu2 A_c); ``printed`` with the minus sign; ``awr`` weights data
    actions; ``none``."""
    mu2: float = 5.0
    b2: float = 3.0
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
    critic_steps: int = 1000000
    policy_steps: int = 1000000
    critic_batch: int = 256
    actor_batch: int = 1024
    actor_updates: int = 2
    """Actor updates per step, each on its own batch (the base method splits 2048 in two)."""
    warmup: float = 0.0
    """Share of the policy stage in which the actor clones S1 unweighted (warm start)."""
    rate: float = 3e-4
    target_rate: float = 0.005
    ema: float = 0.001
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
        for name, known in (
            ("unsafe_objective", UNSAFE_OBJECTIVES), ("advantage", ADVANTAGES), ("penalty", PENALTIES),
            ("trust_region", TRUST_REGIONS), ("choice", CHOICES), ("bootstrap", BOOTSTRAPS),
        ):  # fmt: skip
            if getattr(self, name) not in known:
                raise ValueError(f"{name} is '{getattr(self, name)}', expected one of {', '.join(known)}")
        if not 0.0 < self.gamma < 1.0:
            raise ValueError(f"gamma is {self.gamma}, expected a number in (0, 1)")
        if not 0.5 <= self.tau < 1.0:
            raise ValueError(f"tau is {self.tau}, expected a number in [0.5, 1)")


def expectile_loss(u: torch.Tensor, tau: float) -> torch.Tensor:
    """Eq. 6: |tau - 1{u > 0}| u^2 with u = Q_c - V_c; tau > 0.5 pulls V_c towards the *least* cost."""
    return torch.abs(tau - (u > 0).float()) * u.square()


def soft_exp(x: torch.Tensor, clip: float) -> torch.Tensor:
    """exp(x), continued linearly beyond ``clip`` so that gradients stay finite."""
    top = math.exp(clip)
    return torch.where(x < clip, torch.exp(x.clamp(max=clip)), top * (1.0 + x - clip))


def constrained_reward(q_r: torch.Tensor, q_c: torch.Tensor, delta: float, penalty: str) -> torch.Tensor:
    """Eq. 10 at given values (B,): Q_r, made worse where Q_c > delta."""
    if penalty == "none":
        return q_r
    if penalty == "paper":
        return torch.where(q_c > delta, q_r / q_c.clamp_min(1e-6), q_r)
    factor = (q_c / max(delta, 1e-6)).clamp_min(1.0)
    return torch.where(q_r >= 0, q_r / factor, q_r * factor)


class Sevpo(base.State):
    """The five networks and their two-stage training."""

    stages = ("critics", "policy")
    modules = (
        "v_c", "q_c", "q_c_target", "q_r", "q_r_target", "q_pi", "q_pi_target", "baseline", "cost_baseline",
        "actor", "average", "previous",
    )  # fmt: skip
    optimizers = ("v_optimizer", "q_optimizer", "critic_optimizer", "actor_optimizer")

    def __init__(self, config: SevpoConfig, data: OfflineDataset) -> None:
        c = self.config = config
        self.device, self.n_act = data.device, data.num_actions
        hidden = list(c.critic_hidden)

        def critic() -> Critic:
            return Critic(data.num_obs, data.num_actions, hidden).to(self.device)

        self.v_c, self.q_c = Value(data.num_obs, hidden).to(self.device), critic()
        self.q_r, self.q_pi = critic(), critic()
        self.baseline = Value(data.num_obs, hidden).to(self.device)
        self.cost_baseline = Value(data.num_obs, hidden).to(self.device)
        self.q_c_target, self.q_r_target = base.frozen_copy(self.q_c), base.frozen_copy(self.q_r)
        self.q_pi_target = base.frozen_copy(self.q_pi)
        self.actor = base.make_actor(data, c.actor, c.width, c.depth, c.dropout, c.diffusion_steps, c.prediction)
        self.actor.to(self.device)
        self.average, self.previous = base.frozen_copy(self.actor), base.frozen_copy(self.actor)
        self.v_optimizer = base.adam(self.v_c.parameters(), c.rate)
        self.q_optimizer = base.adam(self.q_c.parameters(), c.rate)
        stage2 = [self.q_r, self.q_pi, self.baseline, self.cost_baseline]
        self.critic_optimizer = base.adam([p for m in stage2 for p in m.parameters()], c.rate)
        self.actor_optimizer = base.adam(self.actor.parameters(), c.rate)
        self.normalizer = base.make_normalizer(data)
        self.scale_r = torch.ones((), device=self.device)
        self.scale_c = torch.ones((), device=self.device)
        self.critics_trained = 0
        self.limit = self._threshold(c.limit, c.episode_limit)
        self.delta = self._threshold(c.delta, c.episode_delta)

    def _alive(self, batch: Batch) -> torch.Tensor:
        """1 where the backup goes on, (B,)."""
        end = batch.terminal if self.config.bootstrap == "terminals" else torch.maximum(batch.terminal, batch.timeout)
        return 1.0 - end

    def _threshold(self, value: float, per_episode: Optional[float]) -> float:
        c = self.config
        return value if per_episode is None else regions.state_limit(per_episode, c.gamma, c.horizon, c.cost_scale)

    def steps(self, stage: str) -> int:
        """See :class:`base.Algorithm`."""
        return self.config.critic_steps if stage == "critics" else self.config.policy_steps

    def state_dict(self) -> Dict[str, Any]:
        """See :class:`base.Algorithm`."""
        scales = {"scale_r": self.scale_r, "scale_c": self.scale_c, "critics_trained": self.critics_trained}
        return {**super().state_dict(), **scales}

    def load_state_dict(self, state: Dict[str, Any]) -> None:
        """See :class:`base.Algorithm`."""
        super().load_state_dict(state)
        self.scale_r, self.scale_c = state["scale_r"].to(self.device), state["scale_c"].to(self.device)
        self.critics_trained = state["critics_trained"]

    def update(self, stage: str, step: int, data: OfflineDataset, generator: torch.Generator) -> Dict[str, Any]:
        """See :class:`base.Algorithm`.

        Raises:
            RuntimeError: stage ``policy`` before stage ``critics`` was trained to its end.
        """
        if stage == "critics":
            return self.update_conservative(data.sample(self.config.critic_batch, generator))
        if self.critics_trained < self.config.critic_steps:
            raise RuntimeError(
                f"the policy stage needs trained conservative critics: found {self.critics_trained} steps of the "
                f"critics stage, expected {self.config.critic_steps}"
            )
        metrics = self.update_policy_critics(data.sample(self.config.critic_batch, generator), generator)
        base.set_rate(self.actor_optimizer, base.cosine(self.config.rate, step, self.config.policy_steps))
        for _ in range(self.config.actor_updates):
            batch = data.sample(self.config.actor_batch, generator)
            metrics.update(self.update_actor(batch, step / self.config.policy_steps, generator))
        if (step + 1) % self.config.trust_interval == 0:
            self.previous.load_state_dict(self.actor.state_dict())
        return metrics

    # ---- stage 1 -------------------------------------------------------------------------------------------

    def update_conservative(self, batch: Batch) -> Dict[str, Any]:
        """Eqs. 6 and 7 on one batch."""
        c = self.config
        with torch.no_grad():
            q = self.q_c_target(batch.obs, batch.act).amax(0)
        v = self.v_c(batch.obs)
        v_loss = expectile_loss(q - v, c.tau).mean()
        self.v_optimizer.zero_grad(set_to_none=True)
        v_loss.backward()
        self.v_optimizer.step()
        with torch.no_grad():
            target = c.cost_scale * batch.cost + c.alpha * c.gamma * self._alive(batch) * self.v_c(batch.next_obs)
        q_loss = (self.q_c(batch.obs, batch.act) - target).square().sum(0).mean()
        self.q_optimizer.zero_grad(set_to_none=True)
        q_loss.backward()
        self.q_optimizer.step()
        polyak(self.q_c_target, self.q_c, c.target_rate)
        self.critics_trained += 1
        safe, unsafe = regions.split(v.detach(), q, self.limit)
        return base.summary(
            v_loss=v_loss, q_loss=q_loss, v_c=v, v_c_max=v.max(), q_c=q, safe_share=safe, unsafe_share=unsafe
        )

    # ---- stage 2 -------------------------------------------------------------------------------------------

    def update_policy_critics(self, batch: Batch, generator: torch.Generator) -> Dict[str, Any]:
        """Eqs. 8 and 9 on one batch: a' from the averaged actor, each head on its own target, true terminals only.

        The same a' trains the baselines: V(s') -> E[objective(s', a')], which costs no further sampling.
        """
        c = self.config
        with torch.no_grad():
            noise = base.own_noise(len(batch.obs), self.average, self.n_act, generator, self.device)
            act = self.average.sample(batch.next_obs, noise)
            next_r, next_c = self.q_r_target(batch.next_obs, act), self.q_pi_target(batch.next_obs, act)
            go_on = c.gamma * self._alive(batch)
            target_r = batch.reward + go_on * next_r
            target_c = c.cost_scale * batch.cost + go_on * next_c
            mean_c = next_c.amax(0)
            objective = constrained_reward(next_r.amin(0), mean_c, self.delta, c.penalty)
        alive = 1.0 - batch.terminal
        r_loss = (self.q_r(batch.obs, batch.act) - target_r).square().sum(0).mean()
        c_loss = (self.q_pi(batch.obs, batch.act) - target_c).square().sum(0).mean()
        b_loss = (alive * (self.baseline(batch.next_obs) - objective).square()).mean()
        b_loss = b_loss + (alive * (self.cost_baseline(batch.next_obs) - mean_c).square()).mean()
        self.critic_optimizer.zero_grad(set_to_none=True)
        (r_loss + c_loss + b_loss).backward()
        self.critic_optimizer.step()
        polyak(self.q_r_target, self.q_r, c.target_rate)
        polyak(self.q_pi_target, self.q_pi, c.target_rate)
        return base.summary(
            q_r_loss=r_loss, q_pi_loss=c_loss, baseline_loss=b_loss, q_r=target_r, q_r_std=target_r.std(), q_pi=target_c
        )

    def safe_weights(self, batch: Batch, safe: torch.Tensor) -> Tuple[torch.Tensor, torch.Tensor]:
        """Eq. 13's weights (B,), zero outside S1, and the share of S1 at the clip."""
        c = self.config
        q_r, q_c = self.q_r(batch.obs, batch.act).amin(0), self.q_pi(batch.obs, batch.act).amax(0)
        value = constrained_reward(q_r, q_c, self.delta, c.penalty)
        if c.advantage == "baseline":
            value = value - self.baseline(batch.obs)
        if c.data_cost_penalty > 0:
            value = value - c.data_cost_penalty * (q_c - self.cost_baseline(batch.obs)).clamp_min(0.0)
        mask = safe.float()
        count = mask.sum().clamp_min(1.0)
        if c.normalize_advantage:
            size = ((value.square() * mask).sum() / count).sqrt()
            self.scale_r = self.scale_r.lerp(size, 0.01)
            value = value / self.scale_r.clamp_min(1e-6)
        raw = torch.exp((c.mu1 * value).clamp(max=math.log(c.weight_clip)))
        clipped = ((raw >= 0.999 * c.weight_clip).float() * mask).sum() / count
        if c.normalize_weights:
            raw = raw / ((raw * mask).sum() / count).clamp_min(1e-6)
        return raw * mask, clipped

    def update_actor(self, batch: Batch, progress: float, generator: torch.Generator) -> Dict[str, Any]:
        """Eqs. 13-16 on one batch; ``progress`` in [0, 1) is the share of the stage that is done."""
        c = self.config
        warm = progress < c.warmup
        with torch.no_grad():
            v_c, q_c = self.v_c(batch.obs), self.q_c_target(batch.obs, batch.act).amax(0)
            safe, unsafe = regions.split(v_c, q_c, self.limit)
            weight, clipped = self.safe_weights(batch, safe)
            if warm:
                weight = safe.float()
            if c.unsafe_cloning > 0:
                weight = weight + c.unsafe_cloning / max(c.b1, 1e-9) * unsafe.float()
        self.actor.train()
        loss, noise, t = base.cloning_loss(self.actor, batch.obs, batch.act, generator)
        safe_loss = (weight * loss).mean()
        unsafe_loss = torch.zeros((), device=self.device)
        if not warm and c.unsafe_objective != "none" and c.b2 > 0:
            if c.unsafe_objective == "awr":
                unsafe_loss = self._unsafe_awr(loss, unsafe, q_c - v_c)
            else:
                unsafe_loss = self._unsafe_gradient(batch.obs, v_c, unsafe, progress, generator)
        total = c.b1 * safe_loss + c.b2 * unsafe_loss
        self.actor_optimizer.zero_grad(set_to_none=True)
        total.backward()
        self.actor_optimizer.step()
        polyak(self.average, self.actor, c.ema)
        return base.summary(
            actor_loss=total, safe_loss=safe_loss, unsafe_loss=unsafe_loss, clone_loss=loss, safe_share=safe,
            unsafe_share=unsafe, clipped_share=clipped, weight_max=weight.max(), v_c=v_c,
        )  # fmt: skip

    def _unsafe_awr(self, loss: torch.Tensor, unsafe: torch.Tensor, advantage: torch.Tensor) -> torch.Tensor:
        """Weighted regression on unsafe data actions, weights exp(-mu2 A_c) (the base method's form)."""
        c, mask = self.config, unsafe.float()
        self._scale_cost(advantage, mask)
        weight = torch.exp((-c.mu2 * advantage / self.scale_c).clamp(max=math.log(c.weight_clip))) * mask
        if c.normalize_weights:
            weight = weight / (weight.sum() / mask.sum().clamp_min(1.0)).clamp_min(1e-6)
        return (weight * loss).mean()

    def _scale_cost(self, advantage: torch.Tensor, mask: torch.Tensor) -> None:
        if self.config.normalize_advantage and float(mask.sum()) > 0:
            size = ((advantage.square() * mask).sum() / mask.sum()).sqrt().detach()
            self.scale_c = self.scale_c.lerp(size, 0.01).clamp_min(1e-3)

    def _unsafe_gradient(
        self, obs: torch.Tensor, v_c: torch.Tensor, unsafe: torch.Tensor, progress: float, generator: torch.Generator
    ) -> torch.Tensor:
        """Eq. 14 with the gradient through the sampler, on (some of) the unsafe states; Eq. 15 after K_trust."""
        c = self.config
        ids = unsafe.nonzero()[: c.unsafe_samples, 0]
        if not len(ids):
            return torch.zeros((), device=self.device)
        share = unsafe.float().mean()
        obs, v_c = obs[ids], v_c[ids]
        noise = base.own_noise(len(ids), self.actor, self.n_act, generator, self.device)
        act = self.actor.sample(obs, noise)
        advantage = self.q_c(obs, act).amax(0) - v_c
        self._scale_cost(advantage.detach(), torch.ones_like(v_c))
        sign = -1.0 if c.unsafe_objective == "printed" else 1.0
        factor = soft_exp(sign * c.mu2 * advantage / self.scale_c, c.exponent_clip)
        trusted = progress >= c.trust_start and c.trust_region != "off"
        loss = torch.zeros_like(factor) if trusted and c.trust_region == "printed" else factor
        if trusted:
            loss = loss + c.trust_weight * factor.detach() * self._policy_change(obs, act.detach(), generator)
        return share * loss.mean()

    def _policy_change(self, obs: torch.Tensor, act: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        """||z_theta - z'||^2 (B,) of Eq. 15 at noised own actions."""
        noise = torch.randn(act.shape, generator=generator, device=act.device)
        t = torch.randint(self.actor.steps, (len(act),), generator=generator, device=act.device)
        noisy = self.actor.corrupt(act, noise, t)
        now = self.actor.denoiser(self.actor.denoiser.encode(obs), noisy, t.float())
        with torch.no_grad():
            before = self.previous.denoiser(self.previous.denoiser.encode(obs), noisy, t.float())
        return (now - before).square().sum(-1)

    def policy(self, choice: Optional[str] = None) -> DiffusionPolicy:
        """See :class:`base.Algorithm`: the averaged actor; candidates judged by stage 1's Q_c and by Q_r."""
        c = self.config
        return DiffusionPolicy(
            self.normalizer, self.average, c.temperature, choice or c.choice, self.q_c_target, self.q_r_target,
            self.v_c, self.limit,
        )  # fmt: skip


__all__ = ["Sevpo", "SevpoConfig", "constrained_reward", "expectile_loss", "soft_exp"]
