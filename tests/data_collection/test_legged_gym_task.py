"""The task as legged_gym's registry and rsl_rl v1.0.2's runner use it, over the Isaac Gym stand-in.

The runner below is a record of what v1.0.2's OnPolicyRunner asks of an environment, in its order;
the real scripts were run against the task outside of this suite.
"""

import pytest
import torch

from go2_sevpo.data_collection.experts.legged_gym_task import (
    Go2ParkourTask,
    make_configs,
    parkour_config,
    register,
)
from go2_sevpo.data_collection.experts.train import CONFIG_DIR, load_config
from tests.isaacgym_standin.load import install


class Registry:
    def __init__(self):
        self.tasks = {}

    def register(self, name, task_class, env_cfg, train_cfg):
        self.tasks[name] = (task_class, env_cfg, train_cfg)


def test_configurations_are_ours_in_nested_style():
    registry, expert = Registry(), load_config(CONFIG_DIR / "expert_v1.yaml")
    register(registry)
    task_class, cfg, train = registry.tasks["go2_parkour"]
    assert task_class is Go2ParkourTask
    assert cfg.rewards.scales.gap == expert.env.reward.gap and cfg.terrain.courses == list(
        expert.env.courses
    )
    assert (
        cfg.control.action_scale == pytest.approx(0.3)
        and cfg.init_state.default_joint_angles["FL_thigh_joint"] == 0.8
    )
    assert (
        train.runner.max_iterations == expert.ppo.iterations
        and train.policy.actor_hidden_dims == list(expert.ppo.hidden)
    )
    same = parkour_config(cfg, expert.env.seed, expert.env.simulator, None)
    assert same == type(same)(**{**vars(expert.env), "num_envs": cfg.env.num_envs})


def test_inheritance_and_changes_take_effect_on_one_configuration_only():
    task, _ = make_configs()

    class Mine(task):
        class env(task.env):  # noqa: N801
            num_envs = 3

    mine, other = Mine(), task()
    mine.noise.add_noise = False
    mine.domain_rand.push_robots = False
    mine.rewards.scales.gap = -7.0
    config = parkour_config(mine, 5, "isaacgym", "cpu")
    assert (config.num_envs, config.seed, config.device) == (3, 5, "cpu")
    assert (
        not config.randomization.sensor_noise
        and not config.randomization.pushes
        and config.reward.gap == -7.0
    )
    assert other.noise.add_noise and other.rewards.scales.gap != -7.0 and task.env.num_envs == 4096


def test_runner_of_v1_finds_everything_it_asks_for():
    install()
    task, _ = make_configs()
    cfg = task()
    cfg.env.num_envs, cfg.terrain.num_rows, cfg.terrain.num_cols, cfg.seed = 4, 2, 2, 3
    env = Go2ParkourTask(
        cfg=cfg, sim_params=None, physics_engine=1, sim_device="cpu", headless=True
    )
    assert (env.num_obs, env.num_privileged_obs, env.num_actions) == (265, 279, 12)
    obs, privileged = env.reset()
    env.episode_length_buf = torch.randint_like(
        env.episode_length_buf, high=int(env.max_episode_length)
    )
    env.episode_length_buf = torch.tensor([998, 5, 5, 5])
    assert env.get_observations().shape == (4, 265) and env.get_privileged_observations().shape == (
        4,
        279,
    )
    seen = []
    with torch.inference_mode():
        for _ in range(3):
            obs, privileged, reward, done, extras = env.step(torch.zeros(4, 12))
            assert reward.shape == done.shape == extras["time_outs"].shape == (4,)
            assert torch.equal(privileged[:, :265], obs) and done.dtype == torch.long
            seen.append((done.tolist(), extras["time_outs"].tolist(), dict(extras["episode"])))
    # World 0 had two steps left: its time limit ends it, bootstraps, and reports the episode.
    assert seen[1][0] == [1, 0, 0, 0] and seen[1][1] == [1.0, 0.0, 0.0, 0.0]
    assert "rew_speed" in seen[1][2] and seen[0][2] == {}
    for value in (env.dof_pos, env.dof_vel, env.torques):
        assert value.shape == (4, 12)
    assert env.base_lin_vel.shape == env.base_ang_vel.shape == (4, 3)
    assert env.commands.shape == (4, 4) and env.contact_forces[0, env.feet_indices, 2].shape == (4,)
    env.env.close()
