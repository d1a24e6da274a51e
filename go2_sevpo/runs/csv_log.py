"""Logs as CSV that survive being resumed."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Mapping

from go2_sevpo.runs.files import write_atomically


def append_row(path: Path, row: Mapping[str, object]) -> None:
    """Append one row; floats with six digits. A new file begins with the names."""
    new = not path.exists()
    with open(path, "a", newline="", encoding="utf-8") as handle:
        writer = csv.writer(handle)
        if new:
            writer.writerow(row)  # its keys
        writer.writerow([f"{v:.6g}" if isinstance(v, float) else v for v in row.values()])


def forget_after(path: Path, column: str, last: float) -> None:
    """Drop the rows whose ``column`` is beyond ``last``, and a last row that a kill cut short.

    A run that goes on from an older checkpoint writes them again. Nothing happens if there is no
    file, or no such column.
    """
    if not path.is_file():
        return
    # Text that is none is no number, either.
    with open(path, newline="", encoding="utf-8", errors="replace") as handle:
        try:
            names, *rows = list(csv.reader(handle)) or [[]]
        except csv.Error as error:
            raise ValueError(
                f"{path} is not a log of rows: {error}; move it away to go on with a new one"
            ) from None
    if column not in names:
        return
    place = names.index(column)
    kept = [r for r in rows if len(r) == len(names) and _number(r[place]) <= last]
    if len(kept) == len(rows):
        return
    text = io.StringIO()
    csv.writer(text).writerows([names, *kept])
    write_atomically(path, text.getvalue())


def _number(text: str) -> float:
    """A cell; infinite, beyond every step, if it is damaged."""
    try:
        return float(text)
    except ValueError:
        return float("inf")
