"""Networks: critics with several heads, denoisers for the diffusion actor.

Shapes: B batch, S observation size, A action size, H heads.
"""

from __future__ import annotations

import math
from typing import List, Sequence, Tuple

import torch
from torch import nn


class EnsembleLinear(nn.Module):
    """H linear layers applied at once: (H, B, in) -> (H, B, out)."""

    def __init__(self, heads: int, n_in: int, n_out: int) -> None:
        super().__init__()
        bound = 1.0 / math.sqrt(n_in)
        self.weight = nn.Parameter(torch.empty(heads, n_in, n_out).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.empty(heads, 1, n_out).uniform_(-bound, bound))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Apply the layers."""
        return torch.baddbmm(self.bias, x, self.weight)


class Critic(nn.Module):
    """Q(s, a) with ``heads`` independent ReLU networks (paper: 2 heads, 2 x 256)."""

    def __init__(self, n_obs: int, n_act: int, hidden: Sequence[int] = (256, 256), heads: int = 2) -> None:
        super().__init__()
        self.heads = heads
        sizes = [n_obs + n_act, *hidden, 1]
        self.layers = nn.ModuleList([EnsembleLinear(heads, a, b) for a, b in zip(sizes[:-1], sizes[1:])])

    def forward(self, obs: torch.Tensor, act: torch.Tensor) -> torch.Tensor:
        """Return values (H, B) of observations (B, S) and actions (B, A)."""
        x = torch.cat([obs, act], dim=-1).unsqueeze(0).expand(self.heads, -1, -1)
        for layer in self.layers[:-1]:
            x = torch.relu(layer(x))
        return self.layers[-1](x).squeeze(-1)


class Value(nn.Module):
    """V(s), one ReLU network."""

    def __init__(self, n_obs: int, hidden: Sequence[int] = (256, 256)) -> None:
        super().__init__()
        sizes = [n_obs, *hidden]
        layers: List[nn.Module] = []
        for a, b in zip(sizes[:-1], sizes[1:]):
            layers += [nn.Linear(a, b), nn.ReLU()]
        self.net = nn.Sequential(*layers, nn.Linear(sizes[-1], 1))

    def forward(self, obs: torch.Tensor) -> torch.Tensor:
        """Return values (B,) of observations (B, S)."""
        return self.net(obs).squeeze(-1)


class TimeFeatures(nn.Module):
    """Learnable Fourier features of the diffusion step, then a two-layer mish network (64 -> 128 -> 128)."""

    def __init__(self, size: int = 64, out: int = 128) -> None:
        super().__init__()
        self.frequency = nn.Parameter(torch.randn(size // 2) * 0.2)
        self.net = nn.Sequential(nn.Linear(size, out), nn.Mish(), nn.Linear(out, out))

    def forward(self, t: torch.Tensor) -> torch.Tensor:
        """Features (B, out) of steps ``t`` (B,), float."""
        angle = 2.0 * math.pi * t[:, None] * self.frequency
        return self.net(torch.cat([torch.cos(angle), torch.sin(angle)], dim=-1))


class _Block(nn.Module):
    """LayerNorm residual block with a four times wider middle and dropout."""

    def __init__(self, width: int, dropout: float) -> None:
        super().__init__()
        self.drop, self.norm = nn.Dropout(dropout), nn.LayerNorm(width)
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.down(nn.functional.mish(self.up(self.norm(self.drop(x)))))


class Denoiser(nn.Module):
    """Predicts noise or the clean action from (observation, noisy action, step).

    The first layer acts on the concatenation of the three; it is kept in parts so that the observation's share, the
    largest, is computed once (:meth:`encode`) and reused over diffusion steps and candidates: the same numbers for
    a fraction of the work. ``kind`` ``resnet``: LayerNorm residual blocks of the paper; ``mlp``: plain mish layers.
    """

    def __init__(
        self, n_obs: int, n_act: int, kind: str = "resnet", width: int = 256, depth: int = 3, dropout: float = 0.1
    ) -> None:
        super().__init__()
        if kind not in ("resnet", "mlp"):
            raise ValueError(f"unknown denoiser '{kind}', expected resnet or mlp")
        self.kind, self.depth = kind, depth
        self.time = TimeFeatures()
        self.from_obs = nn.Linear(n_obs, width)
        self.from_act = nn.Linear(n_act, width, bias=False)
        self.from_time = nn.Linear(128, width, bias=False)
        if kind == "resnet":
            self.blocks = nn.ModuleList([_Block(width, dropout) for _ in range(depth)])
        else:
            self.blocks = nn.ModuleList([nn.Linear(width, width) for _ in range(depth - 1)])
        self.out = nn.Linear(width, n_act)

    def encode(self, obs: torch.Tensor) -> torch.Tensor:
        """The observation's share of the first layer, (B, width)."""
        return self.from_obs(obs)

    def forward(self, context: torch.Tensor, act: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        """Prediction (B, A) from :meth:`encode`'s context (B, width), noisy actions (B, A) and steps (B,) or (1,)."""
        x = context + self.from_act(act) + self.from_time(self.time(t))
        if self.kind == "resnet":
            for block in self.blocks:
                x = block(x)
            return self.out(nn.functional.mish(x))
        x = nn.functional.mish(x)
        for block in self.blocks:
            x = nn.functional.mish(block(x))
        return self.out(x)


class Normalizer(nn.Module):
    """Fixed affine normalisation of observations, part of every policy so that it cannot be lost."""

    def __init__(self, mean: torch.Tensor, std: torch.Tensor) -> None:
        super().__init__()
        self.register_buffer("mean", mean.clone())
        self.register_buffer("std", std.clone())

    def forward(self, obs: torch.Tensor) -> torch.Tensor:
        """Return (obs - mean) / std, clipped to +-10."""
        return ((obs - self.mean) / self.std).clamp(-10.0, 10.0)


def polyak(target: nn.Module, source: nn.Module, rate: float) -> None:
    """Move ``target`` towards ``source``: target += rate (source - target)."""
    with torch.no_grad():
        a: Tuple[torch.Tensor, ...] = tuple(target.parameters())
        b: Tuple[torch.Tensor, ...] = tuple(source.parameters())
        torch._foreach_lerp_(a, b, rate)
