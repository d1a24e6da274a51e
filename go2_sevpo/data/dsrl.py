"""DSRL files (Liu et al. 2024): the nine Safety-Gymnasium tasks of the paper, where their files lie, scores, checks, mixes.

The figures per task are DSRL's published constants; normalised scores are comparable with every paper that uses them.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, List, Optional, Tuple

import h5py
import numpy as np

from go2_sevpo.data import shards
from go2_sevpo.data.dataset import read_dsrl
from go2_sevpo.data.shards import DatasetError, Episodes
from go2_sevpo.data.tasks import EPISODE_STEPS, TASKS, Task, find_task

HOST = "https://huggingface.co/datasets/YYY-45/DSRL/resolve/main"
"""Where the files are published."""


def normalised_cost(cost: float, limit: float) -> float:
    """(cost + eps) / (limit + eps), eps = 1 only where the limit is 0: safe is below 1."""
    eps = 1.0 if limit == 0 else 0.0
    return (cost + eps) / (limit + eps)


def folders() -> List[Path]:
    """Where files are looked for: ``$DSRL_DATASET_DIR``, then DSRL's own cache."""
    named = os.environ.get("DSRL_DATASET_DIR")
    return [Path(p) for p in ([named] if named else [])] + [Path.home() / ".dsrl" / "datasets"]


def find_file(task: Task, path: Optional[Path] = None) -> Path:
    """The task's file: ``path`` itself, or in ``path``, or in :func:`folders`.

    Raises:
        DatasetError: it is nowhere; says where it was looked for and how to get it.
    """
    places = folders() if path is None else [path]
    for place in places:
        if place.is_file():
            return place
        if (place / task.file_name).is_file():
            return place / task.file_name
    raise DatasetError(
        f"no {task.file_name} in {', '.join(map(str, places))}; get it with 'go2-dsrl download {task.name}' or set DSRL_DATASET_DIR"
    )


def validate(path: Path, task: Task) -> Dict[str, Any]:
    """Check a file against its task; returns what it holds.

    Raises:
        DatasetError: saying what was found and what was expected.
    """
    data = read_dsrl(path)
    sizes = {"observations": task.num_obs, "next_observations": task.num_obs, "actions": task.num_actions}
    for key, size in sizes.items():
        shape = data.columns[key].shape
        if len(shape) != 2 or shape[1] != size:
            raise DatasetError(f"{path}: '{key}' has shape {shape}, expected (rows, {size}) for {task.name}")
    if (data.columns["costs"] < 0).any():
        raise DatasetError(
            f"{path}: costs go down to {data.columns['costs'].min():g}, expected none below 0 (scaled already?)"
        )
    length = np.asarray(data.episodes["length"])
    if length.max() > EPISODE_STEPS:
        raise DatasetError(
            f"{path}: an episode has {length.max()} steps, expected at most {EPISODE_STEPS} (missing timeouts?)"
        )
    return {
        "transitions": data.rows, "episodes": len(length), "length": float(length.mean()),
        "return_min": float(data.episodes["return"].min()), "return_max": float(data.episodes["return"].max()),
        "cost_mean": float(data.episodes["cost"].mean()), "cost_max": float(data.episodes["cost"].max()),
        "as_published": len(length) == task.trajectories,
    }  # fmt: skip


@dataclass(frozen=True)
class Mix:
    """Whole trajectories by number, with repetition, and how many different ones there were to draw from."""

    safe: np.ndarray
    unsafe: np.ndarray
    available: Tuple[int, int]


def draw_mix(data: Episodes, limit: float, safe_to_unsafe: float, safe_samples: int, seed: int) -> Mix:
    """Trajectories for about ``safe_samples`` safe transitions and that many over ``safe_to_unsafe`` unsafe ones.

    Safe: episode cost at most ``limit``. Each kind is drawn in a seeded random order without repetition; only when all of a kind are
    used is the order gone through again (the paper duplicates unsafe ones).

    Raises:
        DatasetError: a kind is asked for that the data do not have.
    """
    length, cost = np.asarray(data.episodes["length"]), np.asarray(data.episodes["cost"])
    rng = np.random.default_rng(seed)
    drawn: List[np.ndarray] = []
    kinds = (("safe", cost <= limit, safe_samples), ("unsafe", cost > limit, safe_samples / safe_to_unsafe))
    for name, mask, wanted in kinds:
        pool = np.flatnonzero(mask)
        if not len(pool):
            raise DatasetError(
                f"the data have no {name} trajectory (episode cost limit {limit:g}), expected at least one"
            )
        order: List[int] = []
        rows = 0
        while rows < wanted:
            for k in rng.permutation(pool):
                if rows >= wanted:
                    break
                order.append(int(k))
                rows += int(length[k])
        drawn.append(np.array(order))
    return Mix(drawn[0], drawn[1], (int((cost <= limit).sum()), int((cost > limit).sum())))


def write_mix(data: Episodes, mix: Mix, out: Path, info: Dict[str, Any]) -> Dict[str, Any]:
    """Write the mix as one file in DSRL's layout and ``NAME.json`` beside it, which says how it was made."""
    ends = np.cumsum(np.asarray(data.episodes["length"], dtype=np.int64))
    order = np.concatenate([mix.safe, mix.unsafe])
    rows = np.concatenate([np.arange(ends[k] - data.episodes["length"][k], ends[k]) for k in order]).astype(np.int64)
    out.parent.mkdir(parents=True, exist_ok=True)
    temporary = out.with_name(out.name + ".tmp")
    with h5py.File(temporary, "w") as handle:
        for key in shards.KEYS:
            handle.create_dataset(
                key, data=data.columns[key][rows].astype(np.float32), compression="gzip", compression_opts=1
            )
    os.replace(temporary, out)
    length = np.asarray(data.episodes["length"])
    made = {
        **info,
        **{
            name: {
                "trajectories": len(part), "different": len(set(part.tolist())), "available": mix.available[k],
                "transitions": int(length[part].sum()),
            }
            for k, (name, part) in enumerate((("safe", mix.safe), ("unsafe", mix.unsafe)))
        },
        "sha256": shards.sha256(out),
    }  # fmt: skip
    shards.write_atomically(out.with_suffix(".json"), json.dumps(made, indent=1))
    return made


__all__ = [
    "EPISODE_STEPS", "HOST", "Mix", "TASKS", "Task", "draw_mix", "find_file", "find_task", "folders", "normalised_cost", "validate",
    "write_mix",
]  # fmt: skip
