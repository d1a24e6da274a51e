"""The bus as the rest of the runtime sees it: bytes on named topics, the newest one counts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import List, Optional, Protocol


@dataclass(frozen=True)
class Topic:
    """A name on the bus and the class that reads and writes its messages."""

    name: str
    message: str


LOW_STATE = Topic("rt/lowstate", "LowState")
LOW_COMMAND = Topic("rt/lowcmd", "LowCmd")
REMOTE = Topic("rt/wirelesscontroller", "WirelessController")
SPORT_STATE = Topic("rt/sportmodestate", "SportModeState")
ODOMETRY = Topic("rt/utlidar/robot_odom", "Odometry")
CLOUD = Topic("rt/utlidar/cloud_deskewed", "PointCloud")
HEIGHT_MAP = Topic("rt/utlidar/height_map_array", "HeightMap")
TOPICS = (LOW_STATE, LOW_COMMAND, REMOTE, SPORT_STATE, ODOMETRY, CLOUD, HEIGHT_MAP)


class BusError(RuntimeError):
    """The bus cannot be opened or used."""


class Publisher(Protocol):
    """One topic's way out."""

    def send(self, data: bytes) -> None:
        """Publish one message; it may be lost."""


class Subscriber(Protocol):
    """One topic's way in. It keeps what has come since the last look, at most ``depth``."""

    def take(self) -> List[bytes]:
        """What has come since, the newest last."""

    def latest(self) -> Optional[bytes]:
        """The newest of :meth:`take`, or None."""

    def writers(self) -> int:
        """How many publish on this topic, ourselves included."""


class Bus(Protocol):
    """Publishers and subscribers of topics."""

    def publisher(self, topic: Topic) -> Publisher:
        """A way to publish on ``topic``."""

    def subscriber(self, topic: Topic, depth: int = 1) -> Subscriber:
        """A way to listen on ``topic``; with ``depth`` 1 the newest message replaces older ones."""

    def wait(self, seconds: float) -> None:
        """Sleep until something may have come for a subscriber, ``seconds`` at most."""

    def close(self) -> None:
        """Leave the bus."""
