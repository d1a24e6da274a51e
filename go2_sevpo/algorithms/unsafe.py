"""The unsafe objective of SEVPO's actor (Eqs. 12, 14) and its trust region (Eq. 15).

In the forms docs/algorithm.md compares.
"""

from __future__ import annotations

import math

import torch

from go2_sevpo.algorithms import base
from go2_sevpo.algorithms.conservative import ConservativeCritics
from go2_sevpo.algorithms.sevpo_config import UNSAFE_OBJECTIVES, SevpoConfig
from go2_sevpo.data.dataset import Batch
from go2_sevpo.networks.diffusion import Diffusion


def soft_exp(x: torch.Tensor, clip: float) -> torch.Tensor:
    """exp(x), elementwise, continued linearly beyond ``clip`` so that gradients stay finite."""
    top = math.exp(clip)
    # The clamp keeps exp() finite where its branch is not taken: a gradient inf * 0 would be nan.
    return torch.where(x < clip, torch.exp(x.clamp(max=clip)), top * (1.0 + x - clip))


class UnsafeObjective(ConservativeCritics):
    """What the actor learns in S2; a subclass makes the attributes.

    Attributes:
        actor: z_theta.
        previous: z' of Eq. 15.
        fixed_shapes: sample as many actions whatever the number of unsafe states.
        scale_c: running root mean square of A_c in S2, () or (members,).
    """

    config: SevpoConfig
    actor: Diffusion
    previous: Diffusion
    fixed_shapes: bool
    scale_c: torch.Tensor

    def unsafe_awr(
        self, loss: torch.Tensor, unsafe: torch.Tensor, advantage: torch.Tensor
    ) -> torch.Tensor:
        """Weighted regression on unsafe data actions (the base method's form), () or (members,).

        Args:
            loss: (B,) diffusion loss.
            unsafe: (B,) mask of S2.
            advantage: (B,) A_c; the weights are exp(-mu2 A_c).
        """
        c, mask = self.config, unsafe.float()
        self._scale_cost(advantage, mask)
        exponent = -c.mu2 * advantage / self.scale_c[..., None]
        weight = torch.exp(exponent.clamp(max=math.log(c.weight_clip))) * mask
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
        """Eq. 14 on (some of) a batch's unsafe states, with Eq. 15 after K_trust.

        Per member, times their share of the batch: () or (members,). ``v_c`` (B,) and the mask
        ``unsafe`` (B,) are the batch's, ``progress`` in [0, 1) is the share of the stage done.

        ``gradient``: exp(+mu2 A_c) of own actions, with the gradient through the sampler.
        ``printed``: with the letter's sign. ``search``: Eq. 12's solution exp(-mu2 A_c) among
        uniform actions and the data's is imitated; a gradient stays where the actor is when Q_c has
        several valleys.
        """
        c = self.config
        count = min(unsafe.shape[-1], c.unsafe_samples)
        if not self.fixed_shapes:
            # Fewer unsafe states need fewer samples; but to ask how many, the host has to wait for
            # the device.
            count = min(int(unsafe.sum(-1).max()), count)
        if not count:
            return torch.zeros(unsafe.shape[:-1], device=self.device)
        # The first unsafe states of each member; members with fewer fill up with others, which the
        # mask leaves out.
        ids = torch.sort(unsafe.int(), dim=-1, descending=True, stable=True).indices[..., :count]
        mask, v_c = unsafe.gather(-1, ids).float(), v_c.gather(-1, ids)  # (n,)
        # (n, S)
        obs = batch.obs.gather(-2, ids[..., None].expand(*ids.shape, batch.obs.shape[-1]))
        if c.unsafe_objective == "search":
            data = batch.act.gather(-2, ids[..., None].expand(*ids.shape, self.n_act))
            act = self._found_actions(obs, data, v_c, mask, generator)
            # Imitated like Eq. 13's, unweighted: the draw has done the weighting.
            loss, _, _ = base.cloning_loss(self.actor, obs, act, generator)
            factor = torch.ones_like(loss)
        else:
            noise = base.own_noise(obs, self.actor, self.n_act, generator)  # (n, T, A)
            with base.evaluating(self.actor):
                # What acts has no dropout; saturated actions have a gradient, too.
                act = self.actor.sample(obs, noise, inward=True)
            # A_c(s, a_theta), with a gradient to the actor; only its size is taken without one.
            advantage = self.q_c(obs, act).amax(0) - v_c
            self._scale_cost(advantage.detach(), mask)
            sign = -1.0 if c.unsafe_objective == "printed" else 1.0
            loss = soft_exp(sign * c.mu2 * advantage / self.scale_c[..., None], c.exponent_clip)
            factor = loss.detach()
        if progress >= c.trust_start and c.trust_region != "off":
            # Eq. 15: exp(.) ||z_theta - z'||^2, with exp(.) as a weight.
            change = self._policy_change(obs, act.detach(), generator)
            loss = torch.zeros_like(loss) if c.trust_region == "printed" else loss
            loss = loss + c.trust_weight * factor * change
        # The mean over unsafe states times their share is a mean over the whole batch.
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
        """An action (..., n, A) for each state, drawn from its own and uniform ones.

        Their probabilities are proportional to exp(-mu2 A_c): Eq. 12's solution among them, softly.

        Args:
            obs: (..., n, S).
            data: (..., n, A) the data's actions there.
            v_c: (..., n).
            mask: (..., n), 1 where the state is unsafe.
            generator: for the actions and the draw.
        """
        c = self.config
        shape = (*obs.shape[:-1], c.unsafe_candidates, self.n_act)
        act = 2.0 * torch.rand(shape, generator=generator, device=obs.device) - 1.0
        act = torch.cat([data[..., None, :], act], dim=-2)  # (..., n, 1 + candidates, A)
        seen = obs[..., None, :].expand(*act.shape[:-1], obs.shape[-1])
        # Critics take one axis of pairs: (..., n (1 + candidates)).
        q_c = self.q_c_target(seen.flatten(-3, -2), act.flatten(-3, -2)).amax(0)
        q_c = q_c.reshape(act.shape[:-1])
        advantage = q_c - v_c[..., None]
        self._scale_cost(advantage.flatten(-2), mask[..., None].expand_as(advantage).flatten(-2))
        # The greatest of logits with Gumbel noise is a draw from their softmax; the clamp keeps
        # both logarithms finite.
        share = torch.rand(q_c.shape, generator=generator, device=obs.device)
        share = share.clamp(1e-9, 1.0 - 1e-7)
        logit = -c.mu2 * advantage / self.scale_c[..., None, None] - torch.log(-torch.log(share))
        best = logit.argmax(-1)[..., None, None]
        return act.gather(-2, best.expand(*best.shape[:-1], self.n_act)).squeeze(-2)

    def _scale_cost(self, advantage: torch.Tensor, mask: torch.Tensor) -> None:
        """Follow the root mean square of A_c in S2, which mu2 is in units of."""
        if self.config.normalize_advantage:
            size = base.mean_over(advantage.square(), mask).sqrt().detach()
            moved = self.scale_c.lerp(size, 0.01).clamp_min(1e-3)
            # In place, as graphs hold the tensor; a batch without unsafe states says nothing.
            self.scale_c.copy_(torch.where(mask.sum(-1) > 0, moved, self.scale_c))

    def _policy_change(
        self, obs: torch.Tensor, act: torch.Tensor, generator: torch.Generator
    ) -> torch.Tensor:
        """||z_theta - z'||^2 (B,) of Eq. 15 at noised ``act`` (B, A), both at the same noise."""
        noise = torch.randn(act.shape, generator=generator, device=act.device)
        t = torch.randint(self.actor.steps, act.shape[:-1], generator=generator, device=act.device)
        noisy = self.actor.corrupt(act, noise, t)
        # Neither has dropout, or the same weights would seem to have changed.
        with base.evaluating(self.actor):
            now = self.actor.predict(obs, noisy, t)
        with torch.no_grad():
            before = self.previous.predict(obs, noisy, t)
        return (now - before).square().sum(-1)


__all__ = ["UNSAFE_OBJECTIVES", "UnsafeObjective", "soft_exp"]
