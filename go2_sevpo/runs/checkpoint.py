"""Checkpoints: one safetensors file holding a nested state, written atomically. No pickle.

Tensors and arrays are stored as such; everything else (numbers, strings, lists, dicts) as JSON in
the file's metadata, with a marker where each tensor belongs. numpy scalars become numbers, tuples
become lists.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Dict, Union

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from go2_sevpo.runs.files import atomic_path

FORMAT = "go2_sevpo.checkpoint.1"


class CheckpointError(ValueError):
    """A checkpoint is missing, damaged, or of another kind than expected."""


def _encode(value: object, tensors: Dict[str, torch.Tensor], path: str) -> Any:
    """``value`` at ``path`` as JSON data; its tensors go into ``tensors`` under their paths."""
    if isinstance(value, np.ndarray):
        value = torch.from_numpy(np.ascontiguousarray(value))
    if isinstance(value, torch.Tensor):
        # Cloned, as safetensors refuses tensors that share memory.
        tensors[path] = value.detach().cpu().contiguous().clone()
        return {"__tensor__": path}
    if isinstance(value, dict):
        # As pairs: keys stay numbers (an optimiser's are), and a key cannot look like a marker.
        return {"__dict__": [[k, _encode(v, tensors, f"{path}/{k}")] for k, v in value.items()]}
    if isinstance(value, (list, tuple)):
        return [_encode(v, tensors, f"{path}/{i}") for i, v in enumerate(value)]
    if isinstance(value, np.generic):
        return value.item()
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    raise TypeError(f"cannot store {type(value).__name__} at '{path}' in a checkpoint")


def _decode(value: object, tensors: Dict[str, torch.Tensor]) -> Any:
    """Undo :func:`_encode`."""
    if isinstance(value, dict):
        if "__tensor__" in value:
            return tensors[value["__tensor__"]]
        return {k: _decode(v, tensors) for k, v in value["__dict__"]}
    if isinstance(value, list):
        return [_decode(v, tensors) for v in value]
    return value


def save_checkpoint(path: Union[str, Path], kind: str, state: Dict[str, Any]) -> None:
    """Write ``state`` of the given ``kind`` to ``path``: temporary name, flush, rename.

    ``kind`` is written into the file, and asked for when it is read.

    Raises:
        TypeError: the state holds something that is neither a tensor nor plain data.
    """
    path = Path(path)
    tensors: Dict[str, torch.Tensor] = {}
    tree = _encode(state, tensors, "")
    metadata = {"format": FORMAT, "kind": kind, "json": json.dumps(tree)}
    with atomic_path(path) as temporary:
        save_file(tensors, str(temporary), metadata=metadata)


def load_checkpoint(path: Union[str, Path], kind: str) -> Dict[str, Any]:
    """Read a checkpoint of the given ``kind`` written by :func:`save_checkpoint`.

    Raises:
        CheckpointError: saying what was found and what was expected.
    """
    path = Path(path)
    if not path.is_file():
        raise CheckpointError(f"no checkpoint at {path}")
    try:
        with safe_open(str(path), framework="pt") as handle:
            metadata = handle.metadata() or {}
            tensors = {name: handle.get_tensor(name) for name in handle.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{path} is not a readable safetensors file: {error}") from error
    if metadata.get("format") != FORMAT:
        raise CheckpointError(f"{path} has format {metadata.get('format')!r}, expected {FORMAT!r}")
    if metadata.get("kind") != kind:
        raise CheckpointError(f"{path} is a {metadata.get('kind')!r} checkpoint, expected {kind!r}")
    return _decode(json.loads(metadata["json"]), tensors)
