"""Train, collect, train (``go2-loop``; the paper's Section D).

More data come from the learned policy once it is safe enough. Each step is one of the project's
commands in a process of its own; finished steps are not done again. The data says which world it
is: folders of go2-collect are the Go2 courses, files in DSRL's layout a Safety-Gymnasium task.
"""

from __future__ import annotations

import json
import sys
from typing import Any, Dict, List, Union

import tyro

from go2_sevpo.data.shards import DatasetError
from go2_sevpo.envs.safety_gymnasium.tasks import task_of_file
from go2_sevpo.offline_training.loop.arguments import Args
from go2_sevpo.offline_training.loop.worlds import Go2World, SafetyWorld
from go2_sevpo.runs.arguments import EXPECTED, complaint
from go2_sevpo.runs.files import write_atomically
from go2_sevpo.runs.interrupt import kill_interrupts
from go2_sevpo.runs.lists import joined_lists
from go2_sevpo.runs.lock import sole_writer
from go2_sevpo.runs.provenance import made_by
from go2_sevpo.runs.settings import keep_settings

MAY_CHANGE = ("out", "rounds", "safe_enough", "threads")
"""Settings that the same working folder may be gone on with otherwise."""


def world_of(args: Args) -> Union[Go2World, SafetyWorld]:
    """What the data is of.

    Raises:
        ValueError: no dataset, or of several worlds.
        DatasetError: a file whose task its name does not say.
    """
    if not args.dataset:
        raise ValueError("no dataset given, expected at least one folder or file")
    tasks = []
    for path in args.dataset:
        task = task_of_file(path) if path.is_file() else None
        if path.is_file() and task is None:
            raise DatasetError(f"{path} is not named after a Safety-Gymnasium task")
        tasks.append(task)
    if any(task is not tasks[0] for task in tasks):
        names = ", ".join(task.name if task else "Go2" for task in tasks)
        raise ValueError(f"datasets of several worlds: {names}")
    return Go2World(args) if tasks[0] is None else SafetyWorld(args, tasks[0])


def run(args: Args) -> List[Dict[str, Any]]:
    """All rounds; returns and writes (``loop.json``, ``loop.md``) what each reached.

    Raises:
        ValueError: no dataset, a step that failed, or a folder begun with other settings.
    """
    world = world_of(args)
    enough = 0.5 if isinstance(world, Go2World) else 1.0
    if args.safe_enough is not None:
        enough = args.safe_enough
    keep_settings(args.out, vars(args), MAY_CHANGE)
    data = list(args.dataset)
    rounds: List[Dict[str, Any]] = []
    for number in range(args.rounds + 1):
        folder = args.out / f"round_{number}"
        folder.mkdir(parents=True, exist_ok=True)
        onnx = world.train(folder, data)
        played = world.play(folder, onnx)
        danger = world.danger(played)
        allowed = danger <= enough
        used = [str(path) for path in data]
        learned = {"round": number, "data": used, "made_by": made_by()}
        rounds.append({**learned, "played": played, "may_collect": allowed})
        write_atomically(args.out / "loop.json", json.dumps(rounds, indent=1))
        write_atomically(args.out / "loop.md", table(world, rounds))
        if number == args.rounds:
            break
        if not allowed:
            print(
                f"\n{world.measure} {danger:.3f} is above {enough:.3f}: "
                "not safe enough to collect; stopped"
            )
            break
        data += world.collect(folder, onnx, number)
    print("\n" + table(world, rounds))
    return rounds


def table(world: Union[Go2World, SafetyWorld], rounds: List[Dict[str, Any]]) -> str:
    """Round by round, as Markdown."""
    columns = ("round", "datasets", *world.columns)
    lines = [f"| {' | '.join(columns)} |", "|---" * len(columns) + "|"]
    for entry in rounds:
        for name, reached in entry["played"].items():
            cells = [str(entry["round"]), str(len(entry["data"])), name, *world.cells(reached)]
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Entry point of ``go2-loop``."""
    args = tyro.cli(Args, args=joined_lists(sys.argv[1:], "--set"))
    kill_interrupts()
    try:
        with sole_writer(args.out):
            run(args)
    except KeyboardInterrupt:
        sys.exit("\ngo2-loop: stopped; finished steps are kept, the same command goes on")
    except EXPECTED as error:
        sys.exit(f"go2-loop: {complaint(error)}")


if __name__ == "__main__":
    main()
