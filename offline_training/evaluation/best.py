"""The best policy of a run beside its last, and the learning curve, whatever it is played on."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Callable, Dict, List, Tuple

from go2_sevpo.policies.torch_policy import Policy
from go2_sevpo.runs.csv_log import append_row

Evaluator = Callable[[Policy], Dict[str, float]]
Rank = Callable[[Dict[str, float]], List[float]]
"""What an evaluation found, as numbers that are compared from left to right: more is better."""
CURVE = "evaluation.csv"


def read_curve(run: Path) -> List[Dict[str, float]]:
    """``evaluation.csv`` of a run: step, member and what every evaluation found.

    Empty if there was no evaluation.
    """
    path = run / CURVE
    if not path.is_file():
        return []
    with open(path, newline="", encoding="utf-8") as handle:
        return [{k: float(v) for k, v in row.items()} for row in csv.DictReader(handle)]


class BestKeeper:
    """Remembers each member's best evaluation.

    Args:
        evaluate: plays a policy.
        every: steps between evaluations.
        out: run folder, for ``evaluation.csv``.
        rank: what makes one evaluation better than another.
    """

    def __init__(self, evaluate: Evaluator, every: int, out: Path, rank: Rank) -> None:
        self.evaluate, self.every, self.out, self.rank = evaluate, every, out, rank
        self.best: Dict[int, List[float]] = {}

    def due(self, step: int, total: int) -> bool:
        """Whether to evaluate after ``step`` steps."""
        return step % self.every == 0 or step == total

    def offer(self, member: int, step: int, policy: Policy) -> Tuple[bool, Dict[str, float]]:
        """Evaluate, log to ``evaluation.csv``; True if this is the best so far."""
        found = self.evaluate(policy)
        row = {"step": step, "member": member, **{k: round(v, 6) for k, v in found.items()}}
        append_row(self.out / CURVE, row)
        score = self.rank(found)
        better = member not in self.best or score > self.best[member]
        if better:
            self.best[member] = score
        return better, found
