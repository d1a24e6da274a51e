"""Make the stand-in importable as ``isaacgym`` in this process, although torch is imported
already.
"""

import os
import sys
from pathlib import Path

FOLDER = Path(__file__).parent


def install():
    """Return the stand-in's ``gymapi``, as documented and as if a new process had begun."""
    os.environ["ISAACGYM_STANDIN_AFTER_TORCH"] = "1"
    if str(FOLDER) not in sys.path:
        sys.path.insert(0, str(FOLDER))
    from isaacgym import gymapi

    gymapi.SEMANTICS.reset()
    new_process()
    return gymapi


def new_process():
    """Forget the simulation that was made, as a new process would."""
    from isaacgym import gymapi

    from go2_sevpo.envs.simulators.isaacgym import process

    gymapi.Process.fresh()
    process.forget()
    return gymapi
