"""Single files in DSRL's layout."""

from __future__ import annotations

from pathlib import Path
from typing import Dict

import h5py
import numpy as np

from go2_sevpo.data import shards
from go2_sevpo.data.hdf5 import PlainFileError, read_plain
from go2_sevpo.data.shards import DatasetError, Episodes


def read_dsrl(path: Path) -> Episodes:
    """Read a single file in DSRL's layout; episodes are cut at terminals and timeouts.

    Rows behind the last of these are dropped. No episode counts as a success; a terminal counts as
    a fall.

    Raises:
        DatasetError: a missing key or a file that is not whole.
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
    for key in ("rewards", "costs", "terminals", "timeouts"):
        if columns[key].ndim != 1:
            raise DatasetError(f"{path}: '{key}' has shape {columns[key].shape}, expected (N,)")
    rows = {key: len(np.atleast_1d(column)) for key, column in columns.items()}
    if len(set(rows.values())) > 1:
        found = ", ".join(f"{key} {count}" for key, count in rows.items())
        raise DatasetError(f"{path}: columns of different lengths: {found}")
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
    data = Episodes(columns, episodes)
    shards.check_episodes(data, str(path), strict=False)
    return data
