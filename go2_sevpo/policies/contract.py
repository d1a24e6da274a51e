"""The contract between a policy and its environment: plain data in every ONNX file's metadata."""

from __future__ import annotations

import json
from typing import Any, Mapping

CONTRACT_KEY = "go2_sevpo.contract"
CONTRACT_VERSION = 1
REQUIRED_FIELDS = ("contract_version", "robot", "control_dt", "action_clip", "observation")
"""Fields every contract has; a robot adds its own (joints, gains, limits)."""


class ContractError(ValueError):
    """A policy does not fit its environment, or carries no contract."""


def dump_contract(contract: Mapping[str, Any]) -> str:
    """Serialise with full precision.

    Raises:
        ContractError: a required field is missing.
    """
    for field in REQUIRED_FIELDS:
        if field not in contract:
            raise ContractError(f"contract field '{field}' is missing")
    return json.dumps(contract)


def _short(value: object) -> str:
    text = json.dumps(value)
    return text if len(text) <= 90 else text[:87] + "..."


def _first_difference(path: str, found: object, expected: object) -> str:
    """Say where two values that differ do so first: down to a key or a place in a list."""
    if isinstance(found, dict) and isinstance(expected, dict):
        for key in sorted(set(found) | set(expected)):
            if found.get(key) != expected.get(key):
                return _first_difference(f"{path}.{key}", found.get(key), expected.get(key))
    if isinstance(found, list) and isinstance(expected, list) and len(found) == len(expected):
        for i, (a, b) in enumerate(zip(found, expected)):
            if a != b:
                return _first_difference(f"{path}[{i}]", a, b)
    return f"field '{path}' is {_short(found)}, the environment has {_short(expected)}"


def check_contract(found: Mapping[str, Any], expected: Mapping[str, Any], name: str) -> None:
    """Compare a policy's contract with the environment's, field by field of the latter.

    Raises:
        ContractError: naming the first field that differs, with both values.
    """
    # As the file's own contract was read: tuples are lists, keys are texts.
    plain = json.loads(json.dumps(expected))
    for field in plain:
        if field not in found:
            raise ContractError(f"{name}: contract field '{field}' is missing")
        if found[field] != plain[field]:
            raise ContractError(
                f"{name} does not fit: {_first_difference(field, found[field], plain[field])}"
            )
