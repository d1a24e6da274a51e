"""What tables 1 to 4 consist of: their settings, and the trainings that these ask for."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Dict, Iterator, List, Optional, Tuple, Union

from go2_sevpo.algorithms import make_config
from go2_sevpo.envs.safety_gymnasium.tasks import find_task
from go2_sevpo.offline_training.train import preset_of

ALL = ("sevpo", "fisor", "cpq", "coptidice", "ccac", "bc-safe")
BENCHMARK = (
    *("sevpo", "fisor", "bc-safe-choice", "bc-osrl", "bc-safe-osrl", "cpq-osrl"),
    *("coptidice-osrl", "ccac-osrl", "bcq-lag", "bear-lag"),
)
"""SEVPO and FISOR, cloning with the same ways of acting, and the benchmark's methods."""
CHOOSING = (
    *("sevpo", "fisor", "bc-choice", "bc-safe-choice"),
    *("cpq-osrl", "bcq-lag", "bear-lag"),
)
"""What has critics to choose among candidates with: every way of acting is offered to all."""
WITHOUT_REWARD = ("bc-choice", "bc-safe-choice")
"""Of these, what has no Q_r: ``argmax_reward`` is not for them."""


ORIGINAL = "ori"
"""The mix that is none: the data as they are."""


@dataclass
class SafetyTable:
    """What the four tables have in common."""

    out: Path = Path("runs/safety")
    """Working folder of all four tables: data, runs, reports. Finished parts are not done again."""
    tasks: Tuple[str, ...] = ("CarGoal1", "HalfCheetahVelocity")
    """Of the nine; for those whose DSRL file is not here data are generated."""
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
    """How every method with critics to choose by acts: a line for each. first: N = 1, the actor
    alone; preset: as the preset says for the task; escape, first_safe, argmax_reward, argmin_cost:
    this among N candidates, whatever the preset says.
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
    """Of ``go2-train``; the benchmark's own forms are bc-osrl, bc-safe-osrl, cpq-osrl,
    coptidice-osrl, ccac-osrl, bcq-lag and bear-lag.
    """
    mixes: Tuple[str, ...] = ("8:1", "1:1", "1:3")
    """Safe to unsafe transitions; ori: the data as they are."""
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


Table = Union[Table1, Table2, Table3, Table4]


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
        changes = "".join(f"_{setting.replace('=', '')}" for setting in self.settings)
        return f"{self.task}_{mix}_{self.algorithm}{changes}"

    @property
    def played(self) -> str:
        """Unique among all tables' evaluations."""
        return self.name if self.choice is None else f"{self.name}_{self.choice}"


def cells(args: Table) -> List[Cell]:
    """All trainings a table needs, one for each way of acting.

    Raises:
        ValueError: a mix that is neither SAFE:UNSAFE nor ori.
        DatasetError: an unknown task.
    """
    for mix in args.mixes:
        if mix != ORIGINAL:
            ratio(mix)
    found: List[Cell] = []
    for task in (find_task(name).name for name in args.tasks):
        for mix in args.mixes:
            for algorithm, label, limit, changed in _methods(args):
                for choice in _ways(args, algorithm, task):
                    title = label + _acting(choice, args.candidates)
                    found.append(Cell(task, mix, algorithm, title, changed, limit, choice))
    return found


def _ways(args: Table, algorithm: str, task: str) -> List[Optional[str]]:
    """How a method acts on a task, a line for each; None where it has nothing to choose with."""
    if algorithm not in CHOOSING:
        return [None]
    found: List[Optional[str]] = []
    known = set()
    for choice in args.choices:
        # What the preset says may be asked for by name, too: one line is enough.
        acting = choice
        if choice == "preset":
            preset = preset_of(args.preset, algorithm, find_task(task))
            own = make_config(algorithm, {k: v for k, v in preset.items() if k == "choice"})
            acting = str(getattr(own, "choice", "first"))
        lacks = acting == "argmax_reward" and algorithm in WITHOUT_REWARD
        if acting not in known and not lacks:
            found.append(choice)
        known.add(acting)
    return found


def _methods(args: Table) -> Iterator[Tuple[str, str, float, Tuple[str, ...]]]:
    """What is compared on one task and mix: algorithm, label, limit, changed settings."""
    if isinstance(args, Table4):
        for limit in args.limits:
            # The presets say 10, so that this training is shared with the other tables.
            changed = (f"episode_limit={limit:g}", f"episode_delta={limit:g}")
            yield "sevpo", f"SEVPO, l = {limit:g}", limit, () if limit == 10 else changed
    elif isinstance(args, Table2):
        yield "sevpo", "SEVPO", args.limit, ()
        yield "sevpo", "without trust region", args.limit, ("trust_region=off",)
    else:
        for name in args.algorithms:
            yield name, "SEVPO" if name == "sevpo" else name, args.limit, ()


def _acting(choice: Optional[str], candidates: int) -> str:
    """How a line's label ends."""
    if choice is None:
        return ""
    if choice == "first":
        return ", N = 1"
    return f", N = {candidates}" + ("" if choice == "preset" else f", {choice}")


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
        raise ValueError(f"mix '{mix}', expected SAFE:UNSAFE such as 8:1, or {ORIGINAL}")
    return safe, unsafe
