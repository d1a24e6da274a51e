"""What is done to whole datasets: repaired, merged into one file, selected from."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any, Dict, List, Optional

import h5py
import numpy as np

from go2_sevpo.data.shards import (
    KEYS,
    DatasetError,
    read_manifest,
    read_shard,
    sha256,
    shard_entry,
    shard_info,
    write_manifest,
)
from go2_sevpo.runs.files import UNFINISHED, atomic_path, write_atomically


def repair(folder: Path) -> Dict[str, Any]:
    """Rebuild the manifest from the shards that are whole; set damaged ones aside as ``*.damaged``.

    A shard that the manifest knows must be the file it knew; one that it does not know, or all if
    the manifest itself is damaged, are held to the checksums inside them.

    Returns the new manifest with the names set aside under ``damaged``.

    Raises:
        DatasetError: no whole shard is left.
    """
    entries: List[Dict[str, Any]] = []
    damaged: List[str] = []
    common: Dict[str, Any] = {}
    known: Dict[str, str] = {}
    try:
        old = read_manifest(folder)
    except DatasetError:
        pass  # to be made anew
    else:
        known = {entry["file"]: entry["sha256"] for entry in old["shards"]}
        common = {k: old[k] for k in ("environment", "observation", "sources", "seed") if k in old}
    for path in sorted(folder.glob("*.hdf5")):
        try:
            data, info = read_shard(path, known.get(path.name)), shard_info(path)
        except DatasetError:
            # Renamed, not deleted: there may be something to save in it.
            os.replace(path, path.with_name(path.name + ".damaged"))
            damaged.append(path.name)
            continue
        for key in ("environment", "observation"):
            if key in info:
                common.setdefault(key, info[key])
        entries.append(shard_entry(path, data, info))
    if not entries:
        raise DatasetError(f"{folder} holds no whole shard ({len(damaged)} damaged)")
    # Files a kill left half written.
    for leftover in folder.glob(f"*.hdf5*{UNFINISHED}"):
        leftover.unlink()
    return {**write_manifest(folder, entries, common), "damaged": damaged}


def merge(folder: Path, out: Path) -> int:
    """Write all shards as one HDF5 file in DSRL's layout; returns the number of transitions.

    DSRL's loaders read observations, next_observations, actions, rewards, costs, terminals and
    timeouts. What the layout has no place for, success and fall of every episode and the contract
    with the environment, goes into ``NAME.json`` beside it, which our loader reads.
    """
    manifest = read_manifest(folder)
    total, start = manifest["transitions"], 0
    became: Dict[str, List[int]] = {"success": [], "fall": []}
    with atomic_path(out) as temporary, h5py.File(temporary, "w") as handle:
        for entry in manifest["shards"]:
            data = read_shard(folder / entry["file"], entry["sha256"])
            for key in KEYS:
                column = data.columns[key]
                if key not in handle:
                    # At its full size: the first shard says how wide it is.
                    handle.create_dataset(key, shape=(total, *column.shape[1:]), dtype=np.float32)
                handle[key][start : start + data.rows] = column
            start += data.rows
            for key, values in became.items():
                values += [int(x) for x in data.episodes[key]]
    kept: Dict[str, Any]
    kept = {k: manifest[k] for k in ("environment", "observation") if k in manifest}
    beside: Dict[str, Any] = {"merged": True, "sha256": sha256(out), **kept, **became}
    write_atomically(out.with_suffix(".json"), json.dumps(beside))
    return total


def select(
    folder: Path, out: Path, policy: Optional[str] = None, course: Optional[str] = None
) -> Dict[str, Any]:
    """Make a dataset of those shards of another that came from ``policy`` on ``course``.

    Either may be left open. Returns the new manifest. Shards are linked where the file system can,
    else copied; no episode is changed or simulated again.

    Raises:
        DatasetError: no such shard, or ``out`` holds something already.
    """
    manifest = read_manifest(folder)
    if out.exists() and any(out.iterdir()):
        raise DatasetError(f"{out} is not empty; use another --out")

    def wanted(source: Dict[str, Any]) -> bool:
        name = Path(source.get("policy", "")).stem
        return policy in (None, name) and course in (None, source.get("course"))

    entries = [e for e in manifest["shards"] if wanted(e["info"].get("source", {}))]
    if not entries:
        sources = [e["info"].get("source", {}) for e in manifest["shards"]]
        known = sorted({(s.get("policy", "?"), s.get("course", "?")) for s in sources})
        held = ", ".join(f"{Path(p).stem} on {c}" for p, c in known)
        raise DatasetError(
            f"{folder} has nothing of policy {policy or 'any'} on {course or 'any course'}; "
            f"it has {held}"
        )
    out.mkdir(parents=True, exist_ok=True)
    for entry in entries:
        source, target = folder / entry["file"], out / entry["file"]
        try:
            os.link(source, target)
        except OSError:  # another file system
            with atomic_path(target) as temporary:
                shutil.copyfile(source, temporary)
    # What is counted anew; the rest of the manifest is kept.
    whole = ("schema", "transitions", "episodes", "successes", "falls", "shards")
    common = {k: v for k, v in manifest.items() if k not in whole}
    common["sources"] = [s for s in manifest.get("sources", []) if wanted(s)]
    return write_manifest(out, entries, common)
