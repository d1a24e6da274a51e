"""Run the attacks and print what came of them: ``python -m tests.chaos --seed 0 --files 100``."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

import torch

from tests.chaos import malformed
from tests.chaos.outcome import Tally
from tests.chaos.summary import by_target


def main() -> None:
    """Attack; the exit status tells whether anything did harm."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--files", type=int, default=100, help="malformed files per reader")
    parser.add_argument("--kills", type=int, default=1, help="times all kills are tried")
    parser.add_argument("--table", type=Path, help="write a shorter table there, too")
    parser.add_argument("--only", choices=("files", "kills"))
    args = parser.parse_args()
    torch.set_num_threads(1)  # children are forked
    tally, start = Tally(), time.perf_counter()
    if args.only != "kills":
        malformed.run(args.seed, args.files, tally)
    if args.only != "files":
        from tests.chaos import kills

        kills.run(args.seed, args.kills, tally)
    print(tally.table())
    if args.table:
        args.table.write_text(by_target(tally) + "\n", encoding="utf-8")
    for example in tally.examples:
        print(f"\n{example}", file=sys.stderr)
    minutes = (time.perf_counter() - start) / 60
    print(f"\nseed {args.seed}: {tally.total} attacks, {tally.bad} did harm, {minutes:.1f} min")
    sys.exit(1 if tally.bad else 0)


if __name__ == "__main__":
    main()
