"""What must be imported before torch.

Entry points call :func:`prepare` before they import anything else of the project.

Isaac Gym refuses to be imported after torch, so the command line is looked at first. This module
imports nothing heavy.
"""

from __future__ import annotations

import sys
from typing import List, Optional

MISSING = (
    "the simulator isaacgym needs NVIDIA's Isaac Gym Preview 4 (Python 3.8, NVIDIA GPU): "
    "download it from https://developer.nvidia.com/isaac-gym and run "
    "'pip install -e isaacgym/python'; see docs/isaacgym.md"
)


def wants_isaacgym(arguments: List[str]) -> bool:
    """Whether a command line asks for Isaac Gym."""
    following = arguments[1:] + [""]
    return any(
        a == "--simulator=isaacgym" or (a == "--simulator" and b == "isaacgym")
        for a, b in zip(arguments, following)
    )


def prepare(arguments: Optional[List[str]] = None) -> None:
    """Import Isaac Gym if the command line asks for it; ends the program if that fails."""
    if not wants_isaacgym(sys.argv[1:] if arguments is None else arguments):
        return
    try:
        import isaacgym  # noqa: F401
    except ImportError as error:
        sys.exit(f"{MISSING} ({error})")
