"""Opening the bus, with a word before anything can move; ``go2-robot check``."""

from __future__ import annotations

import time
from typing import Dict, List, Tuple

from go2_sevpo.deploy.robot.arguments import Check, Network
from go2_sevpo.deploy.robot.bus import base
from go2_sevpo.deploy.robot.bus.base import BusError
from go2_sevpo.deploy.robot.bus.dds import LOOPBACK, ROBOT_DOMAIN, SIMULATION_DOMAIN, DdsBus
from go2_sevpo.deploy.robot.messages.fixed import LowState, MessageError


def open_bus(network: Network, intent: str) -> DdsBus:
    """Open the interface the user named; ``intent`` says in words what will be done with it.

    Raises:
        BusError: a real interface without the flag for it, or one that cannot be opened.
    """
    virtual = network.net == LOOPBACK
    domain = network.domain
    if domain is None:
        domain = SIMULATION_DOMAIN if virtual else ROBOT_DOMAIN
    if not virtual and not network.real_robot:
        raise BusError(
            f"'{network.net}' may lead to a real robot: this would {intent}. "
            "Add --real-robot if that is meant; docs/robot.md has the order of first trials"
        )
    print(f"interface {network.net}, DDS domain {domain}: going to {intent}", flush=True)
    return DdsBus(network.net, domain)


def listen(bus: base.Bus, seconds: float) -> Tuple[Dict[str, List[bytes]], Dict[str, int]]:
    """Messages of all topics that came within ``seconds``, and the number of their writers."""
    subscribers = {topic: bus.subscriber(topic, 64) for topic in base.TOPICS}
    found: Dict[str, List[bytes]] = {topic.name: [] for topic in base.TOPICS}
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        bus.wait(0.01)
        for topic, subscriber in subscribers.items():
            found[topic.name].extend(subscriber.take())
    return found, {topic.name: s.writers() for topic, s in subscribers.items()}


def describe(found: Dict[str, List[bytes]], writers: Dict[str, int], seconds: float) -> List[str]:
    """Lines about what was heard."""
    lines = [f"{'topic':34} {'messages/s':>10} {'writers':>8}"]
    for name, messages in found.items():
        lines.append(f"{name:34} {len(messages) / seconds:10.1f} {writers[name]:8d}")
    states = found[base.LOW_STATE.name]
    if not states:
        lines.append("no rt/lowstate: no robot here, another interface, or another DDS domain")
        return lines
    try:
        newest = LowState(states[-1])
    except MessageError as error:
        lines.append(f"rt/lowstate is not understood: {error}")
        return lines
    good = sum(LowState(raw).intact() for raw in states)
    lines.append(f"checksums: {good} of {len(states)} states right")
    lines.append(
        f"battery {newest.state_of_charge}% at {newest.power_voltage:.1f} V, "
        f"hottest motor {max(newest.temperature[:12])} degrees Celsius, "
        f"foot_force {newest.foot_force.tolist()} (raw)"
    )
    if writers[base.LOW_COMMAND.name]:
        lines.append(
            f"{writers[base.LOW_COMMAND.name]} other program(s) on rt/lowcmd: release the "
            "motion service and stop what else commands the motors first"
        )
    return lines


def check(args: Check) -> int:
    """``go2-robot check``; returns 1 if there is no robot."""
    bus = open_bus(args.network, "listen only, sending nothing")
    try:
        found, writers = listen(bus, args.seconds)
    finally:
        bus.close()
    print("\n".join(describe(found, writers, args.seconds)))
    return 0 if found[base.LOW_STATE.name] else 1
