"""The bus as Unitree's robots speak it: Cyclone DDS, best effort, the newest message counts."""

from __future__ import annotations

import os
import re
from typing import Any, Dict, List, Optional, Type

from go2_sevpo.deploy.robot.bus.base import BusError, Topic

ROBOT_DOMAIN, SIMULATION_DOMAIN = 0, 1
"""Unitree's convention: 0 on the robot, 1 in simulation."""
LOOPBACK = "lo"


def configuration(interface: str) -> str:
    """Cyclone DDS's settings for one network interface.

    Raises:
        BusError: a name that no interface has.
    """
    if not re.fullmatch(r"[A-Za-z0-9_.:-]{1,32}", interface):
        raise BusError(f"'{interface}' is no name of a network interface, expected e.g. eth0 or lo")
    # As Unitree's SDK configures it, multicast on lo included, so that both find each other.
    return (
        '<CycloneDDS><Domain Id="any"><General><Interfaces>'
        f'<NetworkInterface name="{interface}" multicast="default"/>'
        "</Interfaces></General></Domain></CycloneDDS>"
    )


def _raw_type(name: str) -> Type[Any]:
    """The DDS type of a message whose samples are bytes already."""
    from go2_sevpo.deploy.robot.messages.idl import TYPES

    base: Any = TYPES[name]
    if not hasattr(base, "raw"):
        # DDS asks the class for the type alone; what is sent and received is left as it is.
        def serialize(sample: Any, *_: Any, **__: Any) -> bytes:
            return sample.raw

        def deserialize(cls: Type[Any], data: bytes, *_: Any, **__: Any) -> Any:
            sample = object.__new__(cls)
            sample.raw = bytes(data)
            return sample

        base.raw = b""
        base.serialize = serialize
        base.deserialize = classmethod(deserialize)
    return base


class _Publisher:
    def __init__(self, bus: DdsBus, topic: Topic) -> None:
        from cyclonedds.pub import DataWriter

        self._type = _raw_type(topic.message)
        self._writer = DataWriter(bus.participant, bus.topic(topic), qos=bus.qos)

    def send(self, data: bytes) -> None:
        sample = object.__new__(self._type)
        sample.raw = data
        self._writer.write(sample)


class _Subscriber:
    def __init__(self, bus: DdsBus, topic: Topic, depth: int) -> None:
        from cyclonedds.core import InstanceState, Qos, ReadCondition, SampleState, ViewState
        from cyclonedds.qos import Policy
        from cyclonedds.sub import DataReader

        qos = Qos(Policy.Reliability.BestEffort, Policy.History.KeepLast(depth))
        self._reader = DataReader(bus.participant, bus.topic(topic), qos=qos)
        self._depth = depth
        any_state = SampleState.NotRead | ViewState.Any | InstanceState.Any
        self._condition = ReadCondition(self._reader, any_state)
        bus.waitset.attach(self._condition)

    def take(self) -> List[bytes]:
        samples = self._reader.take(N=self._depth)
        return [sample.raw for sample in samples if hasattr(sample, "raw")]

    def latest(self) -> Optional[bytes]:
        messages = self.take()
        return messages[-1] if messages else None

    def writers(self) -> int:
        return len(self._reader.get_matched_publications())


class DdsBus:
    """See :class:`base.Bus`.

    Args:
        interface: network interface, ``lo`` for this machine alone.
        domain: DDS domain; see :data:`ROBOT_DOMAIN`.

    Raises:
        BusError: Cyclone DDS is not installed, or the interface cannot be opened.
    """

    def __init__(self, interface: str, domain: int) -> None:
        settings = configuration(interface)
        try:
            from cyclonedds.core import DDSException, Qos, WaitSet
            from cyclonedds.domain import Domain, DomainParticipant
            from cyclonedds.qos import Policy
        except ImportError as error:
            raise BusError(
                f"Cyclone DDS is not installed ({error}); pip install 'go2-sevpo[robot]'"
            ) from error
        os.environ.pop("CYCLONEDDS_URI", None)  # a second configuration would be merged with ours
        try:
            self._domain = Domain(domain, settings)
            self.participant = DomainParticipant(domain)
        except DDSException as error:
            raise BusError(
                f"network interface '{interface}', DDS domain {domain}: {error}; "
                "`ip link` lists the interfaces there are"
            ) from error
        self.qos = Qos(Policy.Reliability.BestEffort, Policy.History.KeepLast(1))
        self.waitset = WaitSet(self.participant)
        self._topics: Dict[str, Any] = {}

    def topic(self, topic: Topic) -> Any:
        """DDS's topic of that name, made once."""
        from cyclonedds.topic import Topic as DdsTopic

        if topic.name not in self._topics:
            data_type = _raw_type(topic.message)
            self._topics[topic.name] = DdsTopic(self.participant, topic.name, data_type)
        return self._topics[topic.name]

    def publisher(self, topic: Topic) -> _Publisher:
        """See :class:`base.Bus`."""
        return _Publisher(self, topic)

    def subscriber(self, topic: Topic, depth: int = 1) -> _Subscriber:
        """See :class:`base.Bus`."""
        return _Subscriber(self, topic, depth)

    def wait(self, seconds: float) -> None:
        """See :class:`base.Bus`."""
        self.waitset.wait(timeout=max(int(seconds * 1e9), 1))

    def close(self) -> None:
        """See :class:`base.Bus`."""
        self._topics.clear()
        del self.waitset, self.participant, self._domain
