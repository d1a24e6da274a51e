"""Denoising diffusion over actions: schedule, training loss, sampler with the noise as an input."""

from __future__ import annotations

from typing import Optional

import torch
from torch import nn

from go2_sevpo.networks.layers import Denoiser

PREDICTIONS = ("noise", "clean")


def vp_betas(steps: int, low: float = 0.1, high: float = 10.0) -> torch.Tensor:
    """Variance-preserving schedule (T,): beta_t = 1 - exp(-b_min / T - (b_max - b_min)(2 t - 1) /
    (2 T^2)).
    """
    t = torch.arange(1, steps + 1, dtype=torch.float64)
    beta = 1.0 - torch.exp(-low / steps - 0.5 * (high - low) * (2 * t - 1) / steps**2)
    return beta.float()


class Diffusion(nn.Module):
    """A DDPM over actions in [-1, 1] with ``steps`` steps around a :class:`Denoiser`.

    ``prediction`` ``noise``: the network predicts the noise (paper); ``clean``: the clean action.
    """

    def __init__(self, denoiser: Denoiser, steps: int = 5, prediction: str = "noise") -> None:
        super().__init__()
        if prediction not in PREDICTIONS:
            raise ValueError(
                f"unknown prediction '{prediction}', expected one of {', '.join(PREDICTIONS)}"
            )
        self.denoiser, self.steps, self.prediction = denoiser, steps, prediction
        beta = vp_betas(steps)
        alpha = 1.0 - beta
        bar = torch.cumprod(alpha, 0)
        before = torch.cat([torch.ones(1), bar[:-1]])
        self.register_buffer("alpha", alpha)
        self.register_buffer("beta", beta)
        self.register_buffer("alpha_bar", bar)
        self.register_buffer("posterior_clean", beta * before.sqrt() / (1 - bar))
        self.register_buffer("posterior_noisy", alpha.sqrt() * (1 - before) / (1 - bar))
        self.register_buffer("posterior_std", (beta * (1 - before) / (1 - bar)).sqrt())

    def loss(
        self, obs: torch.Tensor, act: torch.Tensor, noise: torch.Tensor, t: torch.Tensor
    ) -> torch.Tensor:
        """Squared prediction error (B,), summed over action dimensions, at steps ``t`` (B,) in
        0..T-1.
        """
        predicted = self.predict(obs, self.corrupt(act, noise, t), t)
        return (predicted - (noise if self.prediction == "noise" else act)).square().sum(-1)

    def predict(self, obs: torch.Tensor, noisy: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        """The network's prediction (B, A) at noisy actions (B, A) of steps ``t`` (B,)."""
        table = self.denoiser.steps(self.steps)
        rows = (
            table[t]
            if t.dim() == 1
            else table.gather(1, t[..., None].expand(-1, -1, table.shape[-1]))
        )
        return self.denoiser(self.denoiser.encode(obs), noisy, rows)

    def corrupt(self, act: torch.Tensor, noise: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        """Forward process: sqrt(abar_t) a + sqrt(1 - abar_t) z."""
        bar = self.alpha_bar[t][..., None]
        return bar.sqrt() * act + (1 - bar).sqrt() * noise

    def sample(
        self,
        obs: torch.Tensor,
        noise: torch.Tensor,
        temperature: float = 1.0,
        context: Optional[torch.Tensor] = None,
    ) -> torch.Tensor:
        """Sample actions (B, A) from ``noise`` (B, T, A): the start, then one for each step but the
        last.

        With members, all carry K before B.

        ``temperature`` scales all noise; actions are clipped to [-1, 1] at each step. Gradients
        flow if enabled.
        """
        if context is None:
            context = self.denoiser.encode(obs)
        table = self.denoiser.steps(self.steps)
        x = noise[..., 0, :] * temperature
        for k in range(self.steps):
            t = self.steps - 1 - k
            predicted = self.denoiser(context, x, table[..., t : t + 1, :])
            if self.prediction == "noise":
                x = (x - self.beta[t] / (1 - self.alpha_bar[t]).sqrt() * predicted) / self.alpha[
                    t
                ].sqrt()
                spread = self.beta[t].sqrt()
            else:
                x = (
                    self.posterior_clean[t] * predicted.clamp(-1.0, 1.0)
                    + self.posterior_noisy[t] * x
                )
                spread = self.posterior_std[t]
            if t > 0:
                x = x + spread * temperature * noise[..., k + 1, :]
            # The noise form clips every step (as the paper's base does); a clean prediction is
            # clipped already, and cutting its noisy intermediate steps would bias actions near the
            # bounds.
            if self.prediction == "noise" or t == 0:
                x = x.clamp(-1.0, 1.0)
        return x
