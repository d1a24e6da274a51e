"""One training and evaluation of Figure 1 as a process of its own.

Started by :mod:`go2_sevpo.offline_training.reproduce.reach_avoid.figure1`.
"""

from __future__ import annotations

import sys

import torch

from go2_sevpo.offline_training.reproduce.reach_avoid.figure1 import Figure1, one_job
from go2_sevpo.offline_training.reproduce.settings import from_json


def main() -> None:
    """``figure1_job SETTINGS_JSON RATIO ALGORITHM``."""
    torch.set_num_threads(1)
    one_job(from_json(Figure1, sys.argv[1]), float(sys.argv[2]), sys.argv[3])


if __name__ == "__main__":
    main()
