"""Obstacle courses: oriented boxes over a pit, waypoints, a start and a destination.

A :class:`Course` is the one source for the MJCF geoms, the triangle mesh of other simulators, the
height scan and the pictures. Frame: x along the course, y to the left, z up, metres; the start
platform's top is at z = 0.

Courses at difficulty d in [0, 1] (``full`` is d = 1; ranges widen linearly from the easy end):

=========  ======================  ===================  ==================  ============  =========
kind       stones (length, m)      gaps (m)             tilt about x (deg)  offset y (m)  friction
=========  ======================  ===================  ==================  ============  =========
flat       one slab                none                 0                   0             0.8
simple     7, 1.0-1.5              0.25-0.45            0                   0             0.8
hard       7, 0.8-1.2              0.25-0.50            20-40, alternating  0.10-0.25     1.2
=========  ======================  ===================  ==================  ============  =========

A tilted stone that lies to the left faces right and the other way round, so the way runs from wall
to wall. The pit is 1.2 m deep from d = 0.5 on (no Go2 climbs out); below that it is shallower, for
the curriculum.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Dict, List, Optional, Tuple

import numpy as np
import torch

from go2_sevpo.envs.go2.description.geometry import rotation_matrix

KINDS: Tuple[str, ...] = ("flat", "simple", "hard")
MAX_BOXES = 10
"""Boxes of the longest course; back ends pad to it, so that all models have one size."""
PIT_DEPTH = 1.2
BOX_THICKNESS = 0.5
STONES = 7
DESTINATION_RADIUS = 0.5
START_LENGTH, END_LENGTH = 1.6, 1.6
MAP_RESOLUTION = 0.025
MAP_LENGTH, MAP_WIDTH = 17.0, 2.6
MAP_X0, MAP_Y0 = -1.2, -MAP_WIDTH / 2


@dataclass(frozen=True)
class Box:
    """An oriented box: centre (3,), half sizes (3,) in m, quaternion wxyz (4,)."""

    position: Tuple[float, float, float]
    half_size: Tuple[float, float, float]
    quaternion: Tuple[float, float, float, float] = (1.0, 0.0, 0.0, 0.0)

    def rotation(self) -> np.ndarray:
        """Return the 3x3 rotation from box to world."""
        return rotation_matrix(torch.tensor(self.quaternion, dtype=torch.float64)).numpy()


@dataclass(frozen=True)
class Shape:
    """Departures from a kind's definition, for measuring limits.

    Ranges of the stones' tilt (degrees) and of the gaps (m), and the friction coefficient.
    """

    tilt: Optional[Tuple[float, float]] = None
    gap: Optional[Tuple[float, float]] = None
    friction: Optional[float] = None

    def __post_init__(self) -> None:
        """Check the values.

        Raises:
            ValueError: naming what was found and what was expected.
        """
        for name, span, top in (("tilt", self.tilt, 60.0), ("gap", self.gap, 0.6)):
            if span is not None and not 0.0 <= span[0] <= span[1] <= top:
                raise ValueError(f"{name} is {span}, expected a range within [0, {top:g}]")
        if self.friction is not None and self.friction <= 0:
            raise ValueError(f"friction is {self.friction}, expected a positive coefficient")


@dataclass(frozen=True)
class Course:
    """One course.

    ``waypoints`` is (W, 3), m, the last one being the destination; ``floor`` is the height of the
    pit's bottom, m.
    """

    kind: str
    difficulty: float
    seed: int
    boxes: Tuple[Box, ...]
    waypoints: np.ndarray
    floor: float
    friction: float
    start: Tuple[float, float, float] = (0.0, 0.0, 0.0)
    gaps: Tuple[Tuple[float, float], ...] = field(default=())
    """x intervals (m) between consecutive stones on the line of the way."""

    @property
    def destination(self) -> np.ndarray:
        """Destination, (3,), m."""
        return self.waypoints[-1]


def _range(
    difficulty: float, easy: Tuple[float, float], full: Tuple[float, float]
) -> Tuple[float, float]:
    """The range at ``difficulty``, linear between the ``easy`` and the ``full`` one."""
    low, high = (e + difficulty * (f - e) for e, f in zip(easy, full))
    return low, high


def _pit_depth(difficulty: float) -> float:
    return PIT_DEPTH if difficulty >= 0.5 else 0.04 + 0.5 * difficulty


def make_course(
    kind: str,
    difficulty: float = 1.0,
    seed: int = 0,
    shape: Shape = Shape(),
) -> Course:
    """Build a course; ``shape`` replaces parts of the kind's definition.

    Raises:
        ValueError: unknown ``kind``, or ``difficulty`` outside [0, 1].
    """
    if kind not in KINDS:
        raise ValueError(f"unknown course '{kind}', expected one of {', '.join(KINDS)}")
    if not 0.0 <= difficulty <= 1.0:
        raise ValueError(f"difficulty is {difficulty}, expected a number in [0, 1]")
    rng = np.random.default_rng([seed, KINDS.index(kind)])
    if kind == "flat":
        return _flat(difficulty, seed, shape)
    return _stones(kind, difficulty, seed, rng, shape)


def _flat(difficulty: float, seed: int, shape: Shape) -> Course:
    box = Box((6.5, 0.0, -BOX_THICKNESS / 2), (8.5, 1.5, BOX_THICKNESS / 2))
    waypoints = np.array([[x, 0.0, 0.0] for x in (2.0, 4.0, 6.0, 8.0, 10.0, 11.5)])
    floor, friction = -_pit_depth(difficulty), shape.friction or 0.8
    return Course("flat", difficulty, seed, (box,), waypoints, floor, friction)


def _stones(
    kind: str, difficulty: float, seed: int, rng: np.random.Generator, shape: Shape
) -> Course:
    """A start platform, :data:`STONES` stones one after the other, an end platform."""
    hard = kind == "hard"
    boxes: List[Box] = []
    waypoints: List[Tuple[float, float, float]] = []
    gaps: List[Tuple[float, float]] = []
    edge = START_LENGTH - 0.4  # x at which what is laid so far ends
    half_length = (1.2 + START_LENGTH - 0.4) / 2
    boxes.append(_platform(edge - half_length, half_length))
    full_gap = (0.25, 0.50) if hard else (0.25, 0.45)
    gap_range = shape.gap or _range(difficulty, (0.05, 0.10), full_gap)
    tilt_range = shape.tilt or _range(difficulty, (0.0, 6.0), (20.0, 40.0))
    offset_range = _range(difficulty, (0.0, 0.05), (0.10, 0.25))
    friction = shape.friction or (1.2 if hard else 0.8)
    side = 1.0 if rng.random() < 0.5 else -1.0
    for i in range(STONES):
        gap = rng.uniform(*gap_range)
        if i == 0:
            # The first jump is from standing: no wider than the middle of the range.
            gap = min(gap, 0.5 * (gap_range[0] + gap_range[1]))
        length = rng.uniform(0.8, 1.2) if hard else rng.uniform(1.0, 1.5)
        gaps.append((edge, edge + gap))
        x = edge + gap + length / 2
        if hard:
            tilt = math.radians(rng.uniform(*tilt_range))
            offset = side * rng.uniform(*offset_range)
            # Left (offset > 0) faces right: its left edge is the higher one, a positive turn about
            # x.
            angle, width = side * tilt, 1.1
            side = -side
        else:
            angle, offset, width = 0.0, rng.uniform(-0.1, 0.1) * difficulty, 1.3
        top = rng.uniform(-0.05, 0.05) * difficulty
        quaternion = (math.cos(angle / 2), math.sin(angle / 2), 0.0, 0.0)
        # The waypoint is the middle of the top face; the centre lies half a thickness under it.
        normal = np.array([0.0, -math.sin(angle), math.cos(angle)])
        centre = np.array([x, offset, top]) - normal * BOX_THICKNESS / 2
        boxes.append(Box(tuple(centre), (length / 2, width / 2, BOX_THICKNESS / 2), quaternion))
        waypoints.append((x, offset, top))
        edge = x + length / 2
    gap = rng.uniform(*gap_range)
    gaps.append((edge, edge + gap))
    edge += gap
    boxes.append(_platform(edge + END_LENGTH / 2, END_LENGTH / 2))
    waypoints.append((edge + 0.9, 0.0, 0.0))
    return Course(
        kind=kind,
        difficulty=difficulty,
        seed=seed,
        boxes=tuple(boxes),
        waypoints=np.array(waypoints),
        floor=-_pit_depth(difficulty),
        friction=friction,
        gaps=tuple(gaps),
    )


def _platform(centre_x: float, half_length: float) -> Box:
    """A level box of the start's and the end's width, its top at z = 0."""
    half_size = (half_length, 0.8, BOX_THICKNESS / 2)
    return Box((centre_x, 0.0, -BOX_THICKNESS / 2), half_size)


def _box_top(box: Box, points: np.ndarray) -> np.ndarray:
    """Height (...,) at which vertical lines through ``points`` (..., 2) leave ``box``.

    -inf where they miss it. The line is cut with the box's three slabs, one pair of faces each.
    """
    rotation, half = box.rotation(), np.array(box.half_size)
    ground = np.concatenate([points, np.zeros((*points.shape[:-1], 1))], axis=-1)  # z = 0, (..., 3)
    origin = (ground - np.array(box.position)) @ rotation  # box frame
    direction = rotation[2]  # world z seen from the box
    low, high = np.full(points.shape[:-1], -np.inf), np.full(points.shape[:-1], np.inf)
    for k in range(3):
        if abs(direction[k]) < 1e-9:
            # The line runs along these faces: between them everywhere or nowhere.
            outside = np.abs(origin[..., k]) > half[k]
            low, high = np.where(outside, np.inf, low), np.where(outside, -np.inf, high)
            continue
        # |origin + t direction| <= half, t being the height
        one = (-half[k] - origin[..., k]) / direction[k]
        other = (half[k] - origin[..., k]) / direction[k]
        low, high = (
            np.maximum(low, np.minimum(one, other)),
            np.minimum(high, np.maximum(one, other)),
        )
    return np.where(high >= low, high, -np.inf)


def top_height(course: Course, points: np.ndarray) -> np.ndarray:
    """Height (...,) of the highest surface under ``points`` (..., 2), m; the floor in gaps."""
    points = np.asarray(points, dtype=np.float64)
    best = np.full(points.shape[:-1], course.floor)
    for box in course.boxes:
        best = np.maximum(best, _box_top(box, points))
    return best


def _raster(course: Course, xs: np.ndarray, ys: np.ndarray) -> np.ndarray:
    """:func:`top_height` on a grid, looking at each box only where it can be."""
    height = np.full((len(xs), len(ys)), course.floor)
    for box in course.boxes:
        reach = np.abs(box.rotation()) @ np.array(box.half_size)  # half sizes of the box around it
        i0, i1 = np.searchsorted(xs, [box.position[0] - reach[0], box.position[0] + reach[0]])
        j0, j1 = np.searchsorted(ys, [box.position[1] - reach[1], box.position[1] + reach[1]])
        if i1 > i0 and j1 > j0:
            part = np.stack(np.meshgrid(xs[i0:i1], ys[j0:j1], indexing="ij"), axis=-1)
            height[i0:i1, j0:j1] = np.maximum(height[i0:i1, j0:j1], _box_top(box, part))
    return height


def height_maps(course: Course) -> Dict[str, np.ndarray]:
    """Rasterise the course: ``height`` and ``rim``, both (nx, ny) float32, metres.

    ``height`` is the true surface (floor in gaps). ``rim`` continues the nearest stone's surface
    over the gaps: the height a foot or the base should not sink below. Cell (i, j) is centred at
    ``MAP_X0 + (i + 0.5) * MAP_RESOLUTION``, ``MAP_Y0 + (j + 0.5) * MAP_RESOLUTION``.
    """
    nx, ny = round(MAP_LENGTH / MAP_RESOLUTION), round(MAP_WIDTH / MAP_RESOLUTION)
    xs = MAP_X0 + (np.arange(nx) + 0.5) * MAP_RESOLUTION
    ys = MAP_Y0 + (np.arange(ny) + 0.5) * MAP_RESOLUTION
    height = _raster(course, xs, ys)
    solid = height > course.floor + 1e-6
    # Nearest stone along x within the row, then the nearest row that has one: exact for courses
    # that run along x.
    index = np.arange(nx)[:, None]
    before = np.maximum.accumulate(np.where(solid, index, -1), axis=0)  # -1: no stone before
    after = np.minimum.accumulate(np.where(solid, index, nx)[::-1], axis=0)[::-1]  # nx: none after
    nearer = (index - before <= after - index) | (after >= nx)
    nearest = np.where((before >= 0) & nearer, before, after)
    rows = np.flatnonzero(solid.any(axis=0))
    columns = rows[np.abs(np.arange(ny)[:, None] - rows).argmin(axis=1)]
    rim = np.take_along_axis(height, np.clip(nearest, 0, nx - 1), axis=0)[:, columns]
    return {"height": height.astype(np.float32), "rim": rim.astype(np.float32)}
