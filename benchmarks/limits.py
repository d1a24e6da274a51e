"""Where a policy's limits are: ``python -m benchmarks.limits``.

It is played on courses and with physics it was not made for. Two tables. *Limits*: success against
the tilt of the hard course's stones, against the width of its gaps and against friction, everything
else as defined. *Robustness*: one property of the simulation changed at a time. Each row is a
number of unseen episodes with all other randomisation on.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import json
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Dict, List, Tuple

import torch
import tyro

from benchmarks.limits_picture import draw
from go2_sevpo.envs.go2.config import MAP_FAULTS, ParkourConfig, Randomization
from go2_sevpo.envs.go2.contract import fitting_version, task_version
from go2_sevpo.envs.go2.description.course import Shape
from go2_sevpo.envs.go2.parkour import Go2Parkour
from go2_sevpo.envs.go2.rollout import onnx_policy, run_episodes
from go2_sevpo.envs.seeds import LIMITS
from go2_sevpo.metrics import percent, wilson
from go2_sevpo.policies.onnx_policy import OnnxPolicy, find_policy
from go2_sevpo.runs.files import write_atomically

DRIFTS = ("drift_position", "drift_height", "drift_yaw")


@dataclass
class Args:
    """Play a policy at and beyond its limits."""

    policy: tyro.conf.Positional[str] = "expert"
    course: str = "hard"
    """Course of the robustness table; limits are measured on the hard course."""
    episodes: int = 200
    tables: Tuple[str, ...] = ("limits", "robustness")
    threads: int = 0
    seed: int = 0
    out: Path = Path("runs/limits")


@dataclass(frozen=True)
class Row:
    """What is changed: a title and fields of :class:`ParkourConfig`."""

    table: str
    title: str
    changes: Dict[str, Any] = field(default_factory=dict)
    curve: str = ""
    """Curve of the picture this is a point of."""
    at: float = 0.0
    """Where on it."""


def limit_rows() -> List[Row]:
    """Tilt, gap and friction, one at a time."""
    rows = [
        Row("limits", f"tilt {t:g} degrees", {"shape": Shape(tilt=(t, t))}, "tilt", t)
        for t in (0, 20, 30, 35, 40, 42.5, 45)
    ]
    for t in (20, 30, 40, 45):
        for f in (0.6, 0.8, 1.0, 1.2, 1.6, 2.0):
            title, curve = f"tilt {t} degrees, friction {f:g}", f"friction at {t} degrees"
            rows.append(Row("limits", title, {"shape": Shape(tilt=(t, t), friction=f)}, curve, f))
    rows += [
        Row("limits", f"gaps {g:g} m", {"shape": Shape(gap=(g, g))}, "gap", g)
        for g in (0.2, 0.3, 0.4, 0.45, 0.5, 0.55, 0.6)
    ]
    return rows


def robustness_rows(version: int = 1) -> List[Row]:
    """One property of the simulation at a time, the rest randomised as in ``version``."""
    base = Randomization.of(version)
    rows = [
        Row("robustness", "as trained"),
        Row("robustness", "no randomisation", {"randomization": Randomization.off()}),
    ]

    def add(title: str, randomization: Randomization) -> None:
        rows.append(Row("robustness", title, {"randomization": randomization}))

    for f in (0.5, 0.6, 0.75, 1.5):
        add(f"friction x {f:g}", replace(base, friction_factor=(f, f)))
    for m in (-1, 2, 4, 6):
        add(f"payload {m:g} kg", replace(base, payload_kg=(m, m)))
    for k in (0.8, 0.9, 1.2):
        add(f"motor strength x {k:g}", replace(base, motor_factor=(k, k)))
    for d in (0.0, 0.01, 0.02):
        add(f"action delay {1000 * d:g} ms", replace(base, delay_s=(d, d)))
    for v in (0.8, 1.2):
        add(f"pushes of up to {v:g} m/s", replace(base, push_speed=v))
    for e in (0.04, 0.06):
        add(f"map wrong by up to {100 * e:g} cm", replace(base, map_error=e))
    if version > 1:
        true_map: Dict[str, Any] = {name: False for name in (*MAP_FAULTS, "odometry_drift")}
        add("the map true", replace(base, **true_map))
        add("the map true, sensors and physics as in version 1", Randomization())
        for d in (0.1, 0.5, 1.0):
            add(f"joint damping {d:g} N m s/rad", replace(base, damping=(d, d)))
        for a in (0.0, 0.1):
            add(f"map {1000 * a:g} ms old", replace(base, map_age_s=(a, a)))
        add("drift twice as fast", replace(base, **{k: 2 * getattr(base, k) for k in DRIFTS}))
    for dt in (0.002, 0.001):
        rows.append(Row("robustness", f"physics step {1000 * dt:g} ms", {"physics_dt": dt}))
    return rows


def play(policy: OnnxPolicy, args: Args, row: Row) -> Dict[str, Any]:
    """Rates of one row."""
    course = "hard" if row.table == "limits" else args.course
    stream = LIMITS.number(args.seed, 0, args.episodes)
    version = task_version(policy.contract)
    changes = {"randomization": Randomization.of(version), **row.changes}
    config = ParkourConfig(
        version=version,
        num_envs=args.episodes,
        courses=(course,),
        variants=args.episodes,
        seed=stream,
        course_seed=stream,
        threads=args.threads,
        **changes,
    )
    env = Go2Parkour(config)
    scale = policy.contract["sampler"].get("noise_scale", 1.0)
    try:
        episodes = run_episodes(env, onnx_policy(policy, stream, scale), stream).episodes
    finally:
        env.close()
    n = len(episodes)
    counts = {k: sum(bool(e[k]) for e in episodes) for k in ("success", "fall", "timeout")}
    return {
        "table": row.table,
        "title": row.title,
        "course": course,
        "episodes": n,
        "curve": row.curve,
        "at": row.at,
        **{k: {"rate": c / n, "interval": wilson(c, n)} for k, c in counts.items()},
        "progress": sum(e["progress"] for e in episodes) / n,
    }


def line(found: Dict[str, Any]) -> str:
    """One row as Markdown."""

    def rate(key: str) -> str:
        return percent(found[key]["rate"], found[key]["interval"], sign="")

    way = f"{100 * found['progress']:.0f}"
    return f"| {found['title']} | {rate('success')} | {rate('fall')} | {way} |"


def earlier(path: Path, settings: Dict[str, Any]) -> Dict[Tuple[str, str], Dict[str, Any]]:
    """Rows already measured with the same settings, by table and title."""
    if not path.is_file():
        return {}
    found = json.loads(path.read_text(encoding="utf-8"))
    # Which tables were asked for does not change a row.
    if {**found["settings"], "tables": None} != {**settings, "tables": None}:
        return {}
    return {(r["table"], r["title"]): r for r in found["rows"]}


def main() -> None:
    """Measure, print; writes ``NAME.json``, ``NAME.md`` and ``NAME.png``.

    ``NAME.json`` is written after every row: the same command goes on.
    """
    args = tyro.cli(Args)
    torch.set_num_threads(1)
    policy = OnnxPolicy(find_policy(args.policy))
    version = fitting_version(policy.contract, args.policy)
    args.out.mkdir(parents=True, exist_ok=True)
    path = args.out / f"{Path(args.policy).stem}.json"
    # As JSON has them, to be compared with those of an earlier call.
    settings = json.loads(json.dumps({**asdict(args), "out": None, "policy": policy.identity}))
    done = earlier(path, settings)
    found: List[Dict[str, Any]] = []
    lines: List[str] = []
    for row in (r for r in limit_rows() + robustness_rows(version) if r.table in args.tables):
        if not found or found[-1]["table"] != row.table:
            course = "hard" if row.table == "limits" else args.course
            lines += ["", f"{row.table}, {course} course: {args.episodes} episodes a row", ""]
            lines += ["| | success % | fall % | way covered % |", "|---|---|---|---|"]
            print("\n".join(lines[-5:]), flush=True)
        found.append(done.get((row.table, row.title)) or play(policy, args, row))
        lines.append(line(found[-1]))
        print(lines[-1], flush=True)
        # Rows of an earlier call that come later are kept too.
        measured = {(f["table"], f["title"]) for f in found}
        ahead = [r for key, r in done.items() if key not in measured]
        write_atomically(path, json.dumps({"settings": settings, "rows": found + ahead}, indent=1))
    write_atomically(path.with_suffix(".md"), "\n".join(lines[1:]) + "\n")
    if "limits" in args.tables:
        draw(found, path.with_suffix(".png"))


if __name__ == "__main__":
    main()
