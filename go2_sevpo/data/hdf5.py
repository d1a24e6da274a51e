"""Reading HDF5 files of others: only what lies in the file itself, and no more than it can hold.

HDF5 can point elsewhere: external storage and virtual datasets read other files, soft and external
links lead to other places. A dataset that does so could make a program read, and pass on, a file
of its user's.
"""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np

MOST_COMPRESSED = 1100
"""Deflate makes data at most 1032 times smaller; what claims more is not believed."""
ALWAYS_ALLOWED = 1 << 20
"""Bytes that a dataset may have whatever the size of its file: constants compress better."""


class PlainFileError(ValueError):
    """A file points outside itself, or claims more than it can hold."""


def read_plain(handle: h5py.File, key: str) -> np.ndarray:
    """Read a dataset of numbers that lies in the open file under ``key``.

    Raises:
        PlainFileError: links, external or virtual storage, other types, or an incredible size.
    """
    place: h5py.Group = handle
    parts = key.split("/")
    for number, part in enumerate(parts):
        link = place.get(part, getlink=True)
        if not isinstance(link, h5py.HardLink):
            raise PlainFileError(f"'{key}' is a link to another place, expected data in the file")
        item = place[part]
        if number < len(parts) - 1:
            if not isinstance(item, h5py.Group):
                raise PlainFileError(f"'{part}' is a dataset, expected a group")
            place = item
    if not isinstance(item, h5py.Dataset):
        raise PlainFileError(f"'{key}' is a group, expected a dataset")
    if item.external or item.is_virtual:
        raise PlainFileError(f"'{key}' lies in another file, expected data in the file")
    if item.dtype.kind not in "fiub":
        raise PlainFileError(f"'{key}' has type {item.dtype}, expected numbers")
    size = Path(handle.filename).stat().st_size
    if item.nbytes > max(MOST_COMPRESSED * size, ALWAYS_ALLOWED):
        raise PlainFileError(
            f"'{key}' claims {item.nbytes} bytes in a file of {size}, which cannot be"
        )
    found: np.ndarray = item[()]
    return found
