"""The physics model of a course, compiled: every stone in its place, with its friction."""

import dataclasses
import re
from xml.etree import ElementTree

import mujoco
import numpy as np
import pytest

from go2_sevpo.envs.go2.description import scene
from go2_sevpo.envs.go2.description.course import Box, Course, make_course
from tests.envs.go2 import reference as ref


def compiled(course, visuals=False):
    return mujoco.MjModel.from_xml_string(scene.scene_xml(course, visuals))


def course_of(count):
    boxes = tuple(Box((float(k), 0.1 * k, -0.2), (0.3, 0.4, 0.1)) for k in range(count))
    return Course("simple", 1.0, 0, boxes, np.array([[3.0, 0.25, 0.125]]), -0.7, 0.8)


def test_padding_lies_far_below_and_makes_ten():
    course = ref.uneven_course()
    boxes = scene.course_boxes(course)
    assert boxes[:3] == list(course.boxes)
    expected = [Box((0.0, 0.0, -20.0 - k), (0.1, 0.1, 0.1)) for k in range(7)]
    assert boxes[3:] == expected
    assert scene.course_boxes(course_of(10)) == list(course_of(10).boxes)


def test_eleven_boxes_are_refused():
    with pytest.raises(ValueError, match="^course has 11 boxes, expected at most 10$"):
        scene.course_boxes(course_of(11))


@pytest.mark.parametrize("visuals", [False, True])
def test_every_box_is_compiled_where_the_course_has_it(visuals):
    course = ref.uneven_course()
    model = compiled(course, visuals)
    for k, box in enumerate(scene.course_boxes(course)):
        geom = model.geom(f"course_{k}")
        assert geom.type[0] == mujoco.mjtGeom.mjGEOM_BOX
        assert geom.pos == pytest.approx(np.array(box.position), abs=1e-8)
        assert geom.size == pytest.approx(np.array(box.half_size), abs=1e-8)
        assert geom.quat == pytest.approx(np.array(box.quaternion), abs=1e-8)
        assert geom.bodyid[0] == 0
    names = [model.geom(k).name for k in range(model.ngeom)]
    assert sum(name.startswith("course_") for name in names) == 10


@pytest.mark.parametrize("visuals", [False, True])
@pytest.mark.parametrize("friction", [0.8, 1.2, 0.35])
def test_course_geoms_decide_about_friction_and_touch_the_robot_alone(visuals, friction):
    course = dataclasses.replace(ref.uneven_course(), friction=friction)
    model = compiled(course, visuals)
    for name in ["pit"] + [f"course_{k}" for k in range(10)]:
        geom = model.geom(name)
        assert geom.friction == pytest.approx([friction, 0.005, 0.0001])
        assert geom.priority[0] == 1
        assert (geom.contype[0], geom.conaffinity[0]) == (1, 0)
        assert geom.solref == pytest.approx([0.01, 1.0])
    # A foot has the lower priority, so the friction of its contact is the course's.
    foot = model.geom("FL_foot")
    assert (foot.contype[0], foot.conaffinity[0], foot.priority[0]) == (0, 1, 0)


@pytest.mark.parametrize("visuals", [False, True])
def test_the_pits_bottom_is_a_plane_at_the_floor(visuals):
    pit = compiled(course_of(4), visuals).geom("pit")
    assert pit.type[0] == mujoco.mjtGeom.mjGEOM_PLANE
    assert pit.pos.tolist() == [0.0, 0.0, -0.7]
    assert pit.size.tolist() == [40.0, 40.0, 1.0]
    assert pit.quat.tolist() == [1.0, 0.0, 0.0, 0.0]


def test_the_physics_model_has_neither_looks_nor_lights():
    text = scene.scene_xml(course_of(4))
    model = mujoco.MjModel.from_xml_string(text)
    assert (model.nlight, model.ntex) == (0, 0)
    assert not re.search(r'material="(pit|stone|end)"', text)
    assert (model.geom_matid == -1).all()
    assert text == scene.scene_xml(course_of(4), False)
    assert int(mujoco.mjtGeom.mjGEOM_CYLINDER) not in model.geom_type.tolist()


def test_the_model_for_pictures_has_materials_lights_and_a_destination():
    model = compiled(course_of(4), True)
    assert (model.nlight, model.ntex) == (2, 4)
    materials = {k: model.mat(model.geom(f"course_{k}").matid[0]).name for k in range(10)}
    # The first and the last box of the course are the platforms; what pads it is out of sight.
    assert materials == {
        0: "end",
        1: "stone",
        2: "stone",
        3: "end",
        **{k: "stone" for k in range(4, 10)},
    }
    assert model.mat(model.geom("pit").matid[0]).name == "pit"
    colour = pytest.approx([0.2, 0.8, 0.4, 0.5])
    (disc,) = [k for k in range(model.ngeom) if model.geom_rgba[k] == colour]
    assert model.geom_type[disc] == mujoco.mjtGeom.mjGEOM_CYLINDER
    # As wide as the destination counts (0.5 m), 8 mm thick, on the surface; nothing touches it.
    assert model.geom_size[disc][:2] == pytest.approx([0.5, 0.004])
    assert model.geom_pos[disc] == pytest.approx([3.0, 0.25, 0.129])
    assert (model.geom_contype[disc], model.geom_conaffinity[disc]) == (0, 0)
    assert model.geom_bodyid[disc] == 0


@pytest.mark.parametrize("kind", ["flat", "simple", "hard"])
def test_all_courses_make_models_of_one_size(kind):
    model = compiled(make_course(kind, 1.0, 2))
    assert (model.nq, model.nv, model.nu) == (19, 18, 12)
    # Pit and ten boxes; base and two head spheres; thigh, calf and foot per leg.
    assert model.ngeom == 11 + 3 + 4 * 3
    assert scene.CONTACT_SOLREF == "0.01 1"


@pytest.mark.parametrize("visuals", [False, True])
def test_the_robots_looks_are_drawn_for_pictures_alone(visuals):
    model = compiled(course_of(4), visuals)
    looks = model.geom_group == 2
    assert looks.any() == visuals
    # Looks neither weigh nor touch.
    assert not model.geom_contype[looks].any()
    assert not model.geom_conaffinity[looks].any()
    assert model.body_mass.sum() == pytest.approx(15.02, abs=0.05)


@pytest.mark.parametrize("visuals", [False, True])
def test_the_model_file_holds_elements_and_no_stray_text(visuals):
    for element in ElementTree.fromstring(scene.scene_xml(course_of(4), visuals)).iter():
        assert not (element.text or "").strip()
        assert not (element.tail or "").strip()
