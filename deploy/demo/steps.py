"""What every demo does: run the project's commands as a user would.

SEVPO is compared with cloning in a table.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any, Callable, Dict, List, Sequence, Tuple, TypeVar

from go2_sevpo.runs import processes
from go2_sevpo.runs.files import write_atomically
from go2_sevpo.runs.interrupt import kill_interrupts
from go2_sevpo.runs.reading import read_json

METHODS: Tuple[Tuple[str, str], ...] = (("sevpo", "SEVPO"), ("bc", "cloning, all data"))
COMMANDS = {
    "go2-collect": "go2_sevpo.data_collection.collect",
    "go2-dsrl": "go2_sevpo.data_collection.safety_gymnasium.cli",
    "go2-train": "go2_sevpo.offline_training.train",
    "go2-export": "go2_sevpo.deploy.export.cli",
    "go2-play": "go2_sevpo.deploy.play.cli",
}
"""The commands a demo runs, and the modules behind them."""
Args = TypeVar("Args")


def run_command(title: str, name: str, *arguments: object) -> None:
    """Run one of the project's commands, showing it; a failure ends the demo."""
    words = list(map(str, arguments))
    print(f"\n=== {title}\n$ {name} {' '.join(words)}", flush=True)
    start = time.perf_counter()
    status = processes.run(processes.module(COMMANDS[name], *words))
    if status:
        sys.exit(
            f"go2-demo: {name} failed with status {status}; the same command goes on from here"
        )
    print(f"    {time.perf_counter() - start:.0f} s", flush=True)


def train_all(runs: Sequence[Tuple[Path, Sequence[str]]]) -> None:
    """Train what is not trained yet, side by side, each on one core.

    Args:
        runs: run folders and the other arguments of ``go2-train``.
    """
    running = []
    start = time.perf_counter()
    for run, arguments in runs:
        if (run / "finished").is_file():
            continue
        # A run that was stopped goes on from its last checkpoint.
        resume = ["--resume"] if (run / "checkpoint.safetensors").is_file() else []
        words = [*arguments, "--out", str(run), *resume]
        print(f"\n=== train {run.name}\n$ go2-train {' '.join(words)}", flush=True)
        running.append((run, processes.start(processes.module(COMMANDS["go2-train"], *words))))
    try:
        for run, process in running:
            if process.wait():
                sys.exit(f"go2-demo: training {run.name} failed with status {process.returncode}")
            write_atomically(run / "finished", "")
    finally:
        # Where one fails or the user stops, none of the others runs on.
        processes.end([process for _, process in running])
    print(f"    {time.perf_counter() - start:.0f} s", flush=True)


def play_all(
    out: Path,
    arguments: Sequence[object],
    video: bool,
    row: Callable[[str, Dict[str, Any]], List[str]],
) -> List[List[str]]:
    """Export and play what is not played yet; returns a row of the table for each method.

    Args:
        out: the demo's folder.
        arguments: of ``go2-play``, but for the policy and ``--out``.
        video: film SEVPO's first episode.
        row: makes a row from a method's title and its report.
    """
    rows = []
    for name, title in METHODS:
        policy, folder = out / f"{name}.onnx", out / f"play_{name}"
        if not policy.is_file():
            run_command(f"export {name}", "go2-export", out / name, "--out", policy)
        if not (folder / "report.json").is_file():
            film = ["--video"] if video and name == "sevpo" else []
            run_command(f"play {name}", "go2-play", policy, *arguments, "--out", folder, *film)
        rows.append(row(title, read_json(folder / "report.json")))
    return rows


def table(rows: List[List[str]]) -> str:
    """Columns padded to their widest cell."""
    widths = [max(len(r[k]) for r in rows) for k in range(len(rows[0]))]
    lines = ["  ".join(cell.ljust(w) for cell, w in zip(row, widths)).rstrip() for row in rows]
    return "\n".join([lines[0], "-" * len(lines[0]), *lines[1:]])


def run(demo: Callable[[Args], str], args: Args) -> None:
    """Run a demo and print its table; Ctrl-C and kill keep what is finished."""
    kill_interrupts()
    try:
        print(demo(args))
    except KeyboardInterrupt:
        print("\nstopped; finished steps are kept, the same command goes on", file=sys.stderr)
        sys.exit(130)
    except ValueError as error:
        sys.exit(f"go2-demo: {error}")
