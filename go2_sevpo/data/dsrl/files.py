"""Single files in DSRL's layout, and the JSON beside those that ``go2-data merge`` wrote."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Dict, Optional

import h5py
import numpy as np

from go2_sevpo.data import shards
from go2_sevpo.data.hdf5 import PlainFileError, read_plain
from go2_sevpo.data.shards import DatasetError, Episodes
from go2_sevpo.runs.reading import read_json


def read_dsrl(path: Path) -> Episodes:
    """Read a single file in DSRL's layout; episodes are cut at terminals and timeouts.

    Rows behind the last of these are left out and counted (``unfinished``). No episode counts as a
    success and a terminal counts as a fall, unless the JSON beside the file says what became of its
    episodes (:func:`outcomes`).

    Raises:
        DatasetError: a missing key, a column of another shape, a file that is not whole, or a JSON
            of another file beside it.
    """
    try:
        with h5py.File(path, "r") as handle:
            missing = [k for k in shards.KEYS if k not in handle]
            if missing:
                raise DatasetError(
                    f"{path}: keys {', '.join(missing)} are missing, "
                    f"expected {', '.join(shards.KEYS)}"
                )
            columns: Dict[str, np.ndarray] = {
                k: np.asarray(read_plain(handle, k), dtype=np.float32) for k in shards.KEYS
            }
    except PlainFileError as error:
        raise DatasetError(f"{path}: {error}") from error
    except DatasetError:
        raise
    except Exception as error:
        # On damage HDF5 raises whatever its layers do: OSError, RuntimeError, KeyError, ...
        raise DatasetError(f"{path} is not a complete HDF5 file: {error}") from error
    columns = {k: _shaped(v, k, path) for k, v in columns.items()}
    counts = {key: len(column) for key, column in columns.items()}
    if len(set(counts.values())) > 1:
        found = ", ".join(f"{key} {count}" for key, count in counts.items())
        raise DatasetError(f"{path}: columns of different lengths: {found}")
    rows = counts["rewards"]
    done = (columns["terminals"] + columns["timeouts"]) > 0
    ends = np.flatnonzero(done)
    if not len(ends):
        raise DatasetError(
            f"{path}: no terminal or timeout, expected the end of at least one episode"
        )
    # An episode that the file's end cuts short is left out.
    columns = {k: v[: ends[-1] + 1] for k, v in columns.items()}
    starts = np.concatenate([[0], ends[:-1] + 1])
    episodes = {
        "length": ends - starts + 1,
        "return": np.add.reduceat(columns["rewards"], starts),
        "cost": np.add.reduceat(columns["costs"], starts),
        "success": np.zeros(len(ends)),
        "fall": columns["terminals"][ends],
    }
    known = outcomes(path)
    if known is not None:
        for key in OUTCOMES:
            if len(known[key]) != len(ends):
                raise DatasetError(
                    f"{path.with_suffix('.json')}: {len(known[key])} outcomes, expected one for "
                    f"each of the {len(ends)} episodes of {path.name}"
                )
            episodes[key] = np.asarray(known[key], dtype=np.float64)
    data = Episodes(columns, episodes, unfinished=rows - int(ends[-1]) - 1)
    shards.check_episodes(data, str(path), strict=False)
    return data


OUTCOMES = ("success", "fall")
"""What the layout has no place for, per episode."""


def _shaped(column: np.ndarray, key: str, path: Path) -> np.ndarray:
    """A column as (N, S) or, of single numbers, (N,); DSRL takes (N, 1) for the latter, too.

    Raises:
        DatasetError: it has another shape.
    """
    wide = key in ("observations", "next_observations", "actions")
    if not wide and column.ndim == 2 and column.shape[1] == 1:
        return column[:, 0]
    if column.ndim != (2 if wide else 1):
        expected = "(rows, numbers)" if wide else "(rows,) or (rows, 1)"
        raise DatasetError(f"{path}: '{key}' has shape {column.shape}, expected {expected}")
    return column


def outcomes(path: Path) -> Optional[Dict[str, Any]]:
    """What the JSON beside a merged file says of it; None where it says nothing.

    Raises:
        DatasetError: it is of another file, by its checksum, or damaged.
    """
    beside = path.with_suffix(".json")
    if not beside.is_file():
        return None
    try:
        found = read_json(beside)
    except ValueError as error:
        raise DatasetError(str(error)) from error
    if not isinstance(found, dict) or found.get("merged") is not True:
        return None  # of another kind
    if not all(isinstance(found.get(key), list) for key in OUTCOMES):
        raise DatasetError(f"{beside}: no list of {' and '.join(OUTCOMES)}, expected both")
    try:
        shards.check_digest(path, str(found.get("sha256")))
    except DatasetError:
        raise DatasetError(
            f"{beside} is of a file with another SHA-256 than {path.name} has; "
            "merge again, or delete the JSON to do without outcomes"
        ) from None
    return found
