"""Networks: critics with several heads, denoisers for the diffusion actor.

Shapes: B batch, S observation size, A action size, H heads. Every network can be built with
``members`` K: K independent networks trained side by side (several seeds in one process), whose
inputs and outputs carry K before B. Nothing is shared between members; :func:`member` takes one of
them out as a plain network.
"""

from __future__ import annotations

import copy
import math
from typing import Callable, List, Optional, Sequence, Tuple, TypeVar

import torch
from torch import nn

from go2_sevpo.networks.lidar import Lidar, with_nearness
from go2_sevpo.networks.mish import mish

Network = TypeVar("Network", bound=nn.Module)


class EnsembleLinear(nn.Module):
    """H linear layers applied at once: (H, B, in) -> (H, B, out)."""

    def __init__(self, heads: int, n_in: int, n_out: int, bias: bool = True) -> None:
        super().__init__()
        # The range of torch's own linear layers.
        bound = 1.0 / math.sqrt(n_in)
        self.weight = nn.Parameter(torch.empty(heads, n_in, n_out).uniform_(-bound, bound))
        self.bias: Optional[nn.Parameter] = None
        if bias:
            self.bias = nn.Parameter(torch.empty(heads, 1, n_out).uniform_(-bound, bound))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Apply the layers: x W + b for each head."""
        if self.bias is None:
            return torch.bmm(x, self.weight)
        return torch.baddbmm(self.bias, x, self.weight)

    def member(self, k: int) -> nn.Linear:
        """Layer ``k`` alone."""
        n_in, n_out = self.weight.shape[1:]  # (H, in, out)
        plain = nn.Linear(n_in, n_out, bias=self.bias is not None, device=self.weight.device)
        # nn.Linear keeps its weight as (out, in).
        plain.weight.data.copy_(self.weight.data[k].T)
        if self.bias is not None:
            plain.bias.data.copy_(self.bias.data[k, 0])
        return plain


def linear(n_in: int, n_out: int, members: Optional[int] = None, bias: bool = True) -> nn.Module:
    """A linear layer, or one per member."""
    if members is None:
        return nn.Linear(n_in, n_out, bias=bias)
    return EnsembleLinear(members, n_in, n_out, bias)


class Critic(nn.Module):
    """Q(s, a) with ``heads`` independent ReLU networks (paper: 2 heads, 2 x 256)."""

    def __init__(
        self,
        n_obs: int,
        n_act: int,
        hidden: Sequence[int] = (256, 256),
        heads: int = 2,
        members: Optional[int] = None,
    ) -> None:
        super().__init__()
        self.heads, self.members = heads, members
        # Heads of all members are layers of one ensemble: number h K + k is head h of member k.
        sizes, n = [n_obs + n_act, *hidden, 1], heads * (members or 1)
        self.layers = nn.ModuleList(
            [EnsembleLinear(n, a, b) for a, b in zip(sizes[:-1], sizes[1:])]
        )

    def forward(self, obs: torch.Tensor, act: torch.Tensor) -> torch.Tensor:
        """Values (H, B) of observations (B, S) and actions (B, A); (H, K, B) with members."""
        x = torch.cat([obs, act], dim=-1)  # (B, S + A)
        if self.members is None:
            x = x.unsqueeze(0).expand(self.heads, -1, -1)  # (H, B, S + A)
        else:
            x = x.unsqueeze(0).expand(self.heads, -1, -1, -1).flatten(0, 1)  # (H K, B, S + A)
        for layer in self.layers[:-1]:
            x = torch.relu(layer(x))
        x = self.layers[-1](x).squeeze(-1)  # (H, B) or (H K, B)
        return x if self.members is None else x.unflatten(0, (self.heads, self.members))

    def member(self, k: int) -> "Critic":
        """Member ``k`` alone."""
        plain = copy.deepcopy(self)
        plain.members = None
        for layer in plain.layers:
            # (H K, ...) -> (H, K, ...) -> (H, ...)
            for name in ("weight", "bias"):
                value = getattr(layer, name).data.unflatten(0, (self.heads, -1))[:, k].clone()
                setattr(layer, name, nn.Parameter(value, requires_grad=False))
        return plain


class Value(nn.Module):
    """V(s), one ReLU network."""

    def __init__(
        self, n_obs: int, hidden: Sequence[int] = (256, 256), members: Optional[int] = None
    ) -> None:
        super().__init__()
        sizes = [n_obs, *hidden]
        layers: List[nn.Module] = []
        for a, b in zip(sizes[:-1], sizes[1:]):
            layers += [linear(a, b, members), nn.ReLU()]
        self.net = nn.Sequential(*layers, linear(sizes[-1], 1, members))

    def forward(self, obs: torch.Tensor) -> torch.Tensor:
        """Values (B,) of observations (B, S)."""
        return self.net(obs).squeeze(-1)  # (B, 1) -> (B,)


class TimeFeatures(nn.Module):
    """Learnable Fourier features of the diffusion step, then a two-layer mish network.

    Sizes 64 -> 128 -> 128, unless others are given.
    """

    def __init__(self, size: int = 64, out: int = 128, members: Optional[int] = None) -> None:
        super().__init__()
        shape = (size // 2,) if members is None else (members, 1, size // 2)
        # N(0, 0.2^2), as FISOR's.
        self.frequency = nn.Parameter(torch.randn(shape) * 0.2)
        self.net = nn.Sequential(linear(size, out, members), nn.Mish(), linear(out, out, members))

    def forward(self, t: torch.Tensor) -> torch.Tensor:
        """Features (B, out) of steps ``t`` (B,), float."""
        angle = 2.0 * math.pi * t[..., None] * self.frequency  # (B, size / 2)
        return self.net(torch.cat([torch.cos(angle), torch.sin(angle)], dim=-1))

    def member(self, k: int) -> "TimeFeatures":
        """Member ``k`` alone."""
        plain = TimeFeatures(2 * self.frequency.shape[-1])
        plain.frequency = nn.Parameter(self.frequency.data[k, 0].clone())
        plain.net = member(self.net, k)
        return plain


class _MemberNorm(nn.Module):
    """LayerNorm with a scale and a shift per member."""

    def __init__(self, members: int, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(members, 1, width))
        self.bias = nn.Parameter(torch.zeros(members, 1, width))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        # (K, B, width): each row is normalised alone, then scaled and shifted by its member's.
        return nn.functional.layer_norm(x, x.shape[-1:]) * self.weight + self.bias

    def member(self, k: int) -> nn.LayerNorm:
        plain = nn.LayerNorm(self.weight.shape[-1], device=self.weight.device)
        plain.weight.data.copy_(self.weight.data[k, 0])
        plain.bias.data.copy_(self.bias.data[k, 0])
        return plain


def member(module: Network, k: int) -> Network:
    """Member ``k`` of a network built with ``members``, as a plain network for inference.

    Layers whose parameters carry K know how to take one out (their method ``member``); of anything
    else the children are replaced. A layer's class may change: of an :class:`EnsembleLinear` comes
    an ``nn.Linear``.
    """
    take_out: Optional[Callable[[int], Network]] = getattr(module, "member", None)
    if take_out is not None:
        return take_out(k)
    # A shallow copy with children of its own; what has no members is shared with ``module``.
    plain = copy.copy(module)
    plain._modules = {
        name: None if child is None else member(child, k) for name, child in module._modules.items()
    }
    return plain.requires_grad_(False)


class _Block(nn.Module):
    """LayerNorm residual block with a four times wider middle and dropout."""

    def __init__(self, width: int, dropout: float, members: Optional[int] = None) -> None:
        super().__init__()
        self.drop = nn.Dropout(dropout)
        self.norm = nn.LayerNorm(width) if members is None else _MemberNorm(members, width)
        self.up, self.down = linear(width, 4 * width, members), linear(4 * width, width, members)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        # Dropout before the norm and no norm after the sum: the order of FISOR's blocks.
        return x + self.down(mish(self.up(self.norm(self.drop(x)))))


class Denoiser(nn.Module):
    """Predicts noise or the clean action from (observation, noisy action, step).

    The first layer acts on the concatenation of the three; it is kept in parts so that the
    observation's share, the largest, is computed once (:meth:`encode`) and reused over diffusion
    steps and candidates, and the step's share once per step (:meth:`steps`) and reused over
    samples: the same numbers for a fraction of the work. ``kind`` ``resnet``: LayerNorm residual
    blocks of the paper; ``mlp``: plain mish layers.
    """

    def __init__(
        self,
        n_obs: int,
        n_act: int,
        kind: str = "resnet",
        width: int = 256,
        depth: int = 3,
        dropout: float = 0.1,
        members: Optional[int] = None,
    ) -> None:
        super().__init__()
        if kind not in ("resnet", "mlp"):
            raise ValueError(f"unknown denoiser '{kind}', expected resnet or mlp")
        self.kind, self.depth = kind, depth
        self.time = TimeFeatures(members=members)
        self.from_obs = linear(n_obs, width, members)
        # One bias is enough for the sum of the three.
        self.from_act = linear(n_act, width, members, bias=False)
        self.from_time = linear(128, width, members, bias=False)
        if kind == "resnet":
            self.blocks = nn.ModuleList([_Block(width, dropout, members) for _ in range(depth)])
        else:
            self.blocks = nn.ModuleList([linear(width, width, members) for _ in range(depth - 1)])
        self.out = linear(width, n_act, members)

    def encode(self, obs: torch.Tensor) -> torch.Tensor:
        """The observation's share of the first layer, (B, width)."""
        return self.from_obs(obs)

    def steps(self, n: int) -> torch.Tensor:
        """The shares (n, width) of diffusion steps 0..n-1, for all samples; (K, n, width)."""
        t = torch.arange(n, dtype=torch.float32, device=self.time.frequency.device)
        return self.from_time(self.time(t))

    def forward(self, context: torch.Tensor, act: torch.Tensor, time: torch.Tensor) -> torch.Tensor:
        """Prediction (B, A) of the noise or the clean action.

        Args:
            context: (B, width) of :meth:`encode`.
            act: (B, A) noisy actions.
            time: the rows of :meth:`steps` that belong to them, (B, width) or (1, width).
        """
        # The first layer: W [s, a, t] + b, added up from its parts.
        x = context + self.from_act(act) + time  # (B, width)
        if self.kind == "resnet":
            for block in self.blocks:
                x = block(x)
            return self.out(mish(x))
        # Plain layers: the sum above is the first of ``depth``.
        x = mish(x)
        for block in self.blocks:
            x = mish(block(x))
        return self.out(x)


class Normalizer(nn.Module):
    """Fixed affine normalisation of observations, part of every policy so that it cannot be lost.

    With ``lidar`` the nearness of what it sees is put behind them first; ``mean`` and ``std`` (S',)
    are then of all these numbers.
    """

    mean: torch.Tensor
    std: torch.Tensor

    def __init__(
        self, mean: torch.Tensor, std: torch.Tensor, lidar: Optional[Lidar] = None
    ) -> None:
        super().__init__()
        self.lidar = lidar
        self.register_buffer("mean", mean.clone())
        self.register_buffer("std", std.clone())

    def forward(self, obs: torch.Tensor) -> torch.Tensor:
        """Networks' observations (B, S'): (obs - mean) / std, clipped to +-10."""
        return ((with_nearness(obs, self.lidar) - self.mean) / self.std).clamp(-10.0, 10.0)

    @property
    def num_obs(self) -> int:
        """Size S of the observations it takes."""
        size = self.mean.shape[-1]
        # size = S + L with L = S - first readings, so S = (size + first) / 2.
        return size if self.lidar is None else (size + self.lidar[0]) // 2


def polyak(target: nn.Module, source: nn.Module, rate: float) -> None:
    """Move ``target`` towards ``source``: target += rate (source - target)."""
    with torch.no_grad():
        moved: Tuple[torch.Tensor, ...] = tuple(target.parameters())
        towards: Tuple[torch.Tensor, ...] = tuple(source.parameters())
        if hasattr(torch, "_foreach_lerp_"):
            torch._foreach_lerp_(moved, towards, rate)
        else:  # torch 1.12, beside Isaac Gym
            for x, y in zip(moved, towards):
                x.lerp_(y, rate)
