"""What differs between the worlds of ``go2-loop``.

How a policy is trained, played, judged safe enough, and how it collects.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Dict, List

from go2_sevpo.envs.safety_gymnasium.tasks import Task
from go2_sevpo.metrics import percent
from go2_sevpo.runs.processes import module, run
from go2_sevpo.runs.reading import read_json

if TYPE_CHECKING:
    from go2_sevpo.offline_training.loop.arguments import Args


def call(title: str, name: str, *arguments: object) -> None:
    """Run one of the project's commands.

    Raises:
        ValueError: it failed.
    """
    print(f"\n=== {title}", flush=True)
    status = run(module(name, *arguments))
    if status:
        raise ValueError(
            f"{title} stopped with status {status}; the same command goes on from here"
        )


def train(args: Args, folder: Path, data: List[Path], *more: object) -> Path:
    """Train on all ``data`` and export; returns the policy."""
    onnx = folder / "policy.onnx"
    if not onnx.is_file():
        names = " + ".join(path.name for path in data)
        call(
            f"train on {names}",
            "go2_sevpo.offline_training.train_job",
            *(*data, "--out", folder / "train"),
            *("--algorithm", args.algorithm, "--preset", args.preset, "--seed", args.seed),
            *(*more, *(("--set", *args.set) if args.set else ())),
        )
        call("export", "go2_sevpo.deploy.export.cli", folder / "train", "--out", onnx)
    return onnx


def collector(args: Args, folder: Path, onnx: Path) -> Path:
    """The policy that collects: the trained one, or itself at ``args.collect_temperature``."""
    if args.collect_temperature is None:
        return onnx
    noisy = folder / "collector.onnx"
    if not noisy.is_file():
        call(
            "export the collector",
            *("go2_sevpo.deploy.export.cli", folder / "train", "--out", noisy),
            *("--temperature", args.collect_temperature),
        )
    return noisy


class Go2World:
    """The Go2 courses: safe enough is a matter of falls."""

    measure = "fall rate"
    columns = ("course", "success %", "fall %", "cost", "return")
    kept = (
        *("episodes", "success_rate", "success_interval", "fall_rate", "fall_interval"),
        *("cost_mean", "return_mean"),
    )
    """What the result holds of go2-play's reports."""

    def __init__(self, args: Args) -> None:
        self.args = args

    def train(self, folder: Path, data: List[Path]) -> Path:
        """See :func:`train`."""
        return train(self.args, folder, data)

    def play(self, folder: Path, onnx: Path) -> Dict[str, Dict[str, Any]]:
        """Course: what the policy reached there."""
        args = self.args
        found: Dict[str, Dict[str, Any]] = {}
        for course in args.courses:
            report = folder / f"play_{course}" / "report.json"
            if not report.is_file():
                call(
                    f"play on {course}",
                    *("go2_sevpo.deploy.play.cli", onnx, "--course", course),
                    *("--episodes", args.play_episodes, "--seed", args.seed),
                    *("--threads", args.threads, "--simulator", args.simulator),
                    *("--out", report.parent),
                )
            whole = read_json(report)
            found[course] = {key: whole[key] for key in self.kept}
        return found

    def danger(self, played: Dict[str, Dict[str, Any]]) -> float:
        """Greatest fall rate of any course."""
        return max(float(reached["fall_rate"]) for reached in played.values())

    def collect(self, folder: Path, onnx: Path, number: int) -> List[Path]:
        """New data; a seed of its own per round: courses no earlier collection has seen."""
        args = self.args
        folders: List[Path] = []
        onnx = collector(args, folder, onnx)
        for course in args.courses:
            data = folder / f"data_{course}"
            if not (data / "manifest.json").is_file():
                call(
                    f"collect on {course}",
                    *("go2_sevpo.data_collection.collect", "--out", data, "--policy", onnx),
                    *("--course", course, "--episodes", args.episodes),
                    *("--seed", args.seed + 1 + number, "--threads", args.threads),
                    *("--simulator", args.simulator),
                )
            folders.append(data)
        return folders

    def cells(self, p: Dict[str, Any]) -> List[str]:
        """Columns of the table: success %, fall %, cost, return."""

        def rate(key: str) -> str:
            return percent(p[f"{key}_rate"], p[f"{key}_interval"], sign="")

        return [rate("success"), rate("fall"), f"{p['cost_mean']:.2f}", f"{p['return_mean']:.1f}"]


class SafetyWorld:
    """A Safety-Gymnasium task: safe enough is a matter of the mean episode cost over the limit."""

    measure = "cost over the limit"
    columns = ("task", "return", "cost", "greatest cost", "episodes over the limit %")
    kept = (
        *("episodes", "limit", "return_mean", "cost_mean", "cost_max"),
        *("normalised_return", "normalised_cost", "failure_rate", "failure_interval"),
    )
    """What the result holds of go2-play's report."""

    def __init__(self, args: Args, task: Task) -> None:
        self.args, self.task = args, task

    def train(self, folder: Path, data: List[Path]) -> Path:
        """See :func:`train`; rewards are scaled as FISOR does.

        Learning curves are kept if they are asked for.
        """
        args = self.args
        more: List[object] = ["--reward-scale", 0, "--evaluate-limit", args.limit]
        if args.evaluate_every:
            more += ["--evaluate-every", args.evaluate_every]
            more += ["--evaluate-episodes", args.evaluate_episodes]
        return train(args, folder, data, *more)

    def play(self, folder: Path, onnx: Path) -> Dict[str, Dict[str, Any]]:
        """The task: what the policy reached on it."""
        args, report = self.args, folder / "play" / "report.json"
        if not report.is_file():
            call(
                f"play on {self.task.name}",
                *("go2_sevpo.deploy.play.cli", onnx, "--episodes", args.play_episodes),
                *("--seed", args.seed + 100, "--limit", args.limit, "--out", report.parent),
            )
        whole = read_json(report)
        return {self.task.name: {key: whole[key] for key in self.kept}}

    def danger(self, played: Dict[str, Dict[str, Any]]) -> float:
        """Mean episode cost over the limit."""
        return float(played[self.task.name]["normalised_cost"])

    def collect(self, folder: Path, onnx: Path, number: int) -> List[Path]:
        """New episodes; a seed of its own per round."""
        args, task = self.args, self.task.name
        out = folder / f"collected_{task}.hdf5"
        if not out.with_suffix(".json").is_file():
            onnx = collector(args, folder, onnx)
            call(
                f"collect on {task}",
                *("go2_sevpo.data_collection.safety_gymnasium.cli", "collect", task, onnx),
                *("--out", out, "--episodes", args.episodes),
                *("--seed", 100 * args.seed + number, "--processes", args.threads or 2),
            )
        return [out]

    def cells(self, p: Dict[str, Any]) -> List[str]:
        """Columns of the table."""
        failure = percent(p["failure_rate"], p["failure_interval"], 0, "")
        return [f"{p['return_mean']:.2f}", f"{p['cost_mean']:.2f}", f"{p['cost_max']:.0f}", failure]
