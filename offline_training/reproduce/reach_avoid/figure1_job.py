"""One training and evaluation of Figure 1 as a process of its own; started by :mod:`go2_sevpo.offline_training.reproduce.reach_avoid.figure1`."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import torch

from go2_sevpo.offline_training.reproduce.reach_avoid.figure1 import Figure1, one_job


def from_json(cls: Any, text: str) -> Any:
    """Settings of class ``cls`` from JSON; paths and tuples as in its defaults."""
    kinds = {k: type(v) for k, v in vars(cls()).items()}
    values = json.loads(text)
    return cls(
        **{
            k: Path(v) if issubclass(kinds[k], Path) else tuple(v) if kinds[k] is tuple else v
            for k, v in values.items()
        }
    )


def main() -> None:
    """``figure1_job SETTINGS_JSON RATIO ALGORITHM``."""
    torch.set_num_threads(1)
    one_job(from_json(Figure1, sys.argv[1]), float(sys.argv[2]), sys.argv[3])


if __name__ == "__main__":
    main()
