"""Tables 1 to 4: Safety-Gymnasium tasks at several safe-to-unsafe ratios.

The commands are ``go2-reproduce table1 | table2 | table3 | table4``. DSRL's file of a task is used
where it is present, generated data (``go2-dsrl generate``) otherwise, and every table says which.
Each step is one of the project's commands in a process of its own; finished parts are not done
again, and the tables share them: one ``out`` folder serves all four.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Dict, List

from go2_sevpo.offline_training.evaluation.best import read_curve
from go2_sevpo.offline_training.reproduce.jobs import run_all
from go2_sevpo.offline_training.reproduce.safety_gymnasium import reuse as safety_reuse
from go2_sevpo.offline_training.reproduce.safety_gymnasium.cells import (
    ALL,
    Cell,
    SafetyTable,
    Table,
    Table1,
    Table2,
    Table3,
    Table4,
    cells,
    ratio,
    trainings,
)
from go2_sevpo.offline_training.reproduce.safety_gymnasium.mixes import (
    data_jobs,
    description,
    mix_file,
    source,
)
from go2_sevpo.offline_training.reproduce.safety_gymnasium.table_jobs import (
    is_played,
    play_jobs,
    report_file,
    reusable,
    run_folder,
    train_jobs,
)
from go2_sevpo.offline_training.reproduce.settings import plain
from go2_sevpo.offline_training.train import Args, reward_scale_of
from go2_sevpo.runs.files import write_atomically
from go2_sevpo.runs.provenance import write_result
from go2_sevpo.runs.reading import read_json

__all__ = ["ALL", "Cell", "SafetyTable", "Table", "Table1", "Table2", "Table3", "Table4"]
__all__ += ["cells", "data_jobs", "play_jobs", "ratio", "reusable", "run", "source"]
__all__ += ["train_jobs", "trainings"]


def _row(args: Table, cell: Cell, member: int) -> Dict[str, Any]:
    """The episodes of one training seed, as the table's result holds them."""
    report = read_json(report_file(args, cell, member))
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
        "returns": [round(episode["return"], 4) for episode in detail],
        "costs": [episode["cost"] for episode in detail],
    }


def run(args: Table) -> Dict[str, Any]:
    """Everything; writes ``tableK.json`` and ``tableK.md``, returns what the former holds.

    Raises:
        ValueError: settings that are not understood, a part that failed, or ``finished_only`` and
            nothing is.
    """
    from go2_sevpo.offline_training.reproduce.safety_gymnasium import report as safety_report

    wanted = cells(args)
    safety_reuse.read(args.reuse)  # a mistake there is told before the long part
    (args.out / "data").mkdir(parents=True, exist_ok=True)
    # The settings of what is there are compared even where nothing is run.
    generate, mixing = data_jobs(args)
    if not args.finished_only:
        run_all(generate, 1)  # each uses all processes
        run_all(mixing, args.processes, args.ray)
    known = reusable(args)
    training, playing = train_jobs(args, known), play_jobs(args, known)
    if not args.finished_only:
        run_all(training, args.processes, args.ray)
        run_all(playing, args.processes, args.ray)
    missing = [
        cell
        for cell in wanted
        if cell.played not in known
        and not all(is_played(args, cell, member) for member in range(args.members))
    ]
    wanted = [cell for cell in wanted if cell not in missing]
    if not wanted:
        raise ValueError(
            f"nothing of the table is finished in {args.out} yet, expected at least one line"
        )
    name = type(args).__name__.lower()
    result = {
        "command": f"go2-reproduce {name}",
        "settings": plain(args),
        **_lines(args, wanted, known),
        "reward_scales": {
            cell.name: reward_scale_of(
                Args(
                    (mix_file(args, cell.task, cell.mix),),
                    args.out,
                    algorithm=cell.algorithm,
                    preset=args.preset,
                )
            )
            for cell in trainings(wanted)
        },
        "reused": {played: str(line.path) for played, line in known.items()},
        "missing": [{"task": c.task, "mix": c.mix, "label": c.label} for c in missing],
    }
    write_result(args.out / f"{name}.json", result)
    text = safety_report.table(result, worst=isinstance(args, Table3))
    write_atomically(args.out / f"{name}.md", text)
    curves = result["curves"]
    if any(curves.values()):
        # Along a training a policy is played as its configuration says, which no line's choice of
        # candidates changes.
        drawn = [
            (c.task, c.mix, c.label.split(", N = ")[0], curves[c.name]) for c in trainings(wanted)
        ]
        limits = sorted({cell.limit for cell in wanted})
        safety_report.draw_curves(drawn, limits, args.out / f"{name}_curves.png")
    print(text)
    return result


def _lines(
    args: Table, wanted: List[Cell], known: Dict[str, safety_reuse.Reused]
) -> Dict[str, Any]:
    """What the result holds of finished or ``known`` cells: rows, data, curves, configurations."""
    rows: List[Dict[str, Any]] = []
    configs: Dict[str, Dict[str, Any]] = {}
    curves: Dict[str, List[Dict[str, float]]] = {}
    for cell in wanted:
        if cell.played in known:
            line = known[cell.played]
            rows += line.rows
            configs.setdefault(cell.name, line.config)
            curves.setdefault(cell.name, line.curve)
        else:
            folder = run_folder(args, cell)
            rows += [_row(args, cell, member) for member in range(args.members)]
            configs[cell.name] = _config(folder)
            curves[cell.name] = read_curve(folder)
    data = {
        f"{cell.task} {cell.mix}": {
            "dsrl": source(args, cell.task)[1],
            **description(mix_file(args, cell.task, cell.mix)),
        }
        for cell in wanted
    }
    return {"rows": rows, "data": data, "curves": curves, "configs": configs}


def _config(folder: Path) -> Dict[str, Any]:
    """The algorithm's configuration that a run folder records."""
    recorded = read_json(folder / "config.json")
    config: Dict[str, Any] = recorded["config"]
    return config
