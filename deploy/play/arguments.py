"""The arguments of ``go2-play``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Optional

import tyro


@dataclass
class Args:
    """Play a policy on a course and report success and fall rates.

    Safety-Gymnasium policies play on their task (course and physics do not apply).
    """

    policy: tyro.conf.Positional[str]
    """ONNX file, or the name of a shipped policy (sevpo, expert, weak)."""
    course: str = "simple"
    """flat, simple or hard."""
    episodes: int = 200
    difficulty: float = 1.0
    seed: int = 0
    out: Path = Path("runs/play")
    """Folder for report.json and report.html."""
    candidates: Optional[int] = None
    """N; the policy's own if not given; 1 plays the actor alone."""
    noise: Optional[float] = None
    """Scale of the sampling noise; the policy's own if not given (0 for PPO policies)."""
    threads: int = 0
    """Physics threads; 0 means all cores."""
    worlds: int = 250
    """Episodes played side by side; another number draws other noise."""
    physics_dt: float = 0.005
    """Physics step, s."""
    simulator: str = "mujoco"
    """mujoco (CPU), mujoco-warp (NVIDIA GPU) or isaacgym."""
    randomization: bool = True
    """Domain randomisation, pushes and sensor noise."""
    video: bool = False
    """Write video.mp4 of the first episode, and video.webp, a small animated picture."""
    limit: float = 10.0
    """Safety-Gymnasium: cost an episode may have."""
    viewer: bool = False
    """Open MuJoCo's viewer (Isaac Gym's with that simulator) and play there instead (needs a
    screen).
    """
