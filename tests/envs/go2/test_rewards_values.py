"""Every reward term, cost and fall by hand, on both sides of each threshold."""

import math
from dataclasses import fields, replace

import pytest
import torch
from torch.testing import assert_close

from go2_sevpo.envs.go2 import rewards as w
from go2_sevpo.envs.go2.observations import Sensed
from go2_sevpo.envs.go2.rewards import Outcome, RewardWeights, outcome, reward_terms
from tests.envs.go2.reference import make_state

DEFAULT = torch.tensor([0.1, 0.8, -1.5, -0.1, 0.8, -1.5, 0.1, 1.0, -1.5, -0.1, 1.0, -1.5])
NAMES = {
    "speed",
    "overspeed",
    "heading",
    "vertical_velocity",
    "roll_pitch_rate",
    "tilt",
    "torque",
    "joint_acceleration",
    "action_rate",
    "hip_offset",
    "joint_offset",
    "scrape",
    "gap",
    "edge",
}
# No weight equals another, and none its default.
WEIGHTS = RewardWeights(
    speed=2.0,
    heading=3.0,
    vertical_velocity=-5.0,
    roll_pitch_rate=-7.0,
    tilt=-11.0,
    torque=-13.0,
    joint_acceleration=-17.0,
    action_rate=-19.0,
    hip_offset=-23.0,
    joint_offset=-29.0,
    scrape=-31.0,
    gap=-37.0,
    edge=-41.0,
    overspeed=-43.0,
    fall=-47.0,
    success=53.0,
    target_speed=0.8,
)


def make_sensed(n=1, **given):
    """A robot that stands level on flat ground at height 0, its feet on it, touching nothing."""
    feet = torch.zeros(n, 4, 3)
    feet[..., 2] = 0.022
    rest = {
        "rotation": torch.eye(3).repeat(n, 1, 1),
        "heading": torch.tensor([[1.0, 0.0]]).repeat(n, 1),
        "angular_velocity": torch.zeros(n, 3),
        "gravity": torch.tensor([[0.0, 0.0, -1.0]]).repeat(n, 1),
        "feet": feet,
        "foot_ground": torch.zeros(n, 4, 9),
        "foot_rim": torch.zeros(n, 4),
        "base_rim": torch.zeros(n),
        "scan": torch.zeros(n, 85),
        "contact": torch.zeros(n, 4, dtype=torch.bool),
    }
    return Sensed(**{**rest, **given})


def quiet_outcome(n=1, gap_feet=0.0, scrapes=0.0):
    fall = torch.zeros(n, dtype=torch.bool)
    return Outcome(fall, torch.zeros(n), torch.full((n,), gap_feet), torch.full((n,), scrapes))


def terms(state=None, sensed=None, result=None, weights=WEIGHTS, **given):
    """Reward terms of a robot at rest but for what is given."""
    state = make_state() if state is None else state
    n = len(state.base_position)
    arguments = {
        "direction": torch.tensor([[1.0, 0.0]]).repeat(n, 1),
        "action": torch.zeros(n, 12),
        "last_action": torch.zeros(n, 12),
        "joint_acceleration": torch.zeros(n, 12),
        "default": DEFAULT,
        "w": weights,
    }
    return reward_terms(
        state,
        make_sensed(n) if sensed is None else sensed,
        quiet_outcome(n) if result is None else result,
        **{**arguments, **given},
    )


def test_default_weights():
    # Rewards per second; fall and success once. Penalties are negative.
    expected = {
        "speed": 1.5,
        "heading": 0.5,
        "vertical_velocity": -0.3,
        "roll_pitch_rate": -0.03,
        "tilt": -0.3,
        "torque": -1e-5,
        "joint_acceleration": -1.5e-7,
        "action_rate": -0.08,
        "hip_offset": -0.5,
        "joint_offset": -0.03,
        "scrape": -1.0,
        "gap": -1.0,
        "edge": -0.5,
        "overspeed": -1.0,
        "fall": -2.0,
        "success": 3.0,
        "joint_limit": -3.0,
        "clipped_target": -0.3,
        "target_speed": 1.2,
    }
    assert {f.name: getattr(RewardWeights(), f.name) for f in fields(RewardWeights)} == expected


def test_thresholds_and_the_printed_definition():
    # docs/courses.md: 75 degrees, 0.30 m, 6 cm.
    assert (w.SCRAPE_FORCE, w.GAP_DEPTH, w.FALL_DROP, w.EDGE_DROP) == (1.0, 0.06, 0.30, 0.10)
    assert pytest.approx(math.cos(math.radians(75.0)), abs=0.002) == w.MAX_TILT_COS
    for words in (
        "within 0.5 m",
        "75 degrees",
        "0.30 m below",
        "more than 6 cm below",
        "thigh, calf or the base",
    ):
        assert words in w.DEFINITION


def test_a_robot_at_rest_is_paid_for_its_heading_alone():
    found = terms()
    assert set(found) == NAMES
    # Straight ahead: the angle is arccos(0.9999), an inaccuracy of 0.8 degrees.
    assert found.pop("heading").tolist() == pytest.approx([3.0 * math.exp(-0.014142253)], rel=1e-5)
    assert all(value.tolist() == [0.0] for value in found.values())


@pytest.mark.parametrize(
    ("velocity", "direction", "speed"),
    [
        ((0.5, 0.3, 9.0), (1.0, 0.0), 0.5),
        ((0.5, 0.3, 9.0), (0.0, 1.0), 0.3),
        ((0.5, 0.3, 9.0), (0.6, -0.8), 0.06),
        ((-0.4, 0.2, 0.0), (0.6, 0.8), -0.08),  # going back costs
        ((-3.0, 0.0, 0.0), (1.0, 0.0), -3.0),  # without a limit
        ((0.79, 0.0, 0.0), (1.0, 0.0), 0.79),
        ((0.81, 0.0, 0.0), (1.0, 0.0), 0.8),  # no more above the target of 0.8 m/s
        ((5.0, 0.0, 0.0), (1.0, 0.0), 0.8),
    ],
)
def test_speed_pays_the_velocity_towards_the_waypoint_up_to_the_target(velocity, direction, speed):
    state = make_state(base_linear_velocity=[velocity])
    found = terms(state, direction=torch.tensor([direction]))["speed"]
    assert found.tolist() == pytest.approx([2.0 * speed / 0.8], rel=1e-5)


@pytest.mark.parametrize(
    ("weights", "speed", "expected"),
    [
        (WEIGHTS, 1.2, 0.0),  # 1.5 times 0.8 m/s
        (WEIGHTS, 1.19, 0.0),
        (WEIGHTS, 1.21, -43.0 * 0.01),
        (WEIGHTS, 2.2, -43.0),
        (WEIGHTS, -3.0, 0.0),
        (RewardWeights(), 1.79, 0.0),  # 1.5 times 1.2 m/s
        (RewardWeights(), 1.81, -0.01),
        (RewardWeights(), 2.3, -0.5),
    ],
)
def test_overspeed_costs_what_exceeds_one_and_a_half_times_the_target(weights, speed, expected):
    state = make_state(base_linear_velocity=[[0.0, speed, 4.0]])
    found = terms(state, direction=torch.tensor([[0.0, 1.0]]), weights=weights)["overspeed"]
    assert found.tolist() == pytest.approx([expected], rel=2e-5, abs=1e-5)


@pytest.mark.parametrize(
    ("heading", "direction", "angle"),
    [
        ((0.8, 0.6), (1.0, 0.0), math.acos(0.8 * 0.9999)),
        ((0.8, -0.6), (0.6, 0.8), math.pi / 2),
        ((0.6, 0.8), (0.8, 0.6), math.acos(0.96 * 0.9999)),
        ((0.0, 1.0), (0.0, 1.0), math.acos(0.9999)),
        ((1.0, 0.0), (-1.0, 0.0), math.pi - math.acos(0.9999)),
        # Rounding makes the product of unit vectors exceed one; 1.2 shows it plainly.
        ((1.2, 0.0), (1.0, 0.0), math.acos(0.9999)),
        ((-1.2, 0.0), (1.0, 0.0), math.pi - math.acos(0.9999)),
    ],
)
def test_heading_pays_exp_of_minus_the_angle_to_the_waypoint(heading, direction, angle):
    sensed = make_sensed(heading=torch.tensor([heading]))
    found = terms(sensed=sensed, direction=torch.tensor([direction]))["heading"]
    assert found.tolist() == pytest.approx([3.0 * math.exp(-angle)], rel=2e-4)


def test_vertical_velocity_is_squared():
    state = make_state(base_linear_velocity=[[7.0, 8.0, -0.3], [0.0, 0.0, 0.5]])
    found = terms(state)["vertical_velocity"]
    assert_close(found, torch.tensor([-5.0 * 0.09, -5.0 * 0.25]))


def test_roll_and_pitch_rates_cost_in_the_body_frame_and_yaw_does_not():
    # The world's angular velocity in the state is another one: only the sensed one counts.
    state = make_state(base_angular_velocity=[[9.0, 9.0, 9.0]])
    sensed = make_sensed(angular_velocity=torch.tensor([[0.3, -0.4, 5.0]]))
    assert_close(terms(state, sensed)["roll_pitch_rate"], torch.tensor([-7.0 * (0.09 + 0.16)]))


def test_tilt_costs_the_horizontal_part_of_gravity():
    sensed = make_sensed(gravity=torch.tensor([[0.2, -0.5, -0.84]]))
    assert_close(terms(sensed=sensed)["tilt"], torch.tensor([-11.0 * (0.04 + 0.25)]))


def test_torque_and_joint_acceleration_are_summed_squares():
    numbers = torch.arange(1.0, 13.0)[None]  # squares sum to 12 * 13 * 25 / 6 = 650
    state = make_state(joint_torque=-numbers.numpy())
    found = terms(state, joint_acceleration=2.0 * numbers)
    assert_close(found["torque"], torch.tensor([-13.0 * 650.0]))
    assert_close(found["joint_acceleration"], torch.tensor([-17.0 * 4 * 650.0]))


def test_action_rate_costs_four_times_the_length_of_the_change():
    action, last = torch.zeros(2, 12), torch.zeros(2, 12)
    action[0, 2], action[0, 11], last[0, 2] = 0.5, 0.4, 0.2  # a change of (0.3, 0.4): 0.5 long
    last[1] = 1.0  # twelve changes of -1
    state = make_state(base_position=[[0, 0, 0.33]] * 2)
    found = terms(state, action=action, last_action=last)["action_rate"]
    assert_close(found, torch.tensor([-19.0 * 4 * 0.5, -19.0 * 4 * math.sqrt(12.0)]))
    found = terms(action=action[:1], last_action=last[:1], weights=RewardWeights())["action_rate"]
    assert_close(found, torch.tensor([-0.16]))


@pytest.mark.parametrize("joint", range(12))
def test_hip_offset_reads_the_four_hips_and_joint_offset_all(joint):
    position = list(DEFAULT.tolist())
    position[joint] += 0.2
    found = terms(make_state(joint_position=[position]))
    hip = joint in (0, 3, 6, 9)  # hip, thigh, calf of FL, FR, RL, RR
    assert found["hip_offset"].tolist() == pytest.approx([-23.0 * 0.04 if hip else 0.0], rel=1e-5)
    assert found["joint_offset"].tolist() == pytest.approx([-29.0 * 0.04], rel=1e-5)


def test_joint_offsets_of_several_joints_are_summed_squares():
    offset = [0.1, 0.2, 0.3, -0.4, 0.5, 0.6, 0.7, -0.8, 0.9, 1.0, 1.1, -1.2]  # squares sum to 6.5
    found = terms(make_state(joint_position=[[a + b for a, b in zip(DEFAULT.tolist(), offset)]]))
    hips = 0.01 + 0.16 + 0.49 + 1.0
    assert found["hip_offset"].tolist() == pytest.approx([-23.0 * hips], rel=1e-5)
    assert found["joint_offset"].tolist() == pytest.approx([-29.0 * 6.5], rel=1e-5)


def test_joint_offset_is_taken_from_the_given_default_pose():
    found = terms(default=DEFAULT + 0.5)
    assert found["hip_offset"].tolist() == pytest.approx([-23.0 * 4 * 0.25], rel=1e-5)
    assert found["joint_offset"].tolist() == pytest.approx([-29.0 * 12 * 0.25], rel=1e-5)


def test_scrape_counts_bodies_and_gap_counts_feet():
    found = terms(result=quiet_outcome(gap_feet=3.0, scrapes=2.0))
    assert found["scrape"].tolist() == [-62.0]
    assert found["gap"].tolist() == [-111.0]


@pytest.mark.parametrize("point", range(9))
def test_edge_looks_at_the_four_points_six_centimetres_from_the_foot(point):
    ground = torch.zeros(1, 4, 9)
    ground[0, 2, point] = -0.5
    sensed = make_sensed(foot_ground=ground, contact=torch.ones(1, 4, dtype=torch.bool))
    # Point 0 is under the foot, 1 to 4 at 6 cm, 5 to 8 at 12 cm.
    assert terms(sensed=sensed)["edge"].tolist() == [-41.0 if 1 <= point <= 4 else 0.0]


@pytest.mark.parametrize(("height", "edge"), [(0.119, 0.0), (0.12, 0.0), (0.121, -41.0)])
def test_edge_begins_ten_centimetres_below_the_sole(height, edge):
    # The foot's centre is about 2 cm above its sole. Ground at 0.25 m on all sides but one.
    ground = torch.full((1, 4, 9), 0.25)
    ground[0, 1, 3] = 0.0
    feet = torch.full((1, 4, 3), 0.27)
    feet[0, 1, 2] = height
    sensed = make_sensed(feet=feet, foot_ground=ground, contact=torch.ones(1, 4, dtype=torch.bool))
    assert terms(sensed=sensed)["edge"].tolist() == [edge]


def test_edge_counts_feet_that_carry():
    ground = torch.zeros(1, 4, 9)
    ground[0, :, 1] = -0.3
    for contact, count in (
        ((0, 0, 0, 0), 0),
        ((0, 1, 0, 0), 1),
        ((1, 0, 1, 1), 3),
        ((1, 1, 1, 1), 4),
    ):
        sensed = make_sensed(foot_ground=ground, contact=torch.tensor([contact], dtype=torch.bool))
        assert terms(sensed=sensed)["edge"].tolist() == [-41.0 * count]


def test_every_term_alone_depends_on_its_own_weight():
    generator = torch.Generator().manual_seed(3)
    ground = torch.zeros(2, 4, 9)
    ground[:, :, 2] = -0.4
    state = make_state(
        base_linear_velocity=[[2.5, 0.3, 0.4], [3.0, -0.2, -0.7]],
        joint_position=(DEFAULT + 0.3 * torch.rand(2, 12, generator=generator)).numpy(),
        joint_torque=torch.randn(2, 12, generator=generator).numpy(),
    )
    sensed = make_sensed(
        2,
        angular_velocity=torch.randn(2, 3, generator=generator),
        gravity=torch.tensor([[0.1, 0.2, -0.9], [-0.3, 0.1, -0.9]]),
        foot_ground=ground,
        contact=torch.ones(2, 4, dtype=torch.bool),
    )
    given = {
        "result": quiet_outcome(2, 1.0, 2.0),
        "action": torch.rand(2, 12, generator=generator),
        "joint_acceleration": torch.randn(2, 12, generator=generator),
    }
    plain = terms(state, sensed, **given)
    assert all((value != 0).all() for value in plain.values())
    for name in NAMES:
        doubled = replace(WEIGHTS, **{name: 2.0 * getattr(WEIGHTS, name)})
        changed = terms(state, sensed, weights=doubled, **given)
        for other in NAMES:
            assert_close(changed[other], plain[other] * (2.0 if other == name else 1.0))


def check(result, fall, cost, gap_feet, scrapes):
    assert result.fall.dtype == torch.bool
    assert result.fall.tolist() == [fall]
    assert result.cost.tolist() == [cost]
    assert result.gap_feet.tolist() == [gap_feet]
    assert result.scrapes.tolist() == [scrapes]


def test_standing_is_neither_fall_nor_cost():
    check(outcome(make_state(), make_sensed()), False, 0.0, 0.0, 0.0)


@pytest.mark.parametrize("body", range(9))
@pytest.mark.parametrize(("force", "touches"), [(0.99, False), (1.0, False), (1.01, True)])
def test_a_body_scrapes_above_one_newton_and_the_base_falls(body, force, touches):
    forces = [0.0] * 9
    forces[body] = force
    result = outcome(make_state(body_force=[forces]), make_sensed())
    # The base is the first of the reported bodies; the others are thighs and calves.
    check(result, touches and body == 0, float(touches), 0.0, float(touches))


def test_scrapes_count_bodies():
    result = outcome(make_state(body_force=[[0, 5, 0, 2, 0.5, 0, 0, 1.5, 30]]), make_sensed())
    check(result, False, 1.0, 0.0, 4.0)


@pytest.mark.parametrize(
    ("degrees", "fall"),
    [
        (0, False),
        (74.5, False),
        (75.5, True),
        (100, True),
        (180, True),
        (-74.5, False),
        (-75.5, True),
    ],
)
@pytest.mark.parametrize("axis", [0, 1])
def test_a_tilt_of_more_than_75_degrees_is_a_fall(degrees, fall, axis):
    angle = math.radians(degrees)
    gravity = [0.0, 0.0, -math.cos(angle)]
    gravity[axis] = math.sin(angle)
    check(
        outcome(make_state(), make_sensed(gravity=torch.tensor([gravity]))),
        fall,
        float(fall),
        0.0,
        0.0,
    )


@pytest.mark.parametrize(("cosine", "fall"), [(0.2601, False), (0.26, False), (0.2599, True)])
def test_the_tilt_limit_itself_is_no_fall(cosine, fall):
    sensed = make_sensed(gravity=torch.tensor([[math.sqrt(1 - cosine * cosine), 0.0, -cosine]]))
    check(outcome(make_state(), sensed), fall, float(fall), 0.0, 0.0)


@pytest.mark.parametrize("rim", [0.0, 0.4, -0.2])
@pytest.mark.parametrize(
    ("drop", "fall"),
    [(-0.5, False), (0.299, False), (0.301, True), (0.6, True)],
)
def test_the_base_30_centimetres_below_the_surface_is_a_fall(rim, drop, fall):
    state = make_state(base_position=[[1.0, 2.0, rim - drop]])
    check(outcome(state, make_sensed(base_rim=torch.tensor([rim]))), fall, float(fall), 0.0, 0.0)


def test_the_base_exactly_30_centimetres_below_is_no_fall():
    state = make_state(base_position=[[0.0, 0.0, -0.30]])
    check(outcome(state, make_sensed()), False, 0.0, 0.0, 0.0)


def gap_case(foot_depth, ground_depth, rim=0.0, leg=2):
    sensed = make_sensed(foot_rim=torch.tensor([[5.0, 6.0, 7.0, 8.0]]))
    sensed.feet[..., 2] = torch.tensor([5.3, 6.3, 7.3, 8.3])  # the others well above their surfaces
    sensed.foot_rim[0, leg] = rim
    sensed.feet[0, leg, 2] = rim - foot_depth
    sensed.foot_ground[0, leg, 0] = rim - ground_depth
    return outcome(make_state(), sensed)


@pytest.mark.parametrize("leg", range(4))
@pytest.mark.parametrize("rim", [0.0, 0.4, -0.3])
@pytest.mark.parametrize(
    ("foot_depth", "ground_depth", "inside"),
    [
        (0.061, 1.2, True),
        (0.059, 1.2, False),  # swing feet dip
        (0.2, 0.031, True),
        (0.2, 0.029, False),  # over solid ground: a foot that sinks into a stone is in no gap
        (0.2, 0.0, False),
        (-0.1, 1.2, False),
    ],
)
def test_a_foot_in_a_gap_costs(leg, rim, foot_depth, ground_depth, inside):
    check(gap_case(foot_depth, ground_depth, rim, leg), False, float(inside), float(inside), 0.0)


def test_exactly_six_and_three_centimetres_are_no_gap():
    check(gap_case(0.06, 1.2), False, 0.0, 0.0, 0.0)
    check(gap_case(0.2, 0.03), False, 0.0, 0.0, 0.0)


def test_only_the_ground_under_the_foots_centre_decides_about_the_gap():
    sensed = make_sensed()
    sensed.feet[..., 2] = -0.2
    sensed.foot_ground[..., 1:] = -1.0
    check(outcome(make_state(), sensed), False, 0.0, 0.0, 0.0)
    sensed.foot_ground[..., 0] = -1.0
    check(outcome(make_state(), sensed), False, 1.0, 4.0, 0.0)


def test_cost_is_at_most_one_and_worlds_are_separate():
    # World 0: nothing. 1: a foot in a gap. 2: a scrape. 3: falls by depth. 4: everything at once.
    sensed = make_sensed(5)
    for world, legs in ((1, [3]), (4, [0, 1])):
        sensed.feet[world, legs, 2] = -0.3
        sensed.foot_ground[world, legs, 0] = -1.2
    forces = [[0.0] * 9 for _ in range(5)]
    forces[2][6] = forces[4][0] = forces[4][8] = 20.0
    heights = [0.3, 0.3, 0.3, -0.7, -0.7]
    state = make_state(base_position=[[0, 0, z] for z in heights], body_force=forces)
    result = outcome(state, sensed)
    assert result.fall.tolist() == [False, False, False, True, True]
    assert result.cost.tolist() == [0.0, 1.0, 1.0, 1.0, 1.0]
    assert result.gap_feet.tolist() == [0.0, 1.0, 0.0, 0.0, 2.0]
    assert result.scrapes.tolist() == [0.0, 0.0, 1.0, 0.0, 2.0]
