"""Stand-in for Isaac Gym (tests only): must be imported before torch, like the original."""

import os
import sys

if "torch" in sys.modules and not os.environ.get("ISAACGYM_STANDIN_AFTER_TORCH"):
    raise ImportError("PyTorch was imported before isaacgym modules. Please import isaacgym first.")
