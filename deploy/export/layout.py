"""What the weights of a checkpoint mean: the layout, a YAML file (``go2-export --layout``).

A checkpoint holds weights, not what they mean. The layout says that::

    prefix: actor.                  # of the actor's layers in the state dictionary
    activation: elu                 # one of ACTIVATIONS
    action_unit: 0.25               # environment actions per unit of the network's output
    contract: {...}                 # fields in which its environment differs from ours
        (observation, gains, action_clip, ...)
    squash: false                   # whether the actor ends in tanh
    distribution: gaussian          # what its last layer gives: gaussian (a mean),
        state_dependent_std (a mean and a deviation) or beta (rsl_rl's alpha and beta)
    action_range: [-1.0, 1.0]       # beta: interval of its samples
    clip_actions: 100.0             # largest output of the network, if it was limited
    normalizer_epsilon: 0.01        # rsl_rl: added to the standard deviation of the observations
    ignore: []                      # beginnings of names of weights that do not act
    latent: history                 # extreme-parkour: history or privileged
    estimator: true                 # extreme-parkour: explicit privileged values from the estimator

What a run of Isaac Lab or mjlab wrote about itself (:mod:`go2_sevpo.deploy.export.source`) counts
where the layout says nothing.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Callable, Dict, Optional, Tuple

from torch import nn

from go2_sevpo.runs.checkpoint import CheckpointError
from go2_sevpo.runs.reading import read_yaml

ACTIVATIONS: Dict[str, Callable[[], nn.Module]] = {
    "elu": nn.ELU,
    "relu": nn.ReLU,
    "selu": nn.SELU,
    "crelu": nn.CELU,
    "lrelu": nn.LeakyReLU,
    "tanh": nn.Tanh,
    "sigmoid": nn.Sigmoid,
    "softplus": nn.Softplus,
    "gelu": nn.GELU,
    "swish": nn.SiLU,
    "mish": nn.Mish,
    "identity": nn.Identity,
}
"""By rsl_rl's names (2.x and later; what v1.0.2 calls crelu is relu)."""

DISTRIBUTIONS = ("gaussian", "state_dependent_std", "beta")

DEFAULTS: Dict[str, Any] = {
    "prefix": None,
    "activation": "elu",
    "action_unit": 0.25,
    "contract": {},
    "squash": False,
    "distribution": None,
    "action_range": [-1.0, 1.0],
    "clip_actions": None,
    "normalizer_epsilon": 0.01,
    "ignore": [],
    "latent": "history",
    "estimator": True,
}

_Check = Tuple[Callable[[Any], bool], str]


def _number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _is_range(value: Any) -> bool:
    return (
        isinstance(value, list)
        and len(value) == 2
        and all(_number(x) for x in value)
        and value[0] < value[1]
    )


def _choice(names: Tuple[str, ...]) -> _Check:
    text = names[0] if len(names) == 1 else f"{', '.join(names[:-1])} or {names[-1]}"
    return (lambda value: isinstance(value, str) and value in names), text


_TEXT: _Check = (lambda value: isinstance(value, str)), "a text"
_SWITCH: _Check = (lambda value: isinstance(value, bool)), "true or false"
_CHECKS: Dict[str, _Check] = {
    "prefix": _TEXT,
    "activation": _choice(tuple(ACTIVATIONS)),
    "action_unit": (_number, "a number"),
    "contract": ((lambda value: isinstance(value, dict)), "a mapping of contract fields"),
    "squash": _SWITCH,
    "distribution": _choice(DISTRIBUTIONS),
    "action_range": (_is_range, "two numbers, the smaller one first"),
    "clip_actions": ((lambda value: _number(value) and value > 0), "a number above 0"),
    "normalizer_epsilon": ((lambda value: _number(value) and value >= 0), "a number, at least 0"),
    "ignore": (
        (lambda value: isinstance(value, list) and all(isinstance(x, str) and x for x in value)),
        "a list of beginnings of names",
    ),
    "latent": _choice(("history", "privileged")),
    "estimator": _SWITCH,
}


def read_layout(path: Optional[Path], recorded: Optional[Dict[str, Any]] = None) -> Dict[str, Any]:
    """The layout, with what the run ``recorded`` and then defaults filled in.

    Raises:
        CheckpointError: the file is missing, is no layout, or has a key or a value that is not
            understood.
    """
    base = {**DEFAULTS, **(recorded or {})}
    check_values(base, "the run's params/agent.yaml")
    if path is None:
        return base
    if not path.is_file():
        raise CheckpointError(f"no layout at {path}")
    try:
        values = read_yaml(path) or {}
    except ValueError as error:
        raise CheckpointError(f"{path} is not a layout: {error}, expected plain YAML") from None
    if not isinstance(values, dict):
        raise CheckpointError(
            f"{path} holds a {type(values).__name__}, "
            f"expected a mapping with some of {', '.join(DEFAULTS)}"
        )
    for key in values:
        if key not in DEFAULTS:
            raise CheckpointError(
                f"unknown key '{key}' in {path}, expected some of {', '.join(DEFAULTS)}"
            )
    check_values(values, str(path))
    return {**base, **values}


def check_values(values: Dict[str, Any], where: str) -> None:
    """See that each value is of the kind its key takes.

    Raises:
        CheckpointError: naming the first that is not.
    """
    for key, value in values.items():
        fits, expected = _CHECKS[key]
        if value != DEFAULTS[key] and not fits(value):
            raise CheckpointError(f"{key} is {value!r} in {where}, expected {expected}")
