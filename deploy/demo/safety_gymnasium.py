"""One Safety-Gymnasium task from data to a played policy (``make demo-safety``).

Generate, mix, train, export, play, compare. The data are generated (``go2-dsrl generate``), not
DSRL's.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, List, Tuple

import tyro

from go2_sevpo.deploy.demo import steps
from go2_sevpo.metrics import percent
from go2_sevpo.runs.files import write_atomically
from go2_sevpo.runs.settings import keep_settings


@dataclass
class Args:
    """Generate mixed data of a Safety-Gymnasium task, train SEVPO and cloning on it, export both
    and play them.
    """

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


HEAD = [
    *("policy", "return", "cost", "greatest cost", "over the limit"),
    *("normalised return", "normalised cost"),
]


def _row(title: str, report: Dict[str, Any]) -> List[str]:
    return [
        title,
        f"{report['return_mean']:.1f}",
        f"{report['cost_mean']:.1f}",
        f"{report['cost_max']:.0f}",
        percent(report["failure_rate"], report["failure_interval"], 0),
        f"{report['normalised_return']:.2f}",
        f"{report['normalised_cost']:.2f}",
    ]


def demo(args: Args) -> str:
    """Run all steps; returns the table."""
    out, start, seed = args.out, time.perf_counter(), str(args.seed)
    keep_settings(out, vars(args), ("out", "video"))
    data, mix = out / f"generated_{args.task}.hdf5", out / f"mix_{args.task}.hdf5"
    if not data.with_suffix(".json").is_file():
        amount = ("--episodes", args.generated_episodes, "--seed", seed, "--out", data)
        steps.run_command("generate data", "go2-dsrl", "generate", args.task, *amount)
    if not mix.with_suffix(".json").is_file():
        steps.run_command(
            "mix safe and unsafe episodes",
            *("go2-dsrl", "mix", args.task, "--path", data, "--out", mix, "--ratio", *args.ratio),
            *("--safe-samples", args.safe_samples, "--limit", args.limit, "--seed", seed),
        )
    shared = [str(mix), "--preset", args.preset, "--seed", seed, "--reward-scale", "0"]
    changed = {"sevpo": args.set, "bc": args.set_bc}
    steps.train_all(
        [
            (out / name, [*shared, "--algorithm", name, "--set", *changed[name]])
            for name, _ in steps.METHODS
        ]
    )
    playing = ("--episodes", args.episodes, "--limit", args.limit, "--seed", seed)
    text = steps.table([HEAD, *steps.play_all(out, playing, args.video, _row)])
    write_atomically(out / "table.txt", text + "\n")
    minutes = (time.perf_counter() - start) / 60
    head = (
        f"\n{args.task}, generated data (not DSRL's), {args.episodes} episodes each, "
        f"limit {args.limit:g}: safe is a normalised cost below 1; {minutes:.1f} min\n"
    )
    film = out / "play_sevpo" / "video.mp4"
    return "\n".join([head, text, *([f"\nvideo: {film}"] if film.is_file() else [])])


def main() -> None:
    """Entry point."""
    steps.run(demo, tyro.cli(Args))


if __name__ == "__main__":
    main()
