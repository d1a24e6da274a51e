"""Pictures of the courses for the docs.

``python -m go2_sevpo.envs.go2.pictures`` rewrites ``docs/images/course_*.png``.
"""

from __future__ import annotations

from pathlib import Path
from typing import Tuple

import mujoco
import numpy as np

from go2_sevpo.envs.go2.description import robot as r
from go2_sevpo.envs.go2.description.course import KINDS, Course, make_course
from go2_sevpo.envs.go2.description.scene import scene_xml
from go2_sevpo.runs.files import atomic_path

OUT = Path(__file__).resolve().parents[2] / "docs" / "images"


def picture(course: Course, size: Tuple[int, int] = (960, 400)) -> np.ndarray:
    """The whole course with the robot at its start, (height, width, 3) uint8."""
    model = mujoco.MjModel.from_xml_string(scene_xml(course, visuals=True))
    model.vis.global_.offwidth, model.vis.global_.offheight = size
    data = mujoco.MjData(model)
    data.qpos[7:] = r.DEFAULT_JOINT_POSITIONS
    mujoco.mj_forward(model, data)
    camera = mujoco.MjvCamera()
    camera.lookat[:] = (float(course.destination[0]) / 2 - 0.2, 0.0, -0.4)
    camera.distance, camera.azimuth, camera.elevation = 10.5, 108.0, -24.0
    renderer = mujoco.Renderer(model, size[1], size[0])
    renderer.update_scene(data, camera)
    image = renderer.render()
    renderer.close()
    return image


def main() -> None:
    """Write one picture per kind, at difficulty 1 and of the same seed."""
    import imageio

    for kind in KINDS:
        with atomic_path(OUT / f"course_{kind}.png") as temporary:
            imageio.imwrite(temporary, picture(make_course(kind, 1.0, 2)), format="png")


if __name__ == "__main__":
    main()
