"""Look after datasets (``go2-data validate | repair | info | card | select | merge | regions``)."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, Optional, Union

import numpy as np
import tyro

from go2_sevpo.data import shards
from go2_sevpo.data.shards import DatasetError
from go2_sevpo.metrics import wilson
from go2_sevpo.runs.checkpoint import CheckpointError
from go2_sevpo.runs.files import write_atomically


@dataclass
class Validate:
    """Check every shard: presence, checksum, layout, finiteness, episode ends."""

    dir: tyro.conf.Positional[Path]


@dataclass
class Repair:
    """Rebuild the manifest from whole shards and set damaged ones aside as *.damaged."""

    dir: tyro.conf.Positional[Path]


@dataclass
class Info:
    """Show returns, costs, lengths, success and fall, and draw a histogram."""

    dir: tyro.conf.Positional[Path]


@dataclass
class Card:
    """Write card.md, a description of the dataset for those who get it, and its pictures."""

    dir: tyro.conf.Positional[Path]


@dataclass
class Select:
    """Make a dataset of one policy's or one course's part of another (the expert-only half of a mix), without simulating again."""

    dir: tyro.conf.Positional[Path]
    out: Path
    policy: Optional[str] = None
    """Name of the policy, as go2-data info shows it; any if not given."""
    course: Optional[str] = None
    """flat, simple or hard; any if not given."""


@dataclass
class Merge:
    """Write one HDF5 file in DSRL's layout."""

    dir: tyro.conf.Positional[Path]
    out: Path


@dataclass
class Regions:
    """Say whether a trained policy calls states before a fall unsafe in time (regions.json, regions.png)."""

    dir: tyro.conf.Positional[Path]
    """Dataset, best one the policy was not trained on."""
    policy: Path
    """Run folder of go2-train, or its policy file."""
    out: Path = Path("runs/regions")
    seed: int = 0


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
        group["progress"].append(np.array([100.0 * r["progress"] for r in records if "progress" in r]))
    return {name: {k: np.concatenate(v) for k, v in group.items()} for name, group in groups.items()}


def _histograms(groups: Dict[str, Dict[str, np.ndarray]], path: Path) -> None:
    from matplotlib.figure import Figure

    keys = [k for k in PANELS if any(len(g[k]) for g in groups.values())]
    figure = Figure(figsize=(3.6 * len(keys), 3), layout="constrained")
    for axis, key in zip(np.atleast_1d(figure.subplots(1, len(keys))), keys):
        values, label = [g[key] for g in groups.values()], PANELS[key]
        every = np.concatenate(values)
        top = float(np.quantile(every, 0.99))
        if every.max() > 2.0 * top > 0:  # a few episodes would squeeze all others into the first bin
            values, label = [np.minimum(v, top) for v in values], f"{label} ({top:.0f} and more in the last bin)"
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
        low, high = wilson(good, n)
        success = f"{100 * good / n:.1f}% [{100 * low:.1f}, {100 * high:.1f}]"
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
        f"# Dataset {folder.resolve().name}", "",
        f"{m['episodes']} episodes, {m['transitions']} transitions in {len(m['shards'])} HDF5 shards (keys of DSRL), "
        f"schema {m['schema']}, seed {m.get('seed')}. Environment: {environment.get('name', '?')}.", "",
        "```", *table, "```", "", "![returns, costs, lengths, way covered](histogram.png)", "", "## What made it", "",
    ]  # fmt: skip
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
        lines += [f"| {f['name']} | {f['size']} | {f['unit']} | {f['scale']:g} |" for f in observation["fields"]]
        lines.append("")
    lines += ["Checksums of all shards are in `manifest.json`; `go2-data validate` checks them.", ""]
    return "\n".join(lines)


def run(command: Union[Validate, Repair, Info, Card, Select, Merge, Regions]) -> str:
    """Carry out one command; returns what to print.

    Raises:
        DatasetError: saying what was found and what was expected.
    """
    if isinstance(command, Validate):
        m = shards.validate(command.dir)
        return (
            f"{command.dir}: valid, {len(m['shards'])} shards, {m['episodes']} episodes, {m['transitions']} transitions"
        )
    if isinstance(command, Repair):
        m = shards.repair(command.dir)
        aside = ", ".join(m["damaged"]) or "none"
        return f"{command.dir}: {len(m['shards'])} whole shards, {m['transitions']} transitions; set aside: {aside}"
    if isinstance(command, Card):
        path = command.dir / "card.md"
        write_atomically(path, card(command.dir))
        return f"{path} and {command.dir / 'histogram.png'}"
    if isinstance(command, Regions):
        from go2_sevpo.data_collection.datasets.regions import region_report

        file = command.policy / "policy_last.safetensors" if command.policy.is_dir() else command.policy
        return region_report(command.dir, file, command.out, command.seed)
    if isinstance(command, Select):
        m = shards.select(command.dir, command.out, command.policy, command.course)
        return f"{command.out}: {len(m['shards'])} shards, {m['episodes']} episodes, {m['transitions']} transitions"
    if isinstance(command, Merge):
        return f"{command.out}: {shards.merge(command.dir, command.out)} transitions"
    return info(command.dir)


def main() -> None:
    """Entry point of ``go2-data``."""
    command = tyro.extras.subcommand_cli_from_dict(
        {
            "validate": Validate,
            "repair": Repair,
            "info": Info,
            "card": Card,
            "select": Select,
            "merge": Merge,
            "regions": Regions,
        }
    )
    try:
        print(run(command))
    except (DatasetError, CheckpointError, ValueError, OSError) as error:
        sys.exit(f"go2-data: {error}")


if __name__ == "__main__":
    main()
