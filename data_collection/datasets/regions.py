"""Learned regions along episodes (``go2-data regions``).

Whether states before a fall are called unsafe in time, and what the policy does there. V_c of a
trained policy is evaluated on every step of a dataset's episodes (best one it was not trained on).
Unsafe is V_c > limit.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Dict, List, NamedTuple, Sequence

import numpy as np
import torch

from go2_sevpo.data import shards
from go2_sevpo.data.shards import DatasetError
from go2_sevpo.metrics import percent, wilson
from go2_sevpo.policies.torch_policy import DiffusionPolicy, load_policy
from go2_sevpo.runs.files import save_figure
from go2_sevpo.runs.provenance import write_result

CONTROL_DT = 0.02
"""Seconds per step."""
BEFORE = (1, 5, 10, 25, 50)
"""Steps before a fall at which the share called unsafe is reported; 1 is the last step."""
WINDOW = 150
"""Steps before the end that are drawn."""
SAMPLED = 4096
"""At most this many unsafe steps are used to compare actions."""
CANDIDATES = 16
"""Own actions per unsafe step."""


def warning_time(unsafe: np.ndarray) -> int:
    """How many steps of ``unsafe`` (T,) bool stand unbroken at its end: the warning before it.

    A state from which no cost were to come would be safe again; the step before a fall is not.
    """
    safe = np.flatnonzero(~unsafe)
    return len(unsafe) - (int(safe[-1]) + 1 if len(safe) else 0)


class Values(NamedTuple):
    """A dataset of E episodes and M steps seen through a policy's V_c.

    Attributes:
        values: V_c along every episode, each (T,).
        success, fall: (E,) bool.
        obs, act: observations (M, S) and actions (M, A).
    """

    values: List[np.ndarray]
    success: np.ndarray
    fall: np.ndarray
    obs: torch.Tensor
    act: torch.Tensor


def read_values(folder: Path, policy: DiffusionPolicy) -> Values:
    """V_c along every episode of the dataset in ``folder``.

    Raises:
        DatasetError: no dataset there, or its observations are not the policy's.
    """
    manifest = shards.read_manifest(folder)
    expected = policy.normalizer.num_obs
    parts: List[Values] = []
    assert policy.cost_value is not None
    for entry in manifest["shards"]:
        part = shards.read_shard(folder / entry["file"], entry["sha256"])
        obs = torch.from_numpy(part.columns["observations"]).float()  # (M, S)
        if obs.shape[1] != expected:
            raise DatasetError(
                f"{folder} has observations of {obs.shape[1]} numbers, the policy takes {expected}"
            )
        with torch.no_grad():  # in blocks, which bound the memory
            blocks = [policy.cost_value(policy.normalizer(x)) for x in obs.split(65536)]
        ends = np.cumsum(np.asarray(part.episodes["length"], dtype=np.int64))
        values = np.split(torch.cat(blocks).numpy(), ends[:-1])
        success, fall = (np.asarray(part.episodes[k]) > 0 for k in ("success", "fall"))
        act = torch.from_numpy(part.columns["actions"]).float()
        parts.append(Values(values, success, fall, obs, act))
    return Values(
        [v for p in parts for v in p.values],
        np.concatenate([p.success for p in parts]),
        np.concatenate([p.fall for p in parts]),
        torch.cat([p.obs for p in parts]),
        torch.cat([p.act for p in parts]),
    )


def warnings(
    values: Sequence[np.ndarray], success: np.ndarray, fall: np.ndarray, limit: float
) -> Dict[str, Any]:
    """What the regions say along E episodes: before falls, and in episodes that succeed.

    ``values`` are V_c along each, ``success`` and ``fall`` (E,) bool; unsafe is V_c > ``limit``.
    """
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
        known = [v for v in falls if len(v) >= k]  # shorter ones were not there yet
        n = sum(bool(v[-k] > limit) for v in known)
        before[str(k)] = {
            "episodes": len(known),
            "called_unsafe": n / len(known) if known else None,
            "interval": wilson(n, len(known)) if known else None,
        }
    lead = [warning_time(v > limit) for v in falls]
    report["before_fall"] = before
    quantiles = np.percentile(lead, (10, 25, 50, 75, 90)) if lead else None
    report["warning_steps"] = None if quantiles is None else [float(x) for x in quantiles]
    report["falls_without_warning"] = sum(x == 0 for x in lead)
    steps = sum(len(v) for v in good)
    unsafe = sum(int((v > limit).sum()) for v in good)
    report["success_steps_called_unsafe"] = unsafe / steps if steps else None
    return report


def actions_there(
    policy: DiffusionPolicy, obs: torch.Tensor, act: torch.Tensor, unsafe: np.ndarray, seed: int
) -> Dict[str, Any]:
    """Mean Q_c on (some of) the unsafe steps: how much less cost other actions would bring.

    Of the data's actions, of the policy's own, and of the least of ``CANDIDATES`` own ones.
    ``obs`` (M, S), ``act`` (M, A), ``unsafe`` (M,) bool.
    """
    rows = torch.from_numpy(np.flatnonzero(unsafe))
    if not len(rows):
        return {"steps": 0}
    generator = torch.Generator().manual_seed(seed)
    rows = rows[torch.randperm(len(rows), generator=generator)[:SAMPLED]]
    assert policy.cost_critic is not None
    with torch.no_grad():
        x = policy.normalizer(obs[rows])  # (B, S)
        steps, n_act = policy.diffusion.steps, act.shape[1]
        own = []
        for _ in range(CANDIDATES):
            noise = torch.randn(len(x), steps, n_act, generator=generator)
            sample = policy.diffusion.sample(x, noise, policy.temperature)  # (B, A)
            own.append(policy.cost_critic(x, sample).amax(0))  # the worse of both critics, (B,)
        data = policy.cost_critic(x, act[rows].clamp(-1, 1)).amax(0)
    every = torch.stack(own)  # (16, B)
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
    """V_c before the end of episodes that fall and that succeed, and how early the warning comes.

    Medians and quartiles over the episodes; arguments as in :func:`warnings`.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.2), layout="constrained")
    left, right = figure.subplots(1, 2)
    for chosen, label, colour in ((fall, "falls", "tab:red"), (success, "succeeds", "tab:green")):
        ends = [v[-WINDOW:] for v, c in zip(values, chosen) if c]
        if not ends:
            continue
        # Aligned at the end; shorter episodes leave NaN in front.
        rows = np.full((len(ends), WINDOW), np.nan)
        for i, v in enumerate(ends):
            rows[i, WINDOW - len(v) :] = v
        # Only steps that a tenth of the episodes have.
        enough = (~np.isnan(rows)).sum(0) >= max(len(ends) // 10, 1)
        x = np.arange(-WINDOW, 0)[enough] * CONTROL_DT
        low, middle, high = np.nanpercentile(rows[:, enough], (25, 50, 75), axis=0)
        left.plot(x, middle, color=colour, label=f"{label} ({len(ends)})")
        left.fill_between(x, low, high, color=colour, alpha=0.2, linewidth=0)
    left.axhline(limit, color="black", linewidth=0.8, linestyle="--", label="limit")
    left.set(xlabel="seconds before the end", ylabel="V_c (median, quartiles)")
    left.legend(frameon=False, fontsize=8)
    lead = [CONTROL_DT * warning_time(v > limit) for v, f in zip(values, fall) if f]
    if lead:
        top = max(float(np.percentile(lead, 99)), 0.1)
        right.hist(lead, bins=30, range=(0.0, top), color="tab:red", alpha=0.7)
    right.set(xlabel="warning before the fall, s", ylabel="episodes that fall")
    save_figure(path, figure, 120)


def _counts(report: Dict[str, Any]) -> str:
    return (
        f"{report['episodes']} episodes, {report['falls']} falls, "
        f"{report['successes']} successes; limit {report['limit']:g}"
    )


def _lines(report: Dict[str, Any]) -> List[str]:
    """The report in words; what there is no number of is left out."""
    lines = []
    for steps, before in report["before_fall"].items():
        if before["episodes"]:
            share = percent(before["called_unsafe"], before["interval"])
            seconds = int(steps) * CONTROL_DT
            when = "on the last step" if int(steps) == 1 else f"{seconds:.1f} s before the fall"
            lines.append(f"{when}: {share} called unsafe")
    if report["warning_steps"]:
        median = CONTROL_DT * report["warning_steps"][2]
        without = report["falls_without_warning"]
        lines.append(f"warning before the fall: median {median:.2f} s; {without} without any")
    if report["success_steps_called_unsafe"] is not None:
        share = f"{100 * report['success_steps_called_unsafe']:.2f}%"
        lines.append(f"steps of successful episodes called unsafe: {share}")
    there = report["cost_of_actions_where_unsafe"]
    if there["steps"]:
        lines.append(
            f"mean Q_c where unsafe ({there['steps']} steps): data's actions {there['data']:.3f}, "
            f"policy's {there['policy']:.3f}, least of 16 {there['least_of_16']:.3f}"
        )
    return lines


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
            f"{policy_file} is a {info.get('algorithm', '?')} policy without cost values, "
            "expected one with V_c (sevpo, bc-choice, fisor)"
        )
    values, success, fall, obs, act = read_values(folder, policy)
    limit = policy.limit
    report = warnings(values, success, fall, limit)
    unsafe = np.concatenate(values) > limit
    report["cost_of_actions_where_unsafe"] = actions_there(policy, obs, act, unsafe, seed)
    report.update({"dataset": str(folder), "policy": str(policy_file), "seed": seed})
    out.mkdir(parents=True, exist_ok=True)
    write_result(out / "regions.json", report, indent=1)
    draw(values, success, fall, limit, out / "regions.png")
    files = f"{out / 'regions.json'} and {out / 'regions.png'}"
    return "\n".join([f"{folder}: {_counts(report)}", *_lines(report), files])
