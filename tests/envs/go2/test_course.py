import math

import numpy as np
import pytest
import torch

from go2_sevpo.envs.go2.description import course as c
from go2_sevpo.envs.go2.description.terrain import TerrainMaps

SEEDS = range(12)


def stones(course):
    return course.boxes[1:-1]


@pytest.mark.parametrize("seed", SEEDS)
def test_simple_at_full_difficulty_is_as_documented(seed):
    course = c.make_course("simple", 1.0, seed)
    assert len(stones(course)) >= 7
    assert all(1.0 <= 2 * b.half_size[0] <= 1.5 for b in stones(course))
    assert all(0.25 - 1e-9 <= b - a <= 0.45 + 1e-9 for a, b in course.gaps)
    assert len(course.gaps) == len(stones(course)) + 1
    assert course.floor <= -1.0
    assert course.friction == 0.8


@pytest.mark.parametrize("seed", SEEDS)
def test_hard_at_full_difficulty_is_as_documented(seed):
    course = c.make_course("hard", 1.0, seed)
    tilts = [math.degrees(2 * math.atan2(b.quaternion[1], b.quaternion[0])) for b in stones(course)]
    assert len(tilts) >= 7
    assert all(20 <= abs(t) <= 40 for t in tilts)
    assert all(a * b < 0 for a, b in zip(tilts, tilts[1:]))
    assert all(0.8 <= 2 * b.half_size[0] <= 1.2 for b in stones(course))
    assert all(0.25 - 1e-9 <= b - a <= 0.5 + 1e-9 for a, b in course.gaps)
    offsets = [w[1] for w in course.waypoints[:-1]]
    assert all(0.1 <= abs(o) <= 0.25 for o in offsets)
    # A stone on the left faces right.
    assert all(t * o > 0 for t, o in zip(tilts, offsets))
    assert course.friction == 1.2
    assert (
        max(math.tan(math.radians(abs(t))) for t in tilts) < course.friction
    )  # standing still is possible


@pytest.mark.parametrize("kind", ["simple", "hard"])
@pytest.mark.parametrize("seed", SEEDS)
def test_height_scan_drops_over_every_gap_and_rim_does_not(kind, seed):
    course = c.make_course(kind, 1.0, seed)
    maps = TerrainMaps([course], torch.device("cpu"))
    for number, (a, b) in enumerate(course.gaps):
        y = (
            0.5 * sum(course.waypoints[max(k, 0)][1] for k in (number - 1, number))
            if 0 < number < 7
            else 0.0
        )
        points = torch.tensor(
            [[[x, y] for x in np.linspace(a + 0.06, b - 0.06, 5)]], dtype=torch.float32
        )
        cells = maps.cells(torch.tensor([0]), points)
        assert (maps.height[cells] < -1.0).all(), (number, a, b)
        assert (maps.rim[cells] > -0.6).all()


def test_map_agrees_with_the_boxes_everywhere():
    course = c.make_course("hard", 1.0, 5)
    grid = c.height_maps(course)["height"]
    rng = np.random.default_rng(0)
    i, j = rng.integers(0, grid.shape[0], 500), rng.integers(0, grid.shape[1], 500)
    xy = np.stack(
        [c.MAP_X0 + (i + 0.5) * c.MAP_RESOLUTION, c.MAP_Y0 + (j + 0.5) * c.MAP_RESOLUTION], axis=-1
    )
    assert np.allclose(grid[i, j], c.top_height(course, xy), atol=1e-6)
    # ... and top_height agrees with a ray cast by the physics engine.
    import mujoco

    from go2_sevpo.envs.go2.description.scene import scene_xml

    model = mujoco.MjModel.from_xml_string(scene_xml(course))
    data = mujoco.MjData(model)
    data.qpos[2] = 50.0
    mujoco.mj_forward(model, data)
    for point, height in zip(xy[:200], grid[i, j][:200]):
        hit = np.zeros(1, np.int32)
        distance = mujoco.mj_ray(
            model, data, np.array([*point, 5.0]), np.array([0.0, 0, -1]), None, 1, -1, hit
        )
        assert 5.0 - distance == pytest.approx(height, abs=1e-4)


def test_difficulty_widens_gaps_and_deepens_the_pit():
    easy, full = c.make_course("simple", 0.0, 1), c.make_course("simple", 1.0, 1)
    assert max(b - a for a, b in easy.gaps) <= 0.1 + 1e-9
    assert easy.floor > -0.1 > full.floor
    assert c.make_course("simple", 0.5, 1).floor == -c.PIT_DEPTH


def test_same_seed_same_course_other_seed_another():
    a, b, other = (c.make_course("hard", 1.0, s) for s in (3, 3, 4))
    assert a.boxes == b.boxes
    assert a.boxes != other.boxes


def test_every_course_fits_the_map_and_the_padding():
    for kind in c.KINDS:
        for seed in range(50):
            course = c.make_course(kind, 1.0, seed)
            assert len(course.boxes) <= c.MAX_BOXES
            assert course.destination[0] + 0.5 < c.MAP_X0 + c.MAP_LENGTH


def test_bad_arguments_are_named():
    with pytest.raises(
        ValueError, match="unknown course 'steep', expected one of flat, simple, hard"
    ):
        c.make_course("steep")
    with pytest.raises(ValueError, match="difficulty is 1.5"):
        c.make_course("simple", 1.5)


def test_shape_replaces_tilt_gap_and_friction():
    plain, steep = (
        c.make_course("hard", 1.0, 5),
        c.make_course("hard", 1.0, 5, c.Shape((45.0, 45.0), (0.3, 0.3), 2.0)),
    )
    tilts = [
        abs(np.degrees(2 * np.arctan2(b.quaternion[1], b.quaternion[0]))) for b in stones(steep)
    ]
    assert np.allclose(tilts, 45.0)
    assert np.allclose([b - a for a, b in steep.gaps], 0.3)
    assert steep.friction == 2.0 and plain.friction == 1.2
    with pytest.raises(
        ValueError, match=r"gap is \(0.2, 0.9\), expected a range within \[0, 0.6\]"
    ):
        c.Shape(gap=(0.2, 0.9))
    with pytest.raises(ValueError, match="friction is -1, expected a positive coefficient"):
        c.Shape(friction=-1)
