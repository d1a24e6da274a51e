import numpy as np
import pytest
import torch

pytest.importorskip("stable_baselines3")
from stable_baselines3 import TD3

from go2_sevpo.data_collection.reach_avoid.expert import (
    Args,
    CostReplayBuffer,
    DualAscent,
    TaskVecEnv,
    evaluate,
    fill,
    to_policy,
)
from go2_sevpo.envs.reach_avoid import task

STARTS = torch.tensor([[-2.0, 0.0, 1.0, 0.0], [1.7, 2.2, 1.0, 0.0]])


def make_env(worlds=4, leaving_cost=5.0, time_cost=0.05):
    return TaskVecEnv(worlds, STARTS, 0, leaving_cost, time_cost)


def make_model(env, **changes):
    return TD3(
        "MlpPolicy",
        env,
        buffer_size=2000,
        batch_size=32,
        learning_starts=40,
        train_freq=1,
        gradient_steps=1,
        seed=0,
        replay_buffer_class=CostReplayBuffer,
        policy_kwargs={"net_arch": [16, 16]},
        **changes,
    )


def test_episodes_restart_from_the_given_starts_and_keep_the_true_last_observation():
    env = make_env()
    env.reset()
    env.env.state[0] = torch.tensor([1.88, 2.2, 1.0, 0.0])
    env.step_async(np.zeros((4, 2), np.float32))
    obs, reward, done, infos = env.step_wait()
    assert done[0]
    assert infos[0]["success"]
    assert infos[0]["terminal_observation"][0] == pytest.approx(1.93, abs=1e-4)
    assert any(np.allclose(obs[0], task.observe(s)) for s in STARTS)
    assert reward[0] == pytest.approx(5.0 + 0.05 - 0.05, abs=1e-3)


def test_leaving_counts_as_cost_and_time_is_taken_from_the_reward():
    env = make_env(1)
    env.reset()
    env.env.state[0] = torch.tensor([2.99, 0.0, 2.0, 0.0])
    env.step_async(np.zeros((1, 2), np.float32))
    _, _, _, infos = env.step_wait()
    assert infos[0]["cost"] == 5.0
    assert not infos[0]["success"]


def test_buffer_hands_out_reward_minus_multiplier_times_cost():
    env = make_env()
    model = make_model(env)
    model.learn(60)
    buffer = model.replay_buffer
    buffer.rewards[:], buffer.costs[:] = 1.0, 2.0
    buffer.multiplier = 0.25
    assert torch.allclose(buffer.sample(50).rewards, torch.tensor(0.5))
    buffer.multiplier = 3.0
    assert torch.allclose(buffer.sample(50).rewards, torch.tensor(-5.0))


@pytest.mark.parametrize(("cost", "direction"), [(4.0, 1), (0.0, -1)])
def test_multiplier_follows_the_cost_and_stays_in_bounds(cost, direction):
    callback = DualAscent(
        Args(multiplier=1.0, multiplier_rate=0.5, multiplier_max=2.5, cost_limit=1.0)
    )

    class Model:
        replay_buffer = type("Buffer", (), {"multiplier": 1.0})()
        num_timesteps = 0

    callback.model, callback.num_timesteps = Model(), 1000
    callback.locals = {
        "infos": [{"success": True, "episode_cost": cost, "episode_return": 0.0}] * 100
    }
    callback._on_step()
    assert np.sign(callback.multiplier - 1.0) == direction
    for _ in range(5):
        callback._on_step()
    assert 0.0 <= callback.multiplier <= 2.5
    assert Model.replay_buffer.multiplier == callback.multiplier


def test_the_exported_actor_is_the_trained_one():
    env = make_env()
    model = make_model(env)
    model.learn(80, callback=DualAscent(Args()))
    policy = to_policy(model, 0.1)
    obs = task.observe(task.random_states(50, torch.Generator().manual_seed(0)))
    expected, _ = model.predict(obs.numpy(), deterministic=True)
    with torch.no_grad():
        action = policy(obs, torch.zeros(50, 1, 1, 2))[0]
    assert np.allclose(action.numpy(), expected, atol=1e-5)
    report = evaluate(policy, STARTS)
    assert report["episodes"] == 2
    assert 0.0 <= report["safe_success_rate"] <= min(report["safe_rate"], report["success_rate"])


def test_guided_transitions_are_whole_and_reach_the_goal():
    """Without noise, greedy control from in front of the goal arrives; successors are the true
    ones.
    """
    env = make_env(4)
    model = make_model(env)

    class Guide:
        def greedy(self, state, goal):
            assert goal
            return torch.zeros(len(state), 2)

    env.starts = STARTS[1:]  # heading into the goal
    fill(model.replay_buffer, env, Guide(), Args(worlds=4, guided=40, guided_noise=0.0))
    buffer = model.replay_buffer
    assert buffer.pos == 10
    done = buffer.dones[:10] > 0
    assert done.any()
    assert np.allclose(buffer.rewards[:10][done], 5.0, atol=0.01)
    # The successor of the last step is in the goal, not at the next start.
    assert np.all(np.hypot(*(buffer.next_observations[:10][done][:, :2] - 2.2).T) <= 0.3 + 1e-5)
