"""Train, collect, train (``go2-loop``; the paper's Section D): more data from the learned policy once it is safe enough.

Each step is one of the project's commands in a process of its own; finished steps are not done again.
"""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, List, Tuple

import tyro

from go2_sevpo.data.shards import write_atomically


@dataclass
class Args:
    """Train on mixed data; if the policy is safe enough, collect with it and train on everything; repeat."""

    dataset: tyro.conf.Positional[Tuple[Path, ...]]
    """Dataset folders to begin with."""
    out: Path
    """Working folder. The same command goes on after an interruption."""
    rounds: int = 2
    """Collections after the first training."""
    courses: Tuple[str, ...] = ("simple", "hard")
    episodes: int = 300
    """Episodes collected per course and round."""
    safe_enough: float = 0.5
    """Largest fall rate, on any course, with which a policy may collect."""
    algorithm: str = "sevpo"
    preset: str = "laptop"
    play_episodes: int = 250
    """Evaluation episodes per course after each training."""
    seed: int = 0
    simulator: str = "mujoco"
    threads: int = 0


def _call(title: str, module: str, *arguments: Any) -> None:
    print(f"\n=== {title}", flush=True)
    status = subprocess.run([sys.executable, "-m", module, *map(str, arguments)], check=False).returncode
    if status:
        raise ValueError(f"{title} stopped with status {status}; the same command goes on from here")


def _train(args: Args, folder: Path, data: List[Path]) -> Path:
    onnx = folder / "policy.onnx"
    if not onnx.is_file():
        names = " + ".join(p.name for p in data)
        _call(
            f"train on {names}", "offline_training.train_job", *data, "--out", folder / "train",
            "--algorithm", args.algorithm, "--preset", args.preset, "--seed", args.seed,
        )  # fmt: skip
        _call("export", "deploy.export", folder / "train", "--out", onnx)
    return onnx


def _play(args: Args, folder: Path, onnx: Path) -> Dict[str, Dict[str, Any]]:
    found = {}
    for course in args.courses:
        report = folder / f"play_{course}" / "report.json"
        if not report.is_file():
            _call(
                f"play on {course}", "deploy.play", onnx, "--course", course, "--episodes", args.play_episodes,
                "--seed", args.seed, "--threads", args.threads, "--simulator", args.simulator, "--out", report.parent,
            )  # fmt: skip
        whole = json.loads(report.read_text(encoding="utf-8"))
        keys = (
            "episodes",
            "success_rate",
            "success_interval",
            "fall_rate",
            "fall_interval",
            "cost_mean",
            "return_mean",
        )
        found[course] = {k: whole[k] for k in keys}
    return found


def _collect(args: Args, folder: Path, onnx: Path, number: int) -> List[Path]:
    folders = []
    for course in args.courses:
        data = folder / f"data_{course}"
        if not (data / "manifest.json").is_file():
            # A seed of its own per round: courses no earlier collection has seen.
            _call(
                f"collect on {course}", "data_collection.collect", "--out", data, "--policy", onnx, "--course", course,
                "--episodes", args.episodes, "--seed", args.seed + 1 + number, "--threads", args.threads,
                "--simulator", args.simulator,
            )  # fmt: skip
        folders.append(data)
    return folders


def run(args: Args) -> List[Dict[str, Any]]:
    """All rounds; returns and writes (``loop.json``, ``loop.md``) what each reached.

    Raises:
        ValueError: no dataset, or a step that failed.
    """
    if not args.dataset:
        raise ValueError("no dataset given, expected at least one folder")
    data, rounds = list(args.dataset), []  # type: ignore[var-annotated]
    for number in range(args.rounds + 1):
        folder = args.out / f"round_{number}"
        folder.mkdir(parents=True, exist_ok=True)
        onnx = _train(args, folder, data)
        played = _play(args, folder, onnx)
        falls = max(p["fall_rate"] for p in played.values())
        allowed = falls <= args.safe_enough
        rounds.append({"round": number, "data": [str(p) for p in data], "played": played, "may_collect": allowed})
        write_atomically(args.out / "loop.json", json.dumps(rounds, indent=1))
        write_atomically(args.out / "loop.md", table(rounds))
        if number == args.rounds:
            break
        if not allowed:
            print(
                f"\nfall rate {100 * falls:.1f}% is above {100 * args.safe_enough:.1f}%: not safe enough to collect; stopped"
            )
            break
        data += _collect(args, folder, onnx, number)
    print("\n" + table(rounds))
    return rounds


def table(rounds: List[Dict[str, Any]]) -> str:
    """Round by round, as Markdown."""

    def rate(p: Dict[str, Any], key: str) -> str:
        low, high = p[f"{key}_interval"]
        return f"{100 * p[f'{key}_rate']:.1f} [{100 * low:.1f}, {100 * high:.1f}]"

    lines = ["| round | datasets | course | success % | fall % | cost | return |", "|---|---|---|---|---|---|---|"]
    for entry in rounds:
        for course, p in entry["played"].items():
            lines.append(
                f"| {entry['round']} | {len(entry['data'])} | {course} | {rate(p, 'success')} | {rate(p, 'fall')} | "
                f"{p['cost_mean']:.2f} | {p['return_mean']:.1f} |"
            )
    return "\n".join(lines) + "\n"


def main() -> None:
    """Entry point of ``go2-loop``."""
    args = tyro.cli(Args)
    try:
        run(args)
    except KeyboardInterrupt:
        sys.exit("\ngo2-loop: stopped; finished steps are kept, the same command goes on")
    except ValueError as error:
        sys.exit(f"go2-loop: {error}")


if __name__ == "__main__":
    main()
