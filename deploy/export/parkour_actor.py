"""Actors with encoders, as extreme-parkour trains them: scan, privileged and history encoders
before the actor, an estimator beside it.

Such an actor's observation is ``[proprioception | scan | explicit privileged | latent privileged |
history]``, the history oldest first. All sizes are read off the weights. As on their robot, the
explicit privileged part is replaced by what the estimator makes of the proprioception, and the
latent is the history encoder's; a layout may ask for the simulator's own values instead (``latent:
privileged``, ``estimator: false``).
"""

from __future__ import annotations

from typing import Any, Dict, List, Optional, Tuple

import torch
from torch import nn

from go2_sevpo.runs.checkpoint import CheckpointError

HISTORY: Dict[Tuple[int, ...], Tuple[int, Tuple[int, ...]]] = {
    (4, 2): (10, (2, 1)),
    (6, 4): (20, (2, 2)),
    (8, 5, 5): (50, (4, 1, 1)),
}
"""Kernel sizes of the history encoder's convolutions: (time steps, strides)."""

ACTIVATIONS = {
    "elu": nn.ELU,
    "relu": nn.ReLU,
    "selu": nn.SELU,
    "tanh": nn.Tanh,
    "lrelu": nn.LeakyReLU,
}

State = Dict[str, torch.Tensor]


def find_layers(state: State, prefix: str) -> List[Tuple[torch.Tensor, torch.Tensor]]:
    """Weights and biases at ``prefix`` followed by a number, in the order of the numbers."""
    found = []
    for key in state:
        rest = key[len(prefix) :] if key.startswith(prefix) else ""
        if rest.endswith(".weight") and rest[: -len(".weight")].isdigit():
            found.append((int(rest[: -len(".weight")]), key))
    return [(state[k], state[k[: -len("weight")] + "bias"]) for _, k in sorted(found)]


def _linear(weight: torch.Tensor, bias: torch.Tensor) -> nn.Linear:
    layer = nn.Linear(weight.shape[1], weight.shape[0])
    layer.weight.data, layer.bias.data = weight.clone(), bias.clone()
    return layer


def _stack(
    state: State, prefix: str, activation: str, last: Optional[nn.Module] = None
) -> Optional[nn.Sequential]:
    """Linear layers with activations between them and ``last`` at the end, or None where there are
    none.
    """
    modules: List[nn.Module] = []
    for weight, bias in find_layers(state, prefix):
        modules += [_linear(weight, bias), ACTIVATIONS[activation]()]
    if not modules:
        return None
    return nn.Sequential(*modules[:-1], *([] if last is None else [last]))


class History(nn.Module):
    """Encoder of the last observations (B, T * P), oldest first, to (B, L): a projection per step,
    then convolutions over time.
    """

    def __init__(self, state: State, prefix: str, activation: str, path: Any) -> None:
        super().__init__()
        act = ACTIVATIONS[activation]
        convolutions = find_layers(state, f"{prefix}conv_layers.")
        kernels = tuple(w.shape[2] for w, _ in convolutions)
        if kernels not in HISTORY:
            raise CheckpointError(
                f"{path}: the history encoder's kernels are {kernels}, expected one of {', '.join(map(str, HISTORY))}"
            )
        self.steps, strides = HISTORY[kernels]
        self.project = nn.Sequential(_linear(*find_layers(state, f"{prefix}encoder.")[0]), act())
        modules: List[nn.Module] = []
        for (weight, bias), stride in zip(convolutions, strides):
            layer = nn.Conv1d(weight.shape[1], weight.shape[0], weight.shape[2], stride)
            layer.weight.data, layer.bias.data = weight.clone(), bias.clone()
            modules += [layer, act()]
        self.convolve = nn.Sequential(*modules, nn.Flatten())
        self.out = nn.Sequential(_linear(*find_layers(state, f"{prefix}linear_output.")[0]), act())
        self.n_proprio, self.n_out = self.project[0].in_features, self.out[0].out_features

    def forward(self, history: torch.Tensor) -> torch.Tensor:
        """Encode."""
        projected = self.project(history.reshape(-1, self.steps, self.n_proprio))
        return self.out(self.convolve(projected.transpose(1, 2)))


class ParkourMean(nn.Module):
    """The mean action (B, A), before scaling, of an observation (B, ``n_obs``); see the module."""

    def __init__(
        self,
        state: State,
        prefix: str,
        estimator: Optional[State],
        layout: Dict[str, Any],
        path: Any,
    ) -> None:
        super().__init__()
        activation = layout["activation"]
        if activation not in ACTIVATIONS:
            raise CheckpointError(
                f"unknown activation '{activation}', expected one of {', '.join(ACTIVATIONS)}"
            )
        self.history = History(state, f"{prefix}history_encoder.", activation, path)
        act = ACTIVATIONS[activation]
        scan_layers = len(find_layers(state, f"{prefix}scan_encoder."))
        self.scan = _stack(
            state, f"{prefix}scan_encoder.", activation, nn.Tanh() if scan_layers > 1 else act()
        )
        self.latent = _stack(state, f"{prefix}priv_encoder.", activation, act())
        backbone = _stack(
            state, f"{prefix}actor_backbone.", activation, nn.Tanh() if layout["squash"] else None
        )
        if backbone is None:
            raise CheckpointError(f"{path} has encoders and no {prefix}actor_backbone")
        self.backbone = backbone
        self.estimator = None
        if layout["estimator"]:
            if estimator is None:
                raise CheckpointError(
                    f"{path} has no estimator_state_dict; say 'estimator: false' in the layout to feed the simulator's values"
                )
            self.estimator = _stack(estimator, "estimator.", activation)
        self.from_history = layout["latent"] == "history"
        n_proprio, n_latent = self.history.n_proprio, self.history.n_out
        wide = backbone[0].in_features - n_proprio - n_latent
        # Without an encoder scan and explicit values stand side by side and pass as they are.
        n_explicit = wide - (0 if self.scan is None else self.scan[-2].out_features)
        if self.estimator is not None:
            n_explicit = self.estimator[-1].out_features
        n_scan = wide - n_explicit if self.scan is None else self.scan[0].in_features
        n_privileged = n_latent if self.latent is None else self.latent[0].in_features
        self.sizes = [n_proprio, n_scan, n_explicit, n_privileged, self.history.steps * n_proprio]
        self.n_obs, self.n_act = (
            sum(self.sizes),
            [m for m in backbone if isinstance(m, nn.Linear)][-1].out_features,
        )

    def forward(self, obs: torch.Tensor) -> torch.Tensor:
        """Act."""
        proprio, scan, explicit, privileged, history = torch.split(obs, self.sizes, dim=1)
        if self.scan is not None:
            scan = self.scan(scan)
        if self.estimator is not None:
            explicit = self.estimator(proprio)
        if self.from_history:
            latent = self.history(history)
        else:
            latent = privileged if self.latent is None else self.latent(privileged)
        return self.backbone(torch.cat([proprio, scan, explicit, latent], dim=1))
