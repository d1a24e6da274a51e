import warnings

import gymnasium
import numpy as np
import pytest
import torch

from go2_sevpo.envs import go2
from go2_sevpo.envs.go2.config import ParkourConfig, Randomization
from go2_sevpo.envs.go2.description import robot as r
from go2_sevpo.envs.go2.description.geometry import from_roll_yaw
from go2_sevpo.envs.go2.observations import observation_spec
from go2_sevpo.envs.go2.parkour import Go2Parkour
from go2_sevpo.envs.go2.symmetry import action_mirror, observation_mirror
from go2_sevpo.envs.simulators.base import RobotState

DEFAULT = torch.tensor(r.DEFAULT_JOINT_POSITIONS)


@pytest.fixture
def make():
    made = []

    def build(auto_reset=False, **options):
        options = {"num_envs": 4, "variants": 4, "threads": 1, **options}
        made.append(Go2Parkour(ParkourConfig(**options), auto_reset))
        return made[-1]

    yield build
    for env in made:
        env.close()


def pose(x, y=0.0, z=0.33, roll=0.0, n=1):
    z3, z12 = torch.zeros(n, 3), torch.zeros(n, 12)
    quat = from_roll_yaw(torch.full((n,), roll), torch.zeros(n))
    return RobotState(
        torch.tensor([[x, y, z]]).repeat(n, 1),
        quat,
        z3,
        z3,
        DEFAULT.repeat(n, 1),
        z12,
        z12,
        z12[:, :4],
        z12[:, :9],
    )


def bent(state, joints, legs=(0, 1, 2, 3)):
    """The same state with (thigh, calf) of some legs set."""
    state.joint_position = state.joint_position.clone()
    for leg in legs:
        state.joint_position[:, 3 * leg + 1 : 3 * leg + 3] = torch.tensor(joints)
    return state


def zeros(env):
    return torch.zeros(env.num_envs, 12)


def test_observation_layout_has_no_true_velocity_and_the_stated_size(make):
    env = make()
    obs = env.reset(0)
    spec = observation_spec()
    assert obs.shape == (4, spec.size) == (4, 265)
    assert not any("linear_velocity" in f.name for f in spec.fields)
    assert torch.isfinite(obs).all()


def test_history_shifts_by_one_frame_each_step(make):
    env = make(randomization=Randomization.off())
    first = env.reset(0)
    second = env.step(zeros(env) + 0.2)[0]
    third = env.step(zeros(env) - 0.2)[0]
    assert torch.equal(second[:, 46:92], first[:, :46])
    assert torch.equal(third[:, 92:138], first[:, :46])
    assert torch.equal(third[:, 46:92], second[:, :46])


def test_reaching_the_destination_is_success_and_ends_the_episode(make):
    env = make(courses=("flat",))
    env.reset(0)
    env.sim.write(torch.tensor([1]), pose(11.3))
    *_, terminated, truncated, info = env.step(zeros(env))
    assert info["success"].tolist() == [False, True, False, False]
    assert terminated.tolist() == [False, True, False, False]
    assert not truncated.any()


@pytest.mark.parametrize(
    ("state", "why"),
    [
        (pose(1.0, roll=1.5, z=0.3), "tilt"),
        (bent(pose(0.5, z=0.055), (3.0, -2.7)), "base contact"),
        (pose(1.0, z=-0.6), "under the stones"),
    ],
)
def test_falls_terminate_and_cost(make, state, why):
    env = make()
    env.reset(0)
    env.sim.write(torch.tensor([2]), state)
    _, reward, cost, terminated, _, info = env.step(zeros(env))
    assert info["fall"].tolist() == [False, False, True, False], why
    assert terminated[2]
    assert cost.tolist() == [0, 0, 1, 0]
    assert reward[2] < -1.0


def test_a_foot_in_a_gap_costs_without_a_fall(make):
    env = make(randomization=Randomization.off())
    env.reset(0)
    edge = env.courses[int(env.course_ids[0])].gaps[0][0]
    env.sim.write(
        torch.tensor([0]), bent(pose(edge - 0.17 + 0.12, z=0.2), (1.3, -2.3), legs=(2, 3))
    )
    _, _, cost, terminated, _, info = env.step(zeros(env))
    assert cost[0] == 1
    assert not info["fall"][0]
    assert not terminated[0]
    assert cost[1:].sum() == 0


def test_time_limit_truncates_and_is_no_terminal(make):
    env = make(episode_seconds=0.1)
    env.reset(0)
    for _ in range(5):
        *_, terminated, truncated, info = env.step(zeros(env))
    assert truncated.all()
    assert not terminated.any()
    assert not env.active.any()
    assert not info["stuck"].any()


def test_finished_worlds_stand_still_and_count_nothing(make):
    env = make()
    env.reset(0)
    env.sim.write(torch.tensor([0]), pose(1.0, z=-0.6))
    env.step(zeros(env))
    before = env.sim.read().base_position[0].clone()
    _, reward, cost, terminated, truncated, info = env.step(zeros(env))
    assert torch.equal(env.sim.read().base_position[0], before)
    assert reward[0] == cost[0] == 0
    assert not (terminated[0] or truncated[0] or info["active"][0])


def test_auto_reset_gives_the_true_final_observation(make):
    env = make(auto_reset=True, randomization=Randomization.off())
    env.reset(0)
    env.sim.write(torch.tensor([3]), pose(1.0, z=-0.6, roll=0.4))
    obs, *_, info = env.step(zeros(env))
    gravity = slice(3, 6)
    assert info["fall"][3]
    assert info["final_observation"][3, gravity][1].abs() > 0.3  # still rolled over
    assert obs[3, gravity][1].abs() < 0.05  # standing on a fresh start
    assert torch.equal(obs[:3], info["final_observation"][:3])
    assert env.episode_length.tolist() == [1, 1, 1, 0]


def test_stuck_episodes_are_truncated_when_asked(make):
    env = make(stuck_seconds=0.1)
    env.reset(0)
    stuck = torch.zeros(4, dtype=torch.bool)
    for _ in range(7):
        *_, info = env.step(zeros(env))
        stuck |= info["stuck"]
    assert stuck.all()


def test_same_seed_repeats_bit_for_bit_and_another_differs(make):
    env = make()

    def run(seed):
        out = [env.reset(seed)]
        generator = torch.Generator().manual_seed(1)
        for _ in range(20):
            out.append(env.step(0.3 * torch.randn(4, 12, generator=generator))[0])
        return torch.stack(out)

    a, b, c = run(5), run(5), run(6)
    assert torch.equal(a, b)
    assert not torch.equal(a, c)


def test_saved_environment_goes_on_bit_for_bit(make):
    options = {
        "courses": ("simple", "hard"),
        "shares": (0.5, 0.5),
        "curriculum": True,
        "levels": 3,
        "variants": 2,
        "random_start": 0.5,
    }
    a, b = make(True, **options), make(True, **options)
    a.reset(3)
    b.reset(9)
    generator = torch.Generator().manual_seed(1)
    actions = [0.5 * torch.randn(4, 12, generator=generator).clamp(-1, 1) for _ in range(120)]
    for action in actions[:60]:
        a.step(action)
    b.load_state_dict(a.state_dict())
    for action in actions[60:]:
        x, y = a.step(action), b.step(action)
        assert torch.equal(x[0], y[0])
        assert torch.equal(x[1], y[1])


@pytest.mark.parametrize(
    "part",
    ["friction", "payload", "motor_strength", "delay", "pushes", "sensor_noise", "start_pose"],
)
def test_each_randomisation_acts_alone(make, part):
    from dataclasses import replace

    off = make(randomization=Randomization.off())
    on = make(randomization=replace(Randomization.off(), **{part: True}, push_interval=0.4))
    results = []
    for env in (off, on):
        env.reset(4)
        for _ in range(60):
            out = env.step(zeros(env) + 0.1 * torch.sin(torch.arange(12.0)))[0]
        results.append(out)
    assert not torch.equal(results[0], results[1])
    touched = {
        "friction": on.dynamics.friction != 1,
        "payload": on.dynamics.payload != 0,
        "motor_strength": on.dynamics.motor_strength != 1,
        "delay": on.delay != 0,
    }
    for name, changed in touched.items():
        assert bool(changed.all()) == (name == part), name


def test_mirrored_robot_sees_the_mirrored_observation(make):
    env = make(courses=("flat",), num_envs=2, variants=2, randomization=Randomization.off())
    env.reset(0)
    generator = torch.Generator().manual_seed(0)
    index, sign = action_mirror()
    offset = 0.3 * torch.randn(1, 12, generator=generator)
    velocity = torch.randn(1, 12, generator=generator)
    a = pose(3.0, 0.2, 1.0, roll=0.2)
    a.joint_position, a.joint_velocity = DEFAULT + offset, velocity
    a.base_angular_velocity = torch.tensor([[0.3, 0.5, -0.7]])
    b = pose(3.0, -0.2, 1.0, roll=-0.2)
    b.joint_position, b.joint_velocity = (
        DEFAULT + offset[:, index] * sign,
        velocity[:, index] * sign,
    )
    b.base_angular_velocity = torch.tensor([[-0.3, 0.5, 0.7]])
    env.sim.write(torch.tensor([0]), a)
    env.sim.write(torch.tensor([1]), b)
    action = 0.2 * torch.randn(1, 12, generator=generator)
    obs = env.step(torch.cat([action, action[:, index] * sign]))[0]
    o_index, o_sign = observation_mirror()
    assert torch.allclose(obs[0, o_index] * o_sign, obs[1], atol=2e-2)
    assert (obs[0] - obs[1]).abs().max() > 0.2
    assert torch.equal((obs[:, o_index] * o_sign)[:, o_index] * o_sign, obs)  # twice is nothing


def test_bad_actions_are_refused(make):
    env = make()
    env.reset(0)
    with pytest.raises(ValueError, match=r"action has shape \(4, 3\), expected \(4, 12\)"):
        env.step(torch.zeros(4, 3))
    bad = zeros(env)
    bad[0, 0] = float("nan")
    with pytest.raises(ValueError, match="not finite"):
        env.step(bad)


def test_bad_configurations_are_refused():
    with pytest.raises(ValueError, match="unknown course 'x'"):
        ParkourConfig(courses=("x",))
    with pytest.raises(ValueError, match="2 shares for 1 courses"):
        ParkourConfig(shares=(0.5, 0.5))


def test_gymnasium_checker_accepts_the_registered_environment():
    from gymnasium.utils.env_checker import check_env

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a newer version: -v2
        env = gymnasium.make(go2.ENV_ID, course="hard")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        check_env(env.unwrapped, skip_render_check=True)
    obs, info = env.reset(seed=3)
    again, _ = env.reset(seed=3)
    assert np.array_equal(obs, again)
    out = env.step(env.action_space.sample())
    assert "cost" in out[4]
    env.close()
