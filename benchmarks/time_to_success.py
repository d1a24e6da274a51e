"""Training time against success: ``python -m benchmarks.time_to_success RUN``.

RUN is a run of ``go2-train --evaluate-every``. Time is that of the gradient steps of all stages
(from the rates the run logged), without loading data and without the evaluations.
"""

from __future__ import annotations

import csv
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, List

import tyro

from benchmarks.record import record
from go2_sevpo.metrics import wilson
from go2_sevpo.offline_training.evaluation.best import read_curve
from go2_sevpo.runs.reading import read_json


@dataclass
class Args:
    """How long a run trained until its policy reached the success rate it ended with."""

    run: tyro.conf.Positional[Path]
    episodes: int
    """Episodes of each evaluation, over all courses (--evaluate-episodes times courses), for the
    intervals.
    """
    name: str = "time_to_success_laptop"
    out: Path = Path("benchmarks/results.json")


def seconds_of(path: Path) -> List[List[float]]:
    """Steps done and the seconds they took, row by row, of one stage's CSV.

    A row's rate is that since the row before: seconds += steps since then / rate.
    """
    rows, seconds, before = [], 0.0, 0.0
    with open(path, newline="", encoding="utf-8") as handle:
        for row in csv.DictReader(handle):
            step = float(row["step"])
            seconds += (step - before) / float(row["steps_per_second"])
            rows.append([step, seconds])
            before = step
    return rows


def curve(run: Path, episodes: int) -> List[Dict[str, Any]]:
    """Success with interval after each evaluation of a run, by seconds of training.

    Raises:
        ValueError: a run without evaluations.
    """
    evaluated = read_curve(run)
    if not evaluated:
        raise ValueError(
            f"{run} has no evaluation.csv, expected a run of go2-train --evaluate-every"
        )
    # Critics, where an algorithm has them, are trained before the policy.
    earlier = seconds_of(run / "critics.csv")[-1][1] if (run / "critics.csv").is_file() else 0.0
    policy = seconds_of(run / "policy.csv")
    found = []
    for row in evaluated:
        spent = next(s for step, s in policy if step >= row["step"])
        good = round(row["success"] * episodes)
        point = {"step": int(row["step"]), "seconds": round(earlier + spent, 1)}
        found.append({**point, "success": row["success"], "interval": wilson(good, episodes)})
    return found


def main() -> None:
    """Print the curve; record it with the time to the final rate.

    That is the first evaluation whose interval holds the last one's rate.
    """
    args = tyro.cli(Args)
    try:
        found = curve(args.run, args.episodes)
    except (ValueError, OSError) as error:
        sys.exit(f"time_to_success: {error}")
    final = found[-1]["success"]
    reached = next(r for r in found if r["interval"][1] >= final)
    config = read_json(args.run / "config.json")
    values = {
        "algorithm": config["algorithm"],
        "preset": config["preset"],
        "transitions": config["dataset"]["transitions"],
        "final_success": final,
        "seconds_to_final_success": reached["seconds"],
        "seconds": found[-1]["seconds"],
        "curve": found,
    }
    record(args.out, args.name, values)


if __name__ == "__main__":
    main()
