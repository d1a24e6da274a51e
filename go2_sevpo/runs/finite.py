"""Numbers that are not finite end a run; they are never written over good ones."""

from __future__ import annotations

import math
from typing import Any, Iterator, Mapping, Tuple

import torch

ADVICE = (
    "try a smaller rate or batches of at least 1 (--set), and look at the data (go2-data validate)"
)


class NotFiniteError(ValueError):
    """A loss, a logged value or a weight became infinite or no number."""


def check_values(values: Mapping[str, float], where: str) -> None:
    """Check logged numbers.

    Raises:
        NotFiniteError: naming the first that is not finite, and where.
    """
    for name, value in values.items():
        if not math.isfinite(value):
            raise NotFiniteError(
                f"{where}: {name} is {value}, expected a finite number; "
                f"the last checkpoint is kept; {ADVICE}"
            )


def check_gradients(optimizers: Mapping[str, torch.optim.Optimizer], where: str) -> None:
    """Check the norms of the latest gradients, one for each optimiser.

    A loss can be finite where its gradient is not (a root at zero); the next weights are not.

    Raises:
        NotFiniteError: naming the optimiser, and where.
    """
    for name, optimizer in optimizers.items():
        gradients = [p.grad for group in optimizer.param_groups for p in group["params"]]
        norms = [g.norm() for g in gradients if g is not None]
        if norms:
            check_values({f"gradient norm of {name}": float(torch.stack(norms).norm())}, where)


def check_state(state: Any, where: str) -> None:
    """Check all tensors of a nested state before it is written.

    Raises:
        NotFiniteError: naming the first tensor that is not finite, and where.
    """
    for name, tensor in _tensors(state, ""):
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            raise NotFiniteError(
                f"{where}: {name} has numbers that are not finite; "
                f"the last checkpoint is kept; {ADVICE}"
            )


def _tensors(state: Any, path: str) -> Iterator[Tuple[str, torch.Tensor]]:
    if isinstance(state, torch.Tensor):
        yield path, state
    elif isinstance(state, Mapping):
        for key, value in state.items():
            yield from _tensors(value, f"{path}/{key}" if path else str(key))
    elif isinstance(state, (list, tuple)):
        for number, value in enumerate(state):
            yield from _tensors(value, f"{path}/{number}")
