"""The policy contracts of all environments, by the name a dataset gives."""

from __future__ import annotations

import functools
from typing import Any, Callable, Dict, Optional

from go2_sevpo.envs.go2.contract import ENVIRONMENTS
from go2_sevpo.envs.go2.contract import environment_contract as go2_contract
from go2_sevpo.envs.reach_avoid import task as reach_avoid
from go2_sevpo.envs.safety_gymnasium.tasks import TASKS, Task
from go2_sevpo.policies.contract import CONTRACT_VERSION, ContractError

GO2 = "go2_sevpo/Go2Parkour-v0"

CONTROL_DT = {"Ant": 0.05, "Car": 0.04, "HalfCheetah": 0.05, "Swimmer": 0.04}
"""s, by agent (Safety-Gymnasium's models)."""


def safety_contract(task: Task) -> Dict[str, Any]:
    """What a policy for a Safety-Gymnasium task promises."""
    robot, dt = next((k, v) for k, v in CONTROL_DT.items() if task.name.startswith(k))
    return {
        "contract_version": CONTRACT_VERSION,
        "robot": robot,
        "environment": task.registered_id,
        "control_dt": dt,
        "action_clip": 1.0,
        "observation": {"name": task.env_id, "size": task.num_obs},
    }


CONTRACTS: Dict[str, Callable[[], Dict[str, Any]]] = {
    **{name: functools.partial(go2_contract, v) for v, name in ENVIRONMENTS.items()},
    reach_avoid.ENV_ID: reach_avoid.environment_contract,
    **{t.registered_id: functools.partial(safety_contract, t) for t in TASKS.values()},
}


def contract_for(environment: Optional[str]) -> Dict[str, Any]:
    """What a policy for ``environment`` promises; Go2's where none is named.

    Raises:
        ContractError: no such environment.
    """
    name = environment or GO2
    if name not in CONTRACTS:
        raise ContractError(
            f"no contract for environment '{name}', expected one of {', '.join(CONTRACTS)}"
        )
    return CONTRACTS[name]()
