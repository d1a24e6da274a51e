"""Safety-Gymnasium's nine tasks of the paper.

Importing this registers ``go2_sevpo/Safety...`` with gymnasium.
"""

import gymnasium

from go2_sevpo.envs.safety_gymnasium.tasks import TASKS

for _task in TASKS.values():
    if _task.registered_id not in gymnasium.registry:
        gymnasium.register(
            id=_task.registered_id,
            entry_point="go2_sevpo.envs.safety_gymnasium.environment:SafetyEnv",
            kwargs={"task": _task.name},
        )
