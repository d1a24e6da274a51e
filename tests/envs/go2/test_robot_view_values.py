"""Faults of pose and map, each alone, against numbers worked out here (docs/courses.md)."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from go2_sevpo.envs.go2 import parkour
from go2_sevpo.envs.go2.config import ParkourConfig, Randomization
from go2_sevpo.envs.go2.description.course import make_course, top_height
from go2_sevpo.envs.go2.parkour import Go2Parkour
from go2_sevpo.envs.seeds import TRAINING
from tests.envs.fake_simulator import DEFAULT_POSE, FakeSimulator

OFF = Randomization.off()
CONTACT, WAY, SCAN, FEET = slice(42, 46), slice(138, 144), slice(144, 229), slice(229, 265)
SCAN_X = np.round(np.arange(-0.4, 1.21, 0.1), 2)
SCAN_Y = np.array([-0.3, -0.15, 0.0, 0.15, 0.3])
POINTS = np.array([[x, y] for x in SCAN_X for y in SCAN_Y])
HARD = TRAINING.number(0, 77)


@pytest.fixture
def make(monkeypatch):
    """An environment of version 2 whose robots move only where a test puts them."""

    def build(course="flat", auto_reset=False, **faults):
        monkeypatch.setattr(parkour, "make_simulator", lambda *a: with_joints(a[1], a[2]))
        options = {k: faults.pop(k) for k in ("num_envs", "variants") if k in faults}
        config = ParkourConfig(
            **{"version": 2, "num_envs": 3, "variants": 1, **options},
            courses=(course,),
            course_seed=HARD,
            randomization=replace(OFF, **faults),
        )
        return Go2Parkour(config, auto_reset)

    return build


def with_joints(n, courses):
    sim = FakeSimulator(n, courses)
    sim.joint_dynamics = ("damping", "armature", "friction_loss", "droop")
    return sim


def walk(env, dx=0.0, dy=0.0, yaw=None, steps=1):
    """Put every robot on by a step, turned to ``yaw``; returns the last observations."""

    def move(sim):
        sim.state.base_position[:, 0] += dx
        sim.state.base_position[:, 1] += dy
        if yaw is not None:
            half = torch.tensor([math.cos(yaw / 2), 0.0, 0.0, math.sin(yaw / 2)])
            sim.state.base_quaternion[:] = half

    env.sim.script = move
    for _ in range(steps):
        obs = env.step(torch.zeros(env.num_envs, 12))[0]
    return obs


def true_scan(env, x, y, yaw=0.0, z=0.34):
    """The scan over the course's own boxes, from the definition."""
    c, s = math.cos(yaw), math.sin(yaw)
    at = POINTS @ np.array([[c, s], [-s, c]]) + [x, y]
    ground = top_height(env.courses[0], at)
    return np.clip(2.5 * (z - 0.3 - ground), -1, 1)


# ---- without faults ------------------------------------------------------------------------------


def test_without_faults_the_scan_is_the_course(make):
    env = make("hard")
    env.reset(0)
    found = walk(env, dx=0.8, dy=0.05, yaw=0.3)[0, SCAN].numpy()
    # The raster has cells of 2.5 cm: a few points near edges differ.
    near = np.abs(found - true_scan(env, 0.8, 0.05, 0.3)) < 0.06
    assert near.mean() > 0.93
    assert found.min() < 0.2 < 1.0 == found.max()  # stones and the pit


def test_way_by_hand_on_the_platform(make):
    # The start platform reaches from x = -1.2 to 1.2 and 0.8 m to either side; the robot stands at
    # y = 0.1 and looks 0.2 rad to the left. Points beside it, 0.2 m apart from -0.8 to 0.8: those
    # up to 0.7 m to the left and 0.9 m to the right are on the platform. First stone: see below.
    env = make("simple")
    env.reset(0)
    obs = walk(env, dx=-0.2, dy=0.1, yaw=0.2)[0, WAY].numpy()
    goal = env.courses[0].destination[:2] - np.array([-0.2, 0.1])
    line = env.courses[0].destination[:2] / np.linalg.norm(env.courses[0].destination[:2])
    left = np.array([-line[1], line[0]])
    robot, counted = np.array([-0.2, 0.1]), []
    for a in (0.5, 0.7, 0.9, 1.1):
        for b in (-0.8, -0.6, -0.4, -0.2, 0.0, 0.2, 0.4, 0.6, 0.8):
            height = top_height(env.courses[0], robot + a * line + b * left)
            if 0.34 - height < 0.8:
                counted.append(b)
    target = 0.8 * line + np.mean(counted) * left
    expected = []
    for x, y in (target, goal):
        bearing = math.atan2(y, x) - 0.2
        expected += [math.cos(bearing), math.sin(bearing), min(math.hypot(x, y) / 2, 1.0)]
    assert -0.2 < np.mean(counted) < -0.05  # back to the middle
    np.testing.assert_allclose(obs, expected, atol=1e-5)


def test_way_without_ground_goes_straight(make):
    env = make("simple")
    env.reset(0)
    env.sim.state.base_position[:, 2] = 5.0
    obs = walk(env)[0, WAY].numpy()
    np.testing.assert_allclose(obs[:3], [1.0, 0.0, 0.4], atol=1e-6)


def test_clips_are_the_layouts_own_after_the_noise(make):
    env = make(sensor_noise=True)
    env.reset(0)
    env.sim.state.joint_velocity[:] = 120.0  # 6 in observation units, its field promises 5
    env.sim.state.joint_position[:] = torch.tensor(DEFAULT_POSE) + 6.0
    obs = walk(env)
    assert torch.equal(obs[:, 6:30], torch.full((3, 24), 5.0))
    for field, start in (("waypoints", 138), ("height_scan", 144), ("foot_heights", 229)):
        first, last = env.spec.offset(field)
        assert first == start
        assert obs[:, first:last].abs().max() <= 1.0, field


def test_targets_stay_within_the_joints_ranges(make):
    env = make()
    env.reset(0)
    env.step(torch.ones(3, 12))
    targets = env.sim.named("step")[-1][0][0]
    # URDF: hip +-1.0472, thigh front -1.5708 to 3.4907, rear -0.5236 to 4.5379, calf -2.7227 to
    # -0.83776; 0.02 rad inside. 1.2 rad from the pose only the left hips and the calves get there.
    pose = np.array(DEFAULT_POSE)
    upper = np.array([1.0472, 3.4907, -0.83776] * 2 + [1.0472, 4.5379, -0.83776] * 2) - 0.02
    np.testing.assert_allclose(targets, np.minimum(pose + 1.2, upper), atol=1e-6)
    assert np.isclose(targets, upper, atol=1e-6).sum() == 8  # both hips and calves of all legs
    # The observation keeps what was commanded.
    assert env.observation[0, 30:42].tolist() == [1.0] * 12


def test_clipped_targets_and_joints_at_their_ends_cost(make):
    env = make()
    env.reset(0)
    free = env.step(torch.zeros(3, 12))[-1]["reward_terms"]
    assert free["joint_limit"].tolist() == free["clipped_target"].tolist() == [0.0] * 3
    action = torch.zeros(3, 12)
    action[0, 2] = 1.0  # -1.5 + 1.2 = -0.3, clipped at -0.85776
    env.sim.state.joint_position[1, 2] = -0.83776 - 0.03  # 2 cm beyond the margin of 5
    env.sim.state.joint_position[2, 2] = -2.7227 + 0.01
    terms = env.step(action)[-1]["reward_terms"]
    assert terms["clipped_target"].tolist() == pytest.approx([-0.3 * 0.55776, 0, 0], abs=1e-6)
    assert terms["joint_limit"].tolist() == pytest.approx([0, -3 * 0.02, -3 * 0.04], abs=1e-5)


# ---- contacts ------------------------------------------------------------------------------------


def test_contacts_come_from_torques_and_not_from_forces(make):
    env = make()
    env.reset(0)
    env.sim.state.foot_force[:] = 100.0
    assert not walk(env)[:, CONTACT].any()
    # A calf that holds: force at the foot, by hand, is about tau over the lever arm.
    env.sim.state.foot_force[:] = 0.0
    env.sim.state.joint_torque[0, [1, 2]] = torch.tensor([0.0, 8.0])
    obs = walk(env)
    assert obs[0, CONTACT].tolist() == [1.0, 0.0, 0.0, 0.0]


def test_contacts_are_missed_and_imagined(make):
    env = make(num_envs=4000, contact_faults=True, contact_miss=0.3, contact_false=0.1)
    env.reset(0)
    env.sim.state.joint_torque[:, 2] = 8.0
    found = walk(env)[:, CONTACT].mean(0).tolist()
    assert found == pytest.approx([0.7, 0.1, 0.1, 0.1], abs=0.03)


# ---- odometry ------------------------------------------------------------------------------------


def test_odometry_without_drift_is_the_truth(make):
    env = make("simple")
    env.reset(0)
    walk(env, dx=0.02, dy=0.01, steps=5)
    np.testing.assert_allclose(env.view.odometry[0], [0.1, 0.05], atol=1e-6)


def test_drift_per_metre_and_per_second(make):
    n, steps, step = 4000, 50, 0.02  # a second at 1 m/s
    env = make(num_envs=n, odometry_drift=True)
    env.reset(0)
    env.view.rate[:] = torch.tensor([0.02, -0.01, 0.01, math.radians(0.5)])
    env.view._rates = lambda draws: env.view.rate  # as if no rate were ever drawn anew
    walk(env, dx=step, steps=steps)
    # Yaw grows to 0.5 degrees: the way bends to the left by v t^2 w / 2, and the rates add theirs.
    way = steps * step
    bend = 0.5 * way * math.radians(0.5)
    np.testing.assert_allclose(
        env.view.odometry[0] - torch.tensor([way, 0.0]), [0.02, -0.01 + bend], atol=3e-4
    )
    np.testing.assert_allclose(env.view.error[0], [0.01, math.radians(0.5)], rtol=1e-4)


def test_rates_of_drift_have_the_documented_rms(make):
    env = make(num_envs=20000, odometry_drift=True)
    env.reset(0)
    rms = env.view.rate.square().mean(0).sqrt()
    expected = [0.02, 0.02, 0.01, math.radians(0.5)]
    np.testing.assert_allclose(rms, expected, rtol=0.03)
    # Drawn anew with probability dt / 1 s.
    before = env.view.rate.clone()
    walk(env)
    changed = (env.view.rate != before).any(1).float().mean().item()
    assert changed == pytest.approx(0.02, abs=0.004)


def test_a_drifted_goal_is_where_odometry_has_it(make):
    env = make("simple")
    env.reset(0)
    env.view.odometry[:] = torch.tensor([1.0, 0.4])
    env.view.error[:, 1] = 0.1
    env.view.advance = lambda state: None
    obs = walk(env)[0, WAY].numpy()
    dx, dy = env.courses[0].destination[:2] - np.array([1.0, 0.4])
    bearing = math.atan2(dy, dx) - 0.1
    np.testing.assert_allclose(obs[3:], [math.cos(bearing), math.sin(bearing), 1.0], atol=1e-6)


def test_standing_robots_drift_in_yaw_alone(make):
    env = make(odometry_drift=True)
    env.reset(0)
    walk(env, steps=10)
    np.testing.assert_allclose(env.view.odometry, np.zeros((3, 2)), atol=1e-7)
    assert not env.view.error[:, 0].any()
    assert env.view.error[:, 1].abs().min() > 0


# ---- the map -------------------------------------------------------------------------------------


def test_map_error_moves_the_scan(make):
    env = make("hard")
    env.reset(0)
    env.view.lag[:] = torch.tensor([0.1, -0.05, 0.02, 0.15])
    found = walk(env, dx=0.8)[0, SCAN].numpy()
    expected = true_scan(env, 0.9, -0.05, 0.15, 0.36)
    assert (np.abs(found - expected) < 0.06).mean() > 0.93
    assert (np.abs(found - true_scan(env, 0.8, 0.0)) < 0.06).mean() < 0.9


def test_map_error_is_drift_that_is_forgotten_within_a_second(make):
    env = make(map_drift=True)
    env.reset(0)
    env.view.rate[:] = torch.tensor([0.02, 0.0, 0.01, 0.0])
    env.view._rates = lambda draws: env.view.rate
    walk(env, dx=0.02, steps=400)  # 1 m/s for 8 s: rate times time constant
    np.testing.assert_allclose(env.view.lag[0], [0.02, 0.0, 0.01, 0.0], rtol=0.02, atol=1e-6)
    # Odometry itself is right where only the map drifts.
    np.testing.assert_allclose(env.view.odometry[0], [8.0, 0.0], atol=1e-4)


@pytest.mark.parametrize("age", [0, 1, 3, 5])
def test_an_old_map_is_read_from_where_the_robot_was(make, age):
    env = make("hard", map_age=True, map_age_s=(0.02 * age, 0.02 * age))
    env.reset(0)
    assert env.view.age.tolist() == [age] * 3
    found = walk(env, dx=0.0985, dy=0.0041, steps=9)[0, SCAN].numpy()
    expected = true_scan(env, 0.0985 * (9 - age), 0.0041 * (9 - age))
    assert (np.abs(found - expected) < 0.06).mean() > 0.93


def test_ages_are_spread_over_their_range(make):
    env = make(num_envs=4000, map_age=True, map_age_s=(0.02, 0.1))
    env.reset(0)
    shares = torch.bincount(env.view.age, minlength=6) / 4000
    # Uniform in 1 to 5 steps, rounded: the ends get half a share.
    np.testing.assert_allclose(shares, [0, 0.125, 0.25, 0.25, 0.25, 0.125], atol=0.03)


def test_cells_of_six_centimetres_have_one_height(make):
    env = make("hard", map_cells=True)
    env.reset(0)
    x, y = 0.815, 0.0321
    found = walk(env, dx=x, dy=y)[0, SCAN].numpy()
    at = (np.floor((POINTS + [x, y]) / 0.06) + 0.5) * 0.06
    ground = top_height(env.courses[0], at)
    expected = np.clip(2.5 * (0.04 - ground), -1, 1)
    assert (np.abs(found - expected) < 0.06).mean() > 0.95
    # Within one cell nothing changes: 3 mm on, most points stay in their cells.
    again = walk(env, dx=0.003)[0, SCAN].numpy()
    assert (again == found).mean() > 0.85


def test_cells_lie_still_in_odometrys_frame(make):
    env = make("hard", map_cells=True)
    env.reset(0)
    env.view.advance = lambda state: setattr(
        env.view, "past", env.view._pose(state)[:, None].repeat(1, 6, 1)
    )
    env.view.odometry[:] = torch.tensor([0.815 + 0.02, 0.01])  # 2 cm and 1 cm off
    found = walk(env, dx=0.815)[0, SCAN].numpy()
    odometry = POINTS + [0.835, 0.01]
    at = (np.floor(odometry / 0.06) + 0.5) * 0.06 - [0.02, 0.01]
    expected = np.clip(2.5 * (0.04 - top_height(env.courses[0], at)), -1, 1)
    assert (np.abs(found - expected) < 0.06).mean() > 0.95


def test_what_an_edge_hides_is_unknown(make):
    # Shallow pits (courses of low difficulty) are seen in part: behind an edge 0.1 m ahead of the
    # eye (0.3 m before the base, 5 cm over it), 0.39 m high, a floor h deep is hidden for
    # h / 0.39 * 0.1 m behind it.
    env = make("hard", map_unknown=True)
    env.reset(0)
    floor = make_course("hard", 1.0, HARD).floor
    assert floor < -1.0
    walk(env, dx=0.4)
    drop = torch.full((3, 121 + 36), 0.34)
    first = 72
    columns = drop[:, first:].view(3, 17, 5)
    columns[:, 9:] = 0.34 + 0.10  # from x = 0.5 on 10 cm lower
    hidden = env.view._hidden(drop)
    seen = ~hidden[0, first:].view(17, 5)
    # Edge cells at x = 0.4, 0.1 m from the eye: the slope there is -0.39 / 0.1; the floor is seen
    # from -0.49 / d >= -3.9 on, that is d >= 0.126: at once 0.2 m from the eye. Straight ahead:
    assert seen[:, 2].all()
    columns[:, 9:] = 0.34 + 0.80
    seen = ~env.view._hidden(drop)[0, first:].view(17, 5)
    # -1.19 / d >= -3.9: d >= 0.305; x = 0.5 and 0.6 (d = 0.2, 0.3) are hidden, x = 0.7 is seen.
    assert seen[:, 2].tolist() == [True] * 9 + [False] * 2 + [True] * 6
    assert not hidden[:, :first].any()


def test_unknown_cells_are_at_their_clip(make):
    env = make(map_cells=True, map_outliers=True, map_hole=1.0)
    env.reset(0)
    obs = walk(env)
    assert torch.equal(obs[:, SCAN], torch.ones(3, 85))
    assert torch.equal(obs[:, FEET], torch.ones(3, 36))
    # Nothing known, no side to turn to.
    np.testing.assert_allclose(obs[0, WAY][:3], [1.0, 0.0, 0.4], atol=1e-6)


def test_holes_and_outliers_are_rare_and_stay_where_they_are(make):
    env = make(num_envs=400, map_cells=True, map_outliers=True, map_hole=0.05, map_outlier=0.1)
    env.reset(0)
    first = walk(env)[:, SCAN]
    plain = 2.5 * 0.04
    holes = first == 1.0
    assert holes.float().mean().item() == pytest.approx(0.05, abs=0.005)
    wrong = (first - plain).abs() > 1e-5
    assert (wrong & ~holes).float().mean().item() == pytest.approx(0.1, abs=0.01)
    assert (first[~holes] - plain).abs().max().item() <= 2.5 * 0.15 + 1e-5
    assert torch.equal(walk(env)[:, SCAN], first)
    worlds = wrong.float().mean(1)
    assert 0.0 < worlds.std().item() < 0.08  # each world has its own


def test_worlds_with_the_true_map_have_no_fault_of_it(make):
    env = make(
        "hard",
        num_envs=200,
        true_map_share=0.5,
        map_cells=True,
        map_outliers=True,
        map_age=True,
        map_drift=True,
        odometry_drift=True,
        map_unknown=True,
    )
    env.reset(0)
    share = 1.0 - env.view.faulty.float().mean().item()
    assert share == pytest.approx(0.5, abs=0.1)
    obs = walk(env, dx=0.05, steps=16)
    plain = make("hard", num_envs=1)
    plain.reset(0)
    expected = walk(plain, dx=0.05, steps=16)[0]
    true = ~env.view.faulty
    torch.testing.assert_close(obs[true][:, 138:], expected[138:].expand(int(true.sum()), -1))
    assert (obs[~true][:, SCAN] != expected[SCAN]).any(1).all()


# ---- as a whole ----------------------------------------------------------------------------------


def test_saved_states_go_on_exactly(make):
    everything = {**vars(Randomization.of(2))}
    env = make("hard", auto_reset=True, num_envs=6, **everything)
    env.reset(3)
    walk(env, dx=0.03, steps=4)
    state = env.state_dict()
    expected = [walk(env, dx=0.03).clone() for _ in range(5)]
    env.load_state_dict(state)
    for obs in expected:
        assert torch.equal(walk(env, dx=0.03), obs)


def test_a_simulator_without_the_joints_is_refused_by_name(make, monkeypatch):
    monkeypatch.setattr(parkour, "make_simulator", lambda *a: FakeSimulator(a[1], a[2]))
    config = ParkourConfig(version=2, randomization=replace(OFF, torque_speed=True))
    message = (
        "^the simulator mujoco cannot change the joints' droop; switch randomization.torque_speed "
    )
    with pytest.raises(ValueError, match=message):
        Go2Parkour(config)
    Go2Parkour(ParkourConfig(version=2, randomization=OFF))


def test_a_mirrored_robot_sees_the_mirror_image(make):
    from go2_sevpo.envs.go2 import symmetry

    env = make("flat", num_envs=2)
    env.reset(0)
    index, sign = symmetry.observation_mirror()
    own_index, own_sign = symmetry.privileged_mirror(2)
    joints, joint_sign = symmetry.action_mirror()

    def pose(sim):
        s = sim.state
        s.base_position[0] = torch.tensor([1.01, 0.07, 0.33])
        s.base_position[1] = torch.tensor([1.01, -0.07, 0.33])
        for world, yaw in ((0, 0.2), (1, -0.2)):
            s.base_quaternion[world] = torch.tensor([math.cos(yaw / 2), 0, 0, math.sin(yaw / 2)])
        rng = torch.Generator().manual_seed(0)
        q = torch.tensor(DEFAULT_POSE) + 0.2 * torch.rand(12, generator=rng)
        tau = 10 * torch.rand(12, generator=rng)
        s.joint_position[0], s.joint_torque[0] = q, tau
        s.joint_position[1], s.joint_torque[1] = q[joints] * joint_sign, tau[joints] * joint_sign
        s.base_linear_velocity[0] = torch.tensor([1.0, 0.2, 0.1])
        s.base_linear_velocity[1] = torch.tensor([1.0, -0.2, 0.1])

    env.view.lag[0] = torch.tensor([0.02, 0.03, 0.01, 0.05])
    env.view.lag[1] = torch.tensor([0.02, -0.03, 0.01, -0.05])
    env.sim.script = pose
    obs = env.step(torch.zeros(2, 12))[0]
    assert obs[0, CONTACT].sum() > 0 and obs[0, CONTACT].sum() < 4
    torch.testing.assert_close(obs[0][index] * sign, obs[1], atol=1e-5, rtol=1e-5)
    own = env.privileged()
    assert own.shape == (2, 27)
    torch.testing.assert_close(own[0][own_index] * own_sign, own[1], atol=1e-5, rtol=1e-5)
