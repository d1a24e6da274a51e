"""What can be simulated: robots, courses, tasks and the simulators under them."""

import os
import sys

# MuJoCo reads this when it is first imported; a Linux machine without a screen renders through EGL.
if sys.platform.startswith("linux") and not os.environ.get("DISPLAY"):
    os.environ.setdefault("MUJOCO_GL", "egl")
