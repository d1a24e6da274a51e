"""A film of a run: the robot, its map from above, the scan it acts on, and the cost value."""

from __future__ import annotations

from typing import List, Optional, Tuple

import numpy as np
from PIL import Image, ImageDraw

from go2_sevpo.deploy.robot.control import ControlStep
from go2_sevpo.deploy.robot.plant.robot import Plant
from go2_sevpo.envs.go2.description import robot as r
from go2_sevpo.envs.simulators.rendering import CourseRenderer

VIEW = (640, 360)
SIDE = 240
"""Pixels of the panels on the right."""
PLOT = (640, 120)
MAP_EDGE = 3.0
"""m shown of the map."""
SPAN = 0.5
"""m of height above and below the robot's ground that the colours show."""
_PIT, _LOW, _HIGH = (24, 26, 32), np.array([46, 74, 120.0]), np.array([246, 214, 140.0])


def colours(height: np.ndarray, ground: float) -> np.ndarray:
    """Heights (...) as colours (..., 3) uint8; unknown cells are dark."""
    share = np.clip((np.nan_to_num(height) - ground) / (2 * SPAN) + 0.5, 0.0, 1.0)[..., None]
    image = _LOW + share * (_HIGH - _LOW)
    return np.where(np.isfinite(height)[..., None], image, np.array(_PIT)).astype(np.uint8)


class Film:
    """Makes pictures of a virtual robot and of what its controller believes."""

    def __init__(self) -> None:
        self.frames: List[np.ndarray] = []
        self._renderer = CourseRenderer()
        self._values: List[float] = []
        self.step: Optional[ControlStep] = None
        """The newest step of the policy."""

    def on_step(self, step: ControlStep) -> None:
        """Take a step of the policy."""
        self.step = step
        self._values.append(step.value)

    def picture(self, plant: Plant, title: str) -> None:
        """Add a frame of the present moment."""
        canvas = Image.new("RGB", (VIEW[0] + SIDE, VIEW[1] + PLOT[1]), (18, 20, 26))
        names = [plant.model.joint(n).qposadr[0] for n in r.JOINT_NAMES]
        qpos = np.concatenate([plant.data.qpos[:7], plant.data.qpos[names]])
        view = self._renderer.render(plant.course, qpos, *VIEW)
        canvas.paste(Image.fromarray(view), (0, 0))
        draw = ImageDraw.Draw(canvas)
        draw.text((10, 8), title, fill=(20, 24, 30))
        if self.step is not None:
            canvas.paste(self._map(self.step), (VIEW[0], 0))
            canvas.paste(self._scan(self.step), (VIEW[0], SIDE))
        draw.text((VIEW[0] + 6, 4), "map (odometry frame), robot, feet", fill=(230, 230, 230))
        draw.text((VIEW[0] + 6, SIDE + 4), "height scan of the policy", fill=(230, 230, 230))
        self._plot(draw)
        self.frames.append(np.asarray(canvas))

    def _map(self, step: ControlStep) -> Image.Image:
        """The map around the robot from above, x upwards, y to the left."""
        heights = step.heights
        offset = (np.arange(SIDE) + 0.5) / SIDE * MAP_EDGE - MAP_EDGE / 2
        ahead, left = np.meshgrid(-offset, -offset, indexing="ij")  # rows downwards, columns right
        xy = step.place.position[:2] + np.stack([ahead, left], axis=-1)
        found = heights.sample(xy.reshape(-1, 2)).reshape(SIDE, SIDE)
        image = Image.fromarray(colours(found, float(step.place.position[2]) - 0.3))
        draw = ImageDraw.Draw(image)
        middle, scale = SIDE / 2, SIDE / MAP_EDGE
        cos, sin = np.cos(step.place.yaw), np.sin(step.place.yaw)
        nose = (middle - 0.35 * scale * sin, middle - 0.35 * scale * cos)
        draw.line([(middle, middle), nose], fill=(230, 90, 70), width=3)
        return image

    def _scan(self, step: ControlStep) -> Image.Image:
        """The 17 x 5 points as the policy got them, forward up."""
        scan = step.observation[144:229].reshape(17, 5)[::-1, ::-1]  # 3 frames of 46, 6 waypoints
        grey = (127.5 - 127.5 * scan).astype(np.uint8)
        image = Image.fromarray(np.stack([grey, grey, (grey * 0.85).astype(np.uint8)], axis=-1))
        return image.resize((SIDE, VIEW[1] + PLOT[1] - SIDE), Image.Resampling.NEAREST)

    def _plot(self, draw: ImageDraw.ImageDraw) -> None:
        """The cost value so far."""
        left, top, (width, height) = 0, VIEW[1], PLOT
        draw.text((left + 10, top + 6), "cost value V_c", fill=(200, 205, 215))
        values = np.array(self._values[-500:])
        if len(values) < 2:
            return
        low, high = min(float(values.min()), 0.0), max(float(values.max()), 1e-6)
        x = left + 10 + np.arange(len(values)) * (width - 20) / max(len(values) - 1, 200)
        y = top + height - 10 - (values - low) / (high - low) * (height - 34)
        points: List[Tuple[float, float]] = [(float(a), float(b)) for a, b in zip(x, y)]
        draw.line(points, fill=(246, 170, 80), width=2)

    def close(self) -> None:
        """Free the graphics."""
        self._renderer.close()
