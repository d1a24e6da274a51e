"""``go2-robot``: a policy on a Go2, real or virtual."""

from __future__ import annotations

import sys
from typing import Any

import tyro

from go2_sevpo.deploy.robot import arguments as a
from go2_sevpo.deploy.robot.bus.base import BusError
from go2_sevpo.runs.arguments import EXPECTED, complaint


def _dispatch(args: Any) -> int:
    # Imported when it is known what for: listening needs no simulator.
    if isinstance(args, a.Check):
        from go2_sevpo.deploy.robot.network import check

        return check(args)
    if isinstance(args, a.Demo):
        from go2_sevpo.deploy.robot.demo import demo

        return demo(args)
    if isinstance(args, a.Record):
        from go2_sevpo.deploy.robot.record import record

        return record(args)
    from go2_sevpo.deploy.robot import run

    if isinstance(args, a.Stand):
        return run.stand(args)
    if isinstance(args, a.Run):
        return run.run(args)
    if isinstance(args, a.Replay):
        return run.replay(args)
    return run.plant(args)


def main() -> None:
    """Entry point of ``go2-robot``."""
    args: Any = tyro.cli(a.Command)
    try:
        status = _dispatch(args)
    except KeyboardInterrupt:
        sys.exit(130)
    except (*EXPECTED, BusError) as error:
        sys.exit(f"go2-robot: {complaint(error)}")
    sys.exit(status)


if __name__ == "__main__":
    main()
