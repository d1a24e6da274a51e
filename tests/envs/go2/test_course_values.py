"""Courses by number: the stones that a seed gives, their surface, and the two maps made from it."""

import math

import mujoco
import numpy as np
import pytest

from go2_sevpo.envs.go2.description import course as c
from go2_sevpo.envs.go2.description.course import Box, Course, Shape, make_course
from go2_sevpo.envs.go2.description.scene import scene_xml
from tests.envs.go2 import reference as ref


def test_constants():
    assert c.KINDS == ("flat", "simple", "hard")
    assert (c.MAX_BOXES, c.STONES, c.PIT_DEPTH, c.BOX_THICKNESS) == (10, 7, 1.2, 0.5)
    assert (c.DESTINATION_RADIUS, c.START_LENGTH, c.END_LENGTH) == (0.5, 1.6, 1.6)
    assert (c.MAP_RESOLUTION, c.MAP_LENGTH, c.MAP_WIDTH) == (0.025, 17.0, 2.6)
    assert (c.MAP_X0, c.MAP_Y0) == (-1.2, -1.3)


# ---- how a course is drawn -----------------------------------------------------------------------


class Draws:
    """A course's random numbers: NumPy's generator, seeded with the seed and the kind's number."""

    def __init__(self, kind, seed):
        self.generator = np.random.default_rng([seed, {"flat": 0, "simple": 1, "hard": 2}[kind]])

    def between(self, low, high):
        return low + (high - low) * self.generator.random()


def expected_course(kind, difficulty, seed, tilts=None, gaps=None):
    """Stones (x, y, top, length, width, tilt in degrees), gaps and the end, by docs/courses.md.

    Ranges widen linearly from the easy end: gaps 5-10 cm, tilts 0-6 degrees, offsets 0-5 cm.
    In the order drawn: the first stone's side; per stone its gap, length, tilt, sideways place and
    height; the last gap.
    """
    draws, hard, d = Draws(kind, seed), kind == "hard", difficulty
    low, high = gaps or (0.05 + 0.20 * d, 0.10 + (0.40 if hard else 0.35) * d)
    low_tilt, high_tilt = tilts or (20.0 * d, 6.0 + 34.0 * d)
    side = 1 if draws.between(0, 1) < 0.5 else -1
    x, stones, spans = 1.2, [], []  # the start platform ends 1.2 m ahead of the robot
    for i in range(7):
        gap = draws.between(low, high)
        if i == 0:  # a running start is short: at most the middle of the range
            gap = min(gap, (low + high) / 2)
        length = draws.between(0.8, 1.2) if hard else draws.between(1.0, 1.5)
        if hard:
            tilt = side * draws.between(low_tilt, high_tilt)
            y = side * draws.between(0.10 * d, 0.05 + 0.20 * d)
            side = -side
        else:
            tilt, y = 0.0, d * draws.between(-0.1, 0.1)
        top = d * draws.between(-0.05, 0.05)
        spans.append((x, x + gap))
        stones.append((x + gap + length / 2, y, top, length, 1.1 if hard else 1.3, tilt))
        x += gap + length
    gap = draws.between(low, high)
    spans.append((x, x + gap))
    return stones, spans, x + gap


def check_course(course, stones, spans, end):
    assert len(course.boxes) == 9
    assert np.array(course.gaps) == pytest.approx(np.array(spans), abs=1e-9)
    ways = [(x, y, top) for x, y, top, *_ in stones] + [(end + 0.9, 0.0, 0.0)]
    assert course.waypoints == pytest.approx(np.array(ways), abs=1e-9)
    assert course.destination == pytest.approx(np.array([end + 0.9, 0.0, 0.0]), abs=1e-9)
    for box, (x, y, top, length, width, tilt) in zip(course.boxes[1:-1], stones):
        angle = math.radians(tilt)
        turn = ref.about_x(angle)
        assert box.half_size == pytest.approx((length / 2, width / 2, 0.25), abs=1e-12)
        assert box.quaternion == pytest.approx(ref.quaternion(angle, 0.0, 0.0), abs=1e-9)
        # The middle of its upper face is the waypoint.
        middle = np.array(box.position) + turn @ [0.0, 0.0, 0.25]
        assert middle == pytest.approx(np.array([x, y, top]), abs=1e-9)
    first, last = course.boxes[0], course.boxes[-1]
    level = (1.0, 0.0, 0.0, 0.0)
    # From 1.2 m behind the robot to 1.2 m ahead of it, 1.6 m wide, top at 0.
    assert (first.position, first.half_size, first.quaternion) == (
        (pytest.approx(0.0), 0.0, -0.25),
        (1.2, 0.8, 0.25),
        level,
    )
    assert (last.position, last.quaternion) == ((pytest.approx(end + 0.8), 0.0, -0.25), level)
    assert last.half_size == (0.8, 0.8, 0.25)


@pytest.mark.parametrize("kind", ["simple", "hard"])
@pytest.mark.parametrize(
    ("difficulty", "seed"),
    [(1.0, 0), (1.0, 1), (1.0, 2), (0.3, 5), (0.0, 3), (0.5, 40)],
)
def test_a_seed_gives_exactly_these_stones(kind, difficulty, seed):
    course = make_course(kind, difficulty, seed)
    check_course(course, *expected_course(kind, difficulty, seed))
    assert (course.kind, course.difficulty, course.seed) == (kind, difficulty, seed)
    assert course.friction == {"simple": 0.8, "hard": 1.2}[kind]
    assert course.start == (0.0, 0.0, 0.0)


def test_difficulty_one_and_seed_nought_are_the_defaults():
    assert make_course("hard").boxes == make_course("hard", 1.0, 0).boxes
    assert make_course("hard").boxes != make_course("hard", 1.0, 1).boxes


def test_first_stones_lie_on_either_side_and_the_first_gap_is_capped():
    seeds = range(40)
    stones = [expected_course("hard", 1.0, seed)[0] for seed in seeds]
    assert {stone[0][1] > 0 for stone in stones} == {True, False}
    first = [make_course("hard", 1.0, s).gaps[0] for s in seeds]
    later = [gap for s in seeds for gap in make_course("hard", 1.0, s).gaps[1:]]
    # The middle of 0.25 to 0.50 m.
    assert max(b - a for a, b in first) == pytest.approx(0.375, abs=1e-9)
    assert 0.48 < max(b - a for a, b in later) <= 0.5 + 1e-9


RANGES = {  # docs/courses.md at difficulty 1: lengths, gaps, |tilts|, |offsets|, heights
    "simple": ((1.0, 1.5), (0.25, 0.45), (0.0, 0.0), (0.0, 0.10), (-0.05, 0.05)),
    "hard": ((0.8, 1.2), (0.25, 0.50), (20.0, 40.0), (0.10, 0.25), (-0.05, 0.05)),
}


@pytest.mark.parametrize("kind", ["simple", "hard"])
def test_ranges_are_those_documented_and_are_used_in_full(kind):
    courses = [make_course(kind, 1.0, seed) for seed in range(60)]
    boxes = [b for course in courses for b in course.boxes[1:-1]]
    ways = np.concatenate([course.waypoints[:-1] for course in courses])
    values = (
        [2 * b.half_size[0] for b in boxes],
        [b - a for course in courses for a, b in course.gaps[1:]],
        [abs(math.degrees(2 * math.atan2(b.quaternion[1], b.quaternion[0]))) for b in boxes],
        np.abs(ways[:, 1]),
        ways[:, 2],
    )
    for found, (low, high) in zip(values, RANGES[kind]):
        slack = 0.05 * (high - low)
        assert low - 1e-9 <= min(found) <= low + slack + 1e-9
        assert high - slack - 1e-9 <= max(found) <= high + 1e-9


@pytest.mark.parametrize(("kind", "low", "high"), [("simple", 11.0, 15.0), ("hard", 10.5, 13.2)])
def test_destinations_are_as_far_as_documented(kind, low, high):
    found = [make_course(kind, 1.0, seed).destination[0] for seed in range(60)]
    assert low <= min(found) < max(found) <= high


@pytest.mark.parametrize("seed", range(6))
def test_hard_stones_alternate_and_face_the_middle(seed):
    course = make_course("hard", 1.0, seed)
    for k, (box, way) in enumerate(zip(course.boxes[1:-1], course.waypoints)):
        left, right = (
            ref.surface(course, way[0], way[1] + 0.2),
            ref.surface(course, way[0], way[1] - 0.2),
        )
        # On the left the left edge is the higher one: the stone faces right; and the reverse.
        assert (left - right) * way[1] > 0
        tilt = 2 * math.acos(box.quaternion[0])
        assert abs(left - right) == pytest.approx(0.4 * math.tan(tilt), abs=1e-9)
        assert way[1] * course.waypoints[0][1] * (-1) ** k > 0


def test_flat_is_one_slab_whatever_the_seed():
    for seed, difficulty in ((0, 1.0), (7, 1.0), (3, 0.2)):
        course = make_course("flat", difficulty, seed)
        (box,) = course.boxes
        assert (box.position, box.half_size) == ((6.5, 0.0, -0.25), (8.5, 1.5, 0.25))
        assert box.quaternion == (1.0, 0.0, 0.0, 0.0)
        places = (2.0, 4.0, 6.0, 8.0, 10.0, 11.5)
        assert course.waypoints.tolist() == [[x, 0.0, 0.0] for x in places]
        assert course.waypoints.dtype == np.float64
        assert course.destination.tolist() == [11.5, 0.0, 0.0]
        assert (course.kind, course.difficulty, course.seed) == ("flat", difficulty, seed)
        assert (course.friction, course.gaps, course.start) == (0.8, (), (0.0, 0.0, 0.0))


@pytest.mark.parametrize("kind", ["flat", "simple", "hard"])
@pytest.mark.parametrize(
    ("difficulty", "depth"),
    [(0.0, 0.04), (0.2, 0.14), (0.4, 0.24), (0.499, 0.2895), (0.5, 1.2), (1.0, 1.2)],
)
def test_pit_is_shallow_below_half_difficulty(kind, difficulty, depth):
    # docs/courses.md: 4 cm plus d/2 m below d = 0.5, 1.2 m from there on.
    assert make_course(kind, difficulty, 1).floor == pytest.approx(-depth, abs=1e-12)


def test_shape_replaces_tilt_gap_and_friction_and_nothing_else():
    shape = Shape(tilt=(30.0, 50.0), gap=(0.1, 0.2), friction=0.6)
    course = make_course("hard", 1.0, 4, shape)
    check_course(course, *expected_course("hard", 1.0, 4, (30.0, 50.0), (0.1, 0.2)))
    assert course.friction == 0.6
    course = make_course("simple", 1.0, 4, Shape(gap=(0.3, 0.3)))
    check_course(course, *expected_course("simple", 1.0, 4, gaps=(0.3, 0.3)))
    assert course.friction == 0.8
    assert make_course("flat", shape=Shape(friction=0.3)).friction == 0.3
    assert make_course("hard", 1.0, 4, Shape()).boxes == make_course("hard", 1.0, 4).boxes
    assert (Shape().tilt, Shape().gap, Shape().friction) == (None, None, None)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"tilt": (20.0, 60.5)}, r"tilt is \(20.0, 60.5\), expected a range within \[0, 60\]"),
        ({"tilt": (-1.0, 5.0)}, r"tilt is \(-1.0, 5.0\), expected a range within \[0, 60\]"),
        ({"tilt": (5.0, 4.0)}, r"tilt is \(5.0, 4.0\), expected a range within \[0, 60\]"),
        ({"gap": (0.2, 0.601)}, r"gap is \(0.2, 0.601\), expected a range within \[0, 0.6\]"),
        ({"gap": (-0.1, 0.2)}, r"gap is \(-0.1, 0.2\), expected a range within \[0, 0.6\]"),
        ({"gap": (0.3, 0.2)}, r"gap is \(0.3, 0.2\), expected a range within \[0, 0.6\]"),
        ({"friction": 0.0}, "friction is 0.0, expected a positive coefficient"),
        ({"friction": -0.5}, "friction is -0.5, expected a positive coefficient"),
    ],
)
def test_impossible_shapes_are_refused(given, message):
    with pytest.raises(ValueError, match="^" + message + "$"):
        Shape(**given)


def test_shapes_at_the_limits_are_accepted():
    for given in (
        {"tilt": (0.0, 60.0)},
        {"tilt": (60.0, 60.0)},
        {"gap": (0.0, 0.6)},
        {"gap": (0.6, 0.6)},
    ):
        Shape(**given)
    Shape(friction=1e-6)


def test_bad_kinds_and_difficulties_are_named():
    message = "^unknown course 'steep', expected one of flat, simple, hard$"
    with pytest.raises(ValueError, match=message):
        make_course("steep")
    for bad in (-0.01, 1.01):
        message = rf"^difficulty is {bad}, expected a number in \[0, 1\]$"
        with pytest.raises(ValueError, match=message):
            make_course("simple", bad)


# ---- boxes and surfaces --------------------------------------------------------------------------

TURNS = [
    (0.0, 0.0, 0.0),
    (0.5, 0.0, 0.0),
    (0.2, -0.7, 1.1),
    (-1.2, 0.4, 2.6),
    (math.pi / 2, 0.0, 0.0),
    (3.0, 0.1, 0.3),
]


@pytest.mark.parametrize("turn", TURNS)
def test_box_rotation(turn):
    box = Box((0.0, 0.0, 0.0), (1.0, 1.0, 1.0), ref.quaternion(*turn))
    assert box.rotation() == pytest.approx(ref.rotation(*turn), abs=1e-12)


def test_a_box_is_level_unless_turned():
    assert Box((0.0, 0.0, 0.0), (1.0, 1.0, 1.0)).quaternion == (1.0, 0.0, 0.0, 0.0)


def one_box(box):
    return Course("simple", 1.0, 0, (box,), np.zeros((1, 3)), -0.9, 0.8)


@pytest.mark.parametrize("turn", TURNS)
def test_top_of_a_turned_box_agrees_with_its_faces(turn):
    box = Box((0.3, -0.2, 0.15), (0.5, 0.3, 0.2), ref.quaternion(*turn))
    points = np.random.default_rng(7).uniform(-0.9, 0.9, size=(15, 10, 2)) + [0.3, -0.2]
    found = c.top_height(one_box(box), points)
    expected = np.array([[ref.surface(one_box(box), x, y) for x, y in row] for row in points])
    assert found.shape == (15, 10)
    assert found == pytest.approx(expected, abs=1e-9)
    hit = (expected > -0.9).mean()
    assert 0.05 < hit < 0.9


def test_edges_of_a_level_box_belong_to_it():
    course = one_box(Box((1.0, 2.0, 0.25), (0.5, 0.25, 0.125)))
    points = [
        [1.5, 2.25],
        [0.5, 1.75],
        [1.5 + 1e-6, 2.0],
        [0.5 - 1e-6, 2.0],
        [1.0, 2.25 + 1e-6],
        [1.0, 1.75 - 1e-6],
    ]
    assert c.top_height(course, points).tolist() == [0.375, 0.375, -0.9, -0.9, -0.9, -0.9]


def test_a_plate_without_thickness_has_a_surface():
    course = one_box(Box((1.0, 2.0, 0.25), (0.5, 0.25, 0.0)))
    assert c.top_height(course, [[1.25, 2.0], [1.75, 2.0]]).tolist() == [0.25, -0.9]


def test_a_nearly_level_box_is_still_cut_off_at_its_sides():
    # 1e-8 rad of tilt: the side planes are met, but far above and below.
    course = one_box(Box((0.0, 0.0, 0.0), (0.5, 0.5, 0.1), (1.0, 5e-9, 5e-9, 0.0)))
    found = c.top_height(course, [[0.0, 0.0], [0.6, 0.0], [0.0, -0.6], [-0.49, 0.49]])
    assert found.tolist() == pytest.approx([0.1, -0.9, -0.9, 0.1], abs=1e-6)


def test_the_highest_box_counts_and_the_floor_where_there_is_none():
    boxes = (
        Box((0.0, 0.0, 0.0), (1.0, 1.0, 0.1)),
        Box((0.5, 0.0, 0.3), (0.1, 1.0, 0.1)),
        Box((-0.5, 0.0, -0.4), (0.1, 1.0, 0.1)),  # under the first
        Box((3.0, 0.0, -2.0), (0.5, 1.0, 0.1)),  # under the floor
    )
    course = Course("simple", 1.0, 0, boxes, np.zeros((1, 3)), -0.9, 0.8)
    found = c.top_height(course, [[0.0, 0.0], [0.5, 0.0], [-0.5, 0.0], [1.5, 0.0], [3.0, 0.0]])
    assert found == pytest.approx([0.1, 0.4, 0.1, -0.9, -0.9])


def test_uneven_course_agrees_with_rays_of_the_physics_engine():
    course = ref.uneven_course()
    model = mujoco.MjModel.from_xml_string(scene_xml(course))
    data = mujoco.MjData(model)
    data.qpos[2] = 50.0  # the robot out of the way
    mujoco.mj_forward(model, data)
    rng = np.random.default_rng(1)
    points = np.stack([rng.uniform(-1.2, 3.2, 80), rng.uniform(-1.2, 1.2, 80)], axis=-1)
    heights = []
    for x, y in points:
        hit = np.zeros(1, np.int32)
        down = np.array([0.0, 0.0, -1.0])
        above = np.array([x, y, 5.0])
        heights.append(5.0 - mujoco.mj_ray(model, data, above, down, None, 1, -1, hit))
    assert c.top_height(course, points) == pytest.approx(np.array(heights), abs=1e-6)
    assert [ref.surface(course, x, y) for x, y in points] == pytest.approx(heights, abs=1e-6)


# ---- maps ----------------------------------------------------------------------------------------


def steps(*boxes, floor=-0.9):
    return Course("simple", 1.0, 0, boxes, np.zeros((1, 3)), floor, 0.8)


def expected_rim(height, floor):
    """The nearest stone's height in the row, behind before ahead; rows without copy the nearest."""
    solid = height > floor + 1e-6
    rim, cells = np.zeros_like(height), np.arange(height.shape[0])
    rows = [j for j in range(height.shape[1]) if solid[:, j].any()]
    for j in rows:
        stones = cells[solid[:, j]]
        rim[:, j] = height[stones[np.abs(cells[:, None] - stones).argmin(axis=1)], j]
    for j in range(height.shape[1]):
        rim[:, j] = rim[:, min(rows, key=lambda k: (abs(k - j), k))]
    return rim


@pytest.mark.parametrize(
    "course",
    [make_course("hard", 1.0, 3), make_course("simple", 0.1, 2), ref.uneven_course()],
    ids=["hard", "easy", "uneven"],
)
def test_height_map_is_the_surface_at_cell_centres_and_rim_that_of_the_nearest_stone(course):
    maps = c.height_maps(course)
    assert set(maps) == {"height", "rim"}
    height, rim = maps["height"], maps["rim"]
    assert height.shape == rim.shape == (680, 104)
    assert height.dtype == rim.dtype == np.float32
    rng = np.random.default_rng(0)
    cells = np.stack([rng.integers(0, 680, 50), rng.integers(0, 104, 50)], axis=-1)
    cells = np.concatenate([cells, [[0, 0], [0, 103], [679, 0], [679, 103], [48, 52]]])
    expected = [ref.surface(course, *ref.centre_of(i, j)) for i, j in cells]
    assert height[cells[:, 0], cells[:, 1]] == pytest.approx(np.array(expected), abs=1e-6)
    assert np.array_equal(rim, expected_rim(height, np.float32(course.floor)))
    # All at once, by the function for single points.
    x, y = ref.centre_of(np.arange(680)[:, None], np.arange(104)[None])
    everywhere = c.top_height(course, np.stack(np.broadcast_arrays(x, y), axis=-1))
    assert np.allclose(height, everywhere, rtol=0, atol=1e-6)


def test_rim_between_two_stones_by_hand():
    # Stones end at x = 0 and begin at x = 0.25: ten cells of gap, five for each side.
    first, second = Box((-0.6, 0.0, 0.0), (0.6, 0.5, 0.1)), Box((0.75, 0.0, 0.1), (0.5, 0.5, 0.1))
    maps = c.height_maps(steps(first, second))
    row, near, far = 52, np.float32(0.1), np.float32(0.2)
    pit = np.float32(-0.9)
    assert maps["height"][47:59, row].tolist() == [near] + [pit] * 10 + [far]
    assert maps["rim"][47:59, row].tolist() == [near] * 6 + [far] * 6
    # An odd gap's middle cell belongs to the stone behind: ends at 0, begins at 0.075.
    second = Box((0.575, 0.0, 0.1), (0.5, 0.5, 0.1))
    assert c.height_maps(steps(first, second))["rim"][47:52, row].tolist() == [
        near,
        near,
        near,
        far,
        far,
    ]
    # Theirs goes on before the first and beyond the last stone, the outermost row's to the sides.
    maps = c.height_maps(steps(first, second))
    assert maps["rim"][679, row] == far
    assert (maps["rim"][100:, :] == far).all()
    lone = c.height_maps(steps(second))["rim"]
    assert (lone == far).all()


def test_rim_of_rows_without_a_stone_is_that_of_the_nearest_row():
    # One stone 0.05 m wide to the right (rows 20 and 21), one to the left (rows 84 and 85).
    right, left = (
        Box((3.0, -0.775, 0.0), (0.5, 0.025, 0.1)),
        Box((3.0, 0.825, 0.1), (0.5, 0.025, 0.1)),
    )
    rim = c.height_maps(steps(right, left))["rim"]
    # Row 52 is 31 from row 21 and 32 from row 84; row 53 the other way round.
    expected = [np.float32(0.1)] * 53 + [np.float32(0.2)] * 51
    assert rim[0].tolist() == expected
    assert rim[400].tolist() == expected


def test_a_stone_at_the_very_border_of_the_map_is_found():
    corner = Box((-1.1875, -1.2875, 0.0), (0.0125, 0.0125, 0.1))  # cell (0, 0) alone
    opposite = Box((15.7875, 1.2875, 0.0), (0.0125, 0.0125, 0.1))  # cell (679, 103) alone
    for box, cell in ((corner, (0, 0)), (opposite, (679, 103))):
        maps = c.height_maps(steps(box))
        assert maps["height"][cell] == np.float32(0.1)
        assert (maps["height"] > -0.5).sum() == 1
        assert (maps["rim"] == np.float32(0.1)).all()
    outside = Box((-5.0, 0.0, 0.0), (0.5, 0.5, 0.3)), Box((0.0, 7.0, 0.0), (0.5, 0.5, 0.3))
    height = c.height_maps(steps(corner, *outside))["height"]
    assert (height > -0.5).sum() == 1


def test_ground_a_hair_above_the_floor_is_no_stone():
    # A pit of 0.9 m with one stone; slabs that rise 0.5 and 2 micrometres above the pit's floor.
    stone = Box((0.0, 0.0, -0.1), (0.3, 1.4, 0.1))
    low = steps(stone, Box((3.0, 0.0, -1.0 + 0.5e-6), (0.5, 1.4, 0.1)))
    high = steps(stone, Box((3.0, 0.0, -1.0 + 2e-6), (0.5, 1.4, 0.1)))
    cell = ref.cell_of(3.01, 0.01)
    assert c.height_maps(low)["rim"][cell] == np.float32(0.0)
    assert c.height_maps(high)["rim"][cell] == pytest.approx(-0.9, abs=1e-5)
