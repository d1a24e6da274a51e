"""Lines of earlier tables that a new one need not train and play again (``go2-reproduce table1
--reuse docs/results/table1.json``).
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Dict, List, Optional, Sequence

from go2_sevpo.algorithms import make_config

SAME = ("members", "seed", "episodes")
"""Settings of the tables that must agree, beside the data, the training's configuration, the limit
and the way of acting.
"""
ACTING = ("choice",)
"""Configuration that no training depends on; how a line acted is recorded with it."""


@dataclass(frozen=True)
class Reused:
    """A line of an earlier table: its rows (one per training seed), its training's learning curve
    and configuration.
    """

    path: Path
    rows: List[Dict[str, Any]]
    curve: List[Dict[str, float]]
    config: Dict[str, Any]


def read(paths: Sequence[Path]) -> List[Dict[str, Any]]:
    """Results of earlier tables, each with its ``path``.

    Raises:
        ValueError: a file that is not there or is not a table's result.
    """
    found = []
    for path in paths:
        try:
            result = json.loads(path.read_text(encoding="utf-8"))
            if not {"settings", "rows", "data", "curves", "configs"} <= set(result):
                raise ValueError
        except (OSError, ValueError, TypeError):
            raise ValueError(
                f"cannot reuse {path}, expected a tableK.json of go2-reproduce table1 to table4"
            ) from None
        found.append({**result, "path": path})
    return found


def trained_alike(
    algorithm: str, config: Dict[str, Any], earlier: Optional[Dict[str, Any]]
) -> bool:
    """Whether two configurations ask for the same training; what an older one lacks has its
    default.
    """
    try:
        full = [asdict(make_config(algorithm, c)) for c in (config, earlier or {})]
    except (TypeError, ValueError):
        return False
    return earlier is not None and all(full[0][k] == full[1][k] for k in full[0] if k not in ACTING)


def find(
    results: List[Dict[str, Any]], cell: Any, config: Dict[str, Any], sha256: str, args: Any
) -> Optional[Reused]:
    """The line that shows what ``cell`` would, or None. Versions of the code are not compared.

    Args:
        results: of :func:`read`.
        cell: a ``safety_tables.Cell``.
        config: what its training would be configured with.
        sha256: of the file it would be trained on.
        args: the table's settings.
    """
    choice = config.get("choice") if cell.choice in (None, "preset") else cell.choice
    for result in results:
        settings = result["settings"]
        if result["data"].get(f"{cell.task} {cell.mix}", {}).get("sha256") != sha256:
            continue
        if any(settings[k] != getattr(args, k) for k in SAME):
            continue
        if (settings["preset"] == "paper") != (
            args.preset == "paper"
        ):  # whether networks see the lidar's nearness
            continue
        rows = [r for r in result["rows"] if _same_line(r, cell, choice)]
        if (
            cell.choice != "first"
            and "choice" in config
            and settings["candidates"] != args.candidates
        ):
            continue
        if len(rows) == args.members and trained_alike(
            cell.algorithm, config, result["configs"].get(cell.name)
        ):
            rows = [{**r, "label": cell.label} for r in rows]
            return Reused(
                result["path"],
                rows,
                result["curves"].get(cell.name, []),
                result["configs"][cell.name],
            )
    return None


def _same_line(row: Dict[str, Any], cell: Any, choice: Optional[str]) -> bool:
    alike = all(row[k] == getattr(cell, k) for k in ("task", "mix", "algorithm", "limit"))
    training = row.get(
        "training", f"{row['task']}_{row['mix'].replace(':', '_')}_{row['algorithm']}"
    )
    return alike and training == cell.name and (cell.choice is None or row["choice"] == choice)
