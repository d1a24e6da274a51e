"""Make the stand-in importable as ``isaacgym`` in this process, although torch is imported
already.
"""

import os
import sys
from pathlib import Path

FOLDER = Path(__file__).parent


def install():
    """Return the stand-in's ``gymapi``."""
    os.environ["ISAACGYM_STANDIN_AFTER_TORCH"] = "1"
    if str(FOLDER) not in sys.path:
        sys.path.insert(0, str(FOLDER))
    from isaacgym import gymapi

    return gymapi
