"""DSRL's files of the nine tasks: where they are published, where they lie, what they hold."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Dict, List, Optional

import numpy as np

from go2_sevpo.data.dsrl.files import read_dsrl
from go2_sevpo.data.shards import DatasetError
from go2_sevpo.envs.safety_gymnasium.tasks import EPISODE_STEPS, Task

HOST = "https://huggingface.co/datasets/YYY-45/DSRL/resolve/main"
"""Where the files are published."""


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
        f"no {task.file_name} in {', '.join(map(str, places))}; "
        f"get it with 'go2-dsrl download {task.name}' or set DSRL_DATASET_DIR"
    )


def validate(path: Path, task: Task) -> Dict[str, Any]:
    """Check a file against its task; returns what it holds.

    Raises:
        DatasetError: saying what was found and what was expected.
    """
    data = read_dsrl(path)
    sizes = dict.fromkeys(("observations", "next_observations"), task.num_obs)
    for key, size in {**sizes, "actions": task.num_actions}.items():
        shape = data.columns[key].shape
        if len(shape) != 2 or shape[1] != size:
            raise DatasetError(
                f"{path}: '{key}' has shape {shape}, expected (rows, {size}) for {task.name}"
            )
    if (data.columns["costs"] < 0).any():
        raise DatasetError(
            f"{path}: costs go down to {data.columns['costs'].min():g}, "
            "expected none below 0 (scaled already?)"
        )
    length = np.asarray(data.episodes["length"])
    if length.max() > EPISODE_STEPS:
        raise DatasetError(
            f"{path}: an episode has {length.max()} steps, "
            f"expected at most {EPISODE_STEPS} (missing timeouts?)"
        )
    return {
        "transitions": data.rows,
        "episodes": len(length),
        "unfinished": data.unfinished,
        "length": float(length.mean()),
        "return_min": float(data.episodes["return"].min()),
        "return_max": float(data.episodes["return"].max()),
        "cost_mean": float(data.episodes["cost"].mean()),
        "cost_max": float(data.episodes["cost"].max()),
        "as_published": len(length) == task.trajectories,
    }
