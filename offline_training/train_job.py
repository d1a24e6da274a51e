"""``go2-train`` that goes on where it was stopped and leaves a mark when it has ended."""

from __future__ import annotations

import sys
from dataclasses import replace

import tyro

from go2_sevpo.offline_training.train import Args, train
from go2_sevpo.offline_training.trainer import CHECKPOINT
from go2_sevpo.runs.arguments import EXPECTED, complaint
from go2_sevpo.runs.files import write_atomically
from go2_sevpo.runs.interrupt import told_when_interrupted
from go2_sevpo.runs.lists import joined_lists


def main() -> None:
    """Arguments of ``go2-train``."""
    with told_when_interrupted("stopped; what was saved is kept"):
        args = tyro.cli(Args, args=joined_lists(sys.argv[1:], "--set"))
        try:
            finished = train(replace(args, resume=(args.out / CHECKPOINT).exists()))
        except EXPECTED as error:
            sys.exit(complaint(error))
        if not finished:
            sys.exit(130)
        write_atomically(args.out / "finished", "")


if __name__ == "__main__":
    main()
