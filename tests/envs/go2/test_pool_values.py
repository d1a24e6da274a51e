"""The courses an environment draws from: numbering, shares, and the curriculum's levels."""

import math
from dataclasses import asdict, fields

import pytest
import torch
from torch.testing import assert_close

from go2_sevpo.envs.go2.config import ParkourConfig, Randomization
from go2_sevpo.envs.go2.description.course import Shape, make_course
from go2_sevpo.envs.go2.pool import CoursePool
from go2_sevpo.envs.go2.rewards import RewardWeights


def pool(**options):
    return CoursePool(ParkourConfig(**options))


def curriculum(**options):
    given = {
        "courses": ("hard", "flat", "simple"),
        "shares": (0.5, 0.2, 0.3),
        "curriculum": True,
        "levels": 4,
        "variants": 3,
        "course_seed": 100,
        "max_level_difficulty": 0.9,
        "difficulty": 0.4,
    }
    return pool(**{**given, **options})


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def same_course(a, b):
    return (a.kind, a.difficulty, a.seed, a.boxes, a.floor) == (
        b.kind,
        b.difficulty,
        b.seed,
        b.boxes,
        b.floor,
    )


ROBOT_FLAGS = (
    *("joint_damping", "armature", "dry_friction", "torque_speed", "contact_faults"),
    *("odometry_drift", "map_drift", "map_cells", "map_unknown", "map_age", "map_outliers"),
)
VERSION_2_RANGES = {
    "friction_factor": (0.6, 1.25),
    "payload_kg": (-1.0, 4.0),
    "motor_factor": (0.9, 1.1),
    "delay_s": (0.0, 0.025),
    "push_speed": 0.4,
    "damping": (0.0, 1.0),
    "armature_inertia": (0.005, 0.02),
    "friction_loss": (0.0, 0.5),
    "droop": (0.0, 0.8),
    "contact_miss": 0.02,
    "contact_false": 0.02,
    "drift_position": 0.02,
    "drift_height": 0.01,
    "drift_yaw": 0.5,
    "map_age_s": (0.02, 0.1),
    "map_hole": 0.01,
    "map_outlier": 0.01,
    "map_outlier_height": 0.15,
    "true_map_share": 0.0,
}


# ---- configuration -------------------------------------------------------------------------------


def test_default_configuration():
    found = {f.name: getattr(ParkourConfig(), f.name) for f in fields(ParkourConfig)}
    assert found == {
        "num_envs": 64,
        "courses": ("simple",),
        "shares": (1.0,),
        "difficulty": 1.0,
        "course_seed": 0,
        "variants": 64,
        "episode_seconds": 20.0,
        "curriculum": False,
        "levels": 10,
        "max_level_difficulty": 1.0,
        "random_start": 0.0,
        "stuck_seconds": 0.0,
        "seed": 0,
        "threads": 0,
        "physics_dt": 0.005,
        "simulator": "mujoco",
        "device": None,
        "viewer": False,
        "shape": Shape(),
        "randomization": Randomization(),
        "reward": RewardWeights(),
        "first_level": 0,
        "version": 1,
    }


def test_default_randomisation_is_the_documented_one():
    # docs/courses.md: all on; friction 0.75-1.25, payload -1 to 2 kg, motors 0.9-1.1, delay up to
    # 15 ms, a push of up to 0.4 m/s every 4 s, a map error of up to 2 cm.
    parts = (
        "friction",
        "payload",
        "motor_strength",
        "delay",
        "pushes",
        "sensor_noise",
        "start_pose",
    )
    ranges = {
        "friction_factor": (0.75, 1.25),
        "payload_kg": (-1.0, 2.0),
        "motor_factor": (0.9, 1.1),
        "delay_s": (0.0, 0.015),
        "push_speed": 0.4,
        "push_interval": 4.0,
        "map_error": 0.02,
    }
    # What a robot adds is off in version 1 of the task.
    robot = {k: v for k, v in asdict(Randomization()).items() if k not in (*parts, *ranges)}
    assert {k for k, v in robot.items() if isinstance(v, bool)} == set(ROBOT_FLAGS)
    assert not any(robot[k] for k in ROBOT_FLAGS)
    assert asdict(Randomization()) == {**robot, **dict.fromkeys(parts, True), **ranges}
    assert asdict(Randomization.off()) == {**robot, **dict.fromkeys(parts, False), **ranges}


def test_randomisation_of_version_2_is_the_documented_one():
    # docs/courses.md, version 2.
    z = asdict(Randomization.of(2))
    assert all(z[k] for k in ROBOT_FLAGS)
    assert Randomization.of(1) == Randomization()
    assert {k: z[k] for k in VERSION_2_RANGES} == VERSION_2_RANGES


def test_randomisation_of_a_robot_is_refused_in_version_1():
    with pytest.raises(ValueError, match="^randomization.joint_damping is on, which version 1 "):
        ParkourConfig(randomization=Randomization.of(2))
    with pytest.raises(ValueError, match=r"^version is 3, expected one of \(1, 2\)$"):
        ParkourConfig(version=3)


def test_scaled_ranges_grow_from_the_nominal_values():
    full = Randomization.of(2)
    assert full.scaled(1.0) == full
    half, none = full.scaled(0.5), full.scaled(0.0)
    assert half.friction_factor == pytest.approx((0.8, 1.125))
    assert half.payload_kg == pytest.approx((-0.5, 2.0))
    assert half.armature_inertia == pytest.approx((0.0075, 0.015))
    assert (half.push_speed, half.drift_yaw) == (0.2, 0.25)
    assert none.damping == none.delay_s == none.droop == none.map_age_s == (0.0, 0.0)
    assert none.motor_factor == none.friction_factor == (1.0, 1.0)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (
            {"courses": ("simple", "x"), "shares": (0.5, 0.5)},
            "unknown course 'x', expected one of flat, simple, hard",
        ),
        ({"shares": (0.5, 0.5)}, "2 shares for 1 courses, expected one each"),
        ({"courses": ("simple", "hard")}, "1 shares for 2 courses, expected one each"),
        ({"num_envs": 0}, "num_envs 0 and variants 64, expected at least 1"),
        ({"variants": 0}, "num_envs 64 and variants 0, expected at least 1"),
        ({"num_envs": -1, "variants": 5}, "num_envs -1 and variants 5, expected at least 1"),
        ({"difficulty": 1.001}, r"difficulty is 1.001, expected a number in \[0, 1\]"),
        ({"difficulty": -0.001}, r"difficulty is -0.001, expected a number in \[0, 1\]"),
    ],
)
def test_bad_configurations_are_named(given, message):
    with pytest.raises(ValueError, match=f"^{message}$"):
        ParkourConfig(**given)


def test_configurations_at_the_limits_are_accepted_and_become_plain_data():
    low = ParkourConfig(num_envs=1, variants=1, difficulty=0.0, shape=Shape(gap=(0.1, 0.2)))
    data = low.to_dict()
    assert (data["num_envs"], data["difficulty"], data["shape"]["gap"]) == (1, 0.0, (0.1, 0.2))
    assert data["reward"]["target_speed"] == 1.2
    assert data["randomization"]["payload_kg"] == (-1.0, 2.0)
    assert set(data) == {f.name for f in fields(ParkourConfig)}


# ---- which courses -------------------------------------------------------------------------------


def test_without_a_curriculum_course_k_has_the_first_seed_plus_k():
    p = pool(
        courses=("hard", "simple"),
        shares=(0.5, 0.5),
        difficulty=0.7,
        course_seed=30,
        variants=3,
        levels=5,
    )
    assert p.levels == 1
    kinds, seeds = ("hard", "simple"), (30, 31, 32)
    expected = [make_course(kind, 0.7, seed) for kind in kinds for seed in seeds]
    assert len(p.courses) == 6
    assert all(same_course(a, b) for a, b in zip(p.courses, expected))


def test_with_a_curriculum_courses_go_by_kind_then_level_then_variant():
    p = curriculum()
    assert p.levels == 4
    expected = []
    for kind in ("hard", "flat", "simple"):
        for level, difficulty in enumerate((0.0, 0.3, 0.6, 0.9)):
            for variant in range(3):
                # All flat courses of a level are one and the same.
                seed = 100 + 3 * level + (0 if kind == "flat" else variant)
                expected.append((kind, seed, pytest.approx(difficulty)))
    assert [(c.kind, c.seed, c.difficulty) for c in p.courses] == expected
    assert same_course(p.courses[10], make_course("hard", p.courses[10].difficulty, 110))


def test_shape_reaches_every_course():
    p = pool(courses=("hard",), variants=2, shape=Shape(gap=(0.3, 0.3), friction=0.9))
    assert all(c.friction == 0.9 for c in p.courses)
    assert all(b - a == pytest.approx(0.3) for c in p.courses for a, b in c.gaps)


def test_difficulty_of_a_level():
    p = curriculum()
    assert [p.difficulty(k) for k in range(4)] == pytest.approx([0.0, 0.3, 0.6, 0.9])
    assert pool(variants=1, difficulty=0.4, levels=4).difficulty(3) == 0.4
    assert curriculum(levels=1).difficulty(0) == 0.0
    assert curriculum(levels=2, max_level_difficulty=0.5).difficulty(1) == 0.5


def test_tables_of_waypoints_last_numbers_and_tilts():
    p = pool(courses=("hard", "flat"), shares=(0.5, 0.5), variants=2, course_seed=6)
    ways, last, rolls = p.tables()
    assert ways.shape == (4, 9, 3)  # eight waypoints at most, and the destination once more
    assert rolls.shape == (4, 9)
    assert ways.dtype == rolls.dtype == torch.float32
    assert last.tolist() == [7, 7, 5, 5]
    for number, course in enumerate(p.courses):
        count = len(course.waypoints)
        assert_close(ways[number, :count], torch.tensor(course.waypoints).float())
        for k in range(count, 9):
            assert_close(ways[number, k], torch.tensor(course.destination).float())
    for number in (0, 1):
        # q = (cos a/2, sin a/2, 0, 0) is a turn by a about x.
        tilts = [2 * math.asin(b.quaternion[1]) for b in p.courses[number].boxes[1:-1]]
        assert min(map(abs, tilts)) > math.radians(20)
        assert rolls[number].tolist() == pytest.approx(tilts + [0.0, 0.0], abs=1e-6)
    assert rolls[2:].tolist() == [[0.0] * 9] * 2


# ---- drawing -------------------------------------------------------------------------------------


def test_without_a_curriculum_worlds_are_dealt_by_share():
    kinds = ("simple", "hard", "flat")
    p = pool(num_envs=10, courses=kinds, shares=(1.0, 3.0, 1.0), variants=4)
    ids, levels = torch.arange(10), torch.zeros(10, 3, dtype=torch.long)
    kind, course = p.draw(ids, levels, generator())
    assert kind.tolist() == [0] * 2 + [1] * 6 + [2] * 2
    assert course.tolist() == [0, 1, 6, 7, 4, 5, 6, 7, 8, 9]  # four of each kind, number i modulo 4
    # A world that starts anew gets the same again.
    some = torch.tensor([9, 2, 1])
    kind, course = p.draw(some, levels[some], generator(5))
    assert kind.tolist() == [2, 1, 0]
    assert course.tolist() == [9, 6, 1]


@pytest.mark.parametrize(
    ("worlds", "shares", "expected"),
    [
        (4, (0.5, 0.5), [0, 0, 1, 1]),
        (
            3,
            (0.5, 0.5),
            [0, 0, 1],
        ),  # the world in the middle, half and half, goes to the first kind
        (5, (0.1, 0.9), [0, 1, 1, 1, 1]),
        (4, (0.0, 1.0), [1, 1, 1, 1]),
        (4, (1.0, 0.0), [0, 0, 0, 0]),
        (6, (2.0, 4.0), [0, 0, 1, 1, 1, 1]),
    ],
)
def test_shares_of_two_kinds(worlds, shares, expected):
    p = pool(num_envs=worlds, courses=("simple", "flat"), shares=shares, variants=2)
    levels = torch.zeros(worlds, 2, dtype=torch.long)
    kind, course = p.draw(torch.arange(worlds), levels, generator())
    assert kind.tolist() == expected
    assert course.tolist() == [2 * k + i % 2 for i, k in enumerate(expected)]


def test_worlds_beyond_the_configured_number_get_the_last_kind():
    p = pool(num_envs=2, courses=("simple", "flat"), shares=(0.5, 0.5), variants=2)
    kind, course = p.draw(torch.tensor([5]), torch.zeros(1, 2, dtype=torch.long), generator())
    assert (kind.tolist(), course.tolist()) == ([1], [3])


def test_with_a_curriculum_kinds_come_by_share_and_courses_by_level():
    p, n = curriculum(), 4000
    levels = torch.stack([torch.full((n,), 1), torch.full((n,), 3), torch.arange(n) % 4], dim=1)
    kind, course = p.draw(torch.arange(n), levels, generator(1))
    # Four standard errors of a share of 0.5 in 4000 are 0.032.
    for k, share in enumerate((0.5, 0.2, 0.3)):
        assert (kind == k).float().mean().item() == pytest.approx(share, abs=0.032)
    variant = course % 3
    assert_close(
        torch.div(course, 12, rounding_mode="floor"), kind
    )  # four levels of three variants per kind
    assert_close(
        torch.div(course, 3, rounding_mode="floor") % 4, levels.gather(1, kind[:, None])[:, 0]
    )
    for k in range(3):
        assert (variant == k).float().mean().item() == pytest.approx(1 / 3, abs=0.032)
    # Kind and variant are drawn apart from each other.
    assert ((kind == 0) & (variant == 0)).float().mean().item() == pytest.approx(1 / 6, abs=0.025)


def test_drawing_repeats_with_the_generators_seed():
    p = curriculum()
    ids, levels = torch.arange(50), torch.zeros(50, 3, dtype=torch.long)
    first, again, other = (p.draw(ids, levels, generator(s)) for s in (3, 3, 4))
    assert all(torch.equal(a, b) for a, b in zip(first, again))
    assert not torch.equal(first[0], other[0])
    assert not torch.equal(first[1] % 3, other[1] % 3)


# ---- levels --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("level", "success", "early", "expected"),
    [
        (1, True, False, 2),
        (1, True, True, 2),  # a success counts as one, however short
        (1, False, True, 0),
        (1, False, False, 1),
        (0, False, True, 0),  # no lower than the first
        (2, True, False, 3),
        (3, False, False, 3),
        (3, False, True, 2),
    ],
)
def test_next_level(level, success, early, expected):
    ends = torch.tensor([success]), torch.tensor([early])
    found = curriculum().next_level(torch.tensor([level]), *ends, generator())
    assert found.tolist() == [expected]
    assert found.dtype == torch.int64


@pytest.mark.parametrize(("levels", "lowest"), [(4, 1), (10, 4), (7, 3), (1, 0)])
def test_success_at_the_top_goes_back_to_the_upper_half(levels, lowest):
    n, top = 3000, levels - 1
    p = curriculum(levels=levels, courses=("flat",), shares=(1.0,), variants=1)
    yes = torch.ones(n, dtype=torch.bool)
    found = p.next_level(torch.full((n,), top), yes, ~yes, generator(2))
    # Drawn among all levels; those below half of the top one (rounded down) become that one.
    for level in range(levels):
        share = (lowest + 1) / levels if level == lowest else (level > lowest) / levels
        assert (found == level).float().mean().item() == pytest.approx(share, abs=0.04)


def test_levels_repeat_with_the_generators_seed():
    top, yes = torch.full((50,), 3), torch.ones(50, dtype=torch.bool)
    first, again, other = (curriculum().next_level(top, yes, ~yes, generator(s)) for s in (7, 7, 8))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_worlds_have_levels_of_their_own():
    level = torch.tensor([0, 1, 2, 1])
    success = torch.tensor([True, False, False, False])
    early = torch.tensor([False, True, False, False])
    assert curriculum().next_level(level, success, early, generator()).tolist() == [1, 0, 2, 1]
