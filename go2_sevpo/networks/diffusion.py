"""Denoising diffusion over actions: schedule, training loss, sampler with the noise as an input."""

from __future__ import annotations

from typing import Any, Optional

import torch
from torch import nn

from go2_sevpo.networks.layers import Denoiser

PREDICTIONS = ("noise", "clean")


def vp_betas(steps: int, low: float = 0.1, high: float = 10.0) -> torch.Tensor:
    """Variance-preserving schedule (T,) of noise variances, for steps t = 1..T.

    beta_t = 1 - exp(-b_min / T - (b_max - b_min)(2 t - 1) / (2 T^2)).
    """
    t = torch.arange(1, steps + 1, dtype=torch.float64)
    beta = 1.0 - torch.exp(-low / steps - 0.5 * (high - low) * (2 * t - 1) / steps**2)
    return beta.float()


class InwardClamp(torch.autograd.Function):
    """Clamp to [-1, 1] whose gradient passes where a descent step leads back inside.

    A plain clamp has no gradient beyond its bounds: what is saturated could never be unlearned.
    Where the step would lead further outside nothing is gained, and the gradient stays zero.
    """

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
        """The clamped values, of any shape."""
        ctx.save_for_backward(x)
        return x.clamp(-1.0, 1.0)

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> torch.Tensor:
        """The gradient, zero where x - gradient is further outside than x."""
        (x,) = ctx.saved_tensors
        outward = ((x >= 1.0) & (gradient < 0.0)) | ((x <= -1.0) & (gradient > 0.0))
        return gradient.masked_fill(outward, 0.0)


class Diffusion(nn.Module):
    """A DDPM over actions in [-1, 1] with ``steps`` steps around a :class:`Denoiser`.

    ``prediction`` ``noise``: the network predicts the noise (paper); ``clean``: the clean action.
    Steps are numbered from 0 (nearly clean) to T - 1 (nearly noise).
    """

    # The schedule, (T,) each.
    alpha: torch.Tensor
    beta: torch.Tensor
    alpha_bar: torch.Tensor
    posterior_clean: torch.Tensor
    posterior_noisy: torch.Tensor
    posterior_std: torch.Tensor

    def __init__(self, denoiser: Denoiser, steps: int = 5, prediction: str = "noise") -> None:
        super().__init__()
        if prediction not in PREDICTIONS:
            raise ValueError(
                f"unknown prediction '{prediction}', expected one of {', '.join(PREDICTIONS)}"
            )
        self.denoiser, self.steps, self.prediction = denoiser, steps, prediction
        beta = vp_betas(steps)
        alpha = 1.0 - beta
        # abar_t, the product of alpha up to t, and abar_{t-1}; nothing is noised before the first.
        bar = torch.cumprod(alpha, 0)
        before = torch.cat([torch.ones(1), bar[:-1]])
        self.register_buffer("alpha", alpha)
        self.register_buffer("beta", beta)
        self.register_buffer("alpha_bar", bar)
        # q(a_{t-1} | a_t, a_0): its mean is a weighted sum of the clean and the noisy action.
        self.register_buffer("posterior_clean", beta * before.sqrt() / (1 - bar))
        self.register_buffer("posterior_noisy", alpha.sqrt() * (1 - before) / (1 - bar))
        self.register_buffer("posterior_std", (beta * (1 - before) / (1 - bar)).sqrt())

    def loss(
        self, obs: torch.Tensor, act: torch.Tensor, noise: torch.Tensor, t: torch.Tensor
    ) -> torch.Tensor:
        """Squared prediction error (B,), summed over action dimensions.

        Args:
            obs: (B, S) normalised observations.
            act: (B, A) clean actions.
            noise: (B, A), standard normal.
            t: (B,) steps in 0..T-1.
        """
        predicted = self.predict(obs, self.corrupt(act, noise, t), t)
        wanted = noise if self.prediction == "noise" else act
        return (predicted - wanted).square().sum(-1)

    def predict(self, obs: torch.Tensor, noisy: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        """The network's prediction (B, A) at noisy actions (B, A) of steps ``t`` (B,)."""
        table = self.denoiser.steps(self.steps)  # (T, width), or (K, T, width) with members
        if t.dim() == 1:
            rows = table[t]
        else:
            # Each member looks its steps (K, B) up in a table of its own.
            rows = table.gather(1, t[..., None].expand(-1, -1, table.shape[-1]))
        return self.denoiser(self.denoiser.encode(obs), noisy, rows)

    def corrupt(self, act: torch.Tensor, noise: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        """Forward process (B, A): sqrt(abar_t) a + sqrt(1 - abar_t) z."""
        bar = self.alpha_bar[t][..., None]  # (B, 1)
        return bar.sqrt() * act + (1 - bar).sqrt() * noise

    def sample(
        self,
        obs: torch.Tensor,
        noise: torch.Tensor,
        temperature: float = 1.0,
        context: Optional[torch.Tensor] = None,
        inward: bool = False,
    ) -> torch.Tensor:
        """Sample actions (B, A) in [-1, 1]; with members, all shapes carry K before B.

        Gradients flow if enabled.

        Args:
            obs: (B, S) normalised observations.
            noise: (B, T, A): the start, then one for each step but the last.
            temperature: scales all noise.
            context: (B, width) of :meth:`Denoiser.encode`, computed here if not given.
            inward: gradients also reach saturated actions (:class:`InwardClamp`); the actions are
                the same.
        """
        if context is None:
            context = self.denoiser.encode(obs)
        table = self.denoiser.steps(self.steps)
        x = noise[..., 0, :] * temperature  # (B, A)
        for k in range(self.steps):
            t = self.steps - 1 - k
            # One row of the table serves the whole batch.
            predicted = self.denoiser(context, x, table[..., t : t + 1, :])
            if self.prediction == "noise":
                # mean = (a_t - beta_t / sqrt(1 - abar_t) z) / sqrt(alpha_t)
                rest = x - self.beta[t] / (1 - self.alpha_bar[t]).sqrt() * predicted
                x = rest / self.alpha[t].sqrt()
                spread = self.beta[t].sqrt()
            else:
                clean = self.posterior_clean[t] * _clamp(predicted, inward)
                x = clean + self.posterior_noisy[t] * x
                spread = self.posterior_std[t]
            if t > 0:
                x = x + spread * temperature * noise[..., k + 1, :]
            # The noise form clips every step (as the paper's base does); a clean prediction is
            # clipped already, and cutting its noisy intermediate steps would bias actions near the
            # bounds.
            if self.prediction == "noise" or t == 0:
                x = _clamp(x, inward)
        return x

    def residual(self, obs: torch.Tensor, act: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
        """What the last sampling step leaves out of clean actions ``act`` (B, A), (B, A).

        a - E[a | a_1, s], with a_1 the action after the first step of noise. A sampler ends with
        that mean, so the spread of the data's actions around it is lost.

        Args:
            obs: (B, S) normalised observations.
            act: (B, A) clean actions.
            noise: (B, A), standard normal.
        """
        t = torch.zeros(act.shape[:-1], dtype=torch.long, device=act.device)
        noisy = self.corrupt(act, noise, t)
        predicted = self.predict(obs, noisy, t)
        if self.prediction == "noise":
            # a = (a_1 - sqrt(1 - abar_1) z) / sqrt(abar_1)
            bar = self.alpha_bar[0]
            predicted = (noisy - (1 - bar).sqrt() * predicted) / bar.sqrt()
        return act - predicted.clamp(-1.0, 1.0)


def _clamp(x: torch.Tensor, inward: bool) -> torch.Tensor:
    if not inward:
        return x.clamp(-1.0, 1.0)
    clamped: torch.Tensor = InwardClamp.apply(x)
    return clamped
