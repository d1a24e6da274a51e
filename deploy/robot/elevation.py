"""A rolling elevation map in the odometry frame, numpy only.

Heights come from points (a depth camera, a lidar), from Unitree's ``HeightMap_``, and from the feet
that stand. Cells that nobody has seen are nan: to a policy they are pit, as the bottom of a gap is
seldom seen and a stone's top always is.
"""

from __future__ import annotations

import math
from typing import Optional, Tuple

import numpy as np

from go2_sevpo.deploy.robot.messages.variable import HeightMap


class Grid:
    """Heights (n_x, n_y), m, nan where unknown.

    Cell (i, j) spans ``origin`` + (i, j) ``resolution`` to the next one, m, x and y.
    """

    def __init__(self, origin: Tuple[float, float], resolution: float, height: np.ndarray) -> None:
        self.origin, self.resolution, self.height = origin, resolution, height

    def cells(self, xy: np.ndarray) -> Tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Cells i, j (...) of points (..., 2), m, clipped to the map, and if they are on it."""
        scaled = (xy - np.asarray(self.origin)) / self.resolution
        index = np.floor(scaled).astype(np.int64)
        size = np.array(self.height.shape)
        inside = ((index >= 0) & (index < size)).all(axis=-1)
        index = np.clip(index, 0, size - 1)
        return index[..., 0], index[..., 1], inside

    def sample(self, xy: np.ndarray) -> np.ndarray:
        """Heights (...) of the cells that points (..., 2), m, fall into; nan if unknown."""
        i, j, inside = self.cells(xy)
        return np.where(inside, self.height[i, j], np.nan)

    @staticmethod
    def from_message(message: HeightMap) -> Grid:
        """A grid from Unitree's map; its rows run along y."""
        return Grid(message.origin, message.resolution, message.data.T.astype(float))

    def to_message(self, stamp: float, frame: str = "odom") -> HeightMap:
        """The grid as Unitree's map."""
        data = self.height.T.astype(np.float32)
        return HeightMap(stamp, frame, self.resolution, self.origin, data)


class ElevationMap(Grid):
    """A square map that moves with the robot.

    Per cell a height and its variance, m^2. A scan's points are reduced to one height per cell, the
    mean of those within :data:`LAYER` of the highest, and merged by their variances. Old cells grow
    uncertain with the way the robot went (odometry drifts), so what is seen anew soon counts most.
    A height that contradicts a cell replaces it. Before that, the whole map is raised or lowered to
    the scan where both agree but for a constant: that is the odometry's drift in height.

    Args:
        size: edge length, m.
        resolution: m.
        drift: standard deviation of the odometry's height error per metre of way.
    """

    def __init__(self, size: float = 4.0, resolution: float = 0.04, drift: float = 0.02) -> None:
        cells = int(round(size / resolution))
        height = np.full((cells, cells), np.nan)
        half = cells / 2 * resolution
        super().__init__((-half, -half), resolution, height)
        self.variance = np.full_like(height, np.inf)
        self.drift, self.stamp = drift, -math.inf
        """``stamp``: when the newest points were measured, s."""
        self._last: Optional[np.ndarray] = None

    def move(self, position: np.ndarray) -> None:
        """Follow the robot at ``position`` (3,), m: cells left behind are forgotten."""
        if self._last is not None:
            way = float(np.linalg.norm(position[:2] - self._last[:2]))
            self.variance += (self.drift * way) ** 2 + 2 * self.drift * way * 0.005
        self._last = np.array(position, dtype=float)
        cells = self.height.shape[0]
        centre = np.asarray(self.origin) + cells / 2 * self.resolution
        shift = np.rint((position[:2] - centre) / self.resolution).astype(int)
        if np.abs(shift).max() < 4:
            return
        for layer, empty in ((self.height, np.nan), (self.variance, np.inf)):
            _shift(layer, int(shift[0]), int(shift[1]), empty)
        x, y = np.asarray(self.origin) + shift * self.resolution
        self.origin = (float(x), float(y))

    def add(self, points: np.ndarray, stamp: float, sigma: float = 0.01) -> None:
        """Merge points (P, 3), m, odometry frame, measured at ``stamp``, s.

        ``sigma`` is their standard deviation in height, m.
        """
        i, j, inside = self.cells(points[:, :2])
        self.stamp = max(self.stamp, stamp)
        if not inside.any():
            return
        flat = i[inside] * self.height.shape[1] + j[inside]
        z = points[inside, 2].astype(float)
        # Cells that were hit (K,), and which of them each point is in.
        hit, place = np.unique(flat, return_inverse=True)
        order = np.argsort(place, kind="stable")
        top = np.maximum.reduceat(z[order], np.searchsorted(place[order], np.arange(len(hit))))
        layer = z > top[place] - LAYER
        count = np.bincount(place[layer], minlength=len(hit))
        new = np.bincount(place[layer], z[layer], minlength=len(hit)) / count
        self._merge(hit, new, sigma**2 / np.minimum(count, 4) + 0.003**2)

    def _merge(self, hit: np.ndarray, new: np.ndarray, variance: np.ndarray) -> None:
        """Merge heights (K,) of their variances (K,) into cells ``hit`` (K,)."""
        height, spread = self.height.reshape(-1), self.variance.reshape(-1)
        difference = new - height[hit]
        agree = np.abs(difference) < CONTRADICTION
        if agree.sum() >= ENOUGH:
            offset = float(np.median(difference[agree]))
            height += offset  # nan stays nan
            difference = new - height[hit]
            agree = np.abs(difference) < CONTRADICTION
        # Kalman's gain; unknown cells do not agree and take the new height as it is.
        old = np.where(agree, spread[hit], 0.0)
        gain = old / (old + variance)
        height[hit] = np.where(agree, height[hit] + gain * np.where(agree, difference, 0.0), new)
        spread[hit] = np.where(agree, (1.0 - gain) * old, variance)

    def stand(self, feet: np.ndarray, radius: float = 0.5) -> None:
        """Take the ground under standing feet (F, 3), soles, m, for a plane of ``radius`` around.

        The robot's own place at the start, which no camera has seen. Known cells stay.
        """
        centre = feet.mean(axis=0)
        # z = z0 + a (x - x0) + b (y - y0), least squares
        relative = feet - centre
        slope, *_ = np.linalg.lstsq(relative[:, :2], relative[:, 2], rcond=None)
        x = self.origin[0] + self.resolution * (np.arange(self.height.shape[0])[:, None] + 0.5)
        y = self.origin[1] + self.resolution * (np.arange(self.height.shape[1])[None, :] + 0.5)
        dx, dy = x - centre[0], y - centre[1]
        fill = (dx * dx + dy * dy < radius * radius) & ~np.isfinite(self.height)
        plane = centre[2] + slope[0] * dx + slope[1] * dy
        self.height[fill] = plane[fill]
        self.variance[fill] = 0.03**2


LAYER = 0.03
"""m; points further under the highest of their cell belong to a wall or to what lies below."""
CONTRADICTION = 0.07
"""m; heights further apart are of different things."""
ENOUGH = 40
"""Cells that must agree before the map is raised or lowered."""


def _shift(layer: np.ndarray, di: int, dj: int, empty: float) -> None:
    """Move a layer's content so that cell (i, j) holds what was at (i + di, j + dj)."""
    moved = np.full_like(layer, empty)
    n, m = layer.shape
    if abs(di) < n and abs(dj) < m:
        moved[max(-di, 0) : n - max(di, 0), max(-dj, 0) : m - max(dj, 0)] = layer[
            max(di, 0) : n - max(-di, 0), max(dj, 0) : m - max(-dj, 0)
        ]
    layer[...] = moved
