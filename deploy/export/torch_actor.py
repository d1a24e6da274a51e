"""PPO actors trained elsewhere as policies of ours.

They are ``model_<iteration>.pt`` of rsl_rl (v1.0.2 to 5.x, as legged_gym, unitree_rl_gym,
unitree_rl_lab, unitree_rl_mjlab, Isaac Lab and mjlab write them) or of extreme-parkour. Without a
layout (:mod:`go2_sevpo.deploy.export.layout`) the actor is taken to be one that was trained on our
own task. Stacks of linear layers behind rsl_rl's observation normaliser are understood, and
extreme-parkour's actors with scan, privileged and history encoders
(:mod:`go2_sevpo.deploy.export.parkour_actor`); anything else that may act is refused by name
(:mod:`go2_sevpo.deploy.export.checkpoint_parts`).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Dict, List, Tuple

import torch
from torch import nn

from go2_sevpo.deploy.export.checkpoint_parts import (
    Kind,
    find_kind,
    find_normalizer,
    find_std,
    refuse_the_rest,
)
from go2_sevpo.deploy.export.foreign_policy import BetaMean, FirstHalf, ForeignPolicy
from go2_sevpo.deploy.export.layout import DISTRIBUTIONS, read_layout
from go2_sevpo.deploy.export.parkour_actor import ParkourMean, State, stack
from go2_sevpo.deploy.export.source import other_archive
from go2_sevpo.policies.torch_policy import GaussianPolicy
from go2_sevpo.runs.checkpoint import CheckpointError

__all__ = ["load_weights", "read_actor", "read_layout"]


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
        why = other_archive(path) or (str(error).splitlines() or [type(error).__name__])[0]
        raise CheckpointError(f"{path} is not a checkpoint of weights alone: {why}") from None
    if not isinstance(state, dict):
        raise CheckpointError(
            f"{path} holds a {type(state).__name__}, expected a dictionary of states"
        )
    return state


def read_actor(path: Path, layout: Dict[str, Any]) -> GaussianPolicy:
    """The actor as a deployable policy.

    Raises:
        CheckpointError: no actor where the layout says, or one that is more than a stack of linear
            layers behind a normaliser.
    """
    whole = load_weights(path)
    kind, state, layers = find_kind(path, whole, layout["prefix"])
    # Encoders stand beside the backbone: the actor's root is one name further up.
    prefix = kind.prefix
    root = prefix[: -len("actor_backbone.")] if prefix.endswith("actor_backbone.") else prefix
    encoders = sorted(
        {k[len(root) :].split(".")[0] for k in state if k.startswith(root) and "encoder" in k}
    )
    if encoders:
        return _read_parkour_actor(path, whole, state, kind._replace(prefix=root), encoders, layout)
    # Weights are (out, in): (S, hidden ..., A).
    sizes = [layers[0][0].shape[1], *(w.shape[0] for w, _ in layers)]
    for (weight, _), n in zip(layers, sizes):
        if weight.shape[1] != n:
            raise CheckpointError(
                f"{path}: a layer takes {weight.shape[1]} numbers, the one before gives {n}"
            )
    refuse_the_rest(path, whole, state, kind, (), layout["ignore"])
    normalizer = find_normalizer(path, whole, state, kind, layout["normalizer_epsilon"], sizes[0])
    head, std = _head(path, state, sizes[-1], layout)
    mean = stack(state, prefix, layout["activation"])
    assert mean is not None
    clip = float(layout["contract"].get("action_clip", 1.0))
    shape, unit = (sizes[0], len(std)), float(layout["action_unit"])
    limit = layout["clip_actions"]
    policy = ForeignPolicy(nn.Sequential(*mean, *head), shape, std, unit, clip, normalizer, limit)
    return policy.eval()


def _head(
    path: Path, state: State, outputs: int, layout: Dict[str, Any]
) -> Tuple[List[nn.Module], torch.Tensor]:
    """What makes a mean action of the last layer's outputs, and the noise's deviation (A,).

    Raises:
        CheckpointError: the layout does not say what the outputs are, or what it says cannot be.
    """
    std, distribution = find_std(path, state), layout["distribution"]
    if std is not None:
        if distribution not in (None, "gaussian"):
            raise CheckpointError(
                f"{path} has a standard deviation of its own, the layout says {distribution}"
            )
        if std.shape != (outputs,):
            raise CheckpointError(
                f"{path}: the standard deviation has shape {tuple(std.shape)}, "
                f"the actor gives {outputs} numbers"
            )
        return [nn.Tanh()] if layout["squash"] else [], std
    if distribution is None:
        raise CheckpointError(
            f"{path} has no standard deviation, so what the actor's {outputs} outputs are is not "
            f"known: say distribution: {', '.join(DISTRIBUTIONS[:-1])} or {DISTRIBUTIONS[-1]} "
            "in the layout"
        )
    if distribution == "gaussian":
        return [nn.Tanh()] if layout["squash"] else [], torch.zeros(outputs)
    if outputs % 2 or layout["squash"]:
        raise CheckpointError(
            f"{path}: the actor gives {outputs} numbers{', squashed' if layout['squash'] else ''}; "
            f"{distribution} needs two for each action, not squashed"
        )
    # What spreads with the state is left out: the policy is played without noise.
    low, high = layout["action_range"]
    head = FirstHalf() if distribution == "state_dependent_std" else BetaMean(low, high)
    return [head], torch.zeros(outputs // 2)


def _read_parkour_actor(
    path: Path,
    whole: Dict[str, Any],
    state: State,
    kind: Kind,
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
    parts = (*(f"{kind.prefix}{name}." for name in known), f"{kind.prefix}actor_backbone.")
    others = [k for k in state if k.startswith(kind.prefix) and not k.startswith(parts)]
    if others:
        raise CheckpointError(f"{path}: not understood beside the encoders: {others[0]}")
    used = ("estimator_state_dict",)
    refuse_the_rest(path, whole, state, kind, used, layout["ignore"])
    mean = ParkourMean(state, kind.prefix, whole.get(used[0]), layout, path)
    std = find_std(path, state)
    if std is None:
        std = torch.ones(mean.n_act)
    clip = float(layout["contract"].get("action_clip", 1.0))
    unit, size = float(layout["action_unit"]), mean.n_obs
    normalizer = find_normalizer(path, whole, state, kind, layout["normalizer_epsilon"], size)
    limit = layout["clip_actions"]
    return ForeignPolicy(mean, (size, mean.n_act), std, unit, clip, normalizer, limit).eval()
