"""Unitree Go2: robot, courses, environment.

Importing this registers ``go2_sevpo/Go2Parkour-v0`` with gymnasium.
"""

import gymnasium

ENV_ID = "go2_sevpo/Go2Parkour-v0"

if ENV_ID not in gymnasium.registry:
    gymnasium.register(id=ENV_ID, entry_point="go2_sevpo.envs.go2.gym_env:Go2ParkourGym")
