"""Safety-Gymnasium's nine tasks of the paper, with DSRL's published constants."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Dict, Optional

from go2_sevpo.data.dataset import FileOrigin
from go2_sevpo.data.shards import DatasetError
from go2_sevpo.runs.reading import read_json

EPISODE_STEPS = 1000


@dataclass(frozen=True)
class Task:
    """One task: sizes, DSRL's return range and greatest episode cost, what the files hold.

    ``trajectories`` is their number in DSRL's file, ``safe_samples`` the paper's mixes' safe
    transitions.
    """

    name: str
    version: int
    num_obs: int
    num_actions: int
    return_min: float
    return_max: float
    max_cost: int
    trajectories: int
    safe_samples: int

    @property
    def file_name(self) -> str:
        """DSRL's name of the file."""
        return (
            f"Safety{self.name}Gymnasium-v{self.version}-{self.max_cost}-{self.trajectories}.hdf5"
        )

    @property
    def env_id(self) -> str:
        """Safety-Gymnasium's name of the environment."""
        return f"Safety{self.name}-v{self.version}"

    @property
    def registered_id(self) -> str:
        """The environment's name in this project: gymnasium's and the contracts'."""
        return f"go2_sevpo/Safety{self.name}-v{self.version}"

    @property
    def lidar(self) -> Optional[int]:
        """Index of the first lidar reading, with which the observation ends; None without lidar."""
        return 24 if self.name.startswith("Car") else None

    @property
    def offline_id(self) -> str:
        """DSRL's name of the environment with data."""
        return f"Offline{self.name}Gymnasium-v{self.version}"

    def normalised_return(self, value: float) -> float:
        """(return - r_min) / (r_max - r_min), not clipped."""
        return (value - self.return_min) / (self.return_max - self.return_min)


# name, version, sizes of observation and action, return_min, return_max, max_cost, trajectories,
# safe_samples
_NAVIGATION = (
    Task("CarButton1", 0, 88, 2, 0.0028926206826067613, 44.420003345738984, 250, 2656, 1_600_000),
    Task("CarButton2", 0, 88, 2, 0.001767391717990563, 41.99513815522894, 300, 3755, 1_600_000),
    Task("CarGoal1", 0, 72, 2, 0.012232819540852091, 39.907809198384705, 120, 1671, 560_000),
    Task("CarGoal2", 0, 72, 2, 0.001032874531954775, 28.902897990056502, 200, 4105, 1_600_000),
    Task("CarPush1", 0, 88, 2, 0.013700173533941762, 16.304467598905237, 200, 2871, 1_200_000),
    Task("CarPush2", 0, 88, 2, 0.00029391133526335267, 15.141648491514314, 250, 4407, 1_600_000),
)
_SWIMMER_RANGE = (0.07114458084106445, 238.95831298828125)
_VELOCITY = (
    Task("AntVelocity", 1, 27, 8, 6.1519012451171875, 2976.276611328125, 250, 2249, 1_600_000),
    Task("HalfCheetahVelocity", 1, 17, 6, 5.7509765625, 2806.93310546875, 250, 2495, 1_600_000),
    Task("SwimmerVelocity", 1, 8, 2, *_SWIMMER_RANGE, 200, 1686, 1_200_000),
)
TASKS: Dict[str, Task] = {task.name: task for task in _NAVIGATION + _VELOCITY}


def find_task(name: str) -> Task:
    """A task by its short name, DSRL's offline id or Safety-Gymnasium's id.

    Raises:
        DatasetError: no such task.
    """
    for task in TASKS.values():
        if name in (task.name, task.env_id, task.offline_id, task.file_name):
            return task
    raise DatasetError(f"unknown task '{name}', expected one of {', '.join(TASKS)}")


def task_of_file(path: Path) -> Optional[Task]:
    """The task of an HDF5 file, from the JSON beside it or DSRL's file name; None if in neither."""
    beside = path.with_suffix(".json")
    if beside.is_file():
        try:
            return TASKS.get(read_json(beside).get("task", ""))
        except (ValueError, AttributeError):
            return None
    for task in TASKS.values():
        if path.name.startswith(f"Safety{task.name}Gymnasium-v{task.version}-"):
            return task
    return None


def task_of_environment(name: Optional[str]) -> Optional[Task]:
    """The task registered with gymnasium as ``name``; None if it is something else."""
    return next((task for task in TASKS.values() if task.registered_id == name), None)


def origin_of_file(path: Path) -> Optional[FileOrigin]:
    """What :func:`go2_sevpo.data.dataset.load` needs to know of a file; None if of no task."""
    task = task_of_file(path)
    return None if task is None else FileOrigin(task.registered_id, task.lidar)


def normalised_cost(cost: float, limit: float) -> float:
    """(cost + eps) / (limit + eps), eps = 1 only where the limit is 0: safe is below 1."""
    eps = 1.0 if limit == 0 else 0.0
    return (cost + eps) / (limit + eps)
