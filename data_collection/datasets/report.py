"""What a dataset holds, for those who have it and those who get it.

A table by source with pictures (``go2-data info``), and a card (``go2-data card``).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Dict, List

import numpy as np

from go2_sevpo.data import shards
from go2_sevpo.data.shards import DatasetError
from go2_sevpo.metrics import percent, wilson
from go2_sevpo.runs.files import save_figure

Table = Dict[str, np.ndarray]
"""Numbers of episodes, each (E,), by name."""
PANELS = {"return": "return", "cost": "cost", "length": "steps", "progress": "way covered (%)"}


def source_name(source: Dict[str, Any]) -> str:
    """What a source is called: who acts, in turn, on which course, and what else is special."""
    who = [source.get("policy", "?"), *([source["then"]] if source.get("then") else [])]
    more = f", pushes {source['push_speed']:g}" if source.get("push_speed") is not None else ""
    more += ", mid-course" if source.get("mid_course") else ""
    names = ", then ".join(Path(name).stem for name in who)
    return f"{names} on {source.get('course', '?')}{more}"


def _episodes(folder: Path, manifest: Dict[str, Any]) -> Dict[str, Table]:
    """Episode tables by source; with ``progress`` in percent where the shards' records have it."""
    import h5py

    groups: Dict[str, Dict[str, List[np.ndarray]]] = {}
    for entry in manifest["shards"]:
        source = entry["info"].get("source", {})
        name = source_name(source)
        group = groups.setdefault(name, {k: [] for k in (*shards.EPISODE_KEYS, "progress")})
        with h5py.File(folder / entry["file"], "r") as handle:
            for key in shards.EPISODE_KEYS:
                group[key].append(handle[f"episodes/{key}"][()])
        records = shards.shard_info(folder / entry["file"]).get("records", [])
        progress = [100.0 * r["progress"] for r in records if "progress" in r]
        group["progress"].append(np.array(progress))
    return {
        name: {k: np.concatenate(v) for k, v in group.items()} for name, group in groups.items()
    }


def _histograms(groups: Dict[str, Table], path: Path) -> None:
    """Draw what the episodes have, stacked by source."""
    from matplotlib.figure import Figure

    keys = [k for k in PANELS if any(len(g[k]) for g in groups.values())]
    figure = Figure(figsize=(3.6 * len(keys), 3), layout="constrained")
    for axis, key in zip(np.atleast_1d(figure.subplots(1, len(keys))), keys):
        values, label = [g[key] for g in groups.values()], PANELS[key]
        every = np.concatenate(values)
        top = float(np.quantile(every, 0.99))
        if every.max() > 2.0 * top > 0:
            # A few episodes would squeeze all others into the first bin.
            values = [np.minimum(v, top) for v in values]
            label = f"{label} ({top:.0f} and more in the last bin)"
        axis.hist(values, bins=30, stacked=True, label=list(groups))
        axis.set(xlabel=label, ylabel="episodes")
        if key == keys[0]:
            axis.legend(frameon=False, fontsize=8)
    save_figure(path, figure, 120)


def _row(name: str, table: Table) -> str:
    """One line of :func:`info`'s table: means, with standard deviations behind ±."""
    n, good = len(table["length"]), int(table["success"].sum())
    success = percent(good / n, wilson(good, n))
    total, length, fall = table["length"].sum(), table["length"].mean(), table["fall"].mean()
    returns, costs = table["return"], table["cost"]
    return (
        f"{name:24s} {n:8d} {int(total):9d} {length:7.0f} "
        f"{returns.mean():7.2f} ±{returns.std():5.2f} {costs.mean():7.2f} ±{costs.std():5.2f} "
        f"{success:>22s} {100 * fall:5.1f}%"
    )


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
    everything = {k: np.concatenate([g[k] for g in groups.values()]) for k in shards.EPISODE_KEYS}
    lines = [
        f"{folder}: {manifest['episodes']} episodes, {manifest['transitions']} transitions, "
        f"{len(manifest['shards'])} shards",
        f"{'source':24s} {'episodes':>8s} {'steps':>9s} {'length':>7s} {'return':>14s} "
        f"{'cost':>14s} {'success':>22s} {'fall':>6s}",
        *(_row(name, table) for name, table in groups.items()),
        _row("all", everything),
    ]
    _histograms(groups, folder / "histogram.png")
    return "\n".join([*lines, f"picture: {folder / 'histogram.png'}"])


def card(folder: Path) -> str:
    """The dataset's card as Markdown.

    Raises:
        DatasetError: no dataset there, or a shard is missing.
    """
    manifest = shards.read_manifest(folder)
    table = info(folder).splitlines()[1:-1]  # without the counts and the picture's name
    environment = manifest.get("environment") or {}
    parts = [
        [f"# Dataset {folder.resolve().name}"],
        [
            f"{manifest['episodes']} episodes, {manifest['transitions']} transitions in "
            f"{len(manifest['shards'])} HDF5 shards (keys of DSRL), schema {manifest['schema']}, "
            f"seed {manifest.get('seed')}. Environment: {environment.get('name', '?')}."
        ],
        ["```", *table, "```"],
        ["![returns, costs, lengths, way covered](histogram.png)"],
        ["## What made it"],
        _sources(manifest),
    ]
    if environment.get("definition"):
        parts += [["## Success, fall, cost"], [environment["definition"]]]
    observation = manifest.get("observation") or {}
    if observation.get("fields"):
        parts += [["## Observation"], _fields(observation["fields"])]
    parts.append(
        ["Checksums of all shards are in `manifest.json`; `go2-data validate` checks them."]
    )
    # An empty line behind every part.
    return "\n".join(line for part in parts for line in (*part, ""))


def _sources(manifest: Dict[str, Any]) -> List[str]:
    """Markdown list of what the episodes were made with."""
    lines = []
    for source in manifest.get("sources", []):
        digest = (manifest.get("policies") or {}).get(source["policy"], "?")
        lines.append(
            f"- {source['episodes']} episodes of policy `{Path(source['policy']).name}` "
            f"(SHA-256 {digest[:12]}...) on *{source['course']}*, "
            f"difficulty {source['difficulty']:g}, "
            f"action noise x {source['noise']:g} (Gaussian policies only){_special(source)}"
        )
    randomization = "on" if manifest.get("randomization", True) else "off"
    simulator = manifest.get("simulator", "mujoco")
    return [*lines, f"- randomisation {randomization}, simulator {simulator}"]


def _special(source: Dict[str, Any]) -> str:
    """What a source has beside its policy, course and noise."""
    text = ""
    if source.get("then"):
        when = "after" if source.get("after") else "before_fall"
        low, high = source[when]
        where = "after the start" if when == "after" else "before its own fall"
        text += f"; `{Path(source['then']).name}` takes over {low:g} to {high:g} s {where}"
    if source.get("push_speed") is not None:
        text += f"; pushes of up to {source['push_speed']:g} m/s"
    text += "; from a random stone" if source.get("mid_course") else ""
    return text + ("; only those that fall" if source.get("falls_only") else "")


def _fields(fields: List[Dict[str, Any]]) -> List[str]:
    """Markdown table of an observation's parts."""
    rows = [f"| {f['name']} | {f['size']} | {f['unit']} | {f['scale']:g} |" for f in fields]
    return ["| field | size | unit | scale |", "|---|---|---|---|", *rows]
