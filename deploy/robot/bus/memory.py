"""A bus within one process, for lockstep and for tests: nothing is lost unless asked for."""

from __future__ import annotations

from collections import defaultdict, deque
from typing import Callable, Deque, Dict, List, Optional

from go2_sevpo.deploy.robot.bus.base import Topic

Filter = Callable[[bytes], Optional[bytes]]
"""What becomes of a message on its way: itself, another one, or None (lost)."""


class _Subscriber:
    def __init__(self, bus: MemoryBus, topic: Topic, depth: int) -> None:
        self._bus, self._topic = bus, topic
        self.queue: Deque[bytes] = deque(maxlen=depth)

    def take(self) -> List[bytes]:
        messages = list(self.queue)
        self.queue.clear()
        return messages

    def latest(self) -> Optional[bytes]:
        messages = self.take()
        return messages[-1] if messages else None

    def writers(self) -> int:
        return self._bus.publishers[self._topic.name]


class _Publisher:
    def __init__(self, bus: MemoryBus, topic: Topic) -> None:
        self._bus, self._topic = bus, topic

    def send(self, data: bytes) -> None:
        self._bus.deliver(self._topic, data)


class MemoryBus:
    """Publishers hand their bytes to all subscribers at once; see :class:`base.Bus`."""

    def __init__(self) -> None:
        self.publishers: Dict[str, int] = defaultdict(int)
        self.filters: Dict[str, Filter] = {}
        """By topic: faults to be tried."""
        self._subscribers: Dict[str, List[_Subscriber]] = defaultdict(list)

    def publisher(self, topic: Topic) -> _Publisher:
        """See :class:`base.Bus`."""
        self.publishers[topic.name] += 1
        return _Publisher(self, topic)

    def subscriber(self, topic: Topic, depth: int = 1) -> _Subscriber:
        """See :class:`base.Bus`."""
        subscriber = _Subscriber(self, topic, depth)
        self._subscribers[topic.name].append(subscriber)
        return subscriber

    def deliver(self, topic: Topic, data: bytes) -> None:
        """Give ``data`` to all who listen, after the topic's filter."""
        fault = self.filters.get(topic.name)
        changed = data if fault is None else fault(data)
        if changed is not None:
            for subscriber in self._subscribers[topic.name]:
                subscriber.queue.append(changed)

    def wait(self, seconds: float) -> None:
        """See :class:`base.Bus`: there is nothing to wait for in one thread."""

    def close(self) -> None:
        """See :class:`base.Bus`."""
