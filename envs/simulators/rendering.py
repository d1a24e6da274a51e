"""Pictures of one world, drawn by MuJoCo whatever simulated it."""

from __future__ import annotations

from typing import Optional, Tuple

import mujoco
import numpy as np

from go2_sevpo.envs.go2.description.course import Course
from go2_sevpo.envs.go2.description.scene import scene_xml


def follow_camera(qpos: np.ndarray) -> mujoco.MjvCamera:
    """A camera beside and behind the robot of pose ``qpos`` (19,), looking at it."""
    camera = mujoco.MjvCamera()
    camera.lookat[:] = (qpos[0] + 0.3, 0.0, 0.15)
    camera.distance, camera.azimuth, camera.elevation = 2.6, 125.0, -18.0
    return camera


class CourseRenderer:
    """Draws the robot on a course; keeps the scene of the last course and size."""

    def __init__(self) -> None:
        self._renderer: Optional[mujoco.Renderer] = None
        self._key: Optional[Tuple[int, int, int]] = None
        self._view: Optional[Tuple[mujoco.MjModel, mujoco.MjData, Course]] = None

    def render(
        self,
        course: Course,
        qpos: np.ndarray,
        width: int,
        height: int,
        camera: Optional[mujoco.MjvCamera] = None,
    ) -> np.ndarray:
        """Return an image (height, width, 3) uint8 of the pose ``qpos`` (19,), MuJoCo order.

        By default the camera follows the robot.
        """
        key = (id(course), width, height)
        if self._renderer is None or self._view is None or self._key != key:
            self.close()
            model = mujoco.MjModel.from_xml_string(scene_xml(course, visuals=True))
            model.vis.global_.offwidth, model.vis.global_.offheight = width, height
            # Software rendering is common here; these two halve its time and hardly change the
            # picture.
            model.vis.quality.shadowsize, model.vis.quality.offsamples = 1024, 2
            # The course is kept, so that its identity cannot be given to another one.
            self._view = (model, mujoco.MjData(model), course)
            self._renderer, self._key = mujoco.Renderer(model, height, width), key
        model, data, _ = self._view
        data.qpos[:] = qpos
        mujoco.mj_forward(model, data)
        self._renderer.update_scene(data, camera if camera is not None else follow_camera(qpos))
        return self._renderer.render()

    def close(self) -> None:
        """Free the graphics."""
        if self._renderer is not None:
            self._renderer.close()
        self._renderer = self._key = self._view = None
