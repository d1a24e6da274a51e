"""Success against tilt, gap and friction, from the rows of ``benchmarks.limits``."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Dict, List

from go2_sevpo.runs.files import save_figure

PANELS = (
    ("tilt", "tilt of the stones (degrees)"),
    ("gap", "gaps (m)"),
    ("friction", "friction coefficient of the course"),
)


def draw(rows: List[Dict[str, Any]], path: Path) -> None:
    """Three panels with 95% Wilson intervals.

    What the course itself has at difficulty 1 is shaded.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 3), layout="constrained")
    axes = figure.subplots(1, len(PANELS), sharey=True)
    course = {"tilt": (20, 40), "gap": (0.25, 0.5), "friction": (0.9, 1.5)}
    for axis, (start, label) in zip(axes, PANELS):
        curves = [c for c in dict.fromkeys(r["curve"] for r in rows) if c.split(" ")[0] == start]
        for k, curve in enumerate(curves):
            points = sorted((r for r in rows if r["curve"] == curve), key=lambda r: r["at"])
            x = [p["at"] for p in points]
            rates = [100 * p["success"]["rate"] for p in points]
            low = [100 * p["success"]["interval"][0] for p in points]
            high = [100 * p["success"]["interval"][1] for p in points]
            # "friction at 30 degrees" is shown as "30 degrees".
            axis.plot(x, rates, marker=".", color=f"C{k}", label=curve.rpartition(" at ")[2])
            axis.fill_between(x, low, high, color=f"C{k}", alpha=0.2, linewidth=0)
        axis.axvspan(*course[start], color="grey", alpha=0.12, linewidth=0)
        axis.set(xlabel=label, ylim=(0, 101))
        if len(curves) > 1:
            axis.legend(frameon=False, fontsize=8, loc="center left", bbox_to_anchor=(1.0, 0.5))
    axes[0].set_ylabel("success (%)")
    save_figure(path, figure, 110)
