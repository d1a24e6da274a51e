"""Learned regions along episodes: whether states before a fall are called unsafe in time, and what
the policy does there.

V_c of a trained policy is evaluated on every step of a dataset's episodes (best one it was not
trained on). Unsafe is V_c > limit.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Dict, List, Sequence, Tuple

import numpy as np
import torch

from go2_sevpo.data import shards
from go2_sevpo.data.shards import DatasetError
from go2_sevpo.metrics import percent, wilson
from go2_sevpo.policies.torch_policy import DiffusionPolicy, load_policy
from go2_sevpo.runs.files import write_atomically

BEFORE = (5, 10, 25, 50)
"""Steps before a fall at which the share called unsafe is reported."""
WINDOW = 150
"""Steps before the end that are drawn."""
GRACE = 10
"""Steps before the end in which V_c may be back below the limit: shortly before a fall ends the
episode there is little cost left to come.
"""
SAMPLED = 4096
"""At most this many unsafe steps are used to compare actions."""


def warning_time(unsafe: np.ndarray) -> int:
    """Steps (T,) -> how long before the end the last stretch of unsafe steps began; 0 if it ended
    more than ``GRACE`` steps before the end.
    """
    found = np.flatnonzero(unsafe)
    if not len(found) or len(unsafe) - 1 - found[-1] > GRACE:
        return 0
    safe = np.flatnonzero(~unsafe[: found[-1]])
    return len(unsafe) - (int(safe[-1]) + 1 if len(safe) else 0)


def read_values(
    folder: Path, policy: DiffusionPolicy
) -> Tuple[List[np.ndarray], np.ndarray, np.ndarray, torch.Tensor, torch.Tensor]:
    """V_c along every episode, whether each succeeded and fell, and all observations (M, S) and
    actions (M, A).

    Raises:
        DatasetError: no dataset there, or its observations are not the policy's.
    """
    manifest = shards.read_manifest(folder)
    values: List[np.ndarray] = []
    success: List[np.ndarray] = []
    fall: List[np.ndarray] = []
    obs: List[torch.Tensor] = []
    act: List[torch.Tensor] = []
    assert policy.cost_value is not None
    for entry in manifest["shards"]:
        part = shards.read_shard(folder / entry["file"])
        rows = torch.from_numpy(part.columns["observations"]).float()
        expected = policy.normalizer.num_obs
        if rows.shape[1] != expected:
            raise DatasetError(
                f"{folder} has observations of {rows.shape[1]} numbers, the policy takes {expected}"
            )
        with torch.no_grad():
            found = torch.cat(
                [policy.cost_value(policy.normalizer(x)) for x in rows.split(65536)]
            ).numpy()
        values += np.split(
            found, np.cumsum(np.asarray(part.episodes["length"], dtype=np.int64))[:-1]
        )
        success.append(np.asarray(part.episodes["success"]) > 0)
        fall.append(np.asarray(part.episodes["fall"]) > 0)
        obs.append(rows)
        act.append(torch.from_numpy(part.columns["actions"]).float())
    return values, np.concatenate(success), np.concatenate(fall), torch.cat(obs), torch.cat(act)


def warnings(
    values: Sequence[np.ndarray], success: np.ndarray, fall: np.ndarray, limit: float
) -> Dict[str, Any]:
    """What the regions say along episodes: before falls, and in episodes that succeed."""
    falls = [v for v, f in zip(values, fall) if f]
    good = [v for v, s in zip(values, success) if s]
    report: Dict[str, Any] = {
        "limit": limit,
        "episodes": len(values),
        "falls": len(falls),
        "successes": len(good),
    }
    before = {}
    for k in BEFORE:
        known = [v for v in falls if len(v) >= k]
        n = sum(bool(v[-k] > limit) for v in known)
        before[str(k)] = {
            "episodes": len(known),
            "called_unsafe": n / len(known) if known else None,
            "interval": wilson(n, len(known)) if known else None,
        }
    lead = [warning_time(v > limit) for v in falls]
    report["before_fall"] = before
    report["warning_steps"] = (
        [float(x) for x in np.percentile(lead, (10, 25, 50, 75, 90))] if lead else None
    )
    report["falls_without_warning"] = sum(x == 0 for x in lead)
    steps = sum(len(v) for v in good)
    report["success_steps_called_unsafe"] = (
        sum(int((v > limit).sum()) for v in good) / steps if steps else None
    )
    return report


def actions_there(
    policy: DiffusionPolicy, obs: torch.Tensor, act: torch.Tensor, unsafe: np.ndarray, seed: int
) -> Dict[str, Any]:
    """Mean Q_c on (some of) the unsafe steps: of the data's actions, of the policy's own, and of
    the least of 16 own ones.
    """
    rows = torch.from_numpy(np.flatnonzero(unsafe))
    if not len(rows):
        return {"steps": 0}
    generator = torch.Generator().manual_seed(seed)
    rows = rows[torch.randperm(len(rows), generator=generator)[:SAMPLED]]
    assert policy.cost_critic is not None
    with torch.no_grad():
        x = policy.normalizer(obs[rows])
        steps, n_act = policy.diffusion.steps, act.shape[1]
        own = []
        for _ in range(16):
            noise = torch.randn(len(x), steps, n_act, generator=generator)
            a = policy.diffusion.sample(x, noise, policy.temperature)
            own.append(policy.cost_critic(x, a).amax(0))
        data = policy.cost_critic(x, act[rows].clamp(-1, 1)).amax(0)
    every = torch.stack(own)
    return {
        "steps": len(rows),
        "data": float(data.mean()),
        "policy": float(every[0].mean()),
        "least_of_16": float(every.amin(0).mean()),
        "policy_below_data": float((every[0] < data).float().mean()),
    }


def draw(
    values: Sequence[np.ndarray], success: np.ndarray, fall: np.ndarray, limit: float, path: Path
) -> None:
    """V_c before the end of episodes that fall and of those that succeed (median, quartiles), and
    how early the warning comes.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.2), layout="constrained")
    left, right = figure.subplots(1, 2)
    for chosen, label, colour in ((fall, "falls", "tab:red"), (success, "succeeds", "tab:green")):
        ends = [v[-WINDOW:] for v, c in zip(values, chosen) if c]
        if not ends:
            continue
        rows = np.full((len(ends), WINDOW), np.nan)
        for i, v in enumerate(ends):
            rows[i, WINDOW - len(v) :] = v
        enough = (~np.isnan(rows)).sum(0) >= max(len(ends) // 10, 1)
        x = np.arange(-WINDOW, 0)[enough] * 0.02
        low, middle, high = np.nanpercentile(rows[:, enough], (25, 50, 75), axis=0)
        left.plot(x, middle, color=colour, label=f"{label} ({len(ends)})")
        left.fill_between(x, low, high, color=colour, alpha=0.2, linewidth=0)
    left.axhline(limit, color="black", linewidth=0.8, linestyle="--", label="limit")
    left.set(xlabel="seconds before the end", ylabel="V_c (median, quartiles)")
    left.legend(frameon=False, fontsize=8)
    lead = [0.02 * warning_time(v > limit) for v, f in zip(values, fall) if f]
    if lead:
        right.hist(
            lead,
            bins=30,
            range=(0.0, max(float(np.percentile(lead, 99)), 0.1)),
            color="tab:red",
            alpha=0.7,
        )
    right.set(xlabel="warning before the fall, s", ylabel="episodes that fall")
    figure.savefig(str(path), dpi=120)


def region_report(folder: Path, policy_file: Path, out: Path, seed: int = 0) -> str:
    """Write regions.json and regions.png to ``out``; returns a few lines of text.

    Raises:
        DatasetError: no dataset, or one that does not fit.
        CheckpointError: no policy in the file.
        ValueError: a policy without V_c.
    """
    policy, _, info = load_policy(policy_file)
    if not isinstance(policy, DiffusionPolicy) or policy.cost_value is None:
        raise ValueError(
            f"{policy_file} is a {info.get('algorithm', '?')} policy without cost values, expected one with V_c (sevpo, bc-choice, fisor)"
        )
    values, success, fall, obs, act = read_values(folder, policy)
    limit = policy.limit
    report = warnings(values, success, fall, limit)
    unsafe = np.concatenate(values) > limit
    report["cost_of_actions_where_unsafe"] = there = actions_there(policy, obs, act, unsafe, seed)
    report.update({"dataset": str(folder), "policy": str(policy_file), "seed": seed})
    out.mkdir(parents=True, exist_ok=True)
    write_atomically(out / "regions.json", json.dumps(report, indent=1))
    draw(values, success, fall, limit, out / "regions.png")
    lines = [
        f"{folder}: {len(values)} episodes, {report['falls']} falls, {report['successes']} successes; limit {limit:g}"
    ]
    for k, b in report["before_fall"].items():
        if b["episodes"]:
            share = percent(b["called_unsafe"], b["interval"])
            lines.append(f"{int(k) * 0.02:.1f} s before the fall: {share} called unsafe")
    if report["warning_steps"]:
        lines.append(
            f"warning before the fall: median {0.02 * report['warning_steps'][2]:.2f} s; {report['falls_without_warning']} without any"
        )
    if report["success_steps_called_unsafe"] is not None:
        lines.append(
            f"steps of successful episodes called unsafe: {100 * report['success_steps_called_unsafe']:.2f}%"
        )
    if there["steps"]:
        lines.append(
            f"mean Q_c where unsafe ({there['steps']} steps): data's actions {there['data']:.3f}, policy's {there['policy']:.3f}, "
            f"least of 16 {there['least_of_16']:.3f}"
        )
    return "\n".join([*lines, f"{out / 'regions.json'} and {out / 'regions.png'}"])
