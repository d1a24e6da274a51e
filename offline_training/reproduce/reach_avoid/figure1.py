"""Figures 1 and 5: SEVPO, FISOR and cloning on reach-avoid data of three qualities.

The command is ``go2-reproduce figure1``.
"""

from __future__ import annotations

import json
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, List, Protocol, Tuple

import torch

from go2_sevpo.envs.reach_avoid import play
from go2_sevpo.envs.reach_avoid.truth import Truth, load_truth
from go2_sevpo.envs.seeds import REACH_AVOID_PLAY, REACH_AVOID_STARTS
from go2_sevpo.offline_training import train as training
from go2_sevpo.offline_training.reproduce.jobs import Job, run_all
from go2_sevpo.offline_training.reproduce.reach_avoid.figure1_settings import Figure1
from go2_sevpo.offline_training.reproduce.settings import plain
from go2_sevpo.offline_training.trainer import POLICY, member_folder
from go2_sevpo.policies.torch_policy import Policy, load_policy
from go2_sevpo.runs.files import write_atomically
from go2_sevpo.runs.processes import module
from go2_sevpo.runs.processes import run as run_child
from go2_sevpo.runs.provenance import write_result
from go2_sevpo.runs.reading import read_json
from go2_sevpo.runs.settings import keep_settings

TITLES = {
    "sevpo": "SEVPO",
    "fisor": "FISOR",
    "bc-safe": "cloning, safe episodes",
    "bc-choice": "cloning + $Q_c$ choice",
    "cpq": "CPQ",
    "coptidice": "COptiDICE",
    "ccac": "CCAC",
}
"""Trained algorithms; plain cloning is ``bc-choice`` with one candidate."""


MAY_CHANGE = ("out", "truth", "ratios", "algorithms", "processes")
"""Settings that the same working folder may be gone on with otherwise."""


class DataSettings(Protocol):
    """What one dataset depends on; the sweep's settings have it, too."""

    truth: Path
    ratio: float
    """Safe to unsafe transitions."""
    safe: int
    """Safe transitions."""
    seed: int


@dataclass
class RatioData:
    """The :class:`DataSettings` of one of Figure 1's ratios."""

    truth: Path
    ratio: float
    safe: int
    seed: int


def jobs(args: Figure1) -> List[Tuple[float, str]]:
    """All (ratio, algorithm) pairs."""
    return [(ratio, name) for ratio in args.ratios for name in args.algorithms]


def _data(args: Figure1, ratio: float) -> Path:
    return args.out / "data" / f"ratio_{ratio:g}"


def _run(args: Figure1, ratio: float, name: str) -> Path:
    return args.out / "train" / f"ratio_{ratio:g}" / name


def _result(args: Figure1, ratio: float, name: str) -> Path:
    return args.out / "evaluation" / f"ratio_{ratio:g}_{name}.json"


def collect_one(out: Path, args: DataSettings) -> None:
    """Build one dataset with the shipped expert.

    Raises:
        ValueError: it failed.
    """
    command = module(
        "go2_sevpo.data_collection.reach_avoid.data",
        *("--out", out, "--ratio", f"{args.ratio:g}", "--safe", args.safe),
        *("--truth", args.truth, "--seed", args.seed),
    )
    if run_child(command):
        raise ValueError("collecting the data failed; the message is above")


def one_job(args: Figure1, ratio: float, name: str) -> None:
    """Train and evaluate one algorithm at one ratio, as far as not done."""
    out, run = _result(args, ratio, name), _run(args, ratio, name)
    if out.is_file():
        return
    done = run / "finished"
    if not done.is_file():
        options = training.Args(
            dataset=(_data(args, ratio),),
            out=run,
            algorithm=name,
            preset=args.preset,
            seed=args.seed,
            members=args.members,
            resume=(run / training.CHECKPOINT).exists(),
        )
        if not training.train(options):
            sys.exit(130)
        write_atomically(done, "")
    starts = _starts(args, load_truth(args.truth))
    result: Dict[str, Any] = {"ratio": ratio, "algorithm": name, "evaluations": {}, "regions": []}
    for n in args.candidates:
        began, members = time.perf_counter(), []
        for k in range(args.members):
            policy = load_policy(member_folder(run, k) / POLICY)[0]
            members.append(play.evaluate(policy, starts, n, REACH_AVOID_PLAY.number(args.seed, k)))
        summary = play.summarise(members, starts)
        episodes = [{part: e.packed() for part, e in m.items()} for m in members]
        result["evaluations"][f"N{n}"] = {"summary": summary, "episodes": episodes}
        seconds = time.perf_counter() - began
        print(f"{name} {ratio:g}:1 N={n}: {line(summary)}  ({seconds:.0f} s)", flush=True)
    for k in range(args.members):
        policy = load_policy(member_folder(run, k) / POLICY)[0]
        result["regions"].append(play.region_agreement(policy, starts))
    out.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(out, json.dumps(result))


def _starts(args: Figure1, truth: Truth) -> play.Starts:
    """The same for all algorithms and ratios."""
    seed = REACH_AVOID_STARTS.number(args.seed)
    return play.evaluation_starts(truth, args.starts, args.paper_repeats, seed)


def line(summary: Dict[str, Any]) -> str:
    """The main numbers in one line."""
    paper, feasible, infeasible = summary["paper"], summary["feasible"], summary["infeasible"]

    def rate(entry: Dict[str, Any]) -> str:
        return f"{100 * entry['rate']:.1f}%"

    return (
        f"paper start {rate(paper['safe_success'])}, feasible {rate(feasible['safe_success'])} "
        f"(safe {rate(feasible['safe'])}, success {rate(feasible['success'])}), "
        f"infeasible {infeasible['violations']:.2f} steps = {infeasible['ratio']:.2f} x least"
    )


def run(args: Figure1) -> Dict[str, Any]:
    """Everything; returns what ``figure1.json`` holds.

    Raises:
        ValueError: settings that are not understood, or a part that failed.
    """
    for name in args.algorithms:
        if name not in TITLES:
            raise ValueError(f"unknown algorithm '{name}', expected some of {', '.join(TITLES)}")
    torch.set_num_threads(1)
    keep_settings(args.out, vars(args), MAY_CHANGE)
    load_truth(args.truth)
    for ratio in args.ratios:
        collect_one(_data(args, ratio), RatioData(args.truth, ratio, args.safe, args.seed))
    settings = json.dumps(plain(args))
    base = module("go2_sevpo.offline_training.reproduce.reach_avoid.figure1_job", settings)
    missing: List[Job] = []
    for ratio, name in jobs(args):
        if not _result(args, ratio, name).is_file():
            log = args.out / f"{name}_{ratio:g}.log"
            missing.append(Job(f"{name} at {ratio:g}:1", [*base, f"{ratio:g}", name], log))
    run_all(missing, args.processes)
    return finish(args)


def finish(args: Figure1) -> Dict[str, Any]:
    """Join the results; write ``figure1.json``, ``figure1.md`` and the pictures."""
    from go2_sevpo.offline_training.reproduce.reach_avoid import figure1_report as report

    truth = load_truth(args.truth)
    starts = _starts(args, truth)
    parts = [read_json(_result(args, *job)) for job in jobs(args)]
    configs = {}
    for name in args.algorithms:
        # The same at all ratios.
        info = _run(args, args.ratios[0], name) / "config.json"
        configs[name] = read_json(info)["config"]
    result = {
        "command": "go2-reproduce figure1",
        "settings": plain(args),
        "configs": configs,
        "data": {f"{ratio:g}": _construction(_data(args, ratio)) for ratio in args.ratios},
        "starts": {
            "infeasible_least": starts.least.int().tolist(),
            "feasible": len(starts.feasible),
        },
        "results": parts,
    }
    write_result(args.out / "figure1.json", result)
    table = report.table(result)
    write_atomically(args.out / "figure1.md", table)
    print(table)
    folders = {ratio: _data(args, ratio) for ratio in args.ratios}
    report.draw_densities(folders, args.out / "figure5.png")
    policies: Dict[Tuple[float, str], List[Policy]] = {}
    for ratio, name in jobs(args):
        members = range(min(args.members, 3))  # more would hide one another
        files = [member_folder(_run(args, ratio, name), k) / POLICY for k in members]
        policies[ratio, name] = [load_policy(file)[0] for file in files]
    report.draw_trajectories(args, truth, starts, policies, args.out / "figure1.png")
    return result


def _construction(folder: Path) -> Dict[str, Any]:
    """How a dataset was built, and what its shards hold."""
    manifest = read_json(folder / "manifest.json")
    keys = ("file", "transitions", "episodes", "cost_mean", "successes")
    shards = [{key: shard[key] for key in keys} for shard in manifest["shards"]]
    return {"construction": manifest["construction"], "shards": shards}
