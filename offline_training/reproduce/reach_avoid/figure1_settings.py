"""The settings of ``go2-reproduce figure1``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Tuple


@dataclass
class Figure1:
    """Train SEVPO, FISOR and cloning on reach-avoid data at three safe-to-unsafe ratios; evaluate,
    tabulate, draw.
    """

    out: Path = Path("runs/figure1")
    """Working folder: data, runs, results. Finished parts are not done again."""
    truth: Path = Path("runs/reach_avoid_truth.safetensors")
    """Cache of the ground truth; solved if missing (about a minute)."""
    preset: str = "reach_avoid"
    """Training preset (offline_training/configs) or YAML file."""
    ratios: Tuple[float, ...] = (19, 10, 5)
    algorithms: Tuple[str, ...] = ("sevpo", "fisor", "bc-choice")
    """Also: bc-safe, cpq, coptidice, ccac. Plain cloning is bc-choice with one candidate."""
    members: int = 10
    """Training seeds, side by side in one process."""
    safe: int = 400_000
    """Safe transitions in each dataset."""
    starts: int = 500
    """Random feasible and infeasible evaluation starts, each."""
    paper_repeats: int = 20
    """Episodes from the paper's start per training seed (the policy is stochastic)."""
    candidates: Tuple[int, ...] = (1, 16)
    processes: int = 2
    """Trainings and evaluations at the same time, one core each."""
    seed: int = 0
