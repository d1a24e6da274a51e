"""One episode per world: what is recorded, in which order, and what a policy is given."""

from types import SimpleNamespace

import gymnasium
import numpy as np
import pytest
import torch

from go2_sevpo.envs.go2 import gym_env, parkour, rollout
from go2_sevpo.envs.go2.config import ParkourConfig
from go2_sevpo.envs.go2.gym_env import Go2ParkourGym
from go2_sevpo.envs.go2.parkour import Go2Parkour
from go2_sevpo.envs.go2.rollout import onnx_policy, run_episodes
from go2_sevpo.envs.seeds import GYMNASIUM
from go2_sevpo.envs.simulators.base import Dynamics
from tests.conftest import needs_torch_2
from tests.envs.fake_simulator import DEFAULT_POSE, FakeSimulator


class ScriptedEnvironment:
    """Three worlds that end after 3, 1 and 2 steps: fall with cost, time-out, success.

    The observation of world i after k steps is (i, k); its reward is 10 i + k.
    """

    ends = [3, 1, 2]
    num_envs, num_actions, device = 3, 12, torch.device("cpu")

    def __init__(self, first="fall"):
        order = ["fall", "timeout", "success"]
        self.outcomes = [order[(order.index(first) + k) % 3] for k in range(3)]
        self.courses = [
            SimpleNamespace(
                kind=kind,
                seed=seed,
                difficulty=difficulty,
                destination=np.array([x, 0.0, 0.0]),
            )
            for kind, seed, difficulty, x in (
                ("flat", 0, 1.0, 11.5),
                ("simple", 41, 0.5, 12.25),
                ("hard", 42, 0.75, 10.75),
            )
        ]
        self.actions, self.seeds = [], []
        self.last_action = torch.zeros(3, 12)

    def observe(self):
        return torch.tensor([[float(i), float(k)] for i, k in enumerate(self.steps)])

    def reset(self, seed):
        self.seeds.append(seed)
        self.steps = [0, 0, 0]
        self.active = torch.tensor([True] * 3)
        self.start_x = torch.tensor([0.5, -0.25, 0.0])
        self.course_ids = torch.tensor([2, 0, 1])
        self.dynamics = Dynamics(
            torch.tensor([0.75, 1.0, 1.25]),
            torch.tensor([-1.0, 0.5, 2.0]),
            torch.tensor([0.875, 1.0, 1.125]),
        )
        return self.observe()

    def step(self, action):
        self.actions.append(action.clone())
        was = self.active.clone()
        self.steps = [k + int(a) for k, a in zip(self.steps, was.tolist())]
        done = torch.tensor([k == end for k, end in zip(self.steps, self.ends)]) & was
        fall, timeout, success = (
            done & torch.tensor([outcome == name for outcome in self.outcomes])
            for name in ("fall", "timeout", "success")
        )
        self.active = was & ~done
        live = was.float()
        reward = torch.tensor([10.0 * i + k for i, k in enumerate(self.steps)]) * live
        cost = torch.tensor([float(k >= 2) for k in self.steps]) * live
        # Finished worlds drift off, which must not be recorded.
        x = [k + 0.25 * i + 7.0 * (not a) for i, (k, a) in enumerate(zip(self.steps, was.tolist()))]
        position = torch.tensor([[v, 0.12343 * v, 0.3] for v in x])
        info = {"active": was, "success": success, "fall": fall, "base_position": position}
        self.start_x[:] = 99.0  # the start kept is the one of the reset
        return self.observe(), reward, cost, fall | success, timeout, info


def policy_with_records():
    calls = []

    def policy(observations, spent):
        calls.append((observations.tolist(), spent.tolist()))
        action = observations[:, :1] * 0.5 + observations[:, 1:] * 0.75 - 1.25
        return action.repeat(1, 12), observations[:, 0] + 100.0

    return policy, calls


def test_records_of_three_episodes():
    env = ScriptedEnvironment()
    policy, calls = policy_with_records()
    result = run_episodes(env, policy, 17)
    assert env.seeds == [17]
    assert result.steps == 3 + 1 + 2
    assert result.columns == {}
    common = {"success": False, "fall": False, "timeout": False}
    assert result.episodes == [
        {
            **common,
            "course": "hard",
            "course_seed": 42,
            "difficulty": 0.75,
            "length": 3,
            "return": 1.0 + 2.0 + 3.0,
            "cost": 2.0,
            "fall": True,
            "end_position": [3.0, 0.3703, 0.3],
            "progress": round((3.0 - 0.5) / (10.75 - 0.5), 4),
            "friction": 0.75,
            "payload": -1.0,
            "motor_strength": 0.875,
        },
        {
            **common,
            "course": "flat",
            "course_seed": 0,
            "difficulty": 1.0,
            "length": 1,
            "return": 11.0,
            "cost": 0.0,
            "timeout": True,
            "end_position": [1.25, 0.1543, 0.3],
            "progress": round((1.25 + 0.25) / (11.5 + 0.25), 4),
            "friction": 1.0,
            "payload": 0.5,
            "motor_strength": 1.0,
        },
        {
            **common,
            "course": "simple",
            "course_seed": 41,
            "difficulty": 0.5,
            "length": 2,
            "return": 21.0 + 22.0,
            "cost": 1.0,
            "success": True,
            "end_position": [2.5, 0.3086, 0.3],
            "progress": round(2.5 / 12.25, 4),
            "friction": 1.25,
            "payload": 2.0,
            "motor_strength": 1.125,
        },
    ]
    types = {name: type(value) for name, value in result.episodes[0].items()}
    assert {types["length"], types["course_seed"]} == {int}
    assert {types["success"], types["fall"], types["timeout"]} == {bool}
    # Only active worlds are asked, with the cost their episode has had so far.
    assert calls == [
        ([[0.0, 0.0], [1.0, 0.0], [2.0, 0.0]], [0.0, 0.0, 0.0]),
        ([[0.0, 1.0], [2.0, 1.0]], [0.0, 0.0]),
        ([[0.0, 2.0]], [1.0]),
    ]


@pytest.mark.parametrize("first", ["fall", "timeout", "success"])
def test_an_outcome_is_remembered_until_the_last_world_ends(first):
    env = ScriptedEnvironment(first)
    result = run_episodes(env, policy_with_records()[0], 0)
    for outcome, record in zip(env.outcomes, result.episodes):
        found = {name for name in ("fall", "timeout", "success") if record[name]}
        assert found == {outcome}


def test_actions_are_clamped_and_nought_for_finished_worlds():
    env = ScriptedEnvironment()
    run_episodes(env, policy_with_records()[0], 0)
    # 0.5 i + 0.75 k - 1.25 in [-1, 1].
    assert [a[:, 0].tolist() for a in env.actions] == [
        [-1.0, -0.75, -0.25],
        [-0.5, 0.0, 0.5],
        [0.25, 0.0, 0.0],
    ]
    assert all(a.shape == (3, 12) and bool((a == a[:, :1]).all()) for a in env.actions)
    env = ScriptedEnvironment()
    run_episodes(env, lambda o, c: (torch.full((len(o), 12), 3.0), c), 0)
    assert env.actions[2][:, 5].tolist() == [1.0, 0.0, 0.0]


def test_the_last_action_is_held_where_an_observation_is_not_finite():
    env = ScriptedEnvironment()
    env.last_action = torch.arange(36.0).reshape(3, 12) / 100
    real_step, seen, values = env.step, [], []

    def step(action):
        observation, *rest = real_step(action)
        observation[0] = float("nan") if len(env.actions) == 1 else observation[0]
        return (observation, *rest)

    def policy(observations, spent):
        seen.append(len(observations))
        return torch.full((len(observations), 12), 0.5), torch.ones(len(observations))

    env.step = step
    result = run_episodes(env, policy, 0, each_step=lambda e, v, i: values.append(v.tolist()))
    assert result.held == 1
    assert seen == [3, 1, 1]  # world 0 was blind in the second step, world 1 had ended
    assert env.actions[1][0].tolist() == env.last_action[0].tolist()
    assert env.actions[1][2].tolist() == [0.5] * 12 and env.actions[2][0].tolist() == [0.5] * 12
    assert values[1] == [float("inf"), 0.0, 1.0]
    assert run_episodes(ScriptedEnvironment(), lambda o, c: policy(o, c), 0).held == 0


def test_columns_go_world_by_world():
    env = ScriptedEnvironment()
    columns = run_episodes(env, policy_with_records()[0], 0, keep=True).columns
    names = "observations next_observations actions rewards costs terminals timeouts"
    assert set(columns) == set(names.split())
    assert columns["observations"].tolist() == [[0, 0], [0, 1], [0, 2], [1, 0], [2, 0], [2, 1]]
    assert columns["next_observations"].tolist() == [[0, 1], [0, 2], [0, 3], [1, 1], [2, 1], [2, 2]]
    assert columns["actions"].shape == (6, 12)
    assert columns["actions"][:, 3].tolist() == [-1.0, -0.5, 0.25, -0.75, -0.25, 0.5]
    assert columns["rewards"].tolist() == [1, 2, 3, 11, 21, 22]
    assert columns["costs"].tolist() == [0, 1, 1, 0, 0, 1]
    assert columns["terminals"].tolist() == [0, 0, 1, 0, 0, 1]
    assert columns["timeouts"].tolist() == [0, 0, 0, 1, 0, 0]
    assert {c.dtype.name for c in columns.values()} == {"float32"}
    for name in ("rewards", "costs", "terminals", "timeouts"):
        assert columns[name].base is None, name  # an array of its own, not a view of all four


def test_each_step_sees_the_environment_its_values_and_its_info():
    env, seen = ScriptedEnvironment(), []
    run_episodes(
        env,
        policy_with_records()[0],
        0,
        each_step=lambda e, values, info: seen.append(
            (e is env, values.tolist(), info["active"].tolist()),
        ),
    )
    assert seen == [
        (True, [100.0, 101.0, 102.0], [True, True, True]),
        (True, [100.0, 0.0, 102.0], [True, False, True]),
        (True, [100.0, 0.0, 0.0], [True, False, False]),
    ]


def test_many_short_episodes_keep_their_order():
    """The sort by world is stable: with more worlds than a small sort, steps stay in order."""
    log = rollout._Log()
    rng = np.random.default_rng(0)
    alive = np.arange(200)
    step = 0
    while len(alive):
        world = torch.from_numpy(alive)
        pair = torch.stack([world.float(), torch.full((len(alive),), float(step))], dim=1)
        log.world.append(world)
        for part in (log.obs, log.nxt, log.act):
            part.append(pair)
        log.scalars.append(torch.cat([pair, pair], dim=1))
        alive, step = alive[rng.random(len(alive)) < 0.7], step + 1
    pairs = rollout._columns(log)["observations"].tolist()
    assert pairs == sorted(pairs)


@needs_torch_2
def test_every_tensor_is_made_on_the_environments_device(made):
    """With another default device, a tensor made without naming one would not fit the others."""
    env = Go2Parkour(ParkourConfig(num_envs=2, courses=("flat",), episode_seconds=0.04))
    action, value = torch.zeros(2, 12), torch.zeros(2)
    seen = []
    with torch.device("meta"):
        result = run_episodes(
            env,
            lambda observations, spent: (action, value),
            0,
            keep=True,
            each_step=lambda e, values, info: seen.append(values.device.type),
        )
    assert [record["length"] for record in result.episodes] == [2, 2]
    assert [record["timeout"] for record in result.episodes] == [True, True]
    assert seen == ["cpu", "cpu"]


class RecordingPolicy:
    def __init__(self):
        self.calls = []

    def noise_shape(self, batch):
        return (batch, 2, 3)

    def act(self, observations, noise, spent):
        self.calls.append((observations, noise, spent))
        n = len(observations)
        return np.full((n, 12), 0.5, np.float32), np.arange(n, dtype=np.float32), None


def test_onnx_policies_have_their_own_scaled_noise_stream():
    policy = RecordingPolicy()
    act = onnx_policy(policy, 5, 0.25)
    observations, spent = torch.arange(8.0).reshape(4, 2), torch.tensor([0.0, 1.0, 2.0, 3.0])
    torch.manual_seed(3)
    before = torch.get_rng_state()
    action, value = act(observations, spent)
    act(observations[:1], spent[2:3])
    assert torch.equal(torch.get_rng_state(), before)
    stream = torch.Generator().manual_seed(5 + 1_000_003)
    for (seen, noise, cost), rows, expected_cost in zip(policy.calls, (4, 1), ([0, 1, 2, 3], [2])):
        assert np.array_equal(noise, 0.25 * torch.randn(rows, 2, 3, generator=stream).numpy())
        assert np.array_equal(seen, observations[:rows].numpy())
        assert cost.tolist() == expected_cost
    assert torch.equal(action, torch.full((4, 12), 0.5))
    assert value.tolist() == [0.0, 1.0, 2.0, 3.0]


def test_noise_scale_nought_is_the_mean():
    policy = RecordingPolicy()
    onnx_policy(policy, 0, 0.0)(torch.zeros(2, 2), torch.zeros(2))
    assert not policy.calls[0][1].any()


# ---- gymnasium -----------------------------------------------------------------------------------


@pytest.fixture
def made(monkeypatch):
    """The wrapper over the fake simulator; keeps the arguments and the simulators made."""
    found = []

    def factory(*arguments):
        sim = FakeSimulator(arguments[1], arguments[2])
        found.append((arguments, sim))
        return sim

    monkeypatch.setattr(parkour, "make_simulator", factory)
    return found


def test_gymnasium_spaces(made):
    env = Go2ParkourGym("flat")
    assert isinstance(env, gymnasium.Env)
    space = env.observation_space
    # Fields clipped at 10 (angular velocity): 15 and the noise 0.05; the others at least 12.
    high = np.full(265, 12.0)
    for start in (0, 46, 92):
        high[start : start + 3] = 15.05
    np.testing.assert_allclose(space.high, high, rtol=1e-6)
    np.testing.assert_allclose(space.low, -high, rtol=1e-6)
    assert space.dtype == env.action_space.dtype == np.float32
    assert env.action_space.shape == (12,)
    assert (env.action_space.low.tolist(), env.action_space.high.tolist()) == (
        [-1.0] * 12,
        [1.0] * 12,
    )
    assert env.metadata == {"render_modes": ["rgb_array"], "render_fps": 50}


def test_gymnasium_configuration(made):
    env = Go2ParkourGym("hard", 0.75, False, 0.01)
    config = env._env.config
    assert (config.num_envs, config.courses, config.difficulty, config.variants) == (
        1,
        ("hard",),
        0.75,
        1,
    )
    assert (config.threads, config.physics_dt) == (1, 0.01)
    assert config.course_seed == config.seed == GYMNASIUM.first
    assert config.randomization == type(config.randomization).off()
    default = Go2ParkourGym()._env.config
    assert (default.courses, default.difficulty, default.physics_dt) == (("simple",), 1.0, 0.005)
    assert default.randomization == type(default.randomization)()
    assert default.randomization.pushes
    arguments = made[0][0]
    assert (arguments[1], arguments[3], arguments[4]) == (1, 1, 0.01)


def test_gymnasium_reset_builds_the_course_of_the_seed(made):
    env = Go2ParkourGym("hard", randomization=True)
    observation, info = env.reset(seed=7)
    assert info == {"course_seed": 7}
    number = GYMNASIUM.number(7)
    assert env._env.config.course_seed == env._env.config.seed == number
    assert env._env.courses[0].seed == number
    assert (observation.shape, observation.dtype.name) == ((265,), "float32")
    assert [sim.closed for _, sim in made] == [True, False]
    again, _ = env.reset(seed=7)
    assert np.array_equal(again, observation)
    other, info = env.reset(options={})
    expected = int(np.random.default_rng(7).integers(2**30))  # goes on from the seed
    assert info == {"course_seed": expected}
    assert env._env.courses[0].seed == GYMNASIUM.number(expected)
    assert not np.array_equal(other, observation)
    env.close()
    assert all(sim.closed for _, sim in made)


def test_gymnasium_step(made):
    env = Go2ParkourGym("flat", randomization=False)
    env.reset(seed=1)
    sim = made[-1][1]
    action = np.linspace(-1, 1, 12)
    observation, reward, cost_free, truncated, info = env.step(action)
    targets = sim.named("step")[0][0]
    np.testing.assert_allclose(targets[0], np.array(DEFAULT_POSE) + 1.2 * action, rtol=1e-5)
    assert (observation.shape, observation.dtype.name, type(reward)) == ((265,), "float32", float)
    np.testing.assert_allclose(observation[30:42], action, rtol=1e-6)
    assert (cost_free, truncated) == (False, False)
    assert info == {"cost": 0.0, "success": False, "fall": False}
    sim.state.body_force[0, 0] = 5.0
    _, reward, terminated, truncated, info = env.step([0.0] * 12)
    assert reward < -1.9
    assert (terminated, truncated) == (True, False)
    assert info == {"cost": 1.0, "success": False, "fall": True}
    env.reset(seed=1)
    made[-1][1].state.base_position[0, 0] = 11.5
    _, reward, terminated, truncated, info = env.step(np.zeros(12, np.float32))
    assert reward > 2.9
    assert (terminated, truncated) == (True, False)
    assert info == {"cost": 0.0, "success": True, "fall": False}
    env.reset(seed=1)
    env._env.episode_length[:] = 999
    _, _, terminated, truncated, info = env.step(np.zeros(12, np.float32))
    assert (terminated, truncated) == (False, True)
    assert info == {"cost": 0.0, "success": False, "fall": False}
    assert {type(v) for v in info.values()} == {float, bool}


def test_gymnasium_pictures(made):
    assert Go2ParkourGym("flat").render() is None
    assert Go2ParkourGym("flat", render_mode="rgb_array").render() == ("picture", 0, 640, 360)
    with pytest.raises(ValueError, match="render_mode is 'human', expected None or 'rgb_array'"):
        gym_env.Go2ParkourGym("flat", render_mode="human")
