"""Numbers of the environment loop over a simulator that does as it is told (docs/courses.md)."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from go2_sevpo.envs.go2 import parkour
from go2_sevpo.envs.go2.config import ParkourConfig, Randomization
from go2_sevpo.envs.go2.parkour import Go2Parkour
from go2_sevpo.envs.go2.rewards import RewardWeights
from go2_sevpo.envs.simulators.base import RobotState
from tests.conftest import needs_torch_2
from tests.envs.fake_simulator import DEFAULT_POSE, FakeSimulator

OFF = Randomization.off()
BASE_CONTACT = 5.0  # N on the base: a fall (above 1 N)
CONTROL_DT = 0.02  # 50 Hz
START_HEIGHT = 0.34  # 1 cm above the standing height 0.33 m
FLAT_WAYPOINTS = [2.0, 4.0, 6.0, 8.0, 10.0, 11.5]
# Where the fields of an observation lie (docs/courses.md): three frames of 46, then the map.
JOINT_OFFSET, LAST_ACTION = slice(6, 18), slice(30, 42)
WAYPOINTS, SCAN, FEET = slice(138, 144), slice(144, 229), slice(229, 265)


@pytest.fixture
def make(monkeypatch):
    """Build an environment over the fake simulator: flat ground, no randomisation."""

    def build(auto_reset=False, fixed_payload=None, **options):
        made_with = []

        def factory(*arguments):
            made_with.append(arguments)
            return FakeSimulator(arguments[1], arguments[2], fixed_payload)

        monkeypatch.setattr(parkour, "make_simulator", factory)
        options = {
            "num_envs": 3,
            "courses": ("flat",),
            "variants": 1,
            "randomization": OFF,
            **options,
        }
        env = Go2Parkour(ParkourConfig(**options), auto_reset)
        env.made_with = made_with[0]
        return env

    return build


def zeros(env):
    return torch.zeros(env.num_envs, 12)


def put(env, *positions):
    """Base positions (x, y) or (x, y, z) of the worlds in order."""
    for world, position in enumerate(positions):
        env.sim.state.base_position[world, : len(position)] = torch.tensor(position)


def fills(values, low, high):
    """Whether thousands of draws fill the range and stay in it."""
    width = high - low
    inside = bool(((values >= low - 1e-6) & (values <= high + 1e-6)).all())
    ends = float(values.min()) < low + 0.01 * width and float(values.max()) > high - 0.01 * width
    return inside and ends and abs(float(values.float().mean()) - (low + high) / 2) < 0.03 * width


def turn_back(quaternion, vector):
    """A world vector in the body frame: conj(q) v q, by quaternion products."""

    def product(a, b):
        w = a[0] * b[0] - a[1:] @ b[1:]
        return np.array([w, *(a[0] * b[1:] + b[0] * a[1:] + np.cross(a[1:], b[1:]))])

    conjugate = quaternion * np.array([1.0, -1.0, -1.0, -1.0])
    return product(product(conjugate, np.array([0.0, *vector])), quaternion)[1:]


# ---- construction --------------------------------------------------------------------------------


def test_the_simulator_is_made_from_the_configuration(make):
    env = make(
        num_envs=2,
        threads=3,
        physics_dt=0.0025,
        simulator="mujoco-warp",
        device="cpu",
        viewer=True,
    )
    name, worlds, courses, threads, physics_dt, payload, device, viewer = env.made_with
    assert (name, worlds, threads, physics_dt, device, viewer) == (
        "mujoco-warp",
        2,
        3,
        0.0025,
        "cpu",
        True,
    )
    assert courses is env.courses
    assert [c.kind for c in courses] == ["flat"]
    assert payload.tolist() == [0.0, 0.0]


def test_first_payloads_fill_the_range_and_follow_the_seed(make):
    on = replace(OFF, payload=True)
    drawn = make(num_envs=3000, randomization=on, seed=4).made_with[5]
    assert drawn.shape == (3000,)
    assert fills(drawn, -1.0, 2.0)
    narrow = replace(on, payload_kg=(0.5, 0.75))
    assert fills(make(num_envs=3000, randomization=narrow, seed=4).made_with[5], 0.5, 0.75)
    assert torch.equal(make(num_envs=3000, randomization=on, seed=4).made_with[5], drawn)
    assert not torch.equal(make(num_envs=3000, randomization=on, seed=5).made_with[5], drawn)


@pytest.mark.parametrize(
    ("seconds", "steps"),
    [(20.0, 1000), (0.1, 5), (0.07, 4), (0.113, 6), (0.109, 5)],
)
def test_episode_length_is_the_nearest_number_of_control_steps(make, seconds, steps):
    assert make(episode_seconds=seconds).max_episode_length == steps


def test_sizes_and_buffers_at_the_start(make):
    env = make(num_envs=4, courses=("flat", "simple"), shares=(0.5, 0.5), variants=2)
    assert (env.num_envs, env.num_obs, env.num_actions) == (4, 265, 12)
    assert (env.spec.size, env.auto_reset, len(env.courses)) == (265, False, 4)
    assert make().max_episode_length == 1000  # 20 s at 50 Hz
    assert env.device is env.sim.device
    assert not Go2Parkour(env.config).auto_reset
    shapes = {
        "levels": (4, 2),
        "last_action": (4, 12),
        "last_joint_velocity": (4, 12),
        "frames": (4, 3, 46),
        "map_offset": (4, 1),
    }
    whole = {
        "course_ids",
        "kind_ids",
        "levels",
        "goal",
        "episode_length",
        "push_phase",
        "best_step",
    }
    ones = "course_ids kind_ids goal episode_length active delay push_phase"
    for name in [*shapes, *ones.split(), "best_x", "best_step", "start_x"]:
        value = getattr(env, name)
        assert value.shape == shapes.get(name, (4,)), name
        number = torch.long if name in whole else torch.float32
        assert value.dtype == (torch.bool if name == "active" else number), name
        assert bool((value == (1 if name == "active" else 0)).all()), name
    assert env.dynamics.friction.tolist() == env.dynamics.motor_strength.tolist() == [1.0] * 4
    assert env.dynamics.payload.tolist() == [0.0] * 4
    assert env.default.tolist() == pytest.approx(DEFAULT_POSE)


def test_closing_closes_the_simulator(make):
    env = make()
    assert not env.sim.closed
    env.close()
    assert env.sim.closed


# ---- reset ---------------------------------------------------------------------------------------


def test_reset_without_randomisation_writes_the_exact_start(make):
    env = make(num_envs=2)
    env.active[:] = False
    env.reset(0)
    (ids, course, dynamics), (written_ids, state) = env.sim.calls[0][1], env.sim.calls[1][1]
    assert [name for name, _ in env.sim.calls] == ["assign", "write"]
    assert ids.tolist() == written_ids.tolist() == [0, 1]
    assert course.tolist() == [0, 0]
    nominal = {
        "friction": 1.0,
        "payload": 0.0,
        "motor_strength": 1.0,
        "damping": 0.0,
        "armature": 0.01,
        "friction_loss": 0.2,
        "droop": 0.0,
    }
    assert set(dynamics) == set(nominal)
    for name, value in nominal.items():
        assert dynamics[name].tolist() == [pytest.approx(value)] * 2, name
    assert state.base_position.tolist() == [pytest.approx([0.0, 0.0, START_HEIGHT])] * 2
    assert state.base_quaternion.tolist() == [[1.0, 0.0, 0.0, 0.0]] * 2
    assert state.joint_position.tolist() == [pytest.approx(DEFAULT_POSE)] * 2
    sizes = {
        "base_linear_velocity": 3,
        "base_angular_velocity": 3,
        "joint_velocity": 12,
        "joint_torque": 12,
        "foot_force": 4,
        "body_force": 9,
    }
    for name, size in sizes.items():
        assert torch.equal(getattr(state, name), torch.zeros(2, size)), name
    assert env.active.tolist() == [True, True]
    assert env.delay.tolist() == [0.0, 0.0]
    assert env.map_offset.tolist() == [[0.0], [0.0]]


def test_each_world_is_given_its_course(make):
    env = make(num_envs=4, courses=("simple", "hard"), shares=(1.0, 3.0), variants=2)
    env.reset(0)
    # One world in four is simple; world i takes variant i % 2; the hard courses come second.
    assert env.kind_ids.tolist() == [0, 1, 1, 1]
    assert env.course_ids.tolist() == env.sim.named("assign")[0][1].tolist() == [0, 3, 2, 3]


def test_reset_clears_what_an_episode_left(make):
    env = make(num_envs=2)
    first = env.reset(0)
    for name, value in (
        ("goal", 3),
        ("episode_length", 7),
        ("last_action", 0.5),
        ("last_joint_velocity", 2.0),
    ):
        getattr(env, name)[:] = value
    for name, value in (
        ("best_x", 5.0),
        ("start_x", 5.0),
        ("best_step", 9),
        ("frames", 0.7),
        ("delay", 0.01),
    ):
        getattr(env, name)[:] = value
    env.push_phase[:], env.map_offset[:] = 500, 0.3
    env.dynamics.friction[:], env.dynamics.payload[:], env.dynamics.motor_strength[:] = (
        0.1,
        0.2,
        0.3,
    )
    assert torch.equal(env.reset(0), first)
    for name in (
        "goal",
        "episode_length",
        "last_action",
        "last_joint_velocity",
        "best_step",
        "map_offset",
        "delay",
    ):
        assert not getattr(env, name).any(), name
    assert env.best_x.tolist() == env.start_x.tolist() == [0.0, 0.0]
    assert bool((env.push_phase < 200).all())
    first_three = list(vars(env.dynamics).values())[:3]
    assert [x.tolist() for x in first_three] == [[1.0, 1.0], [0.0, 0.0], [1.0, 1.0]]


def test_start_pose_ranges(make):
    env = make(num_envs=3000, randomization=replace(OFF, start_pose=True))
    env.reset(1)
    state = env.sim.named("write")[0][1]
    assert fills(state.base_position[:, 0], -0.2, 0.2)
    assert fills(state.base_position[:, 1], -0.15, 0.15)
    assert torch.allclose(state.base_position[:, 2], torch.tensor(START_HEIGHT))
    quaternion = state.base_quaternion
    assert not quaternion[:, 1:3].any()  # a turn about z alone
    assert fills(2 * torch.atan2(quaternion[:, 3], quaternion[:, 0]), -0.2, 0.2)
    joints = state.joint_position - torch.tensor(DEFAULT_POSE)
    assert all(fills(joints[:, k], -0.1, 0.1) for k in range(12))
    spread = torch.cat([joints, state.base_position[:, :2], quaternion[:, 3:]], dim=1).double()
    correlation = np.corrcoef(spread.T.numpy()) - np.eye(15)
    assert np.abs(correlation).max() < 0.1  # all drawn apart
    assert not state.base_linear_velocity.any()
    assert torch.equal(env.start_x, state.base_position[:, 0])
    assert torch.equal(env.best_x, state.base_position[:, 0])


def test_dynamics_ranges_reach_the_simulator(make):
    z = Randomization(
        friction_factor=(0.7, 1.3),
        payload_kg=(-0.5, 2.5),
        motor_factor=(0.8, 0.9),
        delay_s=(0.001, 0.012),
    )
    env = make(num_envs=3000, randomization=replace(z, push_interval=0.6, map_error=0.03))
    env.reset(2)
    given = env.sim.named("assign")[0][2]
    drawn = {k: given[k] for k in ("friction", "payload", "motor_strength")}
    drawn = {**drawn, "delay": env.delay, "offset": env.map_offset[:, 0], "phase": env.push_phase}
    ranges = {
        "friction": (0.7, 1.3),
        "payload": (-0.5, 2.5),
        "motor_strength": (0.8, 0.9),
        "delay": (0.001, 0.012),
        "offset": (-0.03, 0.03),
        "phase": (0, 29),
    }
    for name, (low, high) in ranges.items():
        assert fills(drawn[name], low, high), name
    assert sorted(set(env.push_phase.tolist())) == list(range(30))  # steps in 0.6 s
    table = torch.stack([x.double() for x in drawn.values()]).numpy()
    assert np.abs(np.corrcoef(table) - np.eye(6)).max() < 0.1
    for name, value in vars(env.dynamics).items():
        assert torch.equal(value, given[name]), name


def test_default_ranges_are_the_documented_ones():
    z = Randomization()
    # docs/courses.md, Randomisation.
    assert (z.friction_factor, z.payload_kg, z.motor_factor) == (
        (0.75, 1.25),
        (-1.0, 2.0),
        (0.9, 1.1),
    )
    assert (z.delay_s, z.push_speed, z.push_interval, z.map_error) == ((0.0, 0.015), 0.4, 4.0, 0.02)


def test_a_payload_the_simulator_cannot_change_is_the_one_reported(make):
    fixed = torch.tensor([0.25, -0.5, 1.5])
    env = make(True, fixed, randomization=replace(OFF, payload=True))
    env.reset(0)
    assert env.dynamics.payload.tolist() == [0.25, -0.5, 1.5]
    assert env.sim.named("assign")[0][2]["payload"].tolist() == [0.25, -0.5, 1.5]
    env.sim.state.body_force[2, 0] = BASE_CONTACT
    env.step(zeros(env))
    ids, _, dynamics = env.sim.named("assign")[1]
    assert (ids.tolist(), dynamics["payload"].tolist()) == ([2], [1.5])
    assert env.dynamics.payload.tolist() == [0.25, -0.5, 1.5]


def test_seeds_decide_all_draws(make):
    env, same, other = (make(num_envs=4, randomization=Randomization(), seed=s) for s in (3, 8, 3))
    a = env.reset()
    assert torch.equal(same.reset(3), a)
    assert torch.equal(other.reset(3), a)
    assert not torch.equal(other.reset(), a)  # draws go on where they were
    assert not torch.equal(other.reset(4), a)


def stone_tilts(course):
    """Turn about x of each stone, from its rotation matrix."""
    turns = [box.rotation() for box in course.boxes[1:-1]]
    return np.array([math.atan2(turn[2, 1], turn[2, 2]) for turn in turns])


def test_random_starts_stand_on_a_stone(make):
    env = make(num_envs=3000, courses=("hard",), variants=2, random_start=1.0)
    env.reset(0)
    state = env.sim.named("write")[0][1]
    stone, course = env.goal.numpy() - 1, env.course_ids.numpy()
    assert set(course) == {0, 1}
    counts = np.bincount(stone, minlength=7)
    assert len(counts) == 7  # seven stones, never the destination
    assert np.abs(counts - 3000 / 7).max() < 0.2 * 3000 / 7
    way = np.stack([c.waypoints for c in env.courses])[course, stone]
    roll = 0.8 * np.stack([stone_tilts(c) for c in env.courses])[course, stone]
    assert np.abs(roll).max() > 0.4
    position = state.base_position.numpy()
    assert fills(torch.from_numpy(position[:, 0] - way[:, 0]), -0.25, 0.1)
    np.testing.assert_allclose(position[:, 1], way[:, 1] - START_HEIGHT * np.sin(roll), atol=1e-5)
    np.testing.assert_allclose(position[:, 2], way[:, 2] + START_HEIGHT * np.cos(roll), atol=1e-5)
    expected = np.stack([np.cos(roll / 2), np.sin(roll / 2), 0 * roll, 0 * roll], axis=1)
    np.testing.assert_allclose(state.base_quaternion.numpy(), expected, atol=1e-6)
    assert fills(state.base_linear_velocity[:, 0], 0.0, 1.0)
    assert not state.base_linear_velocity[:, 1:].any()
    assert torch.equal(env.start_x, state.base_position[:, 0])
    assert torch.equal(env.best_x, state.base_position[:, 0])
    assert not env.best_step.any()


def test_a_share_of_the_episodes_starts_on_a_stone(make):
    env = make(
        num_envs=3000,
        courses=("hard",),
        random_start=0.3,
        randomization=replace(OFF, start_pose=True),
    )
    env.reset(0)
    state, there = env.sim.named("write")[0][1], env.goal > 0
    assert there.float().mean().item() == pytest.approx(0.3, abs=0.03)
    x, q = state.base_position[:, 0], state.base_quaternion
    assert fills(x[~there], -0.2, 0.2)
    assert fills(state.base_position[~there, 1], -0.15, 0.15)
    assert torch.allclose(state.base_position[~there, 2], torch.tensor(START_HEIGHT))
    assert not state.base_linear_velocity[~there].any()
    assert not q[~there, 1:3].any()
    assert bool((x[there] > 1.0).all())
    # A yaw after a roll, q = q_z q_x: both angles can be read off x / w and z / w.
    roll = 2 * torch.atan2(q[:, 1], q[:, 0])
    yaw = 2 * torch.atan2(q[:, 3], q[:, 0])
    tilt = torch.tensor(stone_tilts(env.courses[0]), dtype=torch.float32)[env.goal[there] - 1]
    assert torch.allclose(roll[there], 0.8 * tilt, atol=1e-5)
    assert torch.allclose(q[:, 2], torch.sin(yaw / 2) * torch.sin(roll / 2), atol=1e-6)
    assert fills(yaw, -0.2, 0.2)


# ---- observations --------------------------------------------------------------------------------


def test_history_is_filled_at_reset_and_shifts_newest_first(make):
    env = make(num_envs=2)
    pose = torch.tensor(DEFAULT_POSE)
    offsets = torch.tensor([[0.1], [-0.2]])
    first = env.reset(0)
    assert torch.equal(first[:, :138], first[:, :46].repeat(1, 3))
    seen = [first]
    for k in (1, 2, 3):
        env.sim.state.joint_position = pose + k * offsets
        seen.append(env.step(torch.full((2, 12), k / 4))[0])
    last = seen[-1]
    for back in range(3):
        k = 3 - back
        frame = last[:, 46 * back : 46 * back + 46]
        torch.testing.assert_close(frame[:, JOINT_OFFSET], (k * offsets).repeat(1, 12))
        assert torch.equal(frame[:, LAST_ACTION], torch.full((2, 12), k / 4))
        assert torch.equal(frame, seen[k][:, :46])
    assert torch.equal(seen[1][:, 46:92], first[:, :46])
    assert torch.equal(seen[1][:, 92:138], first[:, :46])
    assert torch.equal(env.frames, last[:, :138].reshape(2, 3, 46))
    assert env.observation is last


def test_next_two_waypoints_follow_the_goal_and_stop_at_the_last(make):
    env = make(num_envs=3)
    env.reset(0)
    put(env, (1.0, 0.3), (3.2, -0.5), (10.5, 0.1))
    env.goal[:] = torch.tensor([0, 1, 5])
    obs = env.step(zeros(env))[0]

    def fields(dx, dy):
        distance = math.hypot(dx, dy)
        return [dx / distance, dy / distance, min(distance / 2, 1.0)]

    expected = [
        fields(2.0 - 1.0, -0.3) + fields(4.0 - 1.0, -0.3),
        fields(4.0 - 3.2, 0.5) + fields(6.0 - 3.2, 0.5),
        fields(11.5 - 10.5, -0.1) * 2,
    ]
    torch.testing.assert_close(obs[:, WAYPOINTS], torch.tensor(expected))


def test_noise_has_the_documented_half_widths(make):
    noisy = make(num_envs=3000, randomization=replace(OFF, sensor_noise=True, map_error=0.0))
    quiet = make(num_envs=3000)
    difference = noisy.reset(0) - quiet.reset(0)
    # Half width of each field times its scale in the observation.
    widths = [0.2 * 0.25] * 3 + [0.03] * 3 + [0.01] * 12 + [1.0 * 0.05] * 12 + [0.0] * 16
    around = [0.0] * 6 + [0.02 * 2.5] * 85 + [0.01 * 5] * 36
    first = torch.cat([difference[:, :46], difference[:, 138:]], dim=1)
    for k, width in enumerate(widths + around):
        if width == 0.0:
            assert not first[:, k].any(), k
        else:
            assert fills(first[:, k], -width, width), k
    assert torch.equal(difference[:, 46:92], difference[:, :46])  # one measurement, three times
    before = noisy.observation
    after, still = noisy.step(zeros(noisy))[0], quiet.step(zeros(quiet))[0]
    assert torch.equal(after[:, 46:138], before[:, :92])  # what was measured stays measured
    assert fills((after - still)[:, 0], -0.05, 0.05)
    assert abs(np.corrcoef((after - still)[:, 0], difference[:, 0])[0, 1]) < 0.1
    drawn = (after - still)[:, [0, 3, 6, 18, 150, 228, 229, 264]].double().numpy()
    assert np.abs(np.corrcoef(drawn.T) - np.eye(8)).max() < 0.1


def test_no_noise_and_no_map_error_without_sensor_noise(make):
    env = make(
        num_envs=2,
        randomization=replace(Randomization(), sensor_noise=False, start_pose=False, pushes=False),
    )
    assert torch.equal(env.reset(0), make(num_envs=2).reset(0))
    assert not env.map_offset.any()


def test_map_error_is_drawn_per_episode_and_shifts_the_map(make):
    env = make(num_envs=4, randomization=replace(OFF, sensor_noise=True))
    env._frame_noise.zero_()
    env._map_noise.zero_()
    plain = make(num_envs=4).reset(0)
    observation = env.reset(0)
    offset = env.map_offset.clone()
    assert bool((offset != 0).all())
    assert len(set(offset[:, 0].tolist())) == 4
    # Height above the ground, less 0.3 m, times 2.5; the base is 0.34 m high. Feet are scaled by 5.
    torch.testing.assert_close(observation[:, SCAN], (2.5 * (0.34 - 0.3 + offset)).repeat(1, 85))
    torch.testing.assert_close(
        observation[:, FEET] - plain[:, FEET],
        (5.0 * offset).repeat(1, 36),
        rtol=0,
        atol=1e-6,
    )
    torch.testing.assert_close(env.step(zeros(env))[0][:, SCAN], observation[:, SCAN])
    assert torch.equal(env.map_offset, offset)
    env.reset()
    assert not torch.equal(env.map_offset, offset)


# ---- step ----------------------------------------------------------------------------------------


def test_targets_are_the_default_pose_plus_scaled_clamped_actions(make):
    env = make(num_envs=2, randomization=replace(OFF, delay=True))
    env.reset(0)
    action = torch.linspace(-1.5, 1.5, 24).reshape(2, 12)
    observation = env.step(action)[0]
    targets, active, delay = env.sim.named("step")[0]
    clamped = action.clamp(-1, 1)
    torch.testing.assert_close(targets, torch.tensor(DEFAULT_POSE) + 1.2 * clamped)
    assert active is None
    assert torch.equal(delay, env.delay)
    assert len(set(delay.tolist())) == 2
    assert torch.equal(env.last_action, clamped)
    assert torch.equal(observation[:, LAST_ACTION], clamped)


def test_actions_of_the_wrong_shape_or_not_finite_are_refused(make):
    env = make(num_envs=2)
    env.reset(0)
    with pytest.raises(ValueError, match=r"action has shape \(3, 12\), expected \(2, 12\)"):
        env.step(torch.zeros(3, 12))
    with pytest.raises(ValueError, match=r"action has shape \(2, 11\), expected \(2, 12\)"):
        env.step(torch.zeros(2, 11))
    for value in (math.nan, math.inf, -math.inf):
        action = zeros(env)
        action[1, 11] = value
        with pytest.raises(ValueError, match="action is not finite; use the damped default pose"):
            env.step(action)
    assert env.sim.named("step") == []


@pytest.mark.parametrize(
    ("x", "y", "passed"),
    [
        (1.6, 0.0, False),
        (1.64, 0.0, False),
        (1.66, 0.0, True),
        (1.7, 0.17, True),
        (1.7, -0.2, False),
        (1.89, 1.0, False),
        (1.91, 1.0, True),
        (1.91, -1.0, True),
        (2.5, 0.0, True),
        (0.0, 0.0, False),
    ],
)
def test_a_waypoint_counts_within_35_centimetres_or_when_nearly_past(make, x, y, passed):
    env = make(num_envs=1)
    env.reset(0)
    put(env, (x, y, 0.9))  # height does not count
    env.step(zeros(env))
    assert env.goal.tolist() == [int(passed)]


def test_exactly_35_centimetres_away_or_10_before_is_not_yet_there(make):
    env = make(num_envs=1)
    for way, passed in (((0.35, 0.0), 0), ((0.349, 0.0), 1), ((0.1, 1.0), 0), ((0.099, 1.0), 1)):
        env.reset(0)
        env.waypoints[0, 0, :2] = torch.tensor(way)
        env.step(zeros(env))
        assert env.goal.tolist() == [passed], way


def test_one_waypoint_a_step_and_none_after_the_last(make):
    env = make(num_envs=2)
    env.reset(0)
    put(env, (7.0, 0.0), (15.0, 0.0))
    env.goal[1] = 4
    goals = []
    for _ in range(5):
        env.step(zeros(env))
        goals.append(env.goal.tolist())
    assert goals == [[1, 5], [2, 5], [3, 5], [3, 5], [3, 5]]


@pytest.mark.parametrize(
    ("x", "y", "reached"),
    [
        (11.01, 0.0, True),
        (10.99, 0.0, False),
        (11.0, 0.0, False),
        (11.99, 0.0, True),
        (12.01, 0.0, False),
        (11.1, 0.29, True),
        (11.1, 0.31, False),
        (11.1, -0.31, False),
        (11.5, -0.49, True),
    ],
)
def test_success_is_within_half_a_metre_of_the_destination(make, x, y, reached):
    env = make(num_envs=1)
    env.reset(0)
    put(env, (x, y, 0.9))
    *_, terminated, truncated, info = env.step(zeros(env))
    assert info["success"].tolist() == terminated.tolist() == [reached]
    assert not truncated.any()
    assert env.active.tolist() == [not reached]


def test_the_time_limit_truncates_at_its_step_and_success_or_fall_go_before(make):
    env = make(num_envs=4, episode_seconds=0.06)
    env.reset(0)
    for _ in range(2):
        *_, terminated, truncated, info = env.step(zeros(env))
        assert not (terminated | truncated).any()
    put(env, (0.0, 0.0), (11.4, 0.0), (0.0, 0.0), (11.4, 0.0))
    env.sim.state.body_force[2:, 0] = BASE_CONTACT
    *_, terminated, truncated, info = env.step(zeros(env))
    assert env.episode_length.tolist() == [3] * 4
    assert info["success"].tolist() == [
        False,
        True,
        False,
        False,
    ]  # the last one fell where it arrived
    assert info["fall"].tolist() == [False, False, True, True]
    assert terminated.tolist() == [False, True, True, True]
    assert truncated.tolist() == [True, False, False, False]
    assert info["stuck"].tolist() == [False] * 4
    assert env.active.tolist() == [False] * 4


def test_stuck_after_its_seconds_without_30_centimetres(make):
    env = make(num_envs=4, stuck_seconds=0.1, episode_seconds=0.14)
    env.reset(0)
    stuck, cut = [], []
    tracks = [[0.0] * 7, [0.0, 0.31] + [0.31] * 5, [0.3] * 7, [0.2, 0.2, 0.4, 0.4, 0.4, 0.4, 0.69]]
    for k in range(7):
        put(env, *((track[k], 0.0) for track in tracks))
        *_, truncated, info = env.step(zeros(env))
        stuck.append(info["stuck"].tolist())
        cut.append(truncated.tolist())
        if k == 5:
            # World 1 got ahead by more than 0.3 m at step 2, world 2 never, world 3 at step 3.
            assert env.best_step.tolist() == [0, 2, 0, 3]
            assert env.best_x.tolist() == pytest.approx([0.0, 0.31, 0.0, 0.4])
    # More than 0.1 s is 6 steps of 0.02 s; the time limit is step 7.
    assert stuck == [[False] * 4] * 5 + [[True, False, True, False], [False] * 4]
    assert cut[:6] == stuck[:6]
    assert cut[6] == [False, True, False, True]


def test_exactly_the_stuck_seconds_is_not_yet_stuck(make):
    seconds = (torch.tensor(5) * CONTROL_DT).item()
    env = make(num_envs=1, stuck_seconds=seconds)
    env.reset(0)
    stuck = [env.step(zeros(env))[5]["stuck"].item() for _ in range(6)]
    assert stuck == [False] * 5 + [True]


def test_stuck_gives_way_to_fall_and_success_and_joins_the_time_limit(make):
    env = make(num_envs=3, stuck_seconds=0.03, episode_seconds=0.04)
    env.reset(0)
    env.step(zeros(env))
    env.best_x[:] = 20.0
    put(env, (0.0, 0.0), (0.0, 0.0), (11.5, 0.0))
    env.sim.state.body_force[1, 0] = BASE_CONTACT
    *_, terminated, truncated, info = env.step(zeros(env))
    assert info["stuck"].tolist() == truncated.tolist() == [True, False, False]
    assert terminated.tolist() == [False, True, True]


def test_nobody_is_stuck_by_default(make):
    env = make(num_envs=1)
    env.reset(0)
    env.episode_length[:] = 900
    put(env, (0.5, 0.0))
    assert not env.step(zeros(env))[5]["stuck"].any()
    assert (env.best_step.tolist(), env.best_x.tolist()) == ([901], [0.5])


def test_finished_worlds_are_masked_and_count_nothing(make):
    env = make(num_envs=3, reward=RewardWeights(fall=-7.0))
    env.reset(0)
    env.sim.state.body_force[1, 0] = BASE_CONTACT
    _, reward, cost, terminated, _, info = env.step(zeros(env))
    assert info["active"].tolist() == [True] * 3
    assert cost.tolist() == info["cost"].tolist() == [0.0, 1.0, 0.0]
    assert terminated.tolist() == [False, True, False]
    assert reward[1].item() < -6.9
    env.sim.state.base_position[1, 0] = 11.5
    _, reward, cost, terminated, truncated, info = env.step(zeros(env))
    assert env.sim.named("step")[1][1].tolist() == [True, False, True]
    assert env.episode_length.tolist() == [2, 1, 2]
    assert cost.tolist() == info["cost"].tolist() == [0.0, 0.0, 0.0]
    assert reward[1].item() == 0.0
    assert bool((reward[[0, 2]] > 0.004).all())
    assert not (terminated | truncated).any()
    assert not (info["fall"] | info["success"] | info["stuck"]).any()
    assert info["active"].tolist() == env.active.tolist() == [True, False, True]
    put(env, (11.5, 0.0))
    env.sim.state.body_force[1, 0] = 0.0  # the finished world lies at the destination
    *_, terminated, _, info = env.step(zeros(env))
    assert info["success"].tolist() == terminated.tolist() == [True, False, False]
    env.episode_length[:] = 5000
    env.config = replace(env.config, stuck_seconds=0.1)
    *_, truncated, info = env.step(zeros(env))
    assert info["stuck"].tolist() == truncated.tolist() == [False, False, True]


def test_info_names_and_their_values(make):
    env = make(num_envs=2, courses=("flat", "simple"), shares=(1.0, 1.0))
    env.reset(0)
    put(env, (0.1, 0.2, 0.35), (0.3, -0.1, 0.36))
    observation, *_, info = env.step(zeros(env))
    names = "final_observation success fall stuck active reward_terms base_position kind cost"
    assert set(info) == set(names.split())
    torch.testing.assert_close(
        info["base_position"],
        torch.tensor([[0.1, 0.2, 0.35], [0.3, -0.1, 0.36]]),
    )
    assert info["kind"].tolist() == [0, 1]
    assert torch.equal(info["final_observation"], observation)
    assert {len(x) for x in info["reward_terms"].values()} == {2}
    assert len(info["reward_terms"]) == 14


# ---- reward --------------------------------------------------------------------------------------


def test_reward_is_the_sum_of_terms_for_20_ms_plus_one_off_payments(make, monkeypatch):
    calls = []

    def terms(*arguments):
        calls.append(arguments)
        return {"a": torch.tensor([1.0, 2.0, 3.0, 4.0]), "b": torch.tensor([-3.0, 5.0, 0.5, 1.0])}

    monkeypatch.setattr(parkour, "reward_terms", terms)
    weights = RewardWeights(fall=-7.0, success=11.0)
    env = make(num_envs=4, reward=weights)
    env.reset(0)
    first_action, velocity = torch.full((4, 12), 0.3), torch.arange(48.0).reshape(4, 12)
    env.sim.state.joint_velocity = velocity
    env.step(first_action)
    put(env, (1.9, 0.3), (0.0, 0.0), (11.5, 0.0), (3.0, -0.4))
    env.sim.state.body_force[1, 0] = BASE_CONTACT
    env.sim.state.joint_velocity = -2 * velocity
    _, reward, *_, info = env.step(torch.full((4, 12), 2.0))
    expected = [
        (1.0 - 3.0) * 0.02,
        (2.0 + 5.0) * 0.02 - 7.0,
        (3.0 + 0.5) * 0.02 + 11.0,
        (4.0 + 1.0) * 0.02,
    ]
    torch.testing.assert_close(reward, torch.tensor(expected))
    assert info["reward_terms"]["b"].tolist() == [-3.0, 5.0, 0.5, 1.0]
    state, sensed, result, direction, action, last_action, acceleration, default, given = calls[1]
    torch.testing.assert_close(state.base_position[:, 0], torch.tensor([1.9, 0.0, 11.5, 3.0]))
    assert result.fall.tolist() == [False, True, False, False]
    assert sensed.feet.shape == (4, 4, 3)
    # World 0 passed its first waypoint this step and looks at (4, 0); so do worlds 2 and 3.
    ahead = [(4.0 - 1.9, -0.3), (2.0, 0.0), (4.0 - 11.5, 0.0), (4.0 - 3.0, 0.4)]
    unit = [[x / math.hypot(x, y), y / math.hypot(x, y)] for x, y in ahead]
    torch.testing.assert_close(direction, torch.tensor(unit))
    assert bool((action == 1.0).all())  # clamped
    assert torch.equal(last_action, first_action)
    torch.testing.assert_close(acceleration, -3 * velocity / CONTROL_DT)
    torch.testing.assert_close(calls[0][6], velocity / CONTROL_DT)  # from rest
    assert default.tolist() == pytest.approx(DEFAULT_POSE)
    assert given is weights
    assert not calls[0][5].any()


def test_direction_is_nought_on_the_waypoint_itself(make, monkeypatch):
    found = []
    monkeypatch.setattr(
        parkour,
        "reward_terms",
        lambda *a: found.append(a[3]) or {"a": torch.zeros(2)},
    )
    env = make(num_envs=2)
    env.reset(0)
    env.goal[:] = 5
    put(env, (11.5, 0.0), (11.5 - 2e-5, 0.0))
    env.step(zeros(env))
    assert found[0][0].tolist() == [0.0, 0.0]
    assert found[0][1].tolist() == [1.0, 0.0]


def test_reward_of_walking_straight_ahead(make):
    env = make(num_envs=2)
    env.reset(0)
    env.sim.state.base_linear_velocity[:, 0] = torch.tensor([0.6, -0.3])
    _, reward, cost, *_ = env.step(zeros(env))
    # speed: 1.5 v / 1.2; heading: 0.5 exp(-acos(0.9999)); everything else is nought.
    heading = 0.5 * math.exp(-math.acos(0.9999))
    expected = [(1.5 * v / 1.2 + heading) * 0.02 for v in (0.6, -0.3)]
    torch.testing.assert_close(reward, torch.tensor(expected), rtol=1e-4, atol=0)
    assert cost.tolist() == [0.0, 0.0]


# ---- pushes --------------------------------------------------------------------------------------


def pushed_worlds(env, steps):
    """(episode steps done, worlds pushed) of every push within ``steps`` control steps."""
    found, done = [], 0
    first = len(env.sim.calls)
    for _ in range(steps):
        env.step(zeros(env))
    for name, arguments in env.sim.calls[first:]:
        if name == "step":
            done += 1
        elif name == "push":
            found.append((done, arguments[0].tolist()))
    return found


def test_pushes_come_every_interval_at_their_phase_but_not_early(make):
    env = make(num_envs=6, randomization=replace(OFF, pushes=True, push_interval=0.598))
    env.reset(0)
    env.push_phase[:] = torch.tensor([0, 1, 25, 26, 29, 31])
    # Never within the first 25 steps; the interval is 29.9 steps: 30; phases count within it.
    assert pushed_worlds(env, 62) == [
        (26, [3]),
        (29, [4]),
        (30, [0]),
        (31, [1, 5]),
        (55, [2]),
        (56, [3]),
        (59, [4]),
        (60, [0]),
        (61, [1, 5]),
    ]


def test_pushes_along_both_axes_fill_their_range(make):
    env = make(num_envs=3000, randomization=replace(OFF, pushes=True, push_speed=0.3))
    env.reset(0)
    env.push_phase[:], env.episode_length[:] = 100, 100
    env.active[1] = False
    env.episode_length[2] = 99
    env.step(zeros(env))
    ((ids, velocity),) = env.sim.named("push")
    assert ids.tolist() == [0, *range(3, 3000)]
    assert [name for name, _ in env.sim.calls[-2:]] == ["push", "step"]
    assert velocity.shape == (2998, 3)
    assert fills(velocity[:, 0], -0.3, 0.3)
    assert fills(velocity[:, 1], -0.3, 0.3)
    assert not velocity[:, 2].any()
    assert abs(np.corrcoef(velocity[:, 0], velocity[:, 1])[0, 1]) < 0.1


def test_default_pushes_repeat_after_200_steps_at_most_0_4(make):
    env = make(num_envs=3000, randomization=replace(OFF, pushes=True))
    env.reset(0)
    assert fills(env.push_phase, 0, 199)
    env.episode_length[:] = 200 + env.push_phase
    env.step(zeros(env))
    ((ids, velocity),) = env.sim.named("push")
    assert len(ids) == 3000
    assert fills(velocity[:, 0], -0.4, 0.4)


def test_no_pushes_when_switched_off(make):
    env = make(num_envs=1, randomization=replace(Randomization(), pushes=False))
    env.reset(0)
    env.episode_length[:] = 200 + env.push_phase
    env.step(zeros(env))
    assert env.sim.named("push") == []


# ---- restarts and the curriculum -----------------------------------------------------------------


def test_auto_reset_starts_finished_worlds_anew_and_keeps_their_final_observation(make):
    env = make(True, num_envs=3)
    pose = torch.tensor(DEFAULT_POSE)
    start = env.reset(0)
    env.sim.state.joint_position[:] = pose + 0.1
    middle = env.step(torch.full((3, 12), 0.4))[0]
    env.sim.state.joint_position[:] = pose + 0.2
    env.sim.state.joint_velocity[:] = 3.0
    env.sim.state.body_force[1, 0] = BASE_CONTACT
    env.sim.state.base_position[:, 0] = 0.9
    observation, *_, info = env.step(torch.full((3, 12), 0.8))
    final = info["final_observation"]
    torch.testing.assert_close(final[:, JOINT_OFFSET], torch.full((3, 12), 0.2))
    assert torch.equal(final[:, 46:92], middle[:, :46])
    assert torch.equal(observation[1], start[1])  # standing at the start, with no memory
    assert torch.equal(observation[[0, 2]], final[[0, 2]])
    assert env.observation is observation
    assert info["base_position"][:, 0].tolist() == pytest.approx([0.9] * 3)  # before the restart
    assert env.active.tolist() == [True] * 3
    assert env.episode_length.tolist() == [2, 0, 2]
    assert env.best_x.tolist() == pytest.approx([0.9, 0.0, 0.9])
    assert [x[0].tolist() for x in env.sim.named("write")] == [[0, 1, 2], [1]]
    assert [x[0].tolist() for x in env.sim.named("assign")] == [[0, 1, 2], [1]]
    assert not env.last_action[1].any()
    assert not env.last_joint_velocity[1].any()
    assert bool((env.last_action[[0, 2]] == 0.8).all())
    assert bool((env.last_joint_velocity[[0, 2]] == 3.0).all())
    following = env.step(zeros(env))[0]
    assert torch.equal(following[:, 46:92], observation[:, :46])
    assert torch.equal(following[:, 92:138], observation[:, 46:92])
    assert env.sim.named("step")[2][1] is None


def test_without_auto_reset_nothing_is_written(make):
    env = make(num_envs=2)
    env.reset(0)
    env.sim.state.body_force[1, 0] = BASE_CONTACT
    env.step(zeros(env))
    assert len(env.sim.named("write")) == 1
    assert env.active.tolist() == [True, False]


def test_a_restarted_world_measures_with_noise_and_its_new_map_error(make):
    noise = replace(OFF, sensor_noise=True)
    env, quiet = make(True, num_envs=3000, randomization=noise), make(num_envs=3000)
    plain = quiet.reset(0)
    env.reset(0)
    before = env.map_offset.clone()
    env.sim.state.body_force[1:, 0] = BASE_CONTACT
    observation = env.step(zeros(env))[0]
    assert torch.equal(env.map_offset[0], before[0])
    assert fills(env.map_offset[1:, 0], -0.02, 0.02)
    assert (env.map_offset[1:] == before[1:]).float().mean() < 0.01
    difference = (observation - plain)[1:]
    difference[:, SCAN] -= 2.5 * env.map_offset[1:]
    difference[:, FEET] -= 5.0 * env.map_offset[1:]
    for k, width in (
        (0, 0.05),
        (3, 0.03),
        (6, 0.01),
        (17, 0.01),
        (18, 0.05),
        (144, 0.05),
        (228, 0.05),
        (229, 0.05),
    ):
        assert fills(difference[:, k], -width, width), k
    assert not difference[:, 30:46].any()
    assert not difference[:, WAYPOINTS].any()
    assert torch.equal(difference[:, 46:92], difference[:, :46])
    assert torch.equal(difference[:, 92:138], difference[:, :46])
    drawn = difference[:, [0, 3, 6, 150, 229]].double().numpy()
    assert np.abs(np.corrcoef(drawn.T) - np.eye(5)).max() < 0.1


def test_restarted_worlds_have_their_own_waypoints_and_map(make):
    """Worlds 1 and 2 restart on a stone of their own course; their observations are from there."""
    env = make(True, num_envs=3, courses=("simple",), variants=3, random_start=1.0)
    env.reset(0)
    env.sim.state.body_force[1:, 0] = BASE_CONTACT
    observation = env.step(zeros(env))[0]
    written = env.sim.named("write")[1][1].base_position
    for row, world in enumerate((1, 2)):
        course, goal = env.courses[world], int(env.goal[world])
        for k, number in enumerate((goal, min(goal + 1, 7))):
            dx, dy = course.waypoints[number][:2] - written[row, :2].numpy()
            found = observation[world, 138 + 3 * k : 141 + 3 * k].tolist()
            distance = math.hypot(dx, dy)
            assert found == pytest.approx(
                [dx / distance, dy / distance, min(distance / 2, 1.0)],
                abs=1e-5,
            )
        # The scan's point below the base: column 0.0 m ahead (number 4), 0.0 m aside (number 2).
        top = course.waypoints[goal - 1][2]
        height = (written[row, 2].item() - 0.3 - top) * 2.5
        assert observation[world, 144 + 4 * 5 + 2].item() == pytest.approx(height, abs=1e-5)


def curriculum(make, **options):
    return make(
        True,
        num_envs=7,
        courses=("flat", "simple"),
        shares=(1.0, 1.0),
        curriculum=True,
        levels=5,
        **options,
    )


def test_levels_rise_on_success_and_fall_after_an_early_end(make):
    env = curriculum(make)
    env.reset(0)
    env.kind_ids[:], env.course_ids[:] = 0, 0  # flat: 11.5 m to the destination
    env.levels[:] = torch.tensor([[2, 3]] * 7)
    env.levels[6, 0] = 0
    env.start_x[3:5] = 2.0  # 9.5 m to go
    # Early is below 0.4 of the way: 4.6 m from the start at 0, 3.8 m from the start at 2.
    put(env, (11.4, 0.0), (4.5, 0.0), (4.7, 0.0), (5.7, 0.0), (5.9, 0.0), (0.0, 0.0), (0.5, 0.0))
    env.sim.state.body_force[[1, 2, 3, 4, 6], 0] = BASE_CONTACT
    env.step(zeros(env))
    # World 5 is still under way; level 0 is the lowest; the other kind keeps its level.
    assert env.levels.tolist() == [[3, 3], [1, 3], [2, 3], [1, 3], [2, 3], [2, 3], [0, 3]]
    ids, course, _ = env.sim.named("assign")[1]
    assert ids.tolist() == [0, 1, 2, 3, 4, 6]
    # Courses: five levels of flat, then five of simple; the level after the update counts.
    levels = env.levels.gather(1, env.kind_ids[:, None])[:, 0]
    assert course.tolist() == (env.kind_ids * 5 + levels)[ids].tolist()
    assert torch.equal(env.course_ids[ids], course)
    assert env.course_ids[5].item() == 0


def test_exactly_four_tenths_of_the_way_is_not_early(make):
    env = curriculum(make)
    env.reset(0)
    env.kind_ids[:], env.course_ids[:], env.levels[:] = 0, 0, 2
    env.best_x[:2] = torch.tensor([11.5, 11.4]) * 0.4
    env.sim.state.body_force[:2, 0] = BASE_CONTACT
    env.step(zeros(env))
    assert env.levels[:2, 0].tolist() == [2, 1]


def test_all_draws_are_from_the_environments_own_generator(make):
    env = curriculum(make, randomization=Randomization(), random_start=0.5)
    before = torch.get_rng_state()
    env.reset(0)
    env.episode_length[:] = 200 + env.push_phase
    env.kind_ids[:], env.course_ids[:], env.levels[:] = 0, 0, 4
    put(env, (11.5, 0.0), (11.5, 0.0), (11.5, 0.0))
    env.step(zeros(env))
    assert len(env.sim.named("push")) == 1
    assert bool((env.levels[:3, 0] >= 2).all())  # from the top back to the upper half
    assert torch.equal(torch.get_rng_state(), before)


@needs_torch_2
def test_every_tensor_is_made_on_the_simulators_device(make):
    """With another default device, a tensor made without naming one would not fit the others."""
    env = curriculum(make, randomization=Randomization(), random_start=0.5)
    env.reset(0)
    at_the_end = env.sim.state.base_position.clone()
    at_the_end[:3, 0] = 11.5
    action = zeros(env)
    with torch.device("meta"):
        env.reset(0)
        env.episode_length[:] = 200 + env.push_phase
        env.kind_ids[:], env.course_ids[:] = 0, 0
        env.sim.state.base_position[:] = at_the_end
        observation, reward, cost, terminated, truncated, info = env.step(action)
        critic = env.privileged()
        returned = env.load_state_dict(env.state_dict())
    assert terminated.sum() == 3
    assert len(env.sim.named("push")) == 1
    found = (observation, reward, cost, terminated, truncated, critic, returned)
    assert {x.device.type for x in found} == {"cpu"}
    inside = [*info["reward_terms"].values(), *(v for v in info.values() if torch.is_tensor(v))]
    assert {x.device.type for x in inside} == {"cpu"}
    for _, arguments in env.sim.calls[:-1]:
        kept = [x for x in arguments if torch.is_tensor(x)]
        kept += [y for x in arguments if isinstance(x, dict) for y in x.values()]
        kept += [y for x in arguments if isinstance(x, RobotState) for y in vars(x).values()]
        assert {x.device.type for x in kept} == {"cpu"}


def test_an_early_success_still_rises(make):
    env = curriculum(make)
    env.reset(0)
    env.kind_ids[:], env.course_ids[:], env.levels[:, 0] = 0, 0, 1
    env.start_x[:] = 11.3
    put(env, (11.3, 0.0))
    env.best_x[:] = 11.3
    env.step(zeros(env))
    assert env.levels[0, 0].item() == 2


def test_levels_of_the_second_kind_and_its_own_length(make):
    env = curriculum(make)
    env.reset(0)
    env.kind_ids[:], env.course_ids[:] = 1, 9
    env.levels[:] = torch.tensor([[4, 2]] * 7)
    length = float(env.courses[9].destination[0])
    put(env, (0.4 * length - 0.05, 0.0), (0.4 * length + 0.05, 0.0))
    env.sim.state.body_force[:2, 0] = BASE_CONTACT
    env.step(zeros(env))
    assert env.levels.tolist() == [[4, 1]] + [[4, 2]] * 6


def test_levels_stay_without_a_curriculum(make):
    env = make(True, num_envs=2)
    env.reset(0)
    put(env, (11.4, 0.0))
    env.step(zeros(env))
    assert env.levels.tolist() == [[0], [0]]


# ---- privileged ----------------------------------------------------------------------------------


def test_privileged_layout(make):
    env = make(num_envs=2, courses=("flat", "simple"), shares=(1.0, 1.0), episode_seconds=0.2)
    env.reset(0)
    quaternion = np.array([0.7, 0.3, -0.4, 0.5])
    quaternion /= np.linalg.norm(quaternion)
    course = env.courses[1]
    x, y, top = course.waypoints[2]
    assert abs(top) > 0.01
    put(env, (0.2, 0.1, 0.6), (x, y, 0.5))
    state = env.sim.state
    state.base_quaternion[:] = torch.tensor(quaternion)
    velocity = np.array([[0.7, -0.4, 0.2], [0.1, 0.5, -0.3]])
    state.base_linear_velocity = torch.tensor(velocity, dtype=torch.float32)
    state.foot_force = torch.tensor([[10.0, 20.0, 30.0, 40.0], [5.0, 0.0, 7.0, 90.0]])
    for _ in range(3):
        env.active[:] = True
        env.step(zeros(env))
    env.dynamics.friction[:] = torch.tensor([0.8, 1.1])
    env.dynamics.payload[:] = torch.tensor([-0.6, 1.4])
    env.dynamics.motor_strength[:] = torch.tensor([0.93, 1.07])
    env.delay[:] = torch.tensor([0.004, 0.012])
    body = [turn_back(quaternion, v) for v in velocity]
    expected = [
        [*body[0], 0.1, 0.2, 0.3, 0.4, 0.8, -0.3, 0.93, 0.2, 0.6, 0.7, 1.0],
        [*body[1], 0.05, 0.0, 0.07, 0.9, 1.1, 0.7, 1.07, 0.6, 0.5 - top, 0.7, 0.0],
    ]
    found = env.privileged()
    assert found.shape == (2, 14)
    torch.testing.assert_close(
        found,
        torch.tensor(np.array(expected), dtype=torch.float32),
        rtol=1e-5,
        atol=2e-6,
    )


def test_privileged_after_reset_and_after_a_restart_is_of_the_fresh_world(make):
    env = make(True, num_envs=2)
    env.reset(0)
    fresh = env.privileged()
    expected = [0.0] * 7 + [1.0, 0.0, 1.0, 0.0, START_HEIGHT, 1.0, 1.0]
    assert fresh[0].tolist() == pytest.approx(expected)
    put(env, (0.5, 0.0, 0.5), (0.5, 0.0, 0.5))
    env.sim.state.base_linear_velocity[:] = torch.tensor([0.4, 0.0, 0.0])
    env.sim.state.foot_force[:] = 50.0
    # Facing left.
    env.sim.state.base_quaternion[:] = torch.tensor([math.sqrt(0.5), 0.0, 0.0, math.sqrt(0.5)])
    env.sim.state.body_force[1, 0] = BASE_CONTACT
    env.step(zeros(env))
    found = env.privileged()
    moving = [0.0, -0.4, 0.0, 0.5, 0.5, 0.5, 0.5, 1.0, 0.0, 1.0, 0.0, 0.5, 0.999, 1.0]
    assert found[0].tolist() == pytest.approx(moving, abs=1e-6)
    assert found[1].tolist() == pytest.approx(expected, abs=1e-6)
    assert not env._state.body_force[1].any()


def test_privileged_height_after_a_restart_on_another_stone(make):
    env = make(True, num_envs=1, courses=("simple",), random_start=1.0)
    env.reset(0)
    for _ in range(4):
        env.sim.state.body_force[0, 0] = BASE_CONTACT
        env.step(zeros(env))
        assert env.privileged()[0, 11].item() == pytest.approx(START_HEIGHT, abs=1e-5)
    env.sim.state.base_quaternion[:] = torch.tensor([[0.0, 0.0, 0.0, 1.0]])
    env.step(zeros(env))
    env.sim.state.body_force[0, 0] = BASE_CONTACT
    env.step(zeros(env))
    assert env.privileged()[0, 0].item() == pytest.approx(
        env.sim.state.base_linear_velocity[0, 0].item(),
        abs=1e-6,
    )


# ---- saving --------------------------------------------------------------------------------------

_NAMES = (
    "course_ids kind_ids levels goal episode_length active last_action frames last_joint_velocity "
    "map_offset delay push_phase best_x best_step start_x observation"
)
BUFFERS = set(_NAMES.split())


def filled(env):
    """Give every buffer numbers of its own."""
    env.reset(0)
    for k, name in enumerate(sorted(BUFFERS)):
        value = getattr(env, name)
        if name in ("course_ids", "kind_ids", "active", "goal"):
            value[:] = torch.tensor([1, 0, 1]).to(value.dtype)
        else:
            value[:] = (torch.arange(value.numel()) % 7 + k).reshape(value.shape).to(value.dtype)
    env.dynamics.friction[:] = torch.tensor([0.5, 0.6, 0.7])
    env.dynamics.payload[:] = torch.tensor([1.5, 1.6, 1.7])
    env.dynamics.motor_strength[:] = torch.tensor([0.95, 0.96, 0.97])
    put(env, (0.1, 0.2), (0.3, 0.4), (0.5, 0.6))
    return env


def test_state_dict_has_everything_as_copies(make):
    env = filled(make(variants=2, courses=("flat", "simple"), shares=(0.5, 0.5)))
    kept = {name: getattr(env, name).clone() for name in BUFFERS}
    saved = env.state_dict()
    for name in BUFFERS:
        getattr(env, name).zero_()
    for value in vars(env.dynamics).values():
        value.zero_()
    assert set(saved) == {"buffers", "dynamics", "generator", "simulator"}
    assert set(saved["buffers"]) == BUFFERS
    for name, value in saved["buffers"].items():
        assert torch.equal(value, kept[name]), name
    assert saved["dynamics"]["friction"].tolist() == pytest.approx([0.5, 0.6, 0.7])
    assert saved["dynamics"]["payload"].tolist() == pytest.approx([1.5, 1.6, 1.7])
    assert saved["dynamics"]["motor_strength"].tolist() == pytest.approx([0.95, 0.96, 0.97])
    assert torch.equal(saved["generator"], env.generator.get_state())
    torch.testing.assert_close(
        saved["simulator"]["world"].base_position[2, :2],
        torch.tensor([0.5, 0.6]),
    )


def test_load_state_dict_restores_every_buffer_as_a_copy(make):
    options = {"variants": 2, "courses": ("flat", "simple"), "shares": (0.5, 0.5)}
    source = filled(make(**options))
    source.generator.manual_seed(77)
    saved = source.state_dict()
    env = make(**options)
    env.reset(5)
    env.sim.calls.clear()
    returned = env.load_state_dict(saved)
    assert torch.equal(returned, source.observation)
    assert returned is env.observation
    names = [name for name, _ in env.sim.calls]
    assert names == ["assign", "load_state_dict"]
    ids, course, dynamics = env.sim.named("assign")[0]
    assert (ids.tolist(), course.tolist()) == ([0, 1, 2], [1, 0, 1])
    assert dynamics["payload"].tolist() == pytest.approx([1.5, 1.6, 1.7])
    for value in saved["buffers"].values():
        value.zero_()
    for value in saved["dynamics"].values():
        value.zero_()
    for name in BUFFERS:
        assert torch.equal(getattr(env, name), getattr(source, name)), name
    for name, value in vars(env.dynamics).items():
        assert torch.equal(value, getattr(source.dynamics, name)), name
    assert torch.equal(env.generator.get_state(), source.generator.get_state())
    torch.testing.assert_close(env.sim.state.base_position, source.sim.state.base_position)
    # What a critic sees is of the restored state and course.
    assert env.privileged()[:, 11].tolist() == pytest.approx([START_HEIGHT] * 3)
    torch.testing.assert_close(env._state.base_position, source.sim.state.base_position)


def test_a_saved_environment_goes_on_alike(make):
    options = {
        "num_envs": 3,
        "courses": ("simple",),
        "variants": 2,
        "randomization": Randomization(),
    }
    a, b = make(True, **options), make(True, **options)
    a.reset(3)
    b.reset(4)
    a.step(torch.full((3, 12), 0.2))
    b.load_state_dict(a.state_dict())
    for env in (a, b):
        env.sim.state.joint_velocity[:] = 0.5
        env.sim.state.body_force[1, 0] = BASE_CONTACT
    x, y = a.step(torch.full((3, 12), -0.4)), b.step(torch.full((3, 12), -0.4))
    for k in range(5):
        assert torch.equal(x[k], y[k]), k
    assert torch.equal(a.privileged(), b.privileged())


def test_a_state_of_another_number_of_worlds_is_refused(make):
    two, three = make(num_envs=2), make(num_envs=3)
    two.reset(0)
    with pytest.raises(ValueError, match="the saved environment has 2 worlds, expected 3"):
        three.load_state_dict(two.state_dict())
