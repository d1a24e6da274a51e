"""Unitree Go2: robot, courses, environment.

Importing this registers ``go2_sevpo/Go2Parkour-v0`` (version 1 of the task) and ``-v2`` with
gymnasium.
"""

import gymnasium

ENV_ID = "go2_sevpo/Go2Parkour-v0"

for _name, _version in ((ENV_ID, 1), ("go2_sevpo/Go2Parkour-v2", 2)):
    if _name not in gymnasium.registry:
        gymnasium.register(
            id=_name,
            entry_point="go2_sevpo.envs.go2.gym_env:Go2ParkourGym",
            kwargs={"version": _version},
        )
