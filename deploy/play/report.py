"""report.json and report.html of an evaluation."""

from __future__ import annotations

import base64
import html
import io
from pathlib import Path
from typing import TYPE_CHECKING, Any, Dict, List, Optional

from go2_sevpo.metrics import percent
from go2_sevpo.runs.files import write_atomically
from go2_sevpo.runs.provenance import write_result

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_STYLE = (
    "body{font:15px/1.5 system-ui,sans-serif;margin:2em auto;max-width:60em;color:#1d2530;"
    "padding:0 1em}"
    "table{border-collapse:collapse;margin:1em 0}"
    "td,th{padding:.3em .9em;border-bottom:1px solid #d8dde3;text-align:left}"
    "th{font-weight:600}"
    "img,video{max-width:100%}"
    "small{color:#5b6673}"
    "h1{font-size:1.5em}"
    "h2{font-size:1.15em;margin-top:2em}"
)
_ROWS = (
    ("success", "success_rate", "success_interval"),
    ("fall", "fall_rate", "fall_interval"),
    ("time-out", "timeout_rate", "timeout_interval"),
    ("failure (no success)", "failure_rate", "failure_interval"),
)


def _figure() -> Figure:
    from matplotlib.figure import Figure

    return Figure(figsize=(9, 2.8), layout="constrained")


def _image(figure: Figure) -> str:
    """The figure as an HTML element that holds its pixels."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110)
    pixels = base64.b64encode(buffer.getvalue()).decode()
    return f'<img alt="" src="data:image/png;base64,{pixels}">'


def ends_plot(records: List[Dict[str, Any]]) -> str:
    """Histogram of where episodes end along the course, by outcome."""
    figure = _figure()
    axes = figure.subplots()
    colors = {"success": "#3a8f5c", "fall": "#c44536", "timeout": "#d9a441"}
    ends = [[e["end_position"][0] for e in records if e[outcome]] for outcome in colors]
    looks: Dict[str, Any] = {"stacked": True, "color": list(colors.values()), "label": list(colors)}
    # One bar per 0.375 m of the course, the outcomes on top of each other.
    axes.hist(ends, bins=40, range=(0, 15), **looks)
    axes.set(xlabel="end of the episode along the course, m", ylabel="episodes")
    axes.legend(frameon=False)
    return _image(figure)


def trace_plot(traces: List[List[Dict[str, float]]]) -> str:
    """Cost value along the first episodes, with the steps that cost."""
    figure = _figure()
    axes = figure.subplots()
    for k, rows in enumerate(traces):
        if not rows:
            continue
        x, values = [row["x"] for row in rows], [row["value"] for row in rows]
        axes.plot(x, values, lw=1, color=f"C{k}", label=f"episode {k}")
        hits = [row for row in rows if row["cost"] > 0]
        axes.plot([h["x"] for h in hits], [h["value"] for h in hits], "x", ms=5, color=f"C{k}")
    axes.set(xlabel="base along the course, m", ylabel="cost value V_c")
    axes.legend(frameon=False, fontsize=8, ncols=3)
    return _image(figure)


def _percent(report: Dict[str, Any], key: str, interval: str) -> str:
    # Of "97.4% [96.2, 98.2]" the bounds are set small.
    rate, _, bounds = percent(report[key], report[interval]).partition(" ")
    return f"{rate} <small>{bounds}</small>"


def html_report(
    report: Dict[str, Any], traces: List[List[Dict[str, float]]], video: Optional[Path]
) -> str:
    """The page as text, self-contained but for the video."""
    rows = [
        f"<tr><th>{name}</th><td>{_percent(report, key, interval)}</td></tr>"
        for name, key, interval in _ROWS
    ]
    cost_spread = f"sd {report['cost_std']:.2f}, largest {report['cost_max']:.0f}"
    slowest = f"p99 {report['inference_ms_p99']:.2f} ms, one action, one thread"
    plain = {
        "return": f"{report['return_mean']:.2f} <small>sd {report['return_std']:.2f}</small>",
        "cost": f"{report['cost_mean']:.2f} <small>{cost_spread}</small>",
        "steps": f"{report['steps_mean']:.0f} <small>20 ms each</small>",
        "inference": f"{report['inference_ms_p50']:.2f} ms <small>{slowest}</small>",
        "candidates N": f"{report['candidates']}, choice: {report['choice']}",
        "actions not finite": str(report["non_finite_actions"]),
        "observations not finite": str(report["non_finite_observations"]),
    }
    rows.extend(f"<tr><th>{name}</th><td>{value}</td></tr>" for name, value in plain.items())
    name = html.escape(str(report["policy"]["name"]))
    title = f"<title>{name} on {report['course']}</title>"
    played = f"{report['episodes']} episodes, seed {report['seed']}, 95% Wilson intervals."
    parts = [
        f"<!doctype html><meta charset=utf-8>{title}<style>{_STYLE}</style>",
        f"<h1>{name} on <em>{report['course']}</em>, difficulty {report['difficulty']:g}</h1>",
        f"<p>{played} {html.escape(report['definition'])}</p>",
        "<table>" + "".join(rows) + "</table>",
    ]
    if video is not None:
        parts.append(f'<video controls muted loop src="{html.escape(video.name)}"></video>')
    parts += ["<h2>Where episodes end</h2>", ends_plot(report["episodes_detail"])]
    # Policies without a cost value give zeros: nothing to draw.
    if any(row["value"] != 0 for episode in traces for row in episode):
        parts += [
            "<h2>Cost value along the first episodes</h2><p>Crosses mark steps that cost.</p>",
            trace_plot(traces),
        ]
    parts.append(f"<p><small>policy SHA-256 {report['policy']['sha256']}</small></p>")
    return "\n".join(parts)


def write_report(
    out: Path, report: Dict[str, Any], traces: List[List[Dict[str, float]]], video: Optional[Path]
) -> None:
    """Write ``report.json`` and ``report.html`` into ``out``."""
    out.mkdir(parents=True, exist_ok=True)
    write_result(out / "report.json", report, indent=1)
    write_atomically(out / "report.html", html_report(report, traces, video))
