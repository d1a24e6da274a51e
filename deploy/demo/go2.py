"""The main job in one command (``make demo``): collect, train, export, play back, compare.

Each step is a command of its own, run as a user would run it; folders exchange files only.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, List, Sequence, Tuple

import tyro

from go2_sevpo.runs.interrupt import kill_interrupts

METHODS: Tuple[Tuple[str, str], ...] = (("sevpo", "SEVPO"), ("bc", "cloning, all data"))


@dataclass
class Args:
    """Collect a small mixed dataset, train SEVPO and cloning on it, export both and play them back."""

    out: Path = Path("runs/demo")
    """Folder for everything; finished steps are not done again."""
    course: str = "simple"
    mix: str = "demo"
    preset: str = "laptop"
    episodes: int = 250
    """Evaluation episodes per policy."""
    seed: int = 0
    video: bool = True


def run_command(title: str, module: str, *arguments: str) -> None:
    """Run one of the project's commands, showing it; a failure ends the demo."""
    print(f"\n=== {title}\n$ {module} {' '.join(arguments)}", flush=True)
    start = time.perf_counter()
    status = subprocess.run([str(Path(sys.executable).with_name(module)), *arguments], check=False).returncode
    if status:
        sys.exit(f"go2-demo: {module} failed with status {status}; the same command goes on from here")
    print(f"    {time.perf_counter() - start:.0f} s", flush=True)


def train_all(runs: Sequence[Tuple[Path, Sequence[str]]]) -> None:
    """Train what is not trained yet, side by side, each on one core: run folders and the other arguments of ``go2-train``."""
    running = []
    start = time.perf_counter()
    for run, arguments in runs:
        if (run / "finished").is_file():
            continue
        resume = ["--resume"] if (run / "checkpoint.safetensors").is_file() else []
        command = ["go2-train", *arguments, "--out", str(run), *resume]
        name = run.name
        print(f"\n=== train {name}\n$ {' '.join(command)}", flush=True)
        command[0] = str(Path(sys.executable).with_name(command[0]))
        running.append((run, subprocess.Popen(command)))
    try:
        for run, process in running:
            if process.wait():
                sys.exit(f"go2-demo: training {run.name} failed with status {process.returncode}")
            (run / "finished").write_text("", encoding="utf-8")
    finally:
        for _, process in running:
            if process.poll() is None:
                process.terminate()
                process.wait()
    print(f"    {time.perf_counter() - start:.0f} s", flush=True)


def _row(title: str, report: Dict[str, Any]) -> List[str]:
    def rate(key: str, interval: str) -> str:
        low, high = report[interval]
        return f"{100 * report[key]:.1f}% [{100 * low:.1f}, {100 * high:.1f}]"

    return [
        title, rate("success_rate", "success_interval"), rate("fall_rate", "fall_interval"),
        f"{report['cost_mean']:.1f}", f"{report['return_mean']:.1f}", f"{report['inference_ms_p50']:.2f} ms",
    ]  # fmt: skip


def table(rows: List[List[str]]) -> str:
    """Columns padded to their widest cell."""
    widths = [max(len(r[k]) for r in rows) for k in range(len(rows[0]))]
    lines = ["  ".join(cell.ljust(w) for cell, w in zip(row, widths)).rstrip() for row in rows]
    return "\n".join([lines[0], "-" * len(lines[0]), *lines[1:]])


def demo(args: Args) -> str:
    """Run all steps; returns the table."""
    out, start = args.out, time.perf_counter()
    out.mkdir(parents=True, exist_ok=True)
    if not (out / "data" / "manifest.json").is_file():
        run_command(
            "collect expert and failure episodes",
            "go2-collect",
            "--mix",
            args.mix,
            "--seed",
            str(args.seed),
            "--out",
            str(out / "data"),
        )
    shared = ["--preset", args.preset, "--seed", str(args.seed)]
    train_all([(out / name, [str(out / "data"), "--algorithm", name, *shared]) for name, _ in METHODS])
    rows = [["policy", "success", "fall", "cost", "return", "inference"]]
    for name, title in METHODS:
        policy, folder = out / f"{name}.onnx", out / f"play_{name}"
        if not policy.is_file():
            run_command(f"export {name}", "go2-export", str(out / name), "--out", str(policy))
        if not (folder / "report.json").is_file():
            video = ["--video"] if args.video and name == "sevpo" else []
            run_command(f"play {name}", "go2-play", str(policy), "--course", args.course, "--episodes", str(args.episodes),
                 "--seed", str(args.seed), "--out", str(folder), *video)  # fmt: skip
        rows.append(_row(title, json.loads((folder / "report.json").read_text(encoding="utf-8"))))
    text = table(rows)
    minutes = (time.perf_counter() - start) / 60
    (out / "table.txt").write_text(text + "\n", encoding="utf-8")
    paths = [f"report: {out / 'play_sevpo' / 'report.html'}"]
    video_path = out / "play_sevpo" / "video.mp4"
    if video_path.is_file():
        paths.append(f"video:  {video_path}")
    head = f"\n{args.course} course, {args.episodes} unseen episodes each, 95% intervals, {minutes:.1f} min\n"
    return "\n".join([head, text, "", *paths])


def main() -> None:
    """Entry point of ``go2-demo``."""
    args = tyro.cli(Args)
    kill_interrupts()
    try:
        print(demo(args))
    except KeyboardInterrupt:
        print("\nstopped; finished steps are kept, the same command goes on", file=sys.stderr)
        sys.exit(130)


if __name__ == "__main__":
    main()
