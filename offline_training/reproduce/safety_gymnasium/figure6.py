"""Figure 6: pictures of the nine Safety-Gymnasium tasks (``go2-reproduce figure6``)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from go2_sevpo.envs.safety_gymnasium.tasks import TASKS
from go2_sevpo.runs.files import save_figure

COLUMNS = 3


@dataclass
class Figure6:
    """Draw the Safety-Gymnasium tasks (needs OpenGL)."""

    out: Path = Path("runs/figure6")
    seed: int = 3
    width: int = 480
    height: int = 300


def run(args: Figure6) -> Path:
    """Write ``figure6.png``; returns its path.

    Raises:
        ValueError: nothing can be drawn on this machine.
    """
    from matplotlib.figure import Figure

    from go2_sevpo.envs.safety_gymnasium.environment import make

    rows = -(-len(TASKS) // COLUMNS)
    figure = Figure(figsize=(3.2 * COLUMNS, 2.3 * rows), layout="constrained")
    axes = figure.subplots(rows, COLUMNS).ravel()
    for axis, name in zip(axes, sorted(TASKS)):
        env = make(name, width=args.width, height=args.height)
        env.reset(seed=args.seed)
        try:
            axis.imshow(env.render())
        except Exception as error:  # every GL back end fails in its own way
            raise ValueError(
                f"cannot draw here: {error}; on Debian or Ubuntu: apt-get install libegl1 libgl1"
            ) from None
        finally:
            env.close()
        axis.set_title(name, fontsize=9)
    for axis in axes:
        axis.axis("off")
    args.out.mkdir(parents=True, exist_ok=True)
    path = args.out / "figure6.png"
    save_figure(path, figure, 100)
    print(f"picture: {path}")
    return path
