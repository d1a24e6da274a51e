"""What the Go2 benchmarks compare: methods by name, with the settings that make them what they are.

A title says which parts of a method are on, whatever the preset has.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Dict, Tuple

SAFE_PART = ("unsafe_objective=none", "b2=0.0")


@dataclass(frozen=True)
class Arm:
    """One row: an algorithm, what is changed of its preset, and how it acts."""

    title: str
    algorithm: str
    settings: Tuple[str, ...] = ()
    choice: str = "first"
    candidates: int = 1


ARMS: Dict[str, Arm] = {
    "sevpo": Arm("SEVPO, safe part", "sevpo", SAFE_PART),
    "sevpo-awr": Arm("SEVPO, `awr`", "sevpo", ("unsafe_objective=awr", "b2=1.0")),
    "sevpo-gradient": Arm("SEVPO, `gradient`", "sevpo", ("unsafe_objective=gradient", "b2=0.3")),
    "sevpo-search": Arm("SEVPO, `search`", "sevpo", ("unsafe_objective=search", "b2=1.0")),
    "bc": Arm("cloning, all data", "bc"),
    "bc-safe": Arm("cloning, safe episodes", "bc-safe"),
    "bc-lookahead": Arm("lookahead and cloning, no critic", "bc-lookahead"),
    "bc-choice": Arm("cloning + Q_c choice, N = 16", "bc-choice", (), "argmin_cost", 16),
    "fisor": Arm("FISOR, N = 16", "fisor", (), "argmin_cost", 16),
    "oracle": Arm("oracle: cloning what the expert did", "bc-actor"),
}
"""By the name that ``--arms`` takes. Only the oracle sees who acts."""


def check_arms(names: Tuple[str, ...]) -> None:
    """Check names of arms.

    Raises:
        ValueError: one that is none.
    """
    for name in names:
        if name not in ARMS:
            raise ValueError(f"unknown arm '{name}', expected some of {', '.join(ARMS)}")
