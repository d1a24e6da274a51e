"""Datasets on disk: a folder of HDF5 shards and a manifest.

Every shard holds whole episodes under DSRL's keys and is valid alone. Shards are written to a
temporary name, flushed and renamed; ``manifest.json`` comes last and holds a SHA-256 per shard and
one of itself. A shard also carries a SHA-256 of its numbers, for when there is no manifest yet.
Keys, all float32 with one row per transition: ``observations``, ``next_observations`` (the true
successor at every row), ``actions``, ``rewards``, ``costs``, ``terminals``, ``timeouts``. Per
episode, under ``episodes/``: ``length``, ``return``, ``cost``, ``success``, ``fall``.

Two columns may be there or not: ``actor``, who acted on each row (a place in the names
``info["actors"]``; without it one policy did), and ``constraint``, the value h of the constraint
after the step, above 0 where it is violated.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, List, Optional, Set, Tuple

import h5py
import numpy as np

from go2_sevpo.data.hdf5 import PlainFileError, read_plain
from go2_sevpo.runs.files import atomic_path, write_atomically
from go2_sevpo.runs.reading import read_json

SCHEMA = 1
KEYS = ("observations", "next_observations", "actions", "rewards", "costs", "terminals", "timeouts")
OPTIONAL = ("actor", "constraint")
EPISODE_KEYS = ("length", "return", "cost", "success", "fall")
MANIFEST = "manifest.json"


class DatasetError(ValueError):
    """A dataset is missing, damaged or of another layout than expected."""


@dataclass
class Episodes:
    """Whole episodes one after the other: ``columns`` by key (M rows), ``episodes`` (E rows).

    ``actors`` names who acted, if that was recorded.
    """

    columns: Dict[str, np.ndarray]
    episodes: Dict[str, np.ndarray]
    actors: Tuple[str, ...] = ()
    unfinished: int = 0
    """Rows of a file behind its last episode's end, which were left out."""

    @property
    def rows(self) -> int:
        """Number of transitions."""
        return int(np.size(self.columns["rewards"]))


def sha256(path: Path) -> str:
    """SHA-256 of a file, hexadecimal."""
    digest = hashlib.sha256()
    with open(path, "rb") as handle:
        for block in iter(lambda: handle.read(1 << 20), b""):
            digest.update(block)
    return digest.hexdigest()


def write_shard(path: Path, data: Episodes, info: Dict[str, Any]) -> Dict[str, Any]:
    """Write one shard and return its manifest entry.

    Raises:
        DatasetError: the episodes are inconsistent (see :func:`check_episodes`).
    """
    check_episodes(data, str(path.name))
    if "actor" in data.columns:
        info = {**info, "actors": list(data.actors)}
    with atomic_path(path) as temporary, h5py.File(temporary, "w") as handle:
        for key in (k for k in (*KEYS, *OPTIONAL) if k in data.columns):
            handle.create_dataset(key, data=_stored(key, data.columns[key]))
        for key in EPISODE_KEYS:
            handle.create_dataset(f"episodes/{key}", data=data.episodes[key])
        handle.attrs["schema"] = SCHEMA
        handle.attrs["info"] = json.dumps(info)
        handle.attrs["sha256"] = content_digest(data)
    return shard_entry(path, data, info)


def _stored(key: str, column: np.ndarray) -> np.ndarray:
    """A column as it lies in the file."""
    return column.astype(np.int16 if key == "actor" else np.float32, copy=False)


def content_digest(data: Episodes) -> str:
    """SHA-256 of the numbers of a shard as they are stored, key by key."""
    digest = hashlib.sha256()
    stored = [_stored(key, data.columns[key]) for key in (*KEYS, *OPTIONAL) if key in data.columns]
    for array in (*stored, *(np.asarray(data.episodes[key]) for key in EPISODE_KEYS)):
        digest.update(f"{array.dtype.str} {array.shape}\n".encode())
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()


def shard_entry(path: Path, data: Episodes, info: Dict[str, Any]) -> Dict[str, Any]:
    """The manifest's record of one shard."""
    e = data.episodes
    # Plain numbers, as JSON takes no numpy ones.
    return {
        "file": path.name,
        "sha256": sha256(path),
        "transitions": data.rows,
        "episodes": len(e["length"]),
        "return_mean": float(np.mean(e["return"])),
        "cost_mean": float(np.mean(e["cost"])),
        "successes": int(np.sum(e["success"])),
        "falls": int(np.sum(e["fall"])),
        "info": info,
    }


def true_successors(data: Episodes) -> np.ndarray:
    """Whether a row's successor is the next row's observation, (M,) bool.

    True at the end of an episode by definition.
    """
    obs, successors = data.columns["observations"], data.columns["next_observations"]
    same = np.ones(data.rows, dtype=bool)
    same[:-1] = (successors[:-1] == obs[1:]).all(axis=1)
    same[np.cumsum(np.asarray(data.episodes["length"], dtype=np.int64)) - 1] = True
    return same


def check_episodes(data: Episodes, name: str, strict: bool = True) -> None:
    """Check lengths, finiteness and that flags and lengths agree.

    If ``strict``, successors have to be the following rows too (files of others may keep something
    else there). ``name`` is what messages call the data.

    Raises:
        DatasetError: saying what was found and what was expected.
    """
    rows = data.rows
    for key in (*KEYS, *(k for k in OPTIONAL if k in data.columns)):
        column = data.columns.get(key)
        if column is None:
            raise DatasetError(f"{name}: key '{key}' is missing, expected {', '.join(KEYS)}")
        wanted = 2 if key in ("observations", "next_observations", "actions") else 1
        if column.ndim != wanted:
            raise DatasetError(
                f"{name}: '{key}' has shape {column.shape}, expected {wanted} dimensions"
            )
        if len(column) != rows:
            raise DatasetError(f"{name}: '{key}' has {len(column)} rows, expected {rows}")
        if not np.isfinite(column).all():
            row = int(np.argwhere(~np.isfinite(column))[0][0])
            raise DatasetError(
                f"{name}: '{key}' is not finite at row {row}, expected finite numbers"
            )
    sizes = [data.columns[key].shape[1] for key in ("observations", "next_observations")]
    if sizes[0] != sizes[1]:
        raise DatasetError(
            f"{name}: observations have {sizes[0]} numbers, next_observations {sizes[1]}"
        )
    for key in EPISODE_KEYS:
        column = np.asarray(data.episodes[key])
        if column.ndim != 1 or len(column) != len(data.episodes["length"]):
            raise DatasetError(f"{name}: 'episodes/{key}' has shape {column.shape}, expected one")
        if not np.isfinite(column).all():
            raise DatasetError(f"{name}: 'episodes/{key}' is not finite, expected finite numbers")
    actor = data.columns.get("actor")
    if actor is not None and not np.isin(actor, np.arange(len(data.actors))).all():
        raise DatasetError(
            f"{name}: 'actor' holds {sorted(set(actor.tolist()))[:4]}, "
            f"expected places in its {len(data.actors)} names of policies"
        )
    lengths = np.asarray(data.episodes["length"], dtype=np.int64)
    if len(lengths) == 0 or lengths.min() < 1:
        raise DatasetError(f"{name}: an episode without steps, expected at least one in each")
    if lengths.sum() != rows:
        raise DatasetError(f"{name}: episode lengths sum to {lengths.sum()}, expected {rows} rows")
    # Episodes end where a flag is set, and nowhere else.
    ends = np.cumsum(lengths) - 1
    done = (data.columns["terminals"] + data.columns["timeouts"]) > 0
    if not np.array_equal(np.flatnonzero(done), ends):
        raise DatasetError(
            f"{name}: {int(done.sum())} terminals or timeouts, "
            f"expected exactly one at the end of each of {len(ends)} episodes"
        )
    if strict and not true_successors(data).all():
        row = int(np.flatnonzero(~true_successors(data))[0])
        raise DatasetError(
            f"{name}: next_observations at row {row} differ from the following observations"
        )


def check_digest(path: Path, expected: str) -> None:
    """Compare a file with its SHA-256, once for each state of the file.

    Raises:
        DatasetError: it is not the file that the manifest is of.
    """
    status = path.stat()
    key = (str(path.resolve()), status.st_mtime_ns, status.st_size, expected)
    if key in _CHECKED:
        return
    found = sha256(path)
    if found != expected:
        raise DatasetError(
            f"{path}: SHA-256 is {found[:12]}..., expected {expected[:12]}... (damaged, or of "
            "another dataset; go2-data validate looks at all)"
        )
    _CHECKED.add(key)


_CHECKED: Set[Tuple[str, int, int, str]] = set()
"""Files whose checksum was right, with their times and sizes."""


def read_shard(path: Path, digest: Optional[str] = None) -> Episodes:
    """Read and check one shard, against its SHA-256 ``digest`` first if that is given.

    Raises:
        DatasetError: missing, truncated, not what it should be, or inconsistent.
    """
    if not path.is_file():
        raise DatasetError(f"no shard at {path}")
    if digest is not None:
        check_digest(path, digest)
    try:
        with h5py.File(path, "r") as handle:
            if handle.attrs.get("schema") != SCHEMA:
                raise DatasetError(
                    f"{path}: schema {handle.attrs.get('schema')}, expected {SCHEMA}"
                )
            for key in list(KEYS) + [f"episodes/{k}" for k in EPISODE_KEYS]:
                if key not in handle:
                    raise DatasetError(
                        f"{path}: key '{key}' is missing, expected {', '.join(KEYS)}"
                    )
            stated = handle.attrs.get("sha256")
            there = (*KEYS, *(key for key in OPTIONAL if key in handle))
            columns = {key: read_plain(handle, key) for key in there}
            actors = _actors(handle)
            episodes = {key: read_plain(handle, f"episodes/{key}") for key in EPISODE_KEYS}
    except PlainFileError as error:
        raise DatasetError(f"{path}: {error}") from error
    except DatasetError:
        raise
    except Exception as error:
        # On damage HDF5 raises whatever its layers do: OSError, RuntimeError, KeyError, ...
        raise DatasetError(f"{path} is not a complete HDF5 file (truncated?): {error}") from error
    data = Episodes(columns, episodes, actors)
    check_episodes(data, str(path))
    # Of the file as a whole more is known than of its numbers; files of version 0.1 have neither.
    if digest is None and stated is not None and content_digest(data) != stated:
        raise DatasetError(f"{path} is damaged: its numbers have another SHA-256 than when written")
    return data


def _actors(handle: h5py.File) -> Tuple[str, ...]:
    """Names of those who acted, from a shard's ``info``: of several, or of the one policy."""
    try:
        info = json.loads(handle.attrs["info"])
        names = info.get("actors") or [info["policy"]["name"]]
    except (KeyError, TypeError, ValueError, AttributeError):
        return ()
    return tuple(str(name) for name in names)


def shard_info(path: Path) -> Dict[str, Any]:
    """The ``info`` a shard was written with.

    Raises:
        DatasetError: not a shard of this schema.
    """
    try:
        with h5py.File(path, "r") as handle:
            info: Dict[str, Any] = json.loads(handle.attrs["info"])
            return info
    except Exception as error:  # see read_shard
        raise DatasetError(f"{path} is not a shard: {error}") from error


def read_manifest(folder: Path) -> Dict[str, Any]:
    """Read ``manifest.json``.

    Raises:
        DatasetError: no dataset there, or another schema.
    """
    path = folder / MANIFEST
    if not path.is_file():
        kind = (
            "an unfinished collection (run the same go2-collect again, or go2-data repair)"
            if list(folder.glob("*.hdf5"))
            else "no dataset"
        )
        raise DatasetError(f"{folder} holds {kind}: {MANIFEST} is missing")
    try:
        manifest = read_json(path)
    except ValueError as error:
        raise DatasetError(str(error)) from error
    if not isinstance(manifest, dict) or manifest.get("schema") != SCHEMA:
        found = manifest.get("schema") if isinstance(manifest, dict) else manifest
        raise DatasetError(f"{path}: schema {found}, expected {SCHEMA}")
    stated = manifest.pop("sha256", None)
    if stated is not None and stated != _manifest_digest(manifest):
        raise DatasetError(
            f"{path} is damaged or was changed by hand: it has another SHA-256 than when it was "
            "written (go2-data repair makes a new one from the shards)"
        )
    for entry in manifest.get("shards", []):
        # Files are read, linked and copied by these names.
        name = entry.get("file") if isinstance(entry, dict) else entry
        if not isinstance(name, str) or Path(name).name != name or name in ("", ".", ".."):
            raise DatasetError(f"{path}: a shard is called {name!r}, expected a bare file name")
    return manifest


def write_manifest(
    folder: Path, entries: List[Dict[str, Any]], common: Dict[str, Any]
) -> Dict[str, Any]:
    """Write the manifest of all shards and return it.

    ``common`` describes the whole (configuration, layout).
    """
    counts = ("transitions", "episodes", "successes", "falls")
    total = {key: sum(entry[key] for entry in entries) for key in counts}
    manifest = {"schema": SCHEMA, **common, **total, "shards": entries}
    sealed = {**manifest, "sha256": _manifest_digest(manifest)}
    write_atomically(folder / MANIFEST, json.dumps(sealed, indent=1))
    return manifest


def _manifest_digest(manifest: Dict[str, Any]) -> str:
    """SHA-256 of what a manifest says, however it is laid out."""
    return hashlib.sha256(json.dumps(manifest, sort_keys=True).encode()).hexdigest()


def validate(folder: Path) -> Dict[str, Any]:
    """Check every shard against the manifest: presence, checksum, content. Returns the manifest.

    Raises:
        DatasetError: the first fault found.
    """
    manifest = read_manifest(folder)
    for entry in manifest["shards"]:
        path = folder / entry["file"]
        if not path.is_file():
            raise DatasetError(f"shard {entry['file']} is missing from {folder}")
        found = sha256(path)
        if found != entry["sha256"]:
            raise DatasetError(
                f"{path}: SHA-256 is {found[:12]}..., expected {entry['sha256'][:12]}..."
            )
        data = read_shard(path)
        if data.rows != entry["transitions"]:
            raise DatasetError(f"{path}: {data.rows} transitions, expected {entry['transitions']}")
    return manifest
