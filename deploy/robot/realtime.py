"""Robot and controller against the clock: the loops behind ``go2-robot run`` and ``plant``."""

from __future__ import annotations

import time
from typing import Callable, Optional

from go2_sevpo.deploy.robot.bus.base import Bus
from go2_sevpo.deploy.robot.controller import Controller
from go2_sevpo.deploy.robot.machine import Mode
from go2_sevpo.deploy.robot.plant.robot import DT, Plant

DAMP_SECONDS = 2.0
"""How long damping is kept up before a program ends: the robot sinks to the ground."""
MOST_BEHIND = 0.05
"""s that the virtual robot may lag before it gives up catching up."""


def control(
    controller: Controller,
    bus: Bus,
    once: bool = False,
    seconds: Optional[float] = None,
    each: Optional[Callable[[float], None]] = None,
) -> None:
    """Run a controller until it damps, or is interrupted (it damps then, too).

    Args:
        controller: see there.
        bus: what it was made with.
        once: end when the policy has ended and the robot stands.
        seconds: end after this long.
        each: called after every look at the bus with the time, s.
    """
    start = time.monotonic()
    try:
        while controller.machine.mode is not Mode.DAMP:
            bus.wait(0.002)
            now = time.monotonic()
            controller.tick(now)
            if each is not None:
                each(now)
            stood = controller.machine.mode is Mode.HOLD and now - controller.machine.since > 1.0
            if once and stood and (controller.machine.finished or controller.act is None):
                controller.machine.to(Mode.DAMP, now, "done")
            if seconds is not None and now - start > seconds:
                controller.machine.to(Mode.DAMP, now, f"{seconds:g} s are over")
    except KeyboardInterrupt:
        controller.machine.to(Mode.DAMP, time.monotonic(), "the operator (Ctrl-C)")
    damped = time.monotonic()
    while time.monotonic() - damped < DAMP_SECONDS:
        bus.wait(0.002)
        controller.tick(time.monotonic())


def simulate(plant: Plant, seconds: Optional[float] = None) -> int:
    """Step a virtual robot at the clock's pace; returns how many steps came too late.

    Raises:
        KeyboardInterrupt: the user's.
    """
    start, late = time.monotonic(), 0
    plant.stamp = lambda: int(time.monotonic() * 1e6) & 0xFFFFFFFF
    while seconds is None or plant.time < seconds:
        plant.step()
        ahead = start + plant.steps * DT - time.monotonic()
        if ahead > 0:
            time.sleep(ahead)
        elif -ahead > MOST_BEHIND:
            # Time that is lost stays lost: a burst of steps would be no robot's.
            late, start = late + 1, start - ahead
    return late
