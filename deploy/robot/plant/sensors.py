"""A depth camera and an L1-like lidar as rays in MuJoCo, with the robot's own legs in the way."""

from __future__ import annotations

import math
from dataclasses import dataclass

import mujoco
import numpy as np


@dataclass(frozen=True)
class RangeSensor:
    """Where it sits and what it sees.

    ``origin`` (3,) m in the base frame; ``period`` s between messages; ``near`` and ``far`` m;
    ``noise`` the standard deviation of a distance, m, and ``noise_square`` what is added per m^2.
    """

    name: str
    origin: tuple
    period: float
    near: float
    far: float
    noise: float
    noise_square: float

    def directions(self, rng: np.random.Generator) -> np.ndarray:
        """Unit vectors (P, 3) of one scan, base frame."""
        if self.name == "depth":
            return _camera()
        return _lidar(rng)


CAMERA_PITCH = math.radians(35.0)
"""The camera looks this far down."""
LIDAR_RATE = 21600
"""Points per second of the L1."""
LIDAR_PITCH = math.radians(165.0)
"""The L1 hangs under the head, nearly upside down: its axis leans forward by the rest."""

DEPTH = RangeSensor("depth", (0.32, 0.0, 0.05), 1.0 / 15.0, 0.15, 3.0, 0.004, 0.0015)
LIDAR = RangeSensor("lidar", (0.289, 0.0, -0.047), 0.1, 0.05, 6.0, 0.02, 0.0)


def _camera() -> np.ndarray:
    """An image of 64 x 48 pixels, 87 x 58 degrees."""
    u = np.linspace(-1, 1, 64) * math.tan(math.radians(87.0 / 2))
    v = np.linspace(-1, 1, 48) * math.tan(math.radians(58.0 / 2))
    right, down = np.meshgrid(u, v)
    c, s = math.cos(CAMERA_PITCH), math.sin(CAMERA_PITCH)
    # Forward axis pitched down; the image's right is -y, its down the axis' own down.
    x, z = c - s * down, -s - c * down
    rays = np.stack([x, -right, z], axis=-1).reshape(-1, 3)
    return rays / np.linalg.norm(rays, axis=1, keepdims=True)


def _lidar(rng: np.random.Generator) -> np.ndarray:
    """360 degrees about the axis, 0 to 90 from it, in a pattern that does not repeat."""
    count = int(LIDAR_RATE * LIDAR.period)
    around = rng.uniform(-math.pi, math.pi, count)
    off = rng.uniform(0.0, math.pi / 2, count)
    rays = np.stack(
        [np.sin(off) * np.cos(around), np.sin(off) * np.sin(around), np.cos(off)], axis=-1
    )
    c, s = math.cos(LIDAR_PITCH), math.sin(LIDAR_PITCH)
    return rays @ np.array([[c, 0.0, -s], [0.0, 1.0, 0.0], [s, 0.0, c]])


class Rays:
    """Casts rays in one model: the course's stones and the robot's collision shapes."""

    GROUPS = np.array([1, 0, 0, 1, 0, 0], dtype=np.uint8)
    """Group 0 is the course, 3 the robot's collision shapes."""

    def __init__(self, model: mujoco.MjModel) -> None:
        self._model, self._base = model, model.body("base").id
        self._course = model.geom_bodyid == 0

    def scan(
        self, data: mujoco.MjData, sensor: RangeSensor, rng: np.random.Generator
    ) -> np.ndarray:
        """Points (P, 3), m, world frame; what hits the robot itself is left out."""
        rotation = data.xmat[self._base].reshape(3, 3)
        origin = data.xpos[self._base] + rotation @ np.array(sensor.origin)
        rays = sensor.directions(rng) @ rotation.T
        count = len(rays)
        geoms, distances = np.full(count, -1, np.int32), np.zeros(count)
        flat = np.ascontiguousarray(rays).reshape(-1)
        # The base carries the sensor: its shapes would hide everything.
        options = (self.GROUPS, 1, self._base, geoms, distances)
        _multi_ray(self._model, data, origin, flat, *options, count, sensor.far)
        hit = (distances > sensor.near) & (distances < sensor.far) & (geoms >= 0)
        hit[hit] = self._course[geoms[hit]]
        d = distances[hit]
        d = d + rng.normal(size=len(d)) * (sensor.noise + sensor.noise_square * d * d)
        return (origin + rays[hit] * d[:, None]).astype(np.float32)


def _multi_ray(model: mujoco.MjModel, data: mujoco.MjData, *rest: object) -> None:
    """``mj_multiRay``, which got an argument for surface normals with MuJoCo 3.4."""
    *before, count, cutoff = rest
    if "normal" in (mujoco.mj_multiRay.__doc__ or ""):
        mujoco.mj_multiRay(model, data, *before, None, count, cutoff)
    else:
        mujoco.mj_multiRay(model, data, *before, count, cutoff)
