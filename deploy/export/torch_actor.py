"""PPO actors trained elsewhere as policies of ours.

They are ``model_<iteration>.pt`` of legged_gym, rsl_rl or extreme-parkour. A checkpoint holds
weights, not what they mean. The layout, a YAML file, says that::

    prefix: actor.                  # of the actor's layers in the state dictionary
    activation: elu                 # elu or relu
    action_unit: 0.25               # environment actions per unit of the network's output
    contract: {...}                 # fields in which its environment differs from ours
        (observation, gains, ...)
    squash: false                   # whether the actor ends in tanh
    latent: history                 # extreme-parkour: history or privileged
    estimator: true                 # extreme-parkour: explicit privileged values from the estimator

Without a layout the actor is taken to be one that was trained on our own task (``go2_parkour`` in
legged_gym). Stacks of linear layers are understood, and extreme-parkour's actors with scan,
privileged and history encoders (:mod:`go2_sevpo.deploy.export.parkour_actor`); anything else before
the actor is refused by name.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Dict, List, Optional, Tuple

import torch

from go2_sevpo.deploy.export.parkour_actor import ParkourMean, find_layers
from go2_sevpo.policies.torch_policy import GaussianPolicy
from go2_sevpo.runs.checkpoint import CheckpointError
from go2_sevpo.runs.reading import read_mapping

DEFAULTS: Dict[str, Any] = {
    "prefix": None,
    "activation": "elu",
    "action_unit": 0.25,
    "contract": {},
    "squash": False,
    "latent": "history",
    "estimator": True,
}
KNOWN: Tuple[Tuple[str, str], ...] = (
    ("model_state_dict", "actor."),
    ("actor_state_dict", "mlp."),
    ("model_state_dict", "actor.actor_backbone."),
)
"""Key of the state dictionary and prefix of the actor.

Those of legged_gym and rsl_rl 1-2, of rsl-rl-lib 5 and of extreme-parkour.
"""


def read_layout(path: Optional[Path]) -> Dict[str, Any]:
    """The layout with defaults filled in.

    Raises:
        CheckpointError: the file is missing or has a key that is not understood.
    """
    if path is None:
        return dict(DEFAULTS)
    if not path.is_file():
        raise CheckpointError(f"no layout at {path}")
    try:
        values = read_mapping(path)
    except ValueError as error:
        raise CheckpointError(str(error)) from None
    if values.get("latent", "history") not in ("history", "privileged"):
        raise CheckpointError(
            f"latent is '{values['latent']}' in {path}, expected history or privileged"
        )
    for key in values:
        if key not in DEFAULTS:
            raise CheckpointError(
                f"unknown key '{key}' in {path}, expected some of {', '.join(DEFAULTS)}"
            )
        expected = str if DEFAULTS[key] is None else type(DEFAULTS[key])
        if not isinstance(values[key], (int, float) if expected is float else expected):
            raise CheckpointError(
                f"{key} is {values[key]!r} in {path}, expected a {expected.__name__}"
            )
    return {**DEFAULTS, **values}


def load_weights(path: Path) -> Dict[str, Any]:
    """The checkpoint's plain content; nothing in the file is executed.

    Raises:
        CheckpointError: not a checkpoint, or it holds more than tensors and plain data.
    """
    if "weights_only" not in torch.load.__code__.co_varnames:
        raise CheckpointError(
            f"reading {path} safely needs torch 1.13 or newer, found {torch.__version__}"
        )
    try:
        state = torch.load(str(path), map_location="cpu", weights_only=True)
    except Exception as error:
        # torch raises several kinds, all of them mean that the file cannot be used.
        why = (str(error).splitlines() or [type(error).__name__])[0]
        raise CheckpointError(f"{path} is not a checkpoint of weights alone: {why}") from None
    if not isinstance(state, dict):
        raise CheckpointError(
            f"{path} holds a {type(state).__name__}, expected a dictionary of states"
        )
    return state


def _std(state: Dict[str, torch.Tensor], actions: int) -> torch.Tensor:
    """Standard deviation (A,) under the names of the several versions; ones if there is none."""
    # rsl-rl-lib 5 keeps it in a module of its own, as it is or as its logarithm.
    std = state.get("std", state.get("distribution.std_param"))
    if std is None and "distribution.log_std_param" in state:
        std = state["distribution.log_std_param"].exp()
    return torch.ones(actions) if std is None else std


def read_actor(path: Path, layout: Dict[str, Any]) -> GaussianPolicy:
    """The actor as a deployable policy.

    Raises:
        CheckpointError: no actor where the layout says, or one that is more than a stack of linear
            layers.
    """
    whole = load_weights(path)
    tried = []
    for key, prefix in KNOWN:
        # With a prefix given, the file may be a state dictionary itself.
        state = whole.get(key, whole if key not in whole and layout["prefix"] else {})
        prefix = layout["prefix"] or prefix
        tried.append(f"{key}/{prefix}N.weight")
        layers = find_layers(state, prefix)
        if layers:
            break
    else:
        raise CheckpointError(
            f"{path} has no actor at {', '.join(sorted(set(tried)))}; "
            f"its keys are {', '.join(whole)[:200]}"
        )
    # Encoders stand beside the backbone: the actor's root is one name further up.
    root = prefix[: -len("actor_backbone.")] if prefix.endswith("actor_backbone.") else prefix
    encoders = sorted(
        {k[len(root) :].split(".")[0] for k in state if k.startswith(root) and "encoder" in k}
    )
    if encoders:
        return _read_parkour_actor(path, whole, state, root, encoders, layout)
    # Weights are (out, in): (S, hidden ..., A).
    sizes = [layers[0][0].shape[1], *(w.shape[0] for w, _ in layers)]
    for (weight, _), n in zip(layers, sizes):
        if weight.shape[1] != n:
            raise CheckpointError(
                f"{path}: a layer takes {weight.shape[1]} numbers, the one before gives {n}"
            )
    std, unit = _std(state, sizes[-1]), float(layout["action_unit"])
    policy = GaussianPolicy(sizes, std, unit, layout["activation"], layout["squash"])
    # The activations between the layers have no weights.
    linear = [m for m in policy.mlp if isinstance(m, torch.nn.Linear)]
    for module, (weight, bias) in zip(linear, layers):
        module.weight.data, module.bias.data = weight.clone(), bias.clone()
    return policy.eval()


def _read_parkour_actor(
    path: Path,
    whole: Dict[str, Any],
    state: Dict[str, torch.Tensor],
    root: str,
    encoders: List[str],
    layout: Dict[str, Any],
) -> GaussianPolicy:
    """An actor of extreme-parkour, its encoders in the place of the stack of layers."""
    known = {"scan_encoder", "priv_encoder", "history_encoder"}
    if set(encoders) - known or "history_encoder" not in encoders:
        raise CheckpointError(
            f"{path}: the actor has encoders ({', '.join(encoders)}), "
            "only extreme-parkour's are understood "
            f"({', '.join(sorted(known))}, of which history_encoder must be there)"
        )
    mean = ParkourMean(state, root, whole.get("estimator_state_dict"), layout, path)
    std, unit = _std(state, mean.n_act), float(layout["action_unit"])
    policy = GaussianPolicy([mean.n_obs, mean.n_act], std, unit)
    policy.mlp = mean  # type: ignore[assignment]  # any module from (B, S) to (B, A)
    return policy.eval()
