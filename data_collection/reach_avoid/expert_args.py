"""Settings of the reach-avoid expert's training."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Tuple


@dataclass
class Args:
    """Train the reach-avoid expert."""

    out: Path = Path("runs/reach_avoid_expert")
    truth: Path = Path("runs/reach_avoid_truth.safetensors")
    """Cache of the ground truth; solved if missing (about a minute)."""
    steps: int = 900_000
    """Environment steps over all worlds."""
    worlds: int = 16
    gradient_steps: int = 4
    """Per step of all worlds."""
    hidden: Tuple[int, ...] = (128, 128)
    batch: int = 256
    rate: float = 5e-4
    gamma: float = 0.99
    exploration: float = 0.2
    """Standard deviation of the action noise."""
    random_share: float = 0.15
    """Share of training steps with a uniformly random action.

    A saturated brake at standstill is left in no other way.
    """
    guided: int = 80_000
    """Transitions put into the replay buffer beforehand.

    Greedy control on the ground truth's table, with strong noise, so that the critics see goals
    from the start.
    """
    guided_noise: float = 0.5
    multiplier: float = 2.0
    """lambda at the start."""
    multiplier_rate: float = 0.05
    multiplier_max: float = 10.0
    cost_limit: float = 0.02
    """Allowed hazard steps per episode."""
    leaving_cost: float = 2.0
    """Leaving the map counts as this many hazard steps while training."""
    time_cost: float = 0.02
    """Taken from the reward at each step while training, so that standing still does not pay."""
    evaluation: int = 1000
    """Feasible starts to evaluate on at the end."""
    seed: int = 0
