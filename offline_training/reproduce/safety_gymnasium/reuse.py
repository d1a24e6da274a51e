"""Lines of earlier tables that a new one need not train and play again.

For example ``go2-reproduce table1 --reuse docs/results/table1.json``.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Dict, List, Optional, Sequence

from go2_sevpo.algorithms import make_config
from go2_sevpo.offline_training.reproduce.safety_gymnasium.cells import Cell, SafetyTable
from go2_sevpo.offline_training.train import AS_PUBLISHED
from go2_sevpo.runs.reading import read_json

SAME = ("members", "seed", "episodes")
"""Settings of the tables that must agree.

So must the data, the training's configuration, the limit and the way of acting.
"""
BEFORE = 0.0
"""What all methods' rewards were scaled by where a result does not say."""
ACTING = ("choice",)
"""Configuration that no training depends on; how a line acted is recorded with it."""


@dataclass(frozen=True)
class Reused:
    """A line of an earlier table.

    Its rows (one per training seed), its training's learning curve and configuration.
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
            result = read_json(path)
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
    """Whether two configurations ask for the same training.

    What an older one lacks has its default.
    """
    try:
        new, old = (asdict(make_config(algorithm, c)) for c in (config, earlier or {}))
    except (TypeError, ValueError):
        return False  # a setting that is no longer there
    return earlier is not None and all(new[k] == old[k] for k in new if k not in ACTING)


def find(
    results: List[Dict[str, Any]],
    cell: Cell,
    config: Dict[str, Any],
    sha256: str,
    args: SafetyTable,
    reward_scale: float = 0.0,
) -> Optional[Reused]:
    """The line that shows what ``cell`` would, or None. Versions of the code are not compared.

    Args:
        results: of :func:`read`.
        cell: what is wanted.
        config: what its training would be configured with.
        sha256: of the file it would be trained on.
        args: the table's settings.
        reward_scale: what its training would multiply rewards by.
    """
    choice = config.get("choice") if cell.choice in (None, "preset") else cell.choice
    for result in results:
        settings = result["settings"]
        if result["data"].get(f"{cell.task} {cell.mix}", {}).get("sha256") != sha256:
            continue
        if any(settings[k] != getattr(args, k) for k in SAME):
            continue
        # The preset paper also decides that networks do not see the lidar's nearness.
        if (settings["preset"] in AS_PUBLISHED) != (args.preset in AS_PUBLISHED):
            continue
        # With a choice among candidates their number must agree, too.
        chooses = cell.choice != "first" and "choice" in config
        if chooses and settings["candidates"] != args.candidates:
            continue
        if result.get("reward_scales", {}).get(cell.name, BEFORE) != reward_scale:
            continue
        rows = [row for row in result["rows"] if _same_line(row, cell, choice)]
        earlier = result["configs"].get(cell.name)
        if len(rows) == args.members and trained_alike(cell.algorithm, config, earlier):
            rows = [{**row, "label": cell.label} for row in rows]
            curve = result["curves"].get(cell.name, [])
            return Reused(result["path"], rows, curve, earlier)
    return None


def _same_line(row: Dict[str, Any], cell: Cell, choice: Optional[str]) -> bool:
    alike = all(row[k] == getattr(cell, k) for k in ("task", "mix", "algorithm", "limit"))
    # Older results do not name the training; theirs had no changed settings.
    unchanged = f"{row['task']}_{row['mix'].replace(':', '_')}_{row['algorithm']}"
    training = row.get("training", unchanged)
    return alike and training == cell.name and (cell.choice is None or row["choice"] == choice)
