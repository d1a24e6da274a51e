"""Settings given as text or plain data, held against the types and the sense of a dataclass."""

from __future__ import annotations

import difflib
import math
from typing import Any, Dict, Mapping, Sequence, Union, get_type_hints

COUNTS = (
    *("batch", "critic_batch", "actor_batch", "actor_updates", "width", "depth", "heads"),
    *("diffusion_steps", "horizon", "latent", "vae_hidden", "weight_hidden", "trust_interval"),
    *("unsafe_candidates", "unsafe_samples", "ood_actions"),
)
"""Numbers of things of which there has to be at least one; other whole numbers may be 0."""
POSITIVE = ("rate", "actor_rate")
"""Numbers that must be above 0; others only have to be finite."""


def suggestion(name: str, known: Sequence[str]) -> str:
    """`` (did you mean 'mu2'?)`` if one of ``known`` is close to ``name``, else nothing."""
    close = difflib.get_close_matches(name, known, n=1)
    return f" (did you mean '{close[0]}'?)" if close else ""


def checked(cls: type, values: Mapping[str, Any], owner: str) -> Dict[str, Any]:
    """The values as the fields of the dataclass ``cls`` take them.

    Whole numbers stand for numbers, numbers in text (YAML reads 1e-3 as one) for numbers, lists for
    tuples.

    Args:
        cls: a dataclass.
        values: by field; all of them known.
        owner: what messages call the dataclass.

    Raises:
        ValueError: a value of another type than its field, or outside of what makes sense.
    """
    hints = get_type_hints(cls)
    return {name: _checked(name, value, hints[name], owner) for name, value in values.items()}


def _checked(name: str, value: Any, hint: Any, owner: str) -> Any:
    found = f"setting '{name}' of {owner} is {value!r}"
    kinds = getattr(hint, "__args__", (hint,)) if _origin(hint) is Union else (hint,)
    if value is None and type(None) in kinds:
        return None
    (kind,) = [k for k in kinds if k is not type(None)]
    if _origin(kind) is tuple:
        inner, some = kind.__args__[0], Ellipsis not in kind.__args__
        if not isinstance(value, (list, tuple)):
            raise ValueError(f"{found}, expected a list such as [256, 256]")
        if some and len(value) != len(kind.__args__):
            raise ValueError(f"{found}, expected {len(kind.__args__)} values")
        if inner is str:
            if not all(isinstance(v, str) for v in value):
                raise ValueError(f"{found}, expected a list of names")
            return tuple(value)
        kinds = kind.__args__ if some else (inner,) * len(value)
        return tuple(_number(v, k, not some, False, found) for v, k in zip(value, kinds))
    if kind is bool:
        if not isinstance(value, bool):
            raise ValueError(f"{found}, expected true or false")
        return value
    if kind is str:
        if not isinstance(value, str):
            raise ValueError(f"{found}, expected a name")
        return value
    return _number(value, kind, name in COUNTS, name in POSITIVE, found)


def _origin(hint: Any) -> Any:
    return getattr(hint, "__origin__", None)


def _number(value: Any, kind: type, counts: bool, positive: bool, found: str) -> Any:
    if kind is int:
        least = 1 if counts else 0
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            raise ValueError(f"{found}, expected a whole number of at least {least}")
        return value
    try:
        number = math.nan if isinstance(value, (bool, list, dict)) else float(value)
    except (TypeError, ValueError):
        number = math.nan
    if not math.isfinite(number) or (positive and number <= 0):
        raise ValueError(f"{found}, expected a {'positive' if positive else 'finite'} number")
    return number
