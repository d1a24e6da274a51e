"""Networks of the baselines that are not diffusion policies: plain, Gaussian, auto-encoders."""

from __future__ import annotations

import math
from typing import Any, List, Optional, Sequence, Tuple, Type

import torch
from torch import nn

from go2_sevpo.networks.layers import EnsembleLinear, linear

LOG_STD = (-5.0, 2.0)
"""Bounds of an actor's log standard deviation."""
LATENT_LOG_STD = (-4.0, 15.0)
"""Bounds of an encoder's log standard deviation."""


class Mlp(nn.Module):
    """Network (B, in) -> (B, out), ReLU if not told; with ``members`` K all carry K before B."""

    def __init__(
        self,
        n_in: int,
        hidden: Sequence[int],
        n_out: int,
        members: Optional[int] = None,
        activation: Type[nn.Module] = nn.ReLU,
    ) -> None:
        super().__init__()
        sizes = [n_in, *hidden]
        layers: List[nn.Module] = []  # linear, ReLU, ..., linear
        for a, b in zip(sizes[:-1], sizes[1:]):
            layers += [linear(a, b, members), activation()]
        self.net = nn.Sequential(*layers, linear(sizes[-1], n_out, members))

    def forward(self, *parts: torch.Tensor) -> torch.Tensor:
        """Apply the network to the parts (B, n_i), joined: the n_i sum to n_in."""
        return self.net(torch.cat(parts, dim=-1))


class SquashedGaussian(nn.Module):
    """a = tanh(mean(s) + std(s) e): the mean and log standard deviation from one network.

    ``log_std`` bounds the latter.
    """

    def __init__(
        self,
        n_obs: int,
        n_act: int,
        hidden: Sequence[int],
        members: Optional[int] = None,
        log_std: Tuple[float, float] = LOG_STD,
    ) -> None:
        super().__init__()
        self.log_std = log_std
        self.body = Mlp(n_obs, hidden, 2 * n_act, members)

    def parameters_of(self, obs: torch.Tensor) -> Tuple[torch.Tensor, torch.Tensor]:
        """Mean and standard deviation (B, A) before the tanh."""
        mean, log_std = self.body(obs).chunk(2, dim=-1)  # (B, 2 A) -> (B, A) each
        return mean, log_std.clamp(*self.log_std).exp()

    def sample(self, obs: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
        """Actions (B, A) from standard normal ``noise`` (B, A); gradients flow."""
        mean, std = self.parameters_of(obs)
        return torch.tanh(mean + std * noise)

    def log_prob(self, obs: torch.Tensor, act: torch.Tensor) -> torch.Tensor:
        """Log-likelihood (B,) of actions (B, A) in [-1, 1] *after* the tanh.

        Actions at the bounds count as just inside.
        """
        mean, std = self.parameters_of(obs)
        # atanh is infinite at the bounds.
        a = act.clamp(-1 + 1e-4, 1 - 1e-4)
        x = torch.atanh(a)
        # Log-density of x under N(mean, std^2), per dimension.
        normal = -0.5 * ((x - mean) / std).square() - std.log() - 0.5 * math.log(2 * math.pi)
        # Change of variables: da/dx = 1 - tanh(x)^2 = 1 - a^2.
        return (normal - torch.log(1 - a.square())).sum(-1)


class Vae(nn.Module):
    """Conditional variational auto-encoder of actions: encoder (s, a) -> z, decoder (s, z) -> a."""

    def __init__(self, n_obs: int, n_act: int, hidden: int, members: Optional[int] = None) -> None:
        super().__init__()
        self.latent = 2 * n_act
        self.encoder = Mlp(n_obs + n_act, (hidden, hidden), 2 * self.latent, members)
        self.decoder = Mlp(n_obs + self.latent, (hidden, hidden), n_act, members)

    def encode(self, obs: torch.Tensor, act: torch.Tensor) -> Tuple[torch.Tensor, torch.Tensor]:
        """Mean and standard deviation (B, Z) of the latent."""
        mean, log_std = self.encoder(obs, act).chunk(2, dim=-1)
        return mean, log_std.clamp(*LATENT_LOG_STD).exp()

    def divergence(self, obs: torch.Tensor, act: torch.Tensor) -> torch.Tensor:
        """KL (B,) of the latent from the standard normal: large where the pair is unlike data."""
        mean, std = self.encode(obs, act)
        # KL(N(m, s^2) || N(0, 1)) = (m^2 + s^2 - log s^2 - 1) / 2, summed over dimensions.
        return 0.5 * (mean.square() + std.square() - 2 * std.log() - 1).sum(-1)

    def loss(
        self, obs: torch.Tensor, act: torch.Tensor, noise: torch.Tensor, beta: float
    ) -> torch.Tensor:
        """Squared reconstruction error plus ``beta`` times the divergence, (B,).

        Args:
            obs: (B, S) normalised observations.
            act: (B, A) actions in [-1, 1].
            noise: (B, Z), standard normal.
            beta: weight of the divergence.
        """
        mean, std = self.encode(obs, act)
        # The latent is drawn as mean + std z, so that gradients reach the encoder.
        decoded = torch.tanh(self.decoder(obs, mean + std * noise))  # (B, A)
        return (decoded - act).square().sum(-1) + beta * self.divergence(obs, act)


class PairVae(nn.Module):
    """Conditional variational auto-encoder of pairs.

    Encoder (s, a, condition) -> z, decoder (z, condition) -> (s, a).
    """

    def __init__(
        self,
        n_obs: int,
        n_act: int,
        n_condition: int,
        latent: int,
        hidden: int,
        members: Optional[int] = None,
    ) -> None:
        super().__init__()
        self.latent, self.n_obs = latent, n_obs
        self.encoder = Mlp(n_obs + n_act + n_condition, (hidden, hidden), 2 * latent, members)
        self.decoder = Mlp(latent + n_condition, (hidden, hidden), n_obs + n_act, members)

    def decode(self, z: torch.Tensor, condition: torch.Tensor) -> Tuple[torch.Tensor, torch.Tensor]:
        """Observations (B, S), normalised, and actions (B, A) in [-1, 1] of latents (B, Z)."""
        out = self.decoder(z, condition)  # (B, S + A)
        return out[..., : self.n_obs], torch.tanh(out[..., self.n_obs :])

    def loss(
        self,
        obs: torch.Tensor,
        act: torch.Tensor,
        condition: torch.Tensor,
        noise: torch.Tensor,
        beta: float,
    ) -> torch.Tensor:
        """Squared reconstruction error plus ``beta`` times the latent's KL from N(0, 1), (B,).

        Args:
            obs: (B, S) normalised observations.
            act: (B, A) actions in [-1, 1].
            condition: (B, C), seen by encoder and decoder.
            noise: (B, Z), standard normal.
            beta: weight of the divergence.
        """
        mean, log_std = self.encoder(obs, act, condition).chunk(2, dim=-1)
        std = log_std.clamp(*LATENT_LOG_STD).exp()
        found_obs, found_act = self.decode(mean + std * noise, condition)  # (B, S), (B, A)
        error = (found_obs - obs).square().sum(-1) + (found_act - act).square().sum(-1)
        # The KL of :meth:`Vae.divergence`.
        return error + beta * 0.5 * (mean.square() + std.square() - 2 * std.log() - 1).sum(-1)


def copy_mean(layers: Sequence[nn.Linear], mlp: nn.Module) -> None:
    """Copy an actor's :func:`policy_layers` into a deployable network.

    Of the last layer only the first half is taken: the mean, without the log standard deviation.
    """
    targets = [m for m in mlp.modules() if isinstance(m, nn.Linear)]
    for target, source in zip(targets, layers):
        rows = target.out_features  # A in the last layer, where the actor has 2 A
        target.weight.data.copy_(source.weight.data[:rows])
        target.bias.data.copy_(source.bias.data[:rows])


def policy_layers(module: Mlp) -> List[Any]:
    """The linear layers of an :class:`Mlp` in order.

    ``nn.Linear`` each; with members :class:`EnsembleLinear`, which :func:`copy_mean` does not take.
    """
    return [m for m in module.net if isinstance(m, (nn.Linear, EnsembleLinear))]
