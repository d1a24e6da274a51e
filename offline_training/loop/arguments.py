"""The arguments of ``go2-loop``."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import List, Optional, Tuple

import tyro


@dataclass
class Args:
    """Train on mixed data; if the policy is safe enough, collect with it and train on everything;
    repeat.
    """

    dataset: tyro.conf.Positional[Tuple[Path, ...]]
    """Dataset folders of go2-collect, or Safety-Gymnasium files in DSRL's layout, to begin with."""
    out: Path
    """Working folder. The same command goes on after an interruption."""
    rounds: int = 2
    """Collections after the first training."""
    collect_temperature: Optional[float] = None
    """Sampling temperature while collecting; the policy's own if not given.

    More noise finds actions that are better than the policy's.
    """
    courses: Tuple[str, ...] = ("simple", "hard")
    episodes: int = 300
    """Episodes collected per course and round."""
    safe_enough: Optional[float] = None
    """Go2: largest fall rate, on any course, with which a policy may collect (0.5 if not given);
    Safety-Gymnasium: largest mean episode cost over the limit (1).
    """
    algorithm: str = "sevpo"
    preset: str = "laptop"
    set: List[str] = field(default_factory=list)
    """Overrides of the algorithm's settings, as name=value."""
    play_episodes: int = 250
    """Evaluation episodes per course after each training."""
    seed: int = 0
    simulator: str = "mujoco"
    threads: int = 0
    limit: float = 10.0
    """Safety-Gymnasium: cost an episode may have."""
    evaluate_every: int = 0
    """Safety-Gymnasium: steps between evaluations for learning curves; 0: none."""
    evaluate_episodes: int = 10
