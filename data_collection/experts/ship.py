"""Put a trained policy's provenance beside its ONNX file.

``python -m go2_sevpo.data_collection.experts.ship RUN NAME --evaluation ...``.
"""

from __future__ import annotations

import csv
import json
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Dict, List, Optional

import tyro

from go2_sevpo.policies.onnx_policy import SHIPPED, OnnxPolicy
from go2_sevpo.runs.files import write_atomically
from go2_sevpo.runs.provenance import made_by
from go2_sevpo.runs.reading import read_json

_KEPT = (
    *("course", "difficulty", "seed", "episodes"),
    *("success_rate", "success_interval", "fall_rate", "fall_interval", "timeout_rate"),
    *("return_mean", "cost_mean", "cost_max", "steps_mean"),
)
"""What of go2-play's report goes beside the policy."""


@dataclass
class Args:
    """Write NAME.json and NAME_curve.csv beside the shipped NAME.onnx."""

    run: tyro.conf.Positional[Path]
    name: tyro.conf.Positional[str]
    command: str
    """The command that trained the policy."""
    evaluation: List[Path] = field(default_factory=list)
    """report.json files of go2-play."""
    commit: Optional[str] = None
    """Commit of the code that trained it; the present one if not given."""
    every: int = 10
    """Keep one row of the learning curve in this many."""


def provenance(args: Args) -> Dict[str, Any]:
    """What made the policy and how well it does.

    Raises:
        ValueError: an evaluation is of another policy.
    """
    policy = OnnxPolicy(SHIPPED / f"{args.name}.onnx")
    evaluations = []
    for path in args.evaluation:
        report = read_json(path)
        found, expected = report["policy"]["sha256"], policy.identity["sha256"]
        if found != expected:
            raise ValueError(f"{path} is of policy {found[:12]}, expected {expected[:12]}")
        evaluations.append({k: report[k] for k in _KEPT})
    return {
        "policy": policy.identity,
        "command": args.command,
        "commit": args.commit or made_by()["commit"] or "unknown",
        "provenance": policy.contract["provenance"],
        "evaluations": evaluations,
    }


def main() -> None:
    """Write both files."""
    args = tyro.cli(Args)
    try:
        text = json.dumps(provenance(args), indent=1) + "\n"
    except ValueError as error:
        sys.exit(f"ship: {error}")
    write_atomically(SHIPPED / f"{args.name}.json", text)
    # What PPO's and what offline training's runs have.
    curves = (args.run / "progress.csv", args.run / "policy.csv")
    curve = next(p for p in curves if p.is_file())
    with open(curve, encoding="utf-8") as handle:
        rows = list(csv.reader(handle))
    kept = [rows[0], *rows[args.every :: args.every]]
    lines = [",".join(row) for row in kept]
    write_atomically(SHIPPED / f"{args.name}_curve.csv", "\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
