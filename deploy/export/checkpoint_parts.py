"""Which weights of a foreign checkpoint act: every one is used, known not to act, or refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Dict, Iterable, List, NamedTuple, Optional, Tuple

import torch

from go2_sevpo.deploy.export.foreign_policy import Standardize
from go2_sevpo.deploy.export.parkour_actor import State, find_layers
from go2_sevpo.runs.checkpoint import CheckpointError


class Kind(NamedTuple):
    """One way in which a library lays out an actor.

    ``container`` is the key of the state dictionary in the file, ``prefix`` that of the actor's
    layers, ``normalizer`` that of its observation normaliser; ``idle`` are the beginnings of names
    of other weights in the same dictionary that do not act.
    """

    container: str
    prefix: str
    normalizer: Optional[str]
    idle: Tuple[str, ...]


_CRITIC = ("critic", "memory_c.")
_TEACHER = ("teacher", "memory_t.")
KINDS: Tuple[Kind, ...] = (
    # legged_gym, rsl_rl 1 to 3 (unitree_rl_mjlab, Isaac Lab)
    Kind("model_state_dict", "actor.", "actor_obs_normalizer.", _CRITIC),
    # rsl-rl-lib 4 and 5 (mjlab, Isaac Lab)
    Kind("actor_state_dict", "mlp.", "obs_normalizer.", ()),
    # distilled: 2 and 3, then 4 and 5
    Kind("model_state_dict", "student.", "student_obs_normalizer.", _TEACHER),
    Kind("student_state_dict", "mlp.", "obs_normalizer.", ()),
    # extreme-parkour
    Kind("model_state_dict", "actor.actor_backbone.", None, _CRITIC),
)

SPREADS = ("std", "log_std", "distribution.std_param", "distribution.log_std_param")
"""Names of the standard deviation of actions, some of its logarithm."""

_RECURRENT = ("memory_a.", "memory_s.", "rnn.")
_NORMALIZER_OF_RUNNER = "obs_norm_state_dict"
"""rsl_rl 2 keeps the actor's normaliser beside the weights."""
_IDLE_PARTS = (
    "critic_state_dict",
    "teacher_state_dict",
    "optimizer_state_dict",
    "rnd_state_dict",
    "rnd_optimizer_state_dict",
    "privileged_obs_norm_state_dict",
    "infos",
)


def _has_tensor(value: Any) -> bool:
    """Whether a value of a checkpoint is, or holds, a tensor."""
    if isinstance(value, dict):
        return any(_has_tensor(v) for v in value.values())
    return isinstance(value, torch.Tensor)


def _listed(names: Iterable[str]) -> str:
    """Names in a message, not all of many."""
    ordered = sorted(names)
    more = f" and {len(ordered) - 4} more" if len(ordered) > 4 else ""
    return ", ".join(ordered[:4]) + more


def stranger(whole: Dict[str, Any]) -> str:
    """What a message says of a file whose library is known and not understood."""
    model = whole.get("model")
    if isinstance(model, dict) and any(k.startswith("a2c_network.") for k in model):
        return "; it is rl_games', which is not understood"
    if "policy" in whole and any(k.endswith("preprocessor") for k in whole):
        return "; it is skrl's, which is not understood"
    return ""


def find_kind(
    path: Path, whole: Dict[str, Any], prefix: Optional[str]
) -> Tuple[Kind, State, List[Tuple[torch.Tensor, torch.Tensor]]]:
    """How the file is laid out, its state dictionary, and the actor's layers (weight, bias).

    ``prefix`` replaces those of :data:`KINDS`; the file may then be a state dictionary itself.

    Raises:
        CheckpointError: no actor in any of these places, or layers that are not linear.
    """
    tried = []
    for kind in KINDS:
        bare = whole if kind.container not in whole and prefix else {}
        state = whole.get(kind.container, bare)
        if prefix:
            kind = kind._replace(prefix=prefix)
        tried.append(f"{kind.container}/{kind.prefix}N.weight")
        if not isinstance(state, dict):
            continue
        check_layers(path, state, kind.prefix)
        layers = find_layers(state, kind.prefix)
        if layers:
            return kind, state, layers
    raise CheckpointError(
        f"{path} has no actor at {', '.join(sorted(set(tried)))}; "
        f"its keys are {', '.join(map(str, whole))[:200]}{stranger(whole)}"
    )


def check_layers(path: Path, state: State, prefix: str) -> None:
    """See that what stands at ``prefix`` and a number are linear layers, each with an activation.

    Raises:
        CheckpointError: naming a layer of another kind or a number that is missing.
    """
    numbers = []
    for key in state:
        rest = key[len(prefix) :] if key.startswith(prefix) else ""
        number, _, what = rest.partition(".")
        if not number.isdigit():
            continue
        numbers.append(int(number))
        linear = what in ("weight", "bias") and state[key].dim() == (2 if what == "weight" else 1)
        if not linear or f"{prefix}{number}.bias" not in state:
            shape = tuple(state[key].shape)
            raise CheckpointError(
                f"{path}: {key} has shape {shape}, expected linear layers with a bias alone"
            )
    found = sorted(set(numbers))
    if found and found != list(range(0, 2 * len(found), 2)):
        raise CheckpointError(
            f"{path}: the actor's linear layers are number {', '.join(map(str, found))}, expected "
            "every other one from 0, with activations between them"
        )


def find_std(path: Path, state: State) -> Optional[torch.Tensor]:
    """Standard deviation (A,) under the names of the several versions; None if there is none.

    Raises:
        CheckpointError: there are several.
    """
    names = [n for n in SPREADS if n in state]
    if len(names) > 1:
        raise CheckpointError(f"{path} has {' and '.join(names)}, expected one of them")
    if not names:
        return None
    std = state[names[0]]
    return std.exp() if "log_" in names[0] else std


def find_normalizer(
    path: Path, whole: Dict[str, Any], state: State, kind: Kind, epsilon: float, size: int
) -> Optional[Standardize]:
    """What the actor's ``size`` observations pass first; None where there is nothing.

    Raises:
        CheckpointError: several, or one that is not rsl_rl's EmpiricalNormalization of that size.
    """
    beside = whole.get(_NORMALIZER_OF_RUNNER)
    inside: Dict[str, torch.Tensor] = {}
    if kind.normalizer is not None:
        start = kind.normalizer
        inside = {k[len(start) :]: v for k, v in state.items() if k.startswith(start)}
    if beside and inside:
        raise CheckpointError(
            f"{path} has {_NORMALIZER_OF_RUNNER} and {kind.normalizer}*, expected one of them"
        )
    found: Dict[str, torch.Tensor] = beside or inside
    if not found:
        return None
    name = f"{_NORMALIZER_OF_RUNNER}/" if beside else str(kind.normalizer)
    if set(found) != {"_mean", "_var", "_std", "count"}:
        raise CheckpointError(
            f"{path}: the observation normaliser {name} has {_listed(found)}, "
            "expected those of rsl_rl's EmpiricalNormalization: _mean, _var, _std, count"
        )
    for part in ("_mean", "_std"):
        if found[part].numel() != size:
            raise CheckpointError(
                f"{path}: {name}{part} has {found[part].numel()} numbers, the actor takes {size}"
            )
    return Standardize(found["_mean"], found["_std"], epsilon)


def refuse_the_rest(
    path: Path,
    whole: Dict[str, Any],
    state: State,
    kind: Kind,
    used: Iterable[str],
    ignore: List[str],
) -> None:
    """See that no weight is passed over that could have acted.

    ``used`` are beginnings of names of parts of the file or weights of the actor that the caller
    reads besides the layers, the standard deviation and the normaliser.

    Raises:
        CheckpointError: naming what is left, recurrent layers as such.
    """
    known = (kind.prefix, *SPREADS, *kind.idle, *used, *ignore)
    if kind.normalizer is not None:
        known = (*known, kind.normalizer)
    left = [key for key in state if not key.startswith(known)]
    if state is not whole:
        parts = (kind.container, _NORMALIZER_OF_RUNNER, *_IDLE_PARTS, *used, *ignore)
        left += [k for k, v in whole.items() if _has_tensor(v) and not str(k).startswith(parts)]
    recurrent = [key for key in left if key.startswith(_RECURRENT)]
    if recurrent:
        raise CheckpointError(
            f"{path}: the actor is recurrent ({_listed(recurrent)}), "
            "only feed-forward actors are understood"
        )
    if left:
        raise CheckpointError(
            f"{path}: not understood and perhaps part of the actor: {_listed(left)}; "
            "name what does not act under 'ignore' in the layout"
        )
