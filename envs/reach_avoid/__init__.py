"""The reach-avoid task of the paper's Figure 1.

Importing this registers ``go2_sevpo/ReachAvoid-v0`` with gymnasium.
"""

import gymnasium

ENV_ID = "go2_sevpo/ReachAvoid-v0"

if ENV_ID not in gymnasium.registry:
    gymnasium.register(id=ENV_ID, entry_point="go2_sevpo.envs.reach_avoid.task:ReachAvoidGym")
