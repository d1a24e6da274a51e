"""Actors with encoders, as extreme-parkour trains them.

Scan, privileged and history encoders stand before the actor, an estimator beside it. Such an
actor's observation is ``[proprioception | scan | explicit privileged | latent privileged |
history]``, the history oldest first. All sizes are read off the weights. As on their robot, the
explicit privileged part is replaced by what the estimator makes of the proprioception, and the
latent is the history encoder's; a layout may ask for the simulator's own values instead (``latent:
privileged``, ``estimator: false``).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Dict, List, Optional, Tuple, cast

import torch
from torch import nn

from go2_sevpo.deploy.export.layout import ACTIVATIONS
from go2_sevpo.runs.checkpoint import CheckpointError

HISTORY: Dict[Tuple[int, ...], Tuple[int, Tuple[int, ...]]] = {
    (4, 2): (10, (2, 1)),
    (6, 4): (20, (2, 2)),
    (8, 5, 5): (50, (4, 1, 1)),
}
"""Kernel sizes of the history encoder's convolutions: (time steps, strides)."""

State = Dict[str, torch.Tensor]
"""Weights by name."""


def find_layers(state: State, prefix: str) -> List[Tuple[torch.Tensor, torch.Tensor]]:
    """Weights and biases at ``prefix`` followed by a number, in the order of the numbers."""
    found = []
    for key in state:
        rest = key[len(prefix) :] if key.startswith(prefix) else ""
        if rest.endswith(".weight") and rest[: -len(".weight")].isdigit():
            found.append((int(rest[: -len(".weight")]), key))
    return [(state[k], state[k[: -len("weight")] + "bias"]) for _, k in sorted(found)]


def _linear(weight: torch.Tensor, bias: torch.Tensor) -> nn.Linear:
    """A layer of ``weight`` (out, in) and ``bias`` (out,)."""
    layer = nn.Linear(weight.shape[1], weight.shape[0])
    layer.weight.data, layer.bias.data = weight.clone(), bias.clone()
    return layer


def stack(
    state: State, prefix: str, activation: str, last: Optional[nn.Module] = None
) -> Optional[nn.Sequential]:
    """The linear layers at ``prefix`` with activations between them and ``last`` at the end.

    None where there are none.
    """
    modules: List[nn.Module] = []
    for weight, bias in find_layers(state, prefix):
        modules += [_linear(weight, bias), ACTIVATIONS[activation]()]
    if not modules:
        return None
    return nn.Sequential(*modules[:-1], *([] if last is None else [last]))


def _takes(stack: nn.Sequential) -> int:
    """Numbers the first layer takes."""
    return cast(nn.Linear, stack[0]).in_features


def _gives(stack: nn.Sequential) -> int:
    """Numbers the last linear layer gives."""
    return [m for m in stack if isinstance(m, nn.Linear)][-1].out_features


class History(nn.Module):
    """Encoder of the last T observations (B, T * P), oldest first, to (B, L).

    A projection per step, then convolutions over time.

    Raises:
        CheckpointError: convolutions that are not in :data:`HISTORY`.
    """

    def __init__(self, state: State, prefix: str, activation: str, path: Path) -> None:
        super().__init__()
        act = ACTIVATIONS[activation]
        convolutions = find_layers(state, f"{prefix}conv_layers.")
        kernels = tuple(w.shape[2] for w, _ in convolutions)
        if kernels not in HISTORY:
            raise CheckpointError(
                f"{path}: the history encoder's kernels are {kernels}, "
                f"expected one of {', '.join(map(str, HISTORY))}"
            )
        # Strides are not among the weights: they follow from the kernels.
        self.steps, strides = HISTORY[kernels]
        self.project = nn.Sequential(_linear(*find_layers(state, f"{prefix}encoder.")[0]), act())
        modules: List[nn.Module] = []
        for (weight, bias), stride in zip(convolutions, strides):  # weights (out, in, kernel)
            layer = nn.Conv1d(weight.shape[1], weight.shape[0], weight.shape[2], stride)
            assert layer.bias is not None
            layer.weight.data, layer.bias.data = weight.clone(), bias.clone()
            modules += [layer, act()]
        self.convolve = nn.Sequential(*modules, nn.Flatten())
        self.out = nn.Sequential(_linear(*find_layers(state, f"{prefix}linear_output.")[0]), act())
        self.n_proprio, self.n_out = _takes(self.project), _gives(self.out)

    def forward(self, history: torch.Tensor) -> torch.Tensor:
        """Encode (B, T * P) to (B, L)."""
        projected = self.project(history.reshape(-1, self.steps, self.n_proprio))  # (B, T, D)
        # Convolutions run over the last axis, time; then (B, channels * times) are flat.
        return self.out(self.convolve(projected.transpose(1, 2)))


class ParkourMean(nn.Module):
    """The mean action (B, A), before scaling, of an observation (B, ``n_obs``); see the module.

    Args:
        state: weights of the actor.
        prefix: of its keys.
        estimator: weights of the estimator, if the checkpoint has one.
        layout: see :mod:`go2_sevpo.deploy.export.torch_actor`.
        path: of the checkpoint, for messages.

    Raises:
        CheckpointError: the weights and the layout do not fit together.
    """

    def __init__(
        self,
        state: State,
        prefix: str,
        estimator: Optional[State],
        layout: Dict[str, Any],
        path: Path,
    ) -> None:
        super().__init__()
        activation = layout["activation"]
        self.history = History(state, f"{prefix}history_encoder.", activation, path)
        act = ACTIVATIONS[activation]
        # Their scan encoder ends in tanh, unless it is one layer.
        scan_layers = len(find_layers(state, f"{prefix}scan_encoder."))
        end = nn.Tanh() if scan_layers > 1 else act()
        self.scan = stack(state, f"{prefix}scan_encoder.", activation, end)
        self.latent = stack(state, f"{prefix}priv_encoder.", activation, act())
        squash = nn.Tanh() if layout["squash"] else None
        backbone = stack(state, f"{prefix}actor_backbone.", activation, squash)
        if backbone is None:
            raise CheckpointError(f"{path} has encoders and no {prefix}actor_backbone")
        self.backbone = backbone
        self.estimator: Optional[nn.Sequential] = None
        if layout["estimator"]:
            if estimator is None:
                raise CheckpointError(
                    f"{path} has no estimator_state_dict; "
                    "say 'estimator: false' in the layout to feed the simulator's values"
                )
            self.estimator = stack(estimator, "estimator.", activation)
        self.from_history = layout["latent"] == "history"
        n_proprio, n_latent = self.history.n_proprio, self.history.n_out
        # The backbone takes [proprioception | scan | explicit | latent]: what is left for the two.
        wide = _takes(backbone) - n_proprio - n_latent
        # Without an encoder scan and explicit values stand side by side and pass as they are.
        n_explicit = wide - (0 if self.scan is None else _gives(self.scan))
        if self.estimator is not None:
            n_explicit = _gives(self.estimator)
        n_scan = wide - n_explicit if self.scan is None else _takes(self.scan)
        n_privileged = n_latent if self.latent is None else _takes(self.latent)
        self.sizes = [n_proprio, n_scan, n_explicit, n_privileged, self.history.steps * n_proprio]
        self.n_obs, self.n_act = sum(self.sizes), _gives(backbone)

    def forward(self, obs: torch.Tensor) -> torch.Tensor:
        """Mean actions (B, A) for observations (B, ``n_obs``)."""
        proprio, scan, explicit, privileged, history = torch.split(obs, self.sizes, dim=1)
        if self.scan is not None:
            scan = self.scan(scan)
        # What only the simulator knows is estimated from what the robot senses.
        if self.estimator is not None:
            explicit = self.estimator(proprio)
        if self.from_history:
            latent = self.history(history)  # (B, L)
        else:
            latent = privileged if self.latent is None else self.latent(privileged)
        return self.backbone(torch.cat([proprio, scan, explicit, latent], dim=1))
