"""Offline algorithms by name."""

from __future__ import annotations

from typing import Any, Callable, Dict, Literal, Optional, Tuple, Type, Union, overload

from go2_sevpo.algorithms.base import Algorithm
from go2_sevpo.algorithms.bc import (
    BcActorConfig,
    BcChoice,
    BcChoiceConfig,
    BcConfig,
    BcLookaheadConfig,
    BehaviorCloning,
)
from go2_sevpo.algorithms.ccac import Ccac, CcacConfig
from go2_sevpo.algorithms.coptidice import Coptidice, CoptidiceConfig
from go2_sevpo.algorithms.cpq import Cpq, CpqConfig
from go2_sevpo.algorithms.fisor import Fisor, FisorConfig
from go2_sevpo.algorithms.osrl.bc import BcOsrl, BcOsrlConfig
from go2_sevpo.algorithms.osrl.bcq_lag import BcqLag, BcqLagConfig
from go2_sevpo.algorithms.osrl.bear_lag import BearLag, BearLagConfig
from go2_sevpo.algorithms.osrl.ccac import CcacOsrl, CcacOsrlConfig
from go2_sevpo.algorithms.osrl.common import OsrlConfig
from go2_sevpo.algorithms.osrl.coptidice import CoptidiceOsrl, CoptidiceOsrlConfig
from go2_sevpo.algorithms.osrl.cpq import CpqOsrl, CpqOsrlConfig
from go2_sevpo.algorithms.sevpo import Sevpo, SevpoConfig
from go2_sevpo.data.dataset import OfflineDataset
from go2_sevpo.runs.typed import checked, suggestion

Config = Union[
    SevpoConfig,
    FisorConfig,
    BcConfig,
    BcChoiceConfig,
    CpqConfig,
    CoptidiceConfig,
    CcacConfig,
    OsrlConfig,
]
# A class takes its own configuration (hence Any), the data, and the number of members.
Maker = Callable[[Any, OfflineDataset, Optional[int]], Algorithm]
Entry = Tuple[Maker, Type[Config], Dict[str, Any]]

ALGORITHMS: Dict[str, Entry] = {
    "sevpo": (Sevpo, SevpoConfig, {}),
    "fisor": (Fisor, FisorConfig, {}),
    "bc": (BehaviorCloning, BcConfig, {}),
    "bc-safe": (BehaviorCloning, BcConfig, {"safe_only": True}),
    "bc-lookahead": (BehaviorCloning, BcLookaheadConfig, {}),
    "bc-actor": (BehaviorCloning, BcActorConfig, {}),
    "bc-choice": (BcChoice, BcChoiceConfig, {}),
    "bc-safe-choice": (BcChoice, BcChoiceConfig, {"safe_only": True}),
    "cpq": (Cpq, CpqConfig, {}),
    "coptidice": (Coptidice, CoptidiceConfig, {}),
    "ccac": (Ccac, CcacConfig, {}),
    "bc-osrl": (BcOsrl, BcOsrlConfig, {}),
    "bc-safe-osrl": (BcOsrl, BcOsrlConfig, {"safe_only": True}),
    "cpq-osrl": (CpqOsrl, CpqOsrlConfig, {}),
    "coptidice-osrl": (CoptidiceOsrl, CoptidiceOsrlConfig, {}),
    "ccac-osrl": (CcacOsrl, CcacOsrlConfig, {}),
    "bcq-lag": (BcqLag, BcqLagConfig, {}),
    "bear-lag": (BearLag, BearLagConfig, {}),
}
"""Name: class, configuration class, what the name fixes."""


@overload
def make_config(name: Literal["sevpo"], values: Dict[str, Any]) -> SevpoConfig: ...
@overload
def make_config(name: str, values: Dict[str, Any]) -> Config: ...
def make_config(name: str, values: Dict[str, Any]) -> Config:
    """The algorithm's configuration from plain data, as YAML and JSON hold it.

    Lists become tuples, and numbers in text numbers; what the name fixes overrules ``values``.

    Raises:
        ValueError: unknown algorithm, or a key or value it does not take.
    """
    if name not in ALGORITHMS:
        raise ValueError(f"unknown algorithm '{name}', expected one of {', '.join(ALGORITHMS)}")
    _, cls, fixed = ALGORITHMS[name]
    known = cls.__dataclass_fields__
    for key in values:
        if key not in known:
            raise ValueError(
                f"unknown setting '{key}' of {name}, expected one of {', '.join(known)}"
                f"{suggestion(key, list(known))}"
            )
    return cls(**{**checked(cls, values, name), **fixed})


@overload
def make_algorithm(
    name: Literal["sevpo"], config: SevpoConfig, data: OfflineDataset, members: Optional[int] = None
) -> Sevpo: ...
@overload
def make_algorithm(
    name: str, config: Config, data: OfflineDataset, members: Optional[int] = None
) -> Algorithm: ...
def make_algorithm(
    name: str, config: Config, data: OfflineDataset, members: Optional[int] = None
) -> Algorithm:
    """The algorithm ``name`` with freshly initialised networks.

    Args:
        name: one of :data:`ALGORITHMS`.
        config: of :func:`make_config` for the same name.
        data: fixes sizes, normalisation and device.
        members: if given, this many networks are trained side by side.
    """
    return ALGORITHMS[name][0](config, data, members)
