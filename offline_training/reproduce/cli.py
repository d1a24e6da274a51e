"""``go2-reproduce``: the paper's figures and tables, one command each."""

from __future__ import annotations

import os

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import sys
from typing import Any, Callable, Dict, Type, Union

import tyro
from typing_extensions import Annotated

from go2_sevpo.offline_training.reproduce.go2 import rescue, stitch, table5
from go2_sevpo.offline_training.reproduce.mdp import figure2
from go2_sevpo.offline_training.reproduce.reach_avoid import figure1, sweep
from go2_sevpo.offline_training.reproduce.safety_gymnasium import figure4, figure6, tables
from go2_sevpo.runs.arguments import EXPECTED, complaint
from go2_sevpo.runs.interrupt import kill_interrupts
from go2_sevpo.runs.lock import sole_writer

Command = Union[
    Annotated[figure1.Figure1, tyro.conf.subcommand("figure1")],
    Annotated[figure2.Figure2, tyro.conf.subcommand("figure2")],
    Annotated[figure4.Figure4, tyro.conf.subcommand("figure4")],
    Annotated[figure6.Figure6, tyro.conf.subcommand("figure6")],
    Annotated[rescue.Rescue, tyro.conf.subcommand("rescue")],
    Annotated[stitch.Stitch, tyro.conf.subcommand("stitch")],
    Annotated[sweep.Sweep, tyro.conf.subcommand("sweep")],
    Annotated[tables.Table1, tyro.conf.subcommand("table1")],
    Annotated[tables.Table2, tyro.conf.subcommand("table2")],
    Annotated[tables.Table3, tyro.conf.subcommand("table3")],
    Annotated[tables.Table4, tyro.conf.subcommand("table4")],
    Annotated[table5.Table5, tyro.conf.subcommand("table5")],
]

RUN: Dict[Type[Any], Callable[[Any], Any]] = {
    figure1.Figure1: figure1.run,
    figure2.Figure2: figure2.run,
    figure4.Figure4: figure4.run,
    figure6.Figure6: figure6.run,
    rescue.Rescue: rescue.run,
    stitch.Stitch: stitch.run,
    sweep.Sweep: sweep.run,
    tables.Table1: tables.run,
    tables.Table2: tables.run,
    tables.Table3: tables.run,
    tables.Table4: tables.run,
    table5.Table5: table5.run,
}
"""By the class of the settings, which each takes."""


def main() -> None:
    """Entry point of ``go2-reproduce``."""
    kill_interrupts()
    args = tyro.cli(Command, description="Reproduce a figure or table of the paper.")
    try:
        with sole_writer(args.out):
            RUN[type(args)](args)
    except KeyboardInterrupt:
        sys.exit("\ngo2-reproduce: stopped; finished parts are kept, the same command goes on")
    except EXPECTED as error:
        sys.exit(f"go2-reproduce: {complaint(error)}")


if __name__ == "__main__":
    main()
