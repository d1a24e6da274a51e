"""The policy contracts of all environments, by the name a dataset gives."""

from __future__ import annotations

from typing import Any, Callable, Dict, Optional

from envs import reach_avoid
from envs.go2.contract import environment_contract as go2_contract
from go2_sevpo.contract import ContractError

GO2 = "go2_sevpo/Go2Parkour-v0"

CONTRACTS: Dict[str, Callable[[], Dict[str, Any]]] = {
    GO2: go2_contract,
    reach_avoid.ENV_ID: reach_avoid.environment_contract,
}


def contract_for(environment: Optional[str]) -> Dict[str, Any]:
    """What a policy for ``environment`` promises; Go2's where none is named.

    Raises:
        ContractError: no such environment.
    """
    name = environment or GO2
    if name not in CONTRACTS:
        raise ContractError(f"no contract for environment '{name}', expected one of {', '.join(CONTRACTS)}")
    return CONTRACTS[name]()
