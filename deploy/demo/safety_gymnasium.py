"""One Safety-Gymnasium task from data to a played policy (``make demo-safety``): generate, mix, train, export, play, compare.

The data are generated (``go2-dsrl generate``), not DSRL's.
"""

from __future__ import annotations

import json
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, List, Tuple

import tyro

from go2_sevpo.deploy.demo.go2 import run_command, table, train_all
from go2_sevpo.runs.interrupt import kill_interrupts

METHODS: Tuple[Tuple[str, str], ...] = (("sevpo", "SEVPO"), ("bc", "cloning, all data"))


@dataclass
class Args:
    """Generate mixed data of a Safety-Gymnasium task, train SEVPO and cloning on it, export both and play them."""

    out: Path = Path("runs/demo_safety")
    """Folder for everything; finished steps are not done again."""
    task: str = "CarGoal1"
    generated_episodes: int = 240
    ratio: Tuple[int, int] = (1, 1)
    """Safe to unsafe transitions."""
    safe_samples: int = 80_000
    preset: str = "safety"
    set: Tuple[str, ...] = ("critic_steps=4000", "policy_steps=5000")
    """Changes of SEVPO's preset; the demo's is shorter."""
    set_bc: Tuple[str, ...] = ("steps=8000",)
    """Changes of cloning's preset."""
    limit: float = 10.0
    """Cost an episode may have."""
    episodes: int = 20
    """Evaluation episodes per policy."""
    seed: int = 0
    video: bool = True


def _row(title: str, report: Dict[str, Any]) -> List[str]:
    low, high = report["failure_interval"]
    return [
        title, f"{report['return_mean']:.1f}", f"{report['cost_mean']:.1f}", f"{report['cost_max']:.0f}",
        f"{100 * report['failure_rate']:.0f}% [{100 * low:.0f}, {100 * high:.0f}]",
        f"{report['normalised_return']:.2f}", f"{report['normalised_cost']:.2f}",
    ]  # fmt: skip


def demo(args: Args) -> str:
    """Run all steps; returns the table."""
    out, start, seed = args.out, time.perf_counter(), str(args.seed)
    out.mkdir(parents=True, exist_ok=True)
    data, mix = out / f"generated_{args.task}.hdf5", out / f"mix_{args.task}.hdf5"
    if not data.with_suffix(".json").is_file():
        run_command(
            "generate data", "go2-dsrl", "generate", args.task, "--episodes", str(args.generated_episodes), "--seed", seed, "--out", str(data),
        )  # fmt: skip
    if not mix.with_suffix(".json").is_file():
        run_command(
            "mix safe and unsafe episodes", "go2-dsrl", "mix", args.task, "--path", str(data), "--out", str(mix), "--ratio", *map(str, args.ratio),
            "--safe-samples", str(args.safe_samples), "--limit", str(args.limit), "--seed", seed,
        )  # fmt: skip
    shared = [str(mix), "--preset", args.preset, "--seed", seed, "--reward-scale", "0"]
    changed = {"sevpo": args.set, "bc": args.set_bc}
    train_all([(out / name, [*shared, "--algorithm", name, "--set", *changed[name]]) for name, _ in METHODS])
    rows = [["policy", "return", "cost", "greatest cost", "over the limit", "normalised return", "normalised cost"]]
    for name, title in METHODS:
        policy, folder = out / f"{name}.onnx", out / f"play_{name}"
        if not policy.is_file():
            run_command(f"export {name}", "go2-export", str(out / name), "--out", str(policy))
        if not (folder / "report.json").is_file():
            video = ["--video"] if args.video and name == "sevpo" else []
            run_command(
                f"play {name}", "go2-play", str(policy), "--episodes", str(args.episodes), "--limit", str(args.limit), "--seed", seed,
                "--out", str(folder), *video,
            )  # fmt: skip
        rows.append(_row(title, json.loads((folder / "report.json").read_text(encoding="utf-8"))))
    text, minutes = table(rows), (time.perf_counter() - start) / 60
    (out / "table.txt").write_text(text + "\n", encoding="utf-8")
    head = (
        f"\n{args.task}, generated data (not DSRL's), {args.episodes} episodes each, limit {args.limit:g}: safe is a normalised cost below 1; "
        f"{minutes:.1f} min\n"
    )
    film = out / "play_sevpo" / "video.mp4"
    return "\n".join([head, text, *([f"\nvideo: {film}"] if film.is_file() else [])])


def main() -> None:
    """Entry point."""
    args = tyro.cli(Args)
    kill_interrupts()
    try:
        print(demo(args))
    except KeyboardInterrupt:
        print("\nstopped; finished steps are kept, the same command goes on", file=sys.stderr)
        sys.exit(130)


if __name__ == "__main__":
    main()
