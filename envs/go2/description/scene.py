"""MJCF of one world: the robot on a course, bare for physics or with lights for pictures."""

from __future__ import annotations

import re
from typing import List

from go2_sevpo.envs.go2.description.course import DESTINATION_RADIUS, MAX_BOXES, Box, Course
from go2_sevpo.envs.go2.description.model_files import mjcf

CONTACT_SOLREF = "0.01 1"
"""Firmer than MuJoCo's default (0.02 lets feet sink 14 mm, 0.01 about 3 mm)."""

_SPECKLED = 'type="cube" builtin="flat"', 'random="0.02" width="128" height="128"'
_ASSETS = f"""
    <texture name="sky" type="skybox" builtin="gradient" \
rgb1="0.62 0.74 0.86" rgb2="0.93 0.95 0.97" width="256" height="1536"/>
    <texture name="grid" type="2d" builtin="checker" \
rgb1="0.2 0.23 0.27" rgb2="0.24 0.27 0.31" width="300" height="300"/>
    <texture name="stone" {_SPECKLED[0]} rgb1="0.72 0.66 0.58" rgb2="0.66 0.6 0.52" \
mark="random" markrgb="0.6 0.55 0.47" {_SPECKLED[1]}/>
    <texture name="end" {_SPECKLED[0]} rgb1="0.45 0.6 0.5" rgb2="0.4 0.55 0.45" \
mark="random" markrgb="0.38 0.5 0.42" {_SPECKLED[1]}/>
    <material name="pit" texture="grid" texrepeat="20 20"/>
    <material name="stone" texture="stone" specular="0.1"/>
    <material name="end" texture="end" specular="0.1"/>
"""
_LIGHTS = """
    <light pos="4 -4 8" dir="-0.3 0.4 -1" directional="true" \
diffuse="0.55 0.55 0.52" ambient="0.25 0.25 0.27" castshadow="true"/>
    <light pos="10 4 8" dir="0.2 -0.3 -1" directional="true" \
diffuse="0.3 0.3 0.33" castshadow="false"/>
"""


def course_boxes(course: Course) -> List[Box]:
    """The course's boxes padded to :data:`MAX_BOXES` with some far below the pit, out of reach.

    Raises:
        ValueError: the course has too many boxes.
    """
    if len(course.boxes) > MAX_BOXES:
        raise ValueError(f"course has {len(course.boxes)} boxes, expected at most {MAX_BOXES}")
    spare = [
        Box((0.0, 0.0, -20.0 - i), (0.1, 0.1, 0.1)) for i in range(MAX_BOXES - len(course.boxes))
    ]
    return list(course.boxes) + spare


def scene_xml(course: Course, visuals: bool = False) -> str:
    """Return the MJCF of ``course`` with the robot at its start.

    Course geoms have the higher contact priority, so the friction of a contact is the course's
    alone (PhysX would average, MuJoCo would take the larger: here the rule is explicit).
    """
    contact = (
        f'friction="{course.friction:g} 0.005 0.0001" priority="1" contype="1" conaffinity="0" '
        f'solref="{CONTACT_SOLREF}"'
    )
    world: List[str] = [""]
    world.append(
        f'    <geom name="pit" type="plane" size="40 40 1" pos="0 0 {course.floor:g}" '
        f'material="pit" {contact}/>'
    )
    last = len(course.boxes) - 1
    for i, box in enumerate(course_boxes(course)):
        pos, half, quat = (
            " ".join(f"{x:.9g}" for x in v) for v in (box.position, box.half_size, box.quaternion)
        )
        material = "end" if i in (0, last) else "stone"
        world.append(
            f'    <geom name="course_{i}" type="box" pos="{pos}" size="{half}" quat="{quat}" '
            f'material="{material}" {contact}/>'
        )
    if visuals:
        x, y, z = course.destination
        world.append(_LIGHTS)
        world.append(
            f'    <geom type="cylinder" size="{DESTINATION_RADIUS} 0.004" '
            f'pos="{x:g} {y:g} {z + 0.004:g}" '
            'contype="0" conaffinity="0" rgba="0.2 0.8 0.4 0.5"/>'
        )
        return mjcf(True, _ASSETS, "\n".join(world) + "\n")
    # Without _ASSETS there are no materials to name.
    bare = [re.sub('material="(pit|stone|end)" ', "", line) for line in world]
    return mjcf(False, "", "\n".join(bare) + "\n")
