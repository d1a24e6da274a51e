"""What a dataset holds: a table by source with pictures (``go2-data info``), a card for those who
get it (``card``).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Dict

import numpy as np

from go2_sevpo.data import shards
from go2_sevpo.data.shards import DatasetError
from go2_sevpo.metrics import percent, wilson

PANELS = {"return": "return", "cost": "cost", "length": "steps", "progress": "way covered (%)"}


def _episodes(folder: Path, manifest: Dict[str, Any]) -> Dict[str, Dict[str, np.ndarray]]:
    """Episode tables by source; with ``progress`` in percent where the shards' records have it."""
    import h5py

    groups: Dict[str, Dict[str, list]] = {}
    for entry in manifest["shards"]:
        source = entry["info"].get("source", {})
        name = f"{Path(source.get('policy', '?')).stem} on {source.get('course', '?')}"
        group = groups.setdefault(name, {k: [] for k in (*shards.EPISODE_KEYS, "progress")})
        with h5py.File(folder / entry["file"], "r") as handle:
            for key in shards.EPISODE_KEYS:
                group[key].append(handle[f"episodes/{key}"][()])
        records = shards.shard_info(folder / entry["file"]).get("records", [])
        group["progress"].append(
            np.array([100.0 * r["progress"] for r in records if "progress" in r])
        )
    return {
        name: {k: np.concatenate(v) for k, v in group.items()} for name, group in groups.items()
    }


def _histograms(groups: Dict[str, Dict[str, np.ndarray]], path: Path) -> None:
    from matplotlib.figure import Figure

    keys = [k for k in PANELS if any(len(g[k]) for g in groups.values())]
    figure = Figure(figsize=(3.6 * len(keys), 3), layout="constrained")
    for axis, key in zip(np.atleast_1d(figure.subplots(1, len(keys))), keys):
        values, label = [g[key] for g in groups.values()], PANELS[key]
        every = np.concatenate(values)
        top = float(np.quantile(every, 0.99))
        if (
            every.max() > 2.0 * top > 0
        ):  # a few episodes would squeeze all others into the first bin
            values, label = (
                [np.minimum(v, top) for v in values],
                f"{label} ({top:.0f} and more in the last bin)",
            )
        axis.hist(values, bins=30, stacked=True, label=list(groups))
        axis.set(xlabel=label, ylabel="episodes")
        if key == keys[0]:
            axis.legend(frameon=False, fontsize=8)
    figure.savefig(str(path), dpi=120)


def info(folder: Path) -> str:
    """A table of the dataset by source; the picture goes to ``histogram.png`` beside the shards.

    Raises:
        DatasetError: no dataset there, or a shard is missing.
    """
    manifest = shards.read_manifest(folder)
    for entry in manifest["shards"]:
        if not (folder / entry["file"]).is_file():
            raise DatasetError(f"shard {entry['file']} is missing from {folder}")
    groups = _episodes(folder, manifest)
    lines = [
        f"{folder}: {manifest['episodes']} episodes, {manifest['transitions']} transitions, {len(manifest['shards'])} shards"
    ]
    lines.append(
        f"{'source':24s} {'episodes':>8s} {'steps':>9s} {'length':>7s} {'return':>14s} {'cost':>14s} {'success':>22s} {'fall':>6s}"
    )
    everything = {k: np.concatenate([g[k] for g in groups.values()]) for k in shards.EPISODE_KEYS}
    for name, g in [*groups.items(), ("all", everything)]:
        n, good = len(g["length"]), int(g["success"].sum())
        success = percent(good / n, wilson(good, n))
        lines.append(
            f"{name:24s} {n:8d} {int(g['length'].sum()):9d} {g['length'].mean():7.0f} "
            f"{g['return'].mean():7.2f} ±{g['return'].std():5.2f} {g['cost'].mean():7.2f} ±{g['cost'].std():5.2f} "
            f"{success:>22s} {100 * g['fall'].mean():5.1f}%"
        )
    _histograms(groups, folder / "histogram.png")
    return "\n".join([*lines, f"picture: {folder / 'histogram.png'}"])


def card(folder: Path) -> str:
    """The dataset's card as Markdown.

    Raises:
        DatasetError: no dataset there, or a shard is missing.
    """
    m = shards.read_manifest(folder)
    table = info(folder).splitlines()[1:-1]
    environment = m.get("environment") or {}
    lines = [
        f"# Dataset {folder.resolve().name}",
        "",
        f"{m['episodes']} episodes, {m['transitions']} transitions in {len(m['shards'])} HDF5 shards (keys of DSRL), "
        f"schema {m['schema']}, seed {m.get('seed')}. Environment: {environment.get('name', '?')}.",
        "",
        "```",
        *table,
        "```",
        "",
        "![returns, costs, lengths, way covered](histogram.png)",
        "",
        "## What made it",
        "",
    ]
    for source in m.get("sources", []):
        digest = (m.get("policies") or {}).get(source["policy"], "?")
        lines.append(
            f"- {source['episodes']} episodes of policy `{Path(source['policy']).name}` (SHA-256 {digest[:12]}...) on *{source['course']}*, "
            f"difficulty {source['difficulty']:g}, action noise x {source['noise']:g} (Gaussian policies only)"
        )
    lines += [
        f"- randomisation {'on' if m.get('randomization', True) else 'off'}, simulator {m.get('simulator', 'mujoco')}",
        "",
    ]
    if environment.get("definition"):
        lines += ["## Success, fall, cost", "", environment["definition"], ""]
    observation = m.get("observation") or {}
    if observation.get("fields"):
        lines += ["## Observation", "", "| field | size | unit | scale |", "|---|---|---|---|"]
        lines += [
            f"| {f['name']} | {f['size']} | {f['unit']} | {f['scale']:g} |"
            for f in observation["fields"]
        ]
        lines.append("")
    lines += [
        "Checksums of all shards are in `manifest.json`; `go2-data validate` checks them.",
        "",
    ]
    return "\n".join(lines)
