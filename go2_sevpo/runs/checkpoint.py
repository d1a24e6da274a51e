"""Checkpoints: one safetensors file holding a nested state, written atomically. No pickle.

Tensors and arrays are stored as such; everything else (numbers, strings, lists, dicts) as JSON in
the file's metadata, with a marker where each tensor belongs. numpy scalars become numbers, tuples
become lists. A SHA-256 over all of it tells damage from weights.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from pathlib import Path
from typing import Any, Callable, Dict, List, Union

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from go2_sevpo.runs.files import atomic_path

FORMAT = "go2_sevpo.checkpoint.1"
KEPT = 3
"""Checkpoints of a run that stay: the last one and those before it."""


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


def _digest(tree: str, kind: str, tensors: Dict[str, torch.Tensor]) -> str:
    """SHA-256 of a state: its plain part, then name, type, shape and bytes of each tensor."""
    digest = hashlib.sha256(f"{kind}\n{tree}".encode())
    for name in sorted(tensors):
        tensor = tensors[name]
        digest.update(f"\n{name} {tensor.dtype} {list(tensor.shape)}\n".encode())
        # Seen as bytes: numpy has no bfloat16. A tensor without dimensions has to get one first.
        data = tensor.contiguous().reshape(-1).view(torch.uint8)
        digest.update(data.numpy().data)
    return digest.hexdigest()


def save_checkpoint(path: Union[str, Path], kind: str, state: Dict[str, Any]) -> None:
    """Write ``state`` of the given ``kind`` to ``path``: temporary name, flush, rename.

    ``kind`` is written into the file, and asked for when it is read.

    Raises:
        TypeError: the state holds something that is neither a tensor nor plain data.
    """
    path = Path(path)
    tensors: Dict[str, torch.Tensor] = {}
    tree = _encode(state, tensors, "")
    text = json.dumps(tree)
    digest = _digest(text, kind, tensors)
    metadata = {"format": FORMAT, "kind": kind, "json": text, "sha256": digest}
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
    text, expected = metadata.get("json", ""), metadata.get("sha256")
    # Files of version 0.1 have no checksum.
    if expected is not None and _digest(text, kind, tensors) != expected:
        raise CheckpointError(
            f"{path} is damaged: its content has another SHA-256 than when it was written"
        )
    try:
        return _decode(json.loads(text), tensors)
    except (ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"{path} holds no readable state: {error!r}") from error


def earlier(path: Path) -> List[Path]:
    """Names of the checkpoints before ``path``, the last of them (``NAME.1...``) first."""
    return [path.with_name(f"{path.stem}.{age}{path.suffix}") for age in range(1, KEPT)]


def rotate(path: Path) -> None:
    """Keep what is at ``path`` under the first of its :func:`earlier` names, before it is replaced.

    ``path`` itself stays all the while.
    """
    if not path.is_file():
        return
    older = earlier(path)
    for source, target in zip(older[-2::-1], older[:0:-1]):
        if source.is_file():
            os.replace(source, target)
    with atomic_path(older[0]) as temporary:
        try:
            os.link(path, temporary)
        except OSError:  # a file system without links
            shutil.copyfile(path, temporary)


def load_newest(
    path: Union[str, Path], kind: str, say: Callable[[str], None] = print
) -> Dict[str, Any]:
    """Read a run's checkpoint or, where that is damaged, the newest one before it that is whole.

    Args:
        path: of the last checkpoint.
        kind: as it was saved.
        say: takes a line if an earlier checkpoint had to be taken.

    Raises:
        CheckpointError: none is whole, telling what is wrong with the last.
    """
    path = Path(path)
    try:
        return load_checkpoint(path, kind)
    except CheckpointError as error:
        for older in earlier(path):
            try:
                state = load_checkpoint(older, kind)
            except CheckpointError:
                continue
            say(f"{error}; going on from {older.name}")
            return state
        raise
