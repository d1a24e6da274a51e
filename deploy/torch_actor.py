"""PPO actors trained elsewhere: ``model_<iteration>.pt`` of legged_gym, rsl_rl or extreme-parkour as a policy of ours.

A checkpoint holds weights, not what they mean. The layout, a YAML file, says that::

    prefix: actor.                  # of the actor's layers in the state dictionary
    activation: elu                 # elu or relu
    action_unit: 0.25               # environment actions per unit of the network's output
    contract: {...}                 # fields in which its environment differs from ours (observation, gains, ...)

Without a layout the actor is taken to be one that was trained on our own task (``go2_parkour`` in legged_gym). Only plain stacks of linear layers are
understood; an encoder before the actor (extreme-parkour's scan and history encoders) is refused by name.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Dict, List, Optional, Tuple

import torch
import yaml

from go2_sevpo.checkpoint import CheckpointError
from go2_sevpo.policy import GaussianPolicy

DEFAULTS: Dict[str, Any] = {"prefix": None, "activation": "elu", "action_unit": 0.25, "contract": {}}
KNOWN: Tuple[Tuple[str, str], ...] = (
    ("model_state_dict", "actor."), ("actor_state_dict", "mlp."), ("model_state_dict", "actor.actor_backbone."),
)  # fmt: skip
"""Key of the state dictionary and prefix of the actor: legged_gym and rsl_rl 1-2, rsl-rl-lib 5, extreme-parkour."""


def read_layout(path: Optional[Path]) -> Dict[str, Any]:
    """The layout with defaults filled in.

    Raises:
        CheckpointError: the file is missing or has a key that is not understood.
    """
    if path is None:
        return dict(DEFAULTS)
    if not path.is_file():
        raise CheckpointError(f"no layout at {path}")
    values = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    for key in values:
        if key not in DEFAULTS:
            raise CheckpointError(f"unknown key '{key}' in {path}, expected some of {', '.join(DEFAULTS)}")
    return {**DEFAULTS, **values}


def load_weights(path: Path) -> Dict[str, Any]:
    """The checkpoint's plain content; nothing in the file is executed.

    Raises:
        CheckpointError: not a checkpoint, or it holds more than tensors and plain data.
    """
    if "weights_only" not in torch.load.__code__.co_varnames:
        raise CheckpointError(f"reading {path} safely needs torch 1.13 or newer, found {torch.__version__}")
    try:
        state = torch.load(str(path), map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises several kinds, all of them mean that the file cannot be used
        raise CheckpointError(f"{path} is not a checkpoint of weights alone: {str(error).splitlines()[0]}") from None
    if not isinstance(state, dict):
        raise CheckpointError(f"{path} holds a {type(state).__name__}, expected a dictionary of states")
    return state


def _layers(state: Dict[str, torch.Tensor], prefix: str) -> List[Tuple[torch.Tensor, torch.Tensor]]:
    found = []
    for key in state:
        rest = key[len(prefix) :] if key.startswith(prefix) else ""
        if rest.endswith(".weight") and rest[: -len(".weight")].isdigit():
            found.append((int(rest[: -len(".weight")]), key))
    return [(state[k], state[k[: -len("weight")] + "bias"]) for _, k in sorted(found)]


def read_actor(path: Path, layout: Dict[str, Any]) -> GaussianPolicy:
    """The actor as a deployable policy.

    Raises:
        CheckpointError: no actor where the layout says, or one that is more than a stack of linear layers.
    """
    whole = load_weights(path)
    tried = []
    for key, prefix in KNOWN:
        state = whole.get(key, whole if key not in whole and layout["prefix"] else {})
        prefix = layout["prefix"] or prefix
        tried.append(f"{key}/{prefix}N.weight")
        layers = _layers(state, prefix)
        if layers:
            break
    else:
        raise CheckpointError(
            f"{path} has no actor at {', '.join(sorted(set(tried)))}; its keys are {', '.join(whole)[:200]}"
        )
    encoders = sorted({k.split(".")[0] + "." + k.split(".")[1] for k in state if "encoder" in k})
    if encoders:
        raise CheckpointError(
            f"{path}: the actor has encoders ({', '.join(encoders)}), only stacks of linear layers are understood"
        )
    sizes = [layers[0][0].shape[1], *(w.shape[0] for w, _ in layers)]
    for (weight, _), n in zip(layers, sizes):
        if weight.shape[1] != n:
            raise CheckpointError(f"{path}: a layer takes {weight.shape[1]} numbers, the one before gives {n}")
    std = state.get("std", state.get("distribution.std_param"))
    if std is None and "distribution.log_std_param" in state:
        std = state["distribution.log_std_param"].exp()
    policy = GaussianPolicy(
        sizes, torch.ones(sizes[-1]) if std is None else std, float(layout["action_unit"]), layout["activation"]
    )
    linear = [m for m in policy.mlp if isinstance(m, torch.nn.Linear)]
    for module, (weight, bias) in zip(linear, layers):
        module.weight.data, module.bias.data = weight.clone(), bias.clone()
    return policy.eval()
