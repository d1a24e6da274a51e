"""A log of everything a controller saw, and its replay: the same commands must come out."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any, BinaryIO, Dict, Iterator, List, Optional, Tuple

from go2_sevpo.deploy.robot.bus import base

MAGIC = b"go2-robot-log-1\n"
_ENTRY = struct.Struct("<dBI")
_TICK, _SENT = 254, 255
"""Kinds of entries beside the topics: a look at the bus, a command that was sent."""


class LogError(ValueError):
    """Not a log, or a damaged one."""


class _Tapped:
    """A subscriber whose messages are written down."""

    def __init__(self, inner: base.Subscriber, kind: int, log: RecordingBus) -> None:
        self._inner, self._kind, self._log = inner, kind, log

    def take(self) -> List[bytes]:
        messages = self._inner.take()
        for message in messages:
            self._log.write(self._kind, message)
        return messages

    def latest(self) -> Optional[bytes]:
        messages = self.take()
        return messages[-1] if messages else None

    def writers(self) -> int:
        return self._inner.writers()


class _TappedOut:
    def __init__(self, inner: base.Publisher, log: RecordingBus) -> None:
        self._inner, self._log = inner, log

    def send(self, data: bytes) -> None:
        self._log.write(_SENT, data)
        self._inner.send(data)


class RecordingBus:
    """A bus that writes down what its subscribers take and its publishers send.

    Args:
        bus: the real one.
        path: the log.
        info: plain data at its head.
    """

    def __init__(self, bus: base.Bus, path: Path, info: Dict[str, Any]) -> None:
        self._bus, self.time = bus, 0.0
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file: BinaryIO = open(path, "wb")  # noqa: SIM115  # closed with the bus
        head = json.dumps(info).encode("utf-8")
        self._file.write(MAGIC + struct.pack("<I", len(head)) + head)

    def write(self, kind: int, data: bytes) -> None:
        """One entry."""
        self._file.write(_ENTRY.pack(self.time, kind, len(data)) + data)

    def tick(self, now: float) -> None:
        """The controller looks at the bus at ``now``, s."""
        self.time = now
        self.write(_TICK, b"")

    def publisher(self, topic: base.Topic) -> _TappedOut:
        """See :class:`base.Bus`."""
        return _TappedOut(self._bus.publisher(topic), self)

    def subscriber(self, topic: base.Topic, depth: int = 1) -> _Tapped:
        """See :class:`base.Bus`."""
        return _Tapped(self._bus.subscriber(topic, depth), base.TOPICS.index(topic), self)

    def wait(self, seconds: float) -> None:
        """See :class:`base.Bus`."""
        self._bus.wait(seconds)

    def close(self) -> None:
        """See :class:`base.Bus`."""
        self._file.close()
        self._bus.close()


def read_log(path: Path) -> Tuple[Dict[str, Any], Iterator[Tuple[float, int, bytes]]]:
    """The head of a log, and its entries: time, topic's number (or a look, or a command), bytes.

    A log that ends in the middle of an entry (a killed program) is read up to there.

    Raises:
        LogError: not a log.
    """
    data = path.read_bytes()
    if not data.startswith(MAGIC):
        raise LogError(f"{path} is no log of go2-robot, expected one that `run --log` wrote")
    (length,) = struct.unpack_from("<I", data, len(MAGIC))
    first = len(MAGIC) + 4
    info = json.loads(data[first : first + length])

    def entries() -> Iterator[Tuple[float, int, bytes]]:
        at = first + length
        while at + _ENTRY.size <= len(data):
            time, kind, size = _ENTRY.unpack_from(data, at)
            at += _ENTRY.size
            if at + size > len(data):
                return
            yield time, kind, data[at : at + size]
            at += size

    return info, entries()


class ReplayBus:
    """A bus that gives a controller what a log says, look by look."""

    def __init__(self) -> None:
        self.incoming: Dict[str, List[bytes]] = {topic.name: [] for topic in base.TOPICS}
        self.sent: List[bytes] = []

    def publisher(self, topic: base.Topic) -> ReplayBus:
        """See :class:`base.Bus`."""
        return self

    def send(self, data: bytes) -> None:
        """See :class:`base.Publisher`."""
        self.sent.append(data)

    def subscriber(self, topic: base.Topic, depth: int = 1) -> _Replayed:
        """See :class:`base.Bus`."""
        return _Replayed(self.incoming[topic.name])

    def wait(self, seconds: float) -> None:
        """See :class:`base.Bus`."""

    def close(self) -> None:
        """See :class:`base.Bus`."""


class _Replayed:
    def __init__(self, queue: List[bytes]) -> None:
        self._queue = queue

    def take(self) -> List[bytes]:
        messages = list(self._queue)
        self._queue.clear()
        return messages

    def latest(self) -> Optional[bytes]:
        messages = self.take()
        return messages[-1] if messages else None

    def writers(self) -> int:
        return 0


def looks(
    entries: Iterator[Tuple[float, int, bytes]],
) -> Iterator[Tuple[float, List[Tuple[int, bytes]], List[bytes]]]:
    """Look by look of a log: its time, what came (topic's number, bytes), what was sent."""
    now: Optional[float] = None
    came: List[Tuple[int, bytes]] = []
    sent: List[bytes] = []
    for time, kind, data in entries:
        if kind == _TICK:
            if now is not None:
                yield now, came, sent
            now, came, sent = time, [], []
        elif kind == _SENT:
            sent.append(data)
        elif kind < len(base.TOPICS):
            came.append((kind, data))
    if now is not None:
        yield now, came, sent
