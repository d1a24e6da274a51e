"""The data of tables 1 to 4 and figure 4: where a task's transitions come from, and their mixes."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Dict, List, Optional, Protocol, Tuple

from go2_sevpo.data.shards import DatasetError
from go2_sevpo.envs.safety_gymnasium.files import find_file
from go2_sevpo.envs.safety_gymnasium.tasks import find_task
from go2_sevpo.offline_training.reproduce.jobs import Job
from go2_sevpo.offline_training.reproduce.safety_gymnasium.cells import (
    ORIGINAL,
    Table,
    cells,
    ratio,
)
from go2_sevpo.runs.processes import module
from go2_sevpo.runs.reading import read_json
from go2_sevpo.runs.settings import keep_settings

COMMAND = "go2_sevpo.data_collection.safety_gymnasium.cli"
"""``go2-dsrl``."""


class DataSettings(Protocol):
    """Settings that say where transitions come from, of the tables and of figure 4."""

    out: Path
    dsrl: bool
    generated_episodes: int
    processes: int
    seed: int


def source(args: DataSettings, task: str) -> Tuple[Path, bool]:
    """The file a task's mixes are drawn from, and whether it is DSRL's."""
    if args.dsrl:
        try:
            return find_file(find_task(task)), True
        except DatasetError:
            pass  # not on this machine
    return args.out / "data" / f"generated_{task}_{args.generated_episodes}.hdf5", False


def mix_file(args: DataSettings, task: str, mix: str, prefix: str = "") -> Path:
    """Where a mix is, or will be; one of generated data never passes for one of DSRL's."""
    kind = "dsrl" if source(args, task)[1] else "generated"
    return args.out / "data" / f"{prefix}{kind}_{task}_{mix.replace(':', '_')}.hdf5"


def is_mixed(path: Path) -> bool:
    """Whether a mix is there to its end: its description is written last."""
    return path.with_suffix(".json").is_file()


def description(path: Path) -> Dict[str, Any]:
    """What ``go2-dsrl mix`` wrote about a mix, its ``sha256`` among it."""
    found: Dict[str, Any] = read_json(path.with_suffix(".json"))
    return found


def generate_jobs(args: DataSettings, task: str) -> List[Job]:
    """The generation of a task's data, if its mixes need it and it is missing."""
    path, published = source(args, task)
    if published:
        return []
    made = {"episodes": args.generated_episodes, "seed": args.seed}
    keep_settings(path.parent, made, name=f"{path.stem}.settings.json")
    if path.is_file():
        return []
    command = module(
        *(COMMAND, "generate", task, "--out", path, "--episodes", args.generated_episodes),
        *("--seed", args.seed, "--processes", args.processes),
    )
    return [Job(f"generate {task}", command, args.out / f"generate_{task}.log")]


def mix_command(
    args: DataSettings, task: str, mix: str, out: Path, safe_samples: Optional[int]
) -> List[str]:
    """The command that draws a mix; the paper's numbers of transitions without ``safe_samples``.

    Raises:
        ValueError: ``out`` was drawn with other settings.
    """
    path, _ = source(args, task)
    made = {"source": path.name, "ratio": mix, "safe_samples": safe_samples, "seed": args.seed}
    keep_settings(out.parent, made, name=f"{out.stem}.settings.json")
    amount = () if safe_samples is None else ("--safe-samples", safe_samples)
    share = ("--all",) if mix == ORIGINAL else ("--ratio", *ratio(mix), *amount)
    return module(
        *(COMMAND, "mix", task, "--path", path, "--out", out, *share, "--seed", args.seed),
    )


def data_jobs(args: Table) -> Tuple[List[Job], List[Job]]:
    """Generations and mixes that are missing."""
    generate: List[Job] = []
    mixing: List[Job] = []
    for task in dict.fromkeys(cell.task for cell in cells(args)):
        generate += generate_jobs(args, task)
        amount = None if source(args, task)[1] else args.safe_samples
        for mix in args.mixes:
            out = mix_file(args, task, mix)
            command = mix_command(args, task, mix, out, amount)
            if not is_mixed(out):
                log = args.out / f"mix_{task}_{mix.replace(':', '_')}.log"
                mixing.append(Job(f"mix {task} {mix}", command, log))
    return generate, mixing
