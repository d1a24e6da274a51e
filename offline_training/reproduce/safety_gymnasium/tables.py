"""Tables 1 to 4: Safety-Gymnasium tasks at several safe-to-unsafe ratios (``go2-reproduce table1 |
table2 | table3 | table4``).

DSRL's file of a task is used where it is present, generated data (``go2-dsrl generate``) otherwise,
and every table says which. Each step is one of the project's commands in a process of its own;
finished parts are not done again, and the tables share them: one ``out`` folder serves all four.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Collection, Dict, List, Optional, Tuple

from go2_sevpo.algorithms import make_config
from go2_sevpo.data.shards import DatasetError
from go2_sevpo.envs.safety_gymnasium.files import find_file
from go2_sevpo.envs.safety_gymnasium.tasks import find_task
from go2_sevpo.offline_training.evaluation.best import read_curve
from go2_sevpo.offline_training.reproduce.jobs import Job, run_all
from go2_sevpo.offline_training.reproduce.safety_gymnasium import reuse as safety_reuse
from go2_sevpo.offline_training.reproduce.safety_gymnasium.reuse import Reused
from go2_sevpo.offline_training.reproduce.settings import plain
from go2_sevpo.offline_training.train import Args, settings_of
from go2_sevpo.offline_training.trainer import member_folder
from go2_sevpo.runs.files import write_atomically
from go2_sevpo.runs.processes import module

ALL = ("sevpo", "fisor", "cpq", "coptidice", "ccac", "bc-safe")


@dataclass
class SafetyTable:
    """What the four tables have in common."""

    out: Path = Path("runs/safety")
    """Working folder of all four tables: data, runs, reports. Finished parts are not done again."""
    tasks: Tuple[str, ...] = ("CarGoal1", "HalfCheetahVelocity")
    """Tasks whose DSRL file is not here need generated data: CarGoal1, CarGoal2,
    HalfCheetahVelocity, SwimmerVelocity.
    """
    dsrl: bool = True
    """Use DSRL's files where they are ($DSRL_DATASET_DIR or ~/.dsrl/datasets); otherwise generated
    data everywhere.
    """
    generated_episodes: int = 400
    safe_samples: int = 150_000
    """Safe transitions of a mix of generated data; of DSRL's the paper's numbers are taken."""
    preset: str = "safety"
    """safety (laptop size), paper (Table 8), or a YAML file."""
    members: int = 2
    """Training seeds, side by side."""
    episodes: int = 100
    """Evaluation episodes per training seed."""
    candidates: int = 16
    """N of the algorithms that choose among candidates."""
    choices: Tuple[str, ...] = ("first", "preset")
    """How SEVPO acts: a line for each. first: N = 1; preset: as the preset says for the task;
    escape, first_safe, argmax_reward, argmin_cost: this among N candidates, whatever the preset
    says.
    """
    evaluate_every: int = 2000
    """Steps between evaluations along a training, for the learning curves (Figure 11); 0: none."""
    evaluate_episodes: int = 5
    processes: int = 2
    ray: Optional[str] = None
    """Run on a Ray cluster instead: its address, auto, or local.

    Its machines must share this folder and installation.
    """
    device: str = "cpu"
    seed: int = 0
    reuse: Tuple[Path, ...] = ()
    """Results of earlier tables (tableK.json): what was trained there on the same data (SHA-256)
    with the same settings and seeds and played as often in the same way is taken from there.
    Versions of the code are not compared.
    """
    finished_only: bool = False
    """Run nothing: the table of what is finished or reused so far, which names what is missing."""


@dataclass
class Table1(SafetyTable):
    """Every method on every task at every ratio: normalised reward and cost."""

    algorithms: Tuple[str, ...] = ALL
    mixes: Tuple[str, ...] = ("8:1", "1:1", "1:3")
    limit: float = 10.0


@dataclass
class Table2(SafetyTable):
    """SEVPO with and without the trust region of Eq. 15."""

    mixes: Tuple[str, ...] = ("8:1", "1:1", "1:3")
    limit: float = 10.0


@dataclass
class Table3(SafetyTable):
    """The worst: greatest episode cost and failure rate on low-quality data."""

    algorithms: Tuple[str, ...] = ("sevpo", "fisor")
    mixes: Tuple[str, ...] = ("1:3",)
    limit: float = 10.0


@dataclass
class Table4(SafetyTable):
    """SEVPO at several cost limits."""

    tasks: Tuple[str, ...] = ("CarGoal2",)
    mixes: Tuple[str, ...] = ("1:3",)
    limits: Tuple[float, ...] = (10.0, 20.0, 40.0)


@dataclass(frozen=True)
class Cell:
    """One training: where, with what, how it then acts, and the limit it is judged by."""

    task: str
    mix: str
    algorithm: str
    label: str
    settings: Tuple[str, ...]
    limit: float
    choice: Optional[str] = None
    """How the policy acts; None and preset: as its configuration says."""

    @property
    def name(self) -> str:
        """Unique among all tables' trainings."""
        mix = self.mix.replace(":", "_")
        return f"{self.task}_{mix}_{self.algorithm}" + "".join(
            f"_{s.replace('=', '')}" for s in self.settings
        )

    @property
    def played(self) -> str:
        """Unique among all tables' evaluations."""
        return self.name if self.choice is None else f"{self.name}_{self.choice}"


def cells(args: Any) -> List[Cell]:
    """All trainings a table needs.

    Raises:
        ValueError: a mix that is not SAFE:UNSAFE.
        DatasetError: an unknown task.
    """
    for mix in args.mixes:
        ratio(mix)
    found: List[Cell] = []

    def add(task: str, mix: str, algorithm: str, label: str, limit: float, *settings: str) -> None:
        for choice in args.choices if algorithm == "sevpo" else (None,):
            n = {None: "", "first": ", N = 1", "preset": f", N = {args.candidates}"}.get(
                choice, f", N = {args.candidates}, {choice}"
            )
            found.append(Cell(task, mix, algorithm, label + n, settings, limit, choice))

    for task in (find_task(t).name for t in args.tasks):
        for mix in args.mixes:
            if isinstance(args, Table4):
                for limit in args.limits:
                    changed = (
                        ()
                        if limit == 10
                        else (f"episode_limit={limit:g}", f"episode_delta={limit:g}")
                    )
                    add(task, mix, "sevpo", f"SEVPO, l = {limit:g}", limit, *changed)
            elif isinstance(args, Table2):
                add(task, mix, "sevpo", "SEVPO", args.limit)
                add(task, mix, "sevpo", "without trust region", args.limit, "trust_region=off")
            else:
                for name in args.algorithms:
                    add(task, mix, name, "SEVPO" if name == "sevpo" else name, args.limit)
    return found


def trainings(wanted: List[Cell]) -> List[Cell]:
    """The first of the cells that share a training."""
    found: Dict[str, Cell] = {}
    for cell in wanted:
        found.setdefault(cell.name, cell)
    return list(found.values())


def ratio(mix: str) -> Tuple[float, float]:
    """The two numbers of SAFE:UNSAFE.

    Raises:
        ValueError: it is something else.
    """
    try:
        safe, unsafe = (float(x) for x in mix.split(":"))
    except ValueError:
        safe = unsafe = 0.0
    if safe <= 0 or unsafe <= 0:
        raise ValueError(f"mix '{mix}', expected SAFE:UNSAFE such as 8:1")
    return safe, unsafe


def source(args: Any, task: str) -> Tuple[Path, bool]:
    """The file a task's mixes are drawn from, and whether it is DSRL's."""
    if args.dsrl:
        try:
            return find_file(find_task(task)), True
        except DatasetError:
            pass
    return args.out / "data" / f"generated_{task}_{args.generated_episodes}.hdf5", False


def _mix_file(args: Any, task: str, mix: str) -> Path:
    kind = "dsrl" if source(args, task)[1] else "generated"
    return args.out / "data" / f"{kind}_{task}_{mix.replace(':', '_')}.hdf5"


def data_jobs(args: Any) -> Tuple[List[Job], List[Job]]:
    """Generations and mixes that are missing."""
    generate, mixing = [], []
    for task in dict.fromkeys(c.task for c in cells(args)):
        path, published = source(args, task)
        if not published and not path.is_file():
            command = module(
                "go2_sevpo.data_collection.safety_gymnasium.cli",
                "generate",
                task,
                "--out",
                path,
                "--episodes",
                args.generated_episodes,
                "--seed",
                args.seed,
                "--processes",
                args.processes,
            )
            generate.append(Job(f"generate {task}", command, args.out / f"generate_{task}.log"))
        for mix in args.mixes:
            out = _mix_file(args, task, mix)
            if out.with_suffix(".json").is_file():
                continue
            command = module(
                "go2_sevpo.data_collection.safety_gymnasium.cli",
                "mix",
                task,
                "--path",
                path,
                "--out",
                out,
                "--ratio",
                *ratio(mix),
                "--seed",
                args.seed,
                *([] if published else ["--safe-samples", args.safe_samples]),
            )
            mixing.append(
                Job(
                    f"mix {task} {mix}",
                    command,
                    args.out / f"mix_{task}_{mix.replace(':', '_')}.log",
                )
            )
    return generate, mixing


def reusable(args: Any) -> Dict[str, Reused]:
    """Lines that ``args.reuse`` holds, by :attr:`Cell.played`, of mixes that are there.

    Raises:
        ValueError: a file that is not a table's result.
    """
    earlier, found = safety_reuse.read(args.reuse), {}
    for cell in cells(args) if earlier else []:
        path = _mix_file(args, cell.task, cell.mix)
        if not path.with_suffix(".json").is_file():
            continue  # only where nothing is run
        wanted = Args(
            (path,), args.out, algorithm=cell.algorithm, preset=args.preset, set=list(cell.settings)
        )
        config = json.loads(json.dumps(asdict(make_config(cell.algorithm, settings_of(wanted)))))
        line = safety_reuse.find(earlier, cell, config, _mix(path)["sha256"], args)
        if line is not None:
            found[cell.played] = line
    return found


def _mix(path: Path) -> Dict[str, Any]:
    found: Dict[str, Any] = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
    return found


def train_jobs(args: Any, known: Collection[str] = ()) -> List[Job]:
    """Trainings that are missing; none for lines (by :attr:`Cell.played`) that are known."""
    found = []
    for cell in trainings([c for c in cells(args) if c.played not in known]):
        run = args.out / "train" / cell.name
        if (run / "finished").is_file():
            continue
        command = module(
            "go2_sevpo.offline_training.train_job",
            _mix_file(args, cell.task, cell.mix),
            "--out",
            run,
            "--algorithm",
            cell.algorithm,
            "--preset",
            args.preset,
            "--seed",
            args.seed,
            "--members",
            args.members,
            "--device",
            args.device,
            "--candidates",
            args.candidates,
            "--reward-scale",
            0,
            "--evaluate-every",
            args.evaluate_every,
            "--evaluate-episodes",
            args.evaluate_episodes,
            "--evaluate-limit",
            cell.limit,
            *(["--set", *cell.settings] if cell.settings else []),
        )
        found.append(Job(f"train {cell.name}", command, args.out / f"train_{cell.name}.log"))
    return found


def _report(args: Any, cell: Cell, member: int) -> Path:
    return args.out / "play" / f"{cell.played}_{member:02d}" / "report.json"


def _is_played(args: Any, cell: Cell, member: int) -> bool:
    """Whether the evaluation is there; a report of another number of episodes is not taken for it."""
    report = _report(args, cell, member)
    return (
        report.is_file()
        and json.loads(report.read_text(encoding="utf-8"))["episodes"] == args.episodes
    )


def play_jobs(args: Any, known: Collection[str] = ()) -> List[Job]:
    """Evaluations that are missing: export and play in one process; none of lines (by
    :attr:`Cell.played`) that are known.
    """
    (args.out / "play").mkdir(parents=True, exist_ok=True)
    found = []
    for cell in (c for c in cells(args) if c.played not in known):
        for member in range(args.members):
            if _is_played(args, cell, member):
                continue
            report = _report(args, cell, member)
            policy = (
                member_folder(args.out / "train" / cell.name, member) / "policy_last.safetensors"
            )
            onnx = report.parent.with_suffix(".onnx")
            play = module(
                "go2_sevpo.deploy.play.cli",
                onnx,
                "--episodes",
                args.episodes,
                "--seed",
                args.seed + 100 + member,
                "--limit",
                cell.limit,
                "--out",
                report.parent,
            )
            n = 1 if cell.choice == "first" else args.candidates
            acting = ["--choice", cell.choice] if cell.choice not in (None, "preset") else []
            acting += ["--candidates", n] if cell.choice else []
            export = module("go2_sevpo.deploy.export.cli", policy, "--out", onnx, *acting)
            command = module(
                "go2_sevpo.offline_training.reproduce.chain", json.dumps([export, play])
            )
            found.append(
                Job(
                    f"play {report.parent.name}",
                    command,
                    args.out / "play" / f"{report.parent.name}.log",
                )
            )
    return found


def _row(args: Any, cell: Cell, member: int) -> Dict[str, Any]:
    report = json.loads(_report(args, cell, member).read_text(encoding="utf-8"))
    detail = report["episodes_detail"]
    return {
        "task": cell.task,
        "mix": cell.mix,
        "algorithm": cell.algorithm,
        "label": cell.label,
        "limit": cell.limit,
        "training": cell.name,
        "choice": report.get("choice", cell.choice),
        "member": member,
        "returns": [round(e["return"], 4) for e in detail],
        "costs": [e["cost"] for e in detail],
    }


def run(args: Any) -> Dict[str, Any]:
    """Everything; writes ``tableK.json`` and ``tableK.md``, returns what the former holds.

    Raises:
        ValueError: settings that are not understood, a part that failed, or ``finished_only`` and
            nothing is.
    """
    from go2_sevpo.offline_training.reproduce.safety_gymnasium import report as safety_report

    wanted = cells(args)
    safety_reuse.read(args.reuse)  # a mistake there is told before the long part
    (args.out / "data").mkdir(parents=True, exist_ok=True)
    if not args.finished_only:
        generate, mixing = data_jobs(args)
        run_all(generate, 1)  # each uses all processes
        run_all(mixing, args.processes, args.ray)
    known = reusable(args)
    if not args.finished_only:
        run_all(train_jobs(args, known), args.processes, args.ray)
        run_all(play_jobs(args, known), args.processes, args.ray)
    missing = [
        c
        for c in wanted
        if c.played not in known and not all(_is_played(args, c, m) for m in range(args.members))
    ]
    wanted = [c for c in wanted if c not in missing]
    if not wanted:
        raise ValueError(
            f"nothing of the table is finished in {args.out} yet, expected at least one line"
        )
    rows: List[Dict[str, Any]] = []
    configs, curves = {}, {}
    for cell in wanted:
        if cell.played in known:
            line = known[cell.played]
            rows += line.rows
            configs.setdefault(cell.name, line.config)
            curves.setdefault(cell.name, line.curve)
        else:
            run = args.out / "train" / cell.name
            rows += [_row(args, cell, member) for member in range(args.members)]
            configs[cell.name] = json.loads((run / "config.json").read_text(encoding="utf-8"))[
                "config"
            ]
            curves[cell.name] = read_curve(run)
    name = type(args).__name__.lower()
    result = {
        "command": f"go2-reproduce {name}",
        "settings": plain(args),
        "rows": rows,
        "data": {
            f"{c.task} {c.mix}": {
                "dsrl": source(args, c.task)[1],
                **_mix(_mix_file(args, c.task, c.mix)),
            }
            for c in wanted
        },
        "curves": curves,
        "configs": configs,
        "reused": {played: str(line.path) for played, line in known.items()},
        "missing": [{"task": c.task, "mix": c.mix, "label": c.label} for c in missing],
    }
    write_atomically(args.out / f"{name}.json", json.dumps(result))
    text = safety_report.table(result, worst=isinstance(args, Table3))
    write_atomically(args.out / f"{name}.md", text)
    if any(curves.values()):
        # Along a training a policy is played as its configuration says, which no line's choice of
        # candidates changes.
        drawn = [
            (c.task, c.mix, c.label.split(", N = ")[0], curves[c.name]) for c in trainings(wanted)
        ]
        safety_report.draw_curves(
            drawn, sorted({c.limit for c in wanted}), args.out / f"{name}_curves.png"
        )
    print(text)
    return result
