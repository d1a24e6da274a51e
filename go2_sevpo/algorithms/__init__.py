"""Offline algorithms by name."""

from __future__ import annotations

from typing import Any, Dict, Optional, Tuple, Type

from go2_sevpo.algorithms.bc import BcChoice, BcChoiceConfig, BcConfig, BehaviorCloning
from go2_sevpo.algorithms.ccac import Ccac, CcacConfig
from go2_sevpo.algorithms.coptidice import Coptidice, CoptidiceConfig
from go2_sevpo.algorithms.cpq import Cpq, CpqConfig
from go2_sevpo.algorithms.fisor import Fisor, FisorConfig
from go2_sevpo.algorithms.sevpo import Sevpo, SevpoConfig
from go2_sevpo.data.dataset import OfflineDataset

ALGORITHMS: Dict[str, Tuple[Type[Any], Type[Any], Dict[str, Any]]] = {
    "sevpo": (Sevpo, SevpoConfig, {}),
    "fisor": (Fisor, FisorConfig, {}),
    "bc": (BehaviorCloning, BcConfig, {}),
    "bc-safe": (BehaviorCloning, BcConfig, {"safe_only": True}),
    "bc-choice": (BcChoice, BcChoiceConfig, {}),
    "cpq": (Cpq, CpqConfig, {}),
    "coptidice": (Coptidice, CoptidiceConfig, {}),
    "ccac": (Ccac, CcacConfig, {}),
}
"""Name: class, configuration class, what the name fixes."""


def make_config(name: str, values: Dict[str, Any]) -> Any:
    """The algorithm's configuration from plain data.

    Raises:
        ValueError: unknown algorithm, or a key or value it does not take.
    """
    if name not in ALGORITHMS:
        raise ValueError(f"unknown algorithm '{name}', expected one of {', '.join(ALGORITHMS)}")
    _, cls, fixed = ALGORITHMS[name]
    for key in values:
        if key not in cls.__dataclass_fields__:
            raise ValueError(
                f"unknown setting '{key}' of {name}, expected one of {', '.join(cls.__dataclass_fields__)}"
            )
    clean = {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}
    return cls(**{**clean, **fixed})


def make_algorithm(
    name: str, config: Any, data: OfflineDataset, members: Optional[int] = None
) -> Any:
    """The algorithm, with freshly initialised networks; ``members`` of them side by side if given."""
    return ALGORITHMS[name][0](config, data, members)
