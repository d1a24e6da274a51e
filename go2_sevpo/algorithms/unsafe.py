"""The unsafe objective of SEVPO's actor (Eqs. 12, 14) and its trust region (Eq. 15), in the forms
docs/algorithm.md compares.
"""

from __future__ import annotations

import math

import torch

from go2_sevpo.algorithms import base
from go2_sevpo.algorithms.conservative import ConservativeCritics
from go2_sevpo.data.dataset import Batch

UNSAFE_OBJECTIVES = ("gradient", "search", "awr", "none", "printed")


def soft_exp(x: torch.Tensor, clip: float) -> torch.Tensor:
    """exp(x), continued linearly beyond ``clip`` so that gradients stay finite."""
    top = math.exp(clip)
    return torch.where(x < clip, torch.exp(x.clamp(max=clip)), top * (1.0 + x - clip))


class UnsafeObjective(ConservativeCritics):
    """What the actor learns in S2; a subclass has the networks ``actor`` and ``previous``, and
    ``scale_c``.
    """

    fixed_shapes: bool
    scale_c: torch.Tensor

    def unsafe_awr(
        self, loss: torch.Tensor, unsafe: torch.Tensor, advantage: torch.Tensor
    ) -> torch.Tensor:
        """Weighted regression on unsafe data actions (B,), weights exp(-mu2 A_c) (the base method's
        form).
        """
        c, mask = self.config, unsafe.float()
        self._scale_cost(advantage, mask)
        weight = (
            torch.exp(
                (-c.mu2 * advantage / self.scale_c[..., None]).clamp(max=math.log(c.weight_clip))
            )
            * mask
        )
        if c.normalize_weights:
            weight = weight / base.mean_over(weight, mask).clamp_min(1e-6)[..., None]
        return (weight * loss).mean(-1)

    def unsafe_sampled(
        self,
        batch: Batch,
        v_c: torch.Tensor,
        unsafe: torch.Tensor,
        progress: float,
        generator: torch.Generator,
    ) -> torch.Tensor:
        """Eq. 14 on (some of) a batch's unsafe states, with Eq. 15 after K_trust; per member, times
        their share of the batch.

        ``gradient``: exp(+mu2 A_c) of own actions, with the gradient through the sampler.
        ``printed``: with the letter's sign. ``search``: Eq. 12's solution exp(-mu2 A_c) among
        uniform actions and the data's is imitated; a gradient stays where the actor is when Q_c has
        several valleys.
        """
        c = self.config
        count = min(unsafe.shape[-1], c.unsafe_samples)
        if not self.fixed_shapes:
            # Fewer unsafe states need fewer samples; but asking how many makes the host wait for
            # the device.
            count = min(int(unsafe.sum(-1).max()), count)
        if not count:
            return torch.zeros(unsafe.shape[:-1], device=self.device)
        # The first unsafe states of each member; members with fewer fill up with others, which the
        # mask leaves out.
        ids = torch.sort(unsafe.int(), dim=-1, descending=True, stable=True).indices[..., :count]
        mask, v_c = unsafe.gather(-1, ids).float(), v_c.gather(-1, ids)
        obs = batch.obs.gather(-2, ids[..., None].expand(*ids.shape, batch.obs.shape[-1]))
        if c.unsafe_objective == "search":
            data = batch.act.gather(-2, ids[..., None].expand(*ids.shape, self.n_act))
            act = self._found_actions(obs, data, v_c, mask, generator)
            loss, _, _ = base.cloning_loss(self.actor, obs, act, generator)
            factor = torch.ones_like(loss)
        else:
            noise = base.own_noise(obs, self.actor, self.n_act, generator)
            act = self.actor.sample(obs, noise)
            advantage = self.q_c(obs, act).amax(0) - v_c
            self._scale_cost(advantage.detach(), mask)
            sign = -1.0 if c.unsafe_objective == "printed" else 1.0
            loss = soft_exp(sign * c.mu2 * advantage / self.scale_c[..., None], c.exponent_clip)
            factor = loss.detach()
        if progress >= c.trust_start and c.trust_region != "off":
            loss = torch.zeros_like(loss) if c.trust_region == "printed" else loss
            loss = loss + c.trust_weight * factor * self._policy_change(
                obs, act.detach(), generator
            )
        return unsafe.float().mean(-1) * base.mean_over(loss, mask)

    @torch.no_grad()
    def _found_actions(
        self,
        obs: torch.Tensor,
        data: torch.Tensor,
        v_c: torch.Tensor,
        mask: torch.Tensor,
        generator: torch.Generator,
    ) -> torch.Tensor:
        """An action (..., n, A) for each state, drawn with probability proportional to exp(-mu2
        A_c) from its own and uniform ones.
        """
        c = self.config
        shape = (*obs.shape[:-1], c.unsafe_candidates, self.n_act)
        act = 2.0 * torch.rand(shape, generator=generator, device=obs.device) - 1.0
        act = torch.cat([data[..., None, :], act], dim=-2)
        seen = obs[..., None, :].expand(*act.shape[:-1], obs.shape[-1])
        q_c = (
            self.q_c_target(seen.flatten(-3, -2), act.flatten(-3, -2))
            .amax(0)
            .reshape(act.shape[:-1])
        )
        advantage = q_c - v_c[..., None]
        self._scale_cost(advantage.flatten(-2), mask[..., None].expand_as(advantage).flatten(-2))
        # The greatest of logits with Gumbel noise is a draw from their softmax.
        share = torch.rand(q_c.shape, generator=generator, device=obs.device).clamp(
            1e-9, 1.0 - 1e-7
        )
        logit = -c.mu2 * advantage / self.scale_c[..., None, None] - torch.log(-torch.log(share))
        best = logit.argmax(-1)[..., None, None]
        return act.gather(-2, best.expand(*best.shape[:-1], self.n_act)).squeeze(-2)

    def _scale_cost(self, advantage: torch.Tensor, mask: torch.Tensor) -> None:
        """Follow the root mean square of A_c in S2, which mu2 is in units of."""
        if self.config.normalize_advantage:
            size = base.mean_over(advantage.square(), mask).sqrt().detach()
            moved = self.scale_c.lerp(size, 0.01).clamp_min(1e-3)
            self.scale_c.copy_(torch.where(mask.sum(-1) > 0, moved, self.scale_c))

    def _policy_change(
        self, obs: torch.Tensor, act: torch.Tensor, generator: torch.Generator
    ) -> torch.Tensor:
        """||z_theta - z'||^2 (B,) of Eq. 15 at noised ``act`` (B, A)."""
        noise = torch.randn(act.shape, generator=generator, device=act.device)
        t = torch.randint(self.actor.steps, act.shape[:-1], generator=generator, device=act.device)
        noisy = self.actor.corrupt(act, noise, t)
        now = self.actor.predict(obs, noisy, t)
        with torch.no_grad():
            before = self.previous.predict(obs, noisy, t)
        return (now - before).square().sum(-1)


__all__ = ["UNSAFE_OBJECTIVES", "UnsafeObjective", "soft_exp"]
