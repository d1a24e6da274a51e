"""The rescue benchmark: who takes over where another is about to fall? (``go2-reproduce rescue``).

Data of experts, of failures, of experts who took over at most 0.8 s before a failing policy's fall,
and of strong pushes. Every method then takes over 0.1 to 0.4 s before falls that it has not seen,
and is played undisturbed and under pushes, beside the rescuer itself.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, List, Optional, Tuple

from go2_sevpo.offline_training.reproduce.go2 import benchmark
from go2_sevpo.offline_training.reproduce.go2.benchmark import Benchmark, Sources
from go2_sevpo.offline_training.reproduce.go2.benchmark_report import rescue_table
from go2_sevpo.offline_training.reproduce.jobs import Job, run_all

DATA = "rescue"
EXPERT, WEAK, HANDOVERS, PUSHED = 300, 300, 300, 100
"""Episodes of each kind at ``scale`` 1."""


@dataclass
class Rescue(Benchmark):
    """Train every method on data with rescues, let it take over before falls, write the table."""

    out: Path = Path("runs/rescue")
    """Working folder: data, runs, outcomes. Finished parts are not done again."""
    scale: float = 1.0
    """Times 300 expert, 300 weak, 300 taken over and 100 pushed episodes."""
    rescuer: Optional[str] = None
    """Policy that takes over in the data, and whom the oracle clones; ``expert`` if not given."""
    latest: float = 0.8
    """In the data it takes over at most so many seconds before the fall."""
    before: Tuple[float, ...] = (0.1, 0.2, 0.3, 0.4)
    """Seconds before the fall at which the methods take over."""
    push_speed: float = 1.2
    """Of the pushes in the data and when played, m/s along x and y."""


def sources(args: Rescue) -> Sources:
    """What the data are collected from."""
    rescuer = args.rescuer or args.expert

    def count(n: int) -> int:
        return max(1, round(args.scale * n))

    course = {"course": args.course}
    taken_over = {"policy": args.weak, "then": rescuer, "before_fall": [0.0, args.latest]}
    return [
        {"policy": args.expert, **course, "episodes": count(EXPERT)},
        {"policy": args.weak, **course, "episodes": count(WEAK)},
        {**taken_over, **course, "episodes": count(HANDOVERS)},
        {
            "policy": rescuer,
            **course,
            "episodes": count(PUSHED),
            "push_speed": args.push_speed,
        },
    ]


def _how(args: Rescue) -> Tuple[object, ...]:
    return ("--push-speed", args.push_speed, "--before", *args.before)


def rescuer_jobs(args: Rescue) -> List[Job]:
    """The rescuer itself on the episodes of every training seed."""
    found = []
    for number in range(len(args.seeds) * args.members):
        name = f"rescuer_{number:02d}"
        if not benchmark.outcome_file(args, name).is_file():
            policy = args.rescuer or args.expert
            command = benchmark.play_command(args, policy, name, number, *_how(args))
            found.append(Job(f"play {name}", command, args.out / "play" / f"{name}.log"))
    return found


def run(args: Rescue) -> Dict[str, Any]:
    """Everything; returns what ``rescue.json`` holds.

    Raises:
        ValueError: settings that are not understood, or a part that failed.
    """
    benchmark.begin(args, {DATA: sources(args)})
    rescuer = args.rescuer or args.expert
    run_all(benchmark.train_jobs(args, [DATA], rescuer), args.processes, args.ray)
    playing = benchmark.play_jobs(args, [DATA], *_how(args))
    run_all(rescuer_jobs(args) + playing, args.processes, args.ray)
    others = [
        {
            "data": DATA,
            "arm": "rescuer",
            "title": "the rescuer itself",
            "number": number,
            **benchmark.read_outcome(args, f"rescuer_{number:02d}"),
        }
        for number in range(len(args.seeds) * args.members)
    ]
    result = benchmark.result_of(args, "rescue", [DATA], others)
    benchmark.write_table(args, "rescue", result, rescue_table(result))
    return result
