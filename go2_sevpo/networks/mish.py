"""Mish, x tanh(softplus(x)) (Misra 2019), at the price of one sigmoid on a CPU.

With s = sigmoid(x) and u = s (2 - s), tanh(softplus(x)) = u / (2 - u): no exp, log1p and tanh per
entry, which is what torch's own kernel computes on a CPU and what took a quarter of a training
step.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Tuple

import torch
from torch.nn import functional as F

if TYPE_CHECKING:
    from torch.autograd.function import BackwardCFunction, FunctionCtx


def _tanh_softplus(s: torch.Tensor) -> Tuple[torch.Tensor, torch.Tensor]:
    """Both u / (2 - u) and 2 - u, u = s (2 - s)."""
    u = (2.0 - s).mul_(s)
    rest = 2.0 - u
    return u.div_(rest), rest


class _Mish(torch.autograd.Function):
    """Keeps x and its sigmoid for the way back; intermediate results are written over."""

    @staticmethod
    def forward(ctx: FunctionCtx, x: torch.Tensor) -> torch.Tensor:
        s = torch.sigmoid(x)
        ctx.save_for_backward(x, s)
        return _tanh_softplus(s)[0].mul_(x)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: BackwardCFunction, grad: torch.Tensor) -> torch.Tensor:
        # t = u / (2 - u), du/dx = 2 s (1 - s)^2, dt/du = 2 / (2 - u)^2.
        x, s = ctx.saved_tensors  # type: ignore[misc]  # the stub says that there is one
        t, rest = _tanh_softplus(s)
        slope = (1.0 - s).div_(rest).square_().mul_(s).mul_(4.0)  # dt/dx
        return t.addcmul_(x, slope).mul_(grad)


def mish(x: torch.Tensor) -> torch.Tensor:
    """Mish of ``x``, any shape; torch's own kernel on other devices. Differentiable once."""
    if torch.jit.is_tracing():
        # onnxruntime has a fast sigmoid, but computes softplus entry by entry.
        s = torch.sigmoid(x)
        u = s * (2.0 - s)
        return x * (u / (2.0 - u))
    if x.device.type != "cpu":
        return F.mish(x)
    if torch.is_grad_enabled() and x.requires_grad:
        return _Mish.apply(x)
    return _tanh_softplus(torch.sigmoid(x))[0].mul_(x)
