"""The stitching benchmark: few episodes or none are safe throughout (``go2-reproduce stitch``).

An expert walks and hands over to a failing policy, so that good behaviour for every place is in the
data somewhere. Which method puts it together?
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any, Dict, List, Optional, Tuple

from go2_sevpo.offline_training.reproduce.go2 import benchmark
from go2_sevpo.offline_training.reproduce.go2.benchmark import Benchmark, Sources
from go2_sevpo.offline_training.reproduce.go2.benchmark_report import stitch_table
from go2_sevpo.offline_training.reproduce.jobs import run_all

KINDS: Dict[str, Dict[str, Any]] = {
    "random": {"after": [0.2, 7.0]},
    "early": {"after": [0.2, 2.0]},
    "late": {"after": [3.0, 7.0]},
    "stones": {"after": [0.4, 1.2], "mid_course": True},
    "middle": {"after": [1.0, 4.0], "mid_course": True},
    "half": {},
}
"""When the expert hands over, s, and whether episodes start on a random stone: single stones, or
the way from the middle on. ``half``: a half-trained policy walks all the way instead.
"""


@dataclass
class Stitch(Benchmark):
    """Train every method on data with few safe episodes or none, play it, write the tables.

    One thing at a time is varied, from handovers at random, no safe episode and the first number of
    episodes on.
    """

    out: Path = Path("runs/stitch")
    """Working folder: data, runs, outcomes. Finished parts are not done again."""
    kinds: Tuple[str, ...] = ("random", "early", "late", "stones", "middle")
    """When the expert hands over: random, early, late, stones, middle, half."""
    shares: Tuple[float, ...] = (0.0, 0.01, 0.05, 0.2)
    """Shares of expert episodes that nobody interrupts."""
    collected: Tuple[int, ...] = (300, 100, 1000)
    """Episodes in the data."""
    half: Optional[str] = None
    """ONNX file of a half-trained expert, for the kind ``half``."""
    grid: bool = False
    """Every kind with every share and number instead."""


Mix = Tuple[str, float, int]
"""Kind, share of uninterrupted expert episodes, number of episodes."""


def mixes(args: Stitch) -> List[Mix]:
    """The datasets that are compared.

    Raises:
        ValueError: a kind that is none, or half without its policy, or a share outside [0, 1).
    """
    for kind in args.kinds:
        if kind not in KINDS:
            raise ValueError(f"unknown kind '{kind}', expected some of {', '.join(KINDS)}")
    if "half" in args.kinds and args.half is None:
        raise ValueError("kind half needs --half, the ONNX file of a half-trained expert")
    for share in args.shares:
        if not 0.0 <= share < 1.0:
            raise ValueError(f"share is {share:g}, expected a number in [0, 1)")
    if not (args.kinds and args.shares and args.collected):
        raise ValueError("expected at least one kind, one share and one number of episodes")
    if args.grid:
        return list(product(args.kinds, args.shares, args.collected))
    kind, share, number = args.kinds[0], args.shares[0], args.collected[0]
    found = [(kind, x, number) for x in args.shares]
    found += [(x, share, number) for x in args.kinds[1:]]
    return found + [(kind, share, x) for x in args.collected[1:]]


def name_of(mix: Mix) -> str:
    """For folders: ``random_5pct_300``."""
    kind, share, number = mix
    return f"{kind}_{100 * share:g}pct_{number}"


def sources(args: Stitch, mix: Mix) -> Sources:
    """What a dataset is collected from; of the interrupted episodes only those that fall."""
    kind, share, number = mix
    safe = round(share * number)
    course = {"course": args.course}
    broken: Dict[str, Any] = {"policy": args.expert, "then": args.weak, **KINDS[kind]}
    if kind == "half":
        broken = {"policy": args.half}
    found: Sources = [{**broken, **course, "episodes": number - safe, "falls_only": True}]
    if safe:
        found.append({"policy": args.expert, **course, "episodes": safe})
    return found


def run(args: Stitch) -> Dict[str, Any]:
    """Everything; returns what ``stitch.json`` holds.

    Raises:
        ValueError: settings that are not understood, or a part that failed.
    """
    wanted = {name_of(mix): sources(args, mix) for mix in mixes(args)}
    benchmark.begin(args, wanted, ("kinds", "shares", "collected", "half", "grid"))
    names = list(wanted)
    run_all(benchmark.train_jobs(args, names, args.expert), args.processes, args.ray)
    run_all(benchmark.play_jobs(args, names), args.processes, args.ray)
    result = benchmark.result_of(args, "stitch", names)
    benchmark.write_table(args, "stitch", result, stitch_table(result))
    return result
