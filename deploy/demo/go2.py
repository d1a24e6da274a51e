"""The main job in one command (``make demo``): collect, train, export, play back, compare.

Each step is a command of its own, run as a user would run it; folders exchange files only.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, List

import tyro

from go2_sevpo.deploy.demo import steps
from go2_sevpo.metrics import percent
from go2_sevpo.runs.files import write_atomically
from go2_sevpo.runs.settings import keep_settings


@dataclass
class Args:
    """Collect a small mixed dataset, train SEVPO and cloning on it, export both and play them
    back.
    """

    out: Path = Path("runs/demo")
    """Folder for everything; finished steps are not done again."""
    course: str = "simple"
    mix: str = "demo"
    preset: str = "laptop"
    episodes: int = 250
    """Evaluation episodes per policy."""
    seed: int = 0
    video: bool = True


HEAD = ["policy", "success", "fall", "cost", "return", "inference"]


def _row(title: str, report: Dict[str, Any]) -> List[str]:
    return [
        title,
        percent(report["success_rate"], report["success_interval"]),
        percent(report["fall_rate"], report["fall_interval"]),
        f"{report['cost_mean']:.1f}",
        f"{report['return_mean']:.1f}",
        f"{report['inference_ms_p50']:.2f} ms",
    ]


def demo(args: Args) -> str:
    """Run all steps; returns the table."""
    out, start = args.out, time.perf_counter()
    keep_settings(out, vars(args), ("out", "video"))
    data, seed = out / "data", str(args.seed)
    if not (data / "manifest.json").is_file():
        collection = ("--mix", args.mix, "--seed", seed, "--out", data)
        steps.run_command("collect expert and failure episodes", "go2-collect", *collection)
    shared = [str(data), "--preset", args.preset, "--seed", seed]
    steps.train_all([(out / name, [*shared, "--algorithm", name]) for name, _ in steps.METHODS])
    playing = ("--course", args.course, "--episodes", args.episodes, "--seed", seed)
    text = steps.table([HEAD, *steps.play_all(out, playing, args.video, _row)])
    write_atomically(out / "table.txt", text + "\n")
    paths = [f"report: {out / 'play_sevpo' / 'report.html'}"]
    film = out / "play_sevpo" / "video.mp4"
    if film.is_file():
        paths.append(f"video:  {film}")
    minutes = (time.perf_counter() - start) / 60
    head = (
        f"{args.course} course, {args.episodes} unseen episodes each, "
        f"95% intervals, {minutes:.1f} min"
    )
    return "\n".join([f"\n{head}\n", text, "", *paths])


def main() -> None:
    """Entry point of ``go2-demo``."""
    steps.run(demo, tyro.cli(Args))


if __name__ == "__main__":
    main()
