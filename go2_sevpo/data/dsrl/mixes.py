"""Mixes of DSRL's trajectories: so many safe ones to so many unsafe ones (the paper's tables)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, List, Tuple

import h5py
import numpy as np

from go2_sevpo.data import shards
from go2_sevpo.data.shards import DatasetError, Episodes
from go2_sevpo.runs.files import atomic_path
from go2_sevpo.runs.provenance import write_result


@dataclass(frozen=True)
class Mix:
    """Whole trajectories by number, with repetition."""

    safe: np.ndarray
    unsafe: np.ndarray
    available: Tuple[int, int]
    """How many different ones there were to draw from, safe and unsafe."""


def draw_mix(
    data: Episodes, limit: float, safe_to_unsafe: float, safe_samples: int, seed: int
) -> Mix:
    """Trajectories for about ``safe_samples`` safe transitions and their share of unsafe ones.

    Of these there are ``safe_samples`` over ``safe_to_unsafe``. Safe: episode cost at most
    ``limit``. Each kind is drawn in a seeded random order without repetition; only when all of a
    kind are used is the order gone through again (the paper duplicates unsafe ones).

    Raises:
        DatasetError: a kind is asked for that the data do not have.
    """
    length, cost = np.asarray(data.episodes["length"]), np.asarray(data.episodes["cost"])
    rng = np.random.default_rng(seed)
    drawn: List[np.ndarray] = []
    kinds = (
        ("safe", cost <= limit, safe_samples),
        ("unsafe", cost > limit, safe_samples / safe_to_unsafe),
    )
    for name, mask, wanted in kinds:
        pool = np.flatnonzero(mask)
        if not len(pool):
            raise DatasetError(
                f"the data have no {name} trajectory (episode cost limit {limit:g}), "
                "expected at least one"
            )
        # Drawn until there are rows enough: the last trajectory may go beyond what is wanted.
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


def whole(data: Episodes, limit: float) -> Mix:
    """Every trajectory once: the data as they are, safe ones first."""
    cost = np.asarray(data.episodes["cost"])
    safe, unsafe = np.flatnonzero(cost <= limit), np.flatnonzero(cost > limit)
    return Mix(safe, unsafe, (len(safe), len(unsafe)))


def write_mix(data: Episodes, mix: Mix, out: Path, info: Dict[str, Any]) -> Dict[str, Any]:
    """Write the mix as one file in DSRL's layout.

    ``NAME.json`` beside it, which is returned, says how it was made: ``info`` and what was drawn.
    """
    ends = np.cumsum(np.asarray(data.episodes["length"], dtype=np.int64))
    order = np.concatenate([mix.safe, mix.unsafe])
    length = np.asarray(data.episodes["length"])
    rows = np.concatenate([np.arange(ends[k] - length[k], ends[k]) for k in order])
    rows = rows.astype(np.int64)
    with atomic_path(out) as temporary, h5py.File(temporary, "w") as handle:
        for key in shards.KEYS:
            column = data.columns[key][rows].astype(np.float32)
            handle.create_dataset(key, data=column, compression="gzip", compression_opts=1)
    made = dict(info)
    for k, (name, part) in enumerate((("safe", mix.safe), ("unsafe", mix.unsafe))):
        made[name] = {
            "trajectories": len(part),
            "different": len(set(part.tolist())),
            "available": mix.available[k],
            "transitions": int(length[part].sum()),
        }
    made["sha256"] = shards.sha256(out)
    write_result(out.with_suffix(".json"), made, indent=1)
    return made
