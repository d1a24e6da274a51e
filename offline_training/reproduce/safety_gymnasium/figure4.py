"""Figure 4: train, collect, train on a Safety-Gymnasium task (``go2-reproduce figure4``).

One ``go2-loop`` per training seed: SEVPO learns from a small mixed dataset, collects with what it
learned if that is safe enough, learns again from everything, and so on. Each round trains from the
start on all data so far.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, List, Optional

import h5py
import numpy as np

from go2_sevpo.data.dsrl.files import read_dsrl
from go2_sevpo.envs.safety_gymnasium.tasks import find_task
from go2_sevpo.metrics import percent
from go2_sevpo.offline_training.evaluation.best import read_curve
from go2_sevpo.offline_training.reproduce.jobs import Job, run_all
from go2_sevpo.offline_training.reproduce.safety_gymnasium import mixes
from go2_sevpo.offline_training.reproduce.settings import plain
from go2_sevpo.runs.files import save_figure, write_atomically
from go2_sevpo.runs.processes import module
from go2_sevpo.runs.provenance import write_result
from go2_sevpo.runs.reading import read_json


@dataclass
class Figure4:
    """Train-collect-train on a Safety-Gymnasium task: rewards and costs round by round, over
    training seeds.
    """

    out: Path = Path("runs/safety")
    """Working folder, shared with the tables; finished parts are not done again."""
    task: str = "CarGoal1"
    """The paper's is CarPush1."""
    mix: str = "1:1"
    """Safe to unsafe transitions of the first dataset."""
    dsrl: bool = True
    """Use DSRL's file where it is; otherwise generated data."""
    generated_episodes: int = 400
    safe_samples: int = 50_000
    """Safe transitions of the first dataset, a small one (the paper's has 600 000 transitions in
    all).
    """
    rounds: int = 2
    """Collections."""
    collect_episodes: int = 100
    safe_enough: float = 1.0
    """Largest mean episode cost over the limit with which a policy may collect."""
    preset: str = "safety"
    seeds: int = 2
    episodes: int = 20
    """Evaluation episodes after each training."""
    evaluate_every: int = 5000
    """Steps between evaluations along a training, for the curves."""
    evaluate_episodes: int = 10
    limit: float = 10.0
    processes: int = 2
    ray: Optional[str] = None
    """Run on a Ray cluster instead: its address, auto, or local.

    Its machines must share this folder and installation.
    """
    seed: int = 0


def first_data(args: Figure4) -> Path:
    """The first dataset, made if it is missing."""
    name = find_task(args.task).name
    (args.out / "data").mkdir(parents=True, exist_ok=True)
    run_all(mixes.generate_jobs(args, name), 1)
    out = mixes.mix_file(args, name, args.mix, "figure4_")
    command = mixes.mix_command(args, name, args.mix, out, args.safe_samples)
    if not mixes.is_mixed(out):
        run_all([Job(f"mix {name} {args.mix}", command, args.out / "mix_figure4.log")], 1)
    return out


def _folder(args: Figure4, seed: int) -> Path:
    return args.out / "figure4" / f"{args.task}_{args.mix.replace(':', '_')}_seed_{seed}"


def loop_jobs(args: Figure4, data: Path) -> List[Job]:
    """One loop per training seed."""
    found = []
    for k in range(args.seeds):
        seed = args.seed + k
        folder = _folder(args, seed)
        folder.mkdir(parents=True, exist_ok=True)
        command = module(
            *("go2_sevpo.offline_training.loop.cli", data, "--out", folder),
            *("--rounds", args.rounds, "--episodes", args.collect_episodes),
            *("--safe-enough", args.safe_enough, "--preset", args.preset),
            *("--play-episodes", args.episodes, "--seed", seed, "--threads", 1),
            *("--limit", args.limit, "--evaluate-every", args.evaluate_every),
            *("--evaluate-episodes", args.evaluate_episodes),
        )
        found.append(Job(f"loop of seed {seed}", command, folder / "loop.log"))
    return found


def episode_costs(path: Path) -> Dict[str, Any]:
    """Mean episode cost and return of a dataset, Figure 4 (c)."""
    with h5py.File(path, "r") as handle:
        transitions = len(handle["rewards"])
    table = read_dsrl(path).episodes
    return {
        "file": path.name,
        "episodes": len(table["length"]),
        "transitions": transitions,
        "cost_mean": float(np.mean(table["cost"])),
        "return_mean": float(np.mean(table["return"])),
    }


def draw(result: Dict[str, Any], path: Path) -> None:
    """Reward and cost along the rounds' trainings, and the cost of each round's new data."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 3.2), layout="constrained")
    axes = figure.subplots(1, 3)
    for axis, key in zip(axes, ("return", "cost")):
        for k, loop in enumerate(result["loops"]):
            before = 0.0  # steps of the rounds so far: every round starts at 0 again
            for number, entry in enumerate(loop["rounds"]):
                steps = [before + point["step"] for point in entry["curve"]]
                values = [point[key] for point in entry["curve"]]
                label = f"seed {loop['seed']}" if not number else None
                axis.plot(steps, values, color=f"C{k}", marker=".", label=label)
                before = steps[-1] if steps else before
                axis.axvline(before, color="grey", linewidth=0.5, linestyle=":")
        axis.set(xlabel="actor training steps; dotted: new data", ylabel=f"episode {key}")
    axes[1].axhline(result["settings"]["limit"], color="black", linestyle="--", linewidth=0.8)
    axes[0].legend(frameon=False, fontsize=8)
    for k, loop in enumerate(result["loops"]):
        costs = [data["cost_mean"] for data in loop["data"]]
        axes[2].plot(range(len(costs)), costs, color=f"C{k}", marker="o")
    axes[2].set(xlabel="dataset (0: the first mix)", ylabel="mean episode cost")
    axes[2].xaxis.get_major_locator().set_params(integer=True)
    save_figure(path, figure, 120)


def table(result: Dict[str, Any]) -> str:
    """Round by round as Markdown."""
    settings = result["settings"]
    generated = "**generated data (`go2-dsrl generate`), not DSRL's**"
    kind = "DSRL's data" if result["dsrl"] else generated
    columns = [
        *("seed", "round", "transitions", "cost of the newest data"),
        *("return", "cost", "greatest cost", "episodes over the limit"),
    ]
    lines = [
        f"`go2-reproduce figure4`: {settings['task']}, "
        f"first dataset {settings['mix']} safe to unsafe, {kind}; preset {settings['preset']}, "
        f"{settings['episodes']} episodes after each round's training, last checkpoint, "
        f"limit {settings['limit']:g}.",
        "",
        f"| {' | '.join(columns)} |",
        "|---" * len(columns) + "|",
    ]
    for loop in result["loops"]:
        for entry, data in zip(loop["rounds"], loop["data"]):
            (played,) = entry["played"].values()
            total = sum(d["transitions"] for d in loop["data"][: entry["round"] + 1])
            failure = percent(played["failure_rate"], played["failure_interval"], 0)
            lines.append(
                f"| {loop['seed']} | {entry['round']} | {total} | {data['cost_mean']:.2f} | "
                f"{played['return_mean']:.2f} | {played['cost_mean']:.2f} | "
                f"{played['cost_max']:.0f} | {failure} |"
            )
        if len(loop["rounds"]) <= settings["rounds"] and not loop["rounds"][-1]["may_collect"]:
            lines.append(f"| {loop['seed']} | stopped: not safe enough to collect | | | | | | |")
    return "\n".join(lines) + "\n"


def run(args: Figure4) -> Dict[str, Any]:
    """Everything; writes ``figure4_TASK.json``, ``.md`` and ``.png``.

    Raises:
        ValueError: settings that are not understood, or a part that failed.
    """
    data = first_data(args)
    run_all(loop_jobs(args, data), args.processes, args.ray)
    loops = []
    for k in range(args.seeds):
        folder = _folder(args, args.seed + k)
        rounds = read_json(folder / "loop.json")
        for entry in rounds:
            entry["curve"] = read_curve(folder / f"round_{entry['round']}" / "train")
        used = [episode_costs(Path(p)) for p in rounds[-1]["data"]]
        loops.append({"seed": args.seed + k, "rounds": rounds, "data": used})
    result = {
        "command": "go2-reproduce figure4",
        "settings": plain(args),
        "dsrl": mixes.source(args, find_task(args.task).name)[1],
        "loops": loops,
    }
    name = f"figure4_{args.task}"
    write_result(args.out / f"{name}.json", result)
    text = table(result)
    write_atomically(args.out / f"{name}.md", text)
    draw(result, args.out / f"{name}.png")
    print(text)
    return result
