"""One variant of the sweep as a process of its own.

Started by :mod:`go2_sevpo.offline_training.reproduce.reach_avoid.sweep`.
"""

from __future__ import annotations

import sys

from go2_sevpo.offline_training.reproduce.reach_avoid.sweep import Sweep, run
from go2_sevpo.offline_training.reproduce.settings import from_json


def main() -> None:
    """``sweep_job SETTINGS_JSON NAME``."""
    run(from_json(Sweep, sys.argv[1]), sys.argv[2])


if __name__ == "__main__":
    main()
