"""Messages whose size varies: height maps, point clouds, odometry.

Each has ``to_bytes`` and ``from_bytes``, and the same encoding as the fixed ones. Reading also
accepts the second version of CDR, in which eight-byte numbers stand at multiples of four.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from typing import List, Tuple

import numpy as np

from go2_sevpo.deploy.robot.messages.fixed import ENCODING, MessageError

_ENCODINGS = {b"\x00\x01": 8, b"\x00\x07": 4}
"""Encodings that are read, with the largest alignment of each."""
_MOST = 1 << 24
"""Elements of a sequence; more is damage."""


class Writer:
    """Builds the bytes of one message, field by field."""

    def __init__(self) -> None:
        self.data = bytearray(ENCODING)

    def numbers(self, code: str, *values: float) -> None:
        """Write numbers of one ``struct`` code, each aligned to its size."""
        size = struct.calcsize(code)
        self.data += b"\0" * (-(len(self.data) - len(ENCODING)) % size)
        self.data += struct.pack(f"<{len(values)}{code}", *values)

    def text(self, value: str) -> None:
        """Write a text: its length with the closing zero, then both."""
        raw = value.encode("utf-8") + b"\0"
        self.numbers("I", len(raw))
        self.data += raw

    def array(self, values: np.ndarray) -> None:
        """Write a sequence of four-byte numbers or of bytes."""
        self.numbers("I", values.size)
        self.data += np.ascontiguousarray(values).tobytes()

    def to_bytes(self) -> bytes:
        """The message, padded to whole words."""
        return bytes(self.data) + b"\0" * (-len(self.data) % 4)


class Reader:
    """Reads what a :class:`Writer` wrote.

    Raises:
        MessageError: an encoding that is not understood, or (of all methods) bytes that end early.
    """

    def __init__(self, data: bytes, name: str) -> None:
        self.name, self.data, self.position = name, bytes(data[len(ENCODING) :]), 0
        alignment = _ENCODINGS.get(bytes(data[:2]))
        if alignment is None:
            raise MessageError(
                f"{name} in encoding {bytes(data[:2]).hex()}, expected plain CDR, little endian"
            )
        self.alignment = alignment

    def _take(self, count: int) -> bytes:
        end = self.position + count
        if count < 0 or end > len(self.data):
            raise MessageError(f"{self.name} of {len(self.data)} bytes ends in the middle")
        raw, self.position = self.data[self.position : end], end
        return raw

    def numbers(self, code: str, count: int = 1) -> Tuple[float, ...]:
        """Read ``count`` numbers of one ``struct`` code."""
        size = struct.calcsize(code)
        self.position += -self.position % min(size, self.alignment)
        return struct.unpack(f"<{count}{code}", self._take(count * size))

    def integer(self, code: str = "I") -> int:
        """Read one whole number."""
        return int(self.numbers(code)[0])

    def length(self) -> int:
        """Read how many elements follow."""
        count = self.integer()
        if count > _MOST:
            raise MessageError(f"{self.name} announces {count} elements, expected at most {_MOST}")
        return count

    def text(self) -> str:
        """Read a text."""
        return self._take(self.length())[:-1].decode("utf-8", "replace")

    def array(self, dtype: str) -> np.ndarray:
        """Read a sequence as an array."""
        count = self.length()
        return np.frombuffer(self._take(count * np.dtype(dtype).itemsize), dtype)


@dataclass
class HeightMap:
    """A grid of heights (``unitree_go::msg::dds_::HeightMap_``).

    ``data`` (height, width) float32, m: rows along y, columns along x, the first cell's corner
    at ``origin`` (2,), m, in ``frame``. Cells that are not known hold :data:`UNKNOWN_HEIGHT` on the
    robot; here they are nan. ``stamp`` is in seconds.
    """

    stamp: float
    frame: str
    resolution: float
    origin: Tuple[float, float]
    data: np.ndarray

    def to_bytes(self) -> bytes:
        """The message as it goes over the bus."""
        out, (rows, columns) = Writer(), self.data.shape
        out.numbers("d", self.stamp)
        out.text(self.frame)
        out.numbers("f", self.resolution)
        out.numbers("I", columns, rows)
        out.numbers("f", *self.origin)
        known = np.where(np.isfinite(self.data), self.data, UNKNOWN_HEIGHT)
        out.array(known.astype("<f4"))
        return out.to_bytes()

    @classmethod
    def from_bytes(cls, raw: bytes) -> HeightMap:
        """Read the message.

        Raises:
            MessageError: damaged.
        """
        source = Reader(raw, "HeightMap_")
        (stamp,) = source.numbers("d")
        frame = source.text()
        (resolution,) = source.numbers("f")
        columns, rows = source.integer(), source.integer()
        x, y = source.numbers("f", 2)
        data = source.array("<f4")
        if data.size != columns * rows or not resolution > 0:
            raise MessageError(
                f"HeightMap_ of {columns} x {rows} cells of {resolution:g} m holds {data.size}"
            )
        heights = data.reshape(rows, columns)
        known = np.isfinite(heights) & (np.abs(heights) < 0.5 * UNKNOWN_HEIGHT)
        return cls(stamp, frame, resolution, (x, y), np.where(known, heights, np.nan))


UNKNOWN_HEIGHT = 1.0e9
"""What Unitree's map holds where nothing has been seen."""


def _stamp(out: Writer, stamp: float) -> None:
    seconds = int(np.floor(stamp))
    out.numbers("i", seconds)
    out.numbers("I", min(round((stamp - seconds) * 1e9), 999_999_999))


def _read_stamp(source: Reader) -> float:
    seconds = source.integer("i")
    return seconds + 1e-9 * source.integer()


_XYZ = ("x", "y", "z")
_FLOAT32 = 7  # sensor_msgs/PointField


@dataclass
class PointCloud:
    """Points (``sensor_msgs::msg::dds_::PointCloud2_``): ``points`` (P, 3) float32, m.

    ``stamp`` is when they were measured, s.
    """

    stamp: float
    frame: str
    points: np.ndarray

    def to_bytes(self) -> bytes:
        """The message as it goes over the bus: x, y, z, nothing else."""
        out, count = Writer(), len(self.points)
        _stamp(out, self.stamp)
        out.text(self.frame)
        out.numbers("I", 1, count, len(_XYZ))
        for k, name in enumerate(_XYZ):
            out.text(name)
            out.numbers("I", 4 * k)
            out.numbers("B", _FLOAT32)
            out.numbers("I", 1)
        out.numbers("B", 0)  # little endian
        out.numbers("I", 12, 12 * count)
        out.array(self.points.astype("<f4").reshape(-1).view("u1"))
        out.numbers("B", 1)  # no nan among them
        return out.to_bytes()

    @classmethod
    def from_bytes(cls, raw: bytes) -> PointCloud:
        """Read the message; other fields than x, y, z are left out, and so are points of nan.

        Raises:
            MessageError: damaged, or without coordinates of four bytes.
        """
        source = Reader(raw, "PointCloud2_")
        stamp, frame = _read_stamp(source), source.text()
        rows, columns = source.integer(), source.integer()
        offsets: List[Tuple[str, int, int]] = []
        for _ in range(source.length()):
            name, offset = source.text(), source.integer()
            kind = source.integer("B")
            source.integer()
            offsets.append((name, offset, kind))
        big_endian = bool(source.integer("B"))
        step = source.integer()
        source.integer()
        data = source.array("u1")
        wanted = {name: offset for name, offset, kind in offsets if kind == _FLOAT32}
        fits = all(name in wanted and wanted[name] + 4 <= step for name in _XYZ)
        if big_endian or not fits or data.size < rows * columns * step:
            raise MessageError(
                f"PointCloud2_ with fields {[o[0] for o in offsets]} of {step} bytes a point, "
                f"{data.size} bytes; expected little-endian float32 x, y, z"
            )
        table = data[: rows * columns * step].reshape(-1, step)
        axes = [table[:, wanted[n] : wanted[n] + 4].copy().view("<f4")[:, 0] for n in _XYZ]
        points = np.stack(axes, axis=1)
        return cls(stamp, frame, points[np.isfinite(points).all(axis=1)])


@dataclass
class Odometry:
    """Where the robot believes to be (``nav_msgs::msg::dds_::Odometry_``).

    ``position`` (3,) m and ``quaternion`` (4,) w x y z, base in ``frame``; velocities (3,), m/s and
    rad/s, in the base's axes.
    """

    stamp: float
    position: np.ndarray
    quaternion: np.ndarray
    linear_velocity: np.ndarray = field(default_factory=lambda: np.zeros(3))
    angular_velocity: np.ndarray = field(default_factory=lambda: np.zeros(3))
    frame: str = "odom"
    child_frame: str = "base_link"

    def to_bytes(self) -> bytes:
        """The message as it goes over the bus, its covariances zero."""
        out = Writer()
        _stamp(out, self.stamp)
        out.text(self.frame)
        out.text(self.child_frame)
        w, x, y, z = self.quaternion
        out.numbers("d", *self.position, x, y, z, w, *np.zeros(36))
        out.numbers("d", *self.linear_velocity, *self.angular_velocity, *np.zeros(36))
        return out.to_bytes()

    @classmethod
    def from_bytes(cls, raw: bytes) -> Odometry:
        """Read the message.

        Raises:
            MessageError: damaged.
        """
        source = Reader(raw, "Odometry_")
        stamp, frame, child = _read_stamp(source), source.text(), source.text()
        pose = np.array(source.numbers("d", 43))
        twist = np.array(source.numbers("d", 42))
        quaternion = pose[[6, 3, 4, 5]]
        return cls(stamp, pose[:3], quaternion, twist[:3], twist[3:6], frame, child)
