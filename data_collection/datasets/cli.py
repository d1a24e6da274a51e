"""Look after datasets (``go2-data validate | repair | info | card | select | merge | regions``)."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable, Dict, Optional, Tuple, Type, Union

import tyro

from go2_sevpo.data import shards, upkeep
from go2_sevpo.data_collection.datasets.report import card, info
from go2_sevpo.runs.arguments import EXPECTED, complaint
from go2_sevpo.runs.files import write_atomically
from go2_sevpo.runs.lock import sole_writer


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
    """Make a dataset of one policy's or one course's part of another.

    The expert-only half of a mix, for instance, without simulating again.
    """

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
    """Say whether a trained policy calls states before a fall unsafe in time.

    Writes regions.json and regions.png.
    """

    dir: tyro.conf.Positional[Path]
    """Dataset, best one the policy was not trained on."""
    policy: Path
    """Run folder of go2-train, or its policy file."""
    out: Path = Path("runs/regions")
    seed: int = 0


Command = Union[Validate, Repair, Info, Card, Select, Merge, Regions]


def _size(manifest: Dict[str, Any]) -> str:
    return (
        f"{len(manifest['shards'])} shards, {manifest['episodes']} episodes, "
        f"{manifest['transitions']} transitions"
    )


def run(command: Command) -> str:
    """Carry out one command; returns what to print.

    Raises:
        DatasetError: saying what was found and what was expected.
    """
    if isinstance(command, Validate):
        return f"{command.dir}: valid, {_size(shards.validate(command.dir))}"
    if isinstance(command, Repair):
        # A collection that is still going on must not lose what it is writing.
        if not command.dir.is_dir():
            raise shards.DatasetError(f"no folder {command.dir}")
        with sole_writer(command.dir):
            manifest = upkeep.repair(command.dir)
        whole, aside = len(manifest["shards"]), ", ".join(manifest["damaged"]) or "none"
        return (
            f"{command.dir}: {whole} whole shards, {manifest['transitions']} transitions; "
            f"set aside: {aside}"
        )
    if isinstance(command, Card):
        path = command.dir / "card.md"
        write_atomically(path, card(command.dir))
        return f"{path} and {command.dir / 'histogram.png'}"
    if isinstance(command, Regions):
        from go2_sevpo.data_collection.datasets.regions import region_report

        policy = command.policy
        file = policy / "policy_last.safetensors" if policy.is_dir() else policy
        return region_report(command.dir, file, command.out, command.seed)
    if isinstance(command, Select):
        manifest = upkeep.select(command.dir, command.out, command.policy, command.course)
        return f"{command.out}: {_size(manifest)}"
    if isinstance(command, Merge):
        return f"{command.out}: {upkeep.merge(command.dir, command.out)} transitions"
    return info(command.dir)


def main() -> None:
    """Entry point of ``go2-data``."""
    kinds: Tuple[Type[Command], ...]
    kinds = (Validate, Repair, Info, Card, Select, Merge, Regions)
    commands: Dict[str, Callable[..., Command]] = {k.__name__.lower(): k for k in kinds}
    command = tyro.extras.subcommand_cli_from_dict(commands)
    try:
        print(run(command))
    except EXPECTED as error:
        sys.exit(f"go2-data: {complaint(error)}")


if __name__ == "__main__":
    main()
