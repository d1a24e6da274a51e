"""The task as legged_gym's registry and rsl_rl v1.0.2's runner use it, over the Isaac Gym stand-in.

The runner below is a record of what v1.0.2's OnPolicyRunner asks of an environment, in its order;
the real scripts were run against the task outside of this suite.
"""

import importlib.util

import pytest
import torch

from go2_sevpo.data_collection.experts import legged_gym_task
from go2_sevpo.data_collection.experts.legged_gym_entries import leaves, task_options
from go2_sevpo.data_collection.experts.legged_gym_task import (
    Go2ParkourTask,
    check_rsl_rl,
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


def test_configurations_are_ours_in_nested_style(monkeypatch):
    monkeypatch.setattr(legged_gym_task, "check_rsl_rl", lambda: None)
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
    own = {"num_envs": cfg.env.num_envs, "threads": cfg.sim.physx.num_threads}
    assert same == type(same)(**{**vars(expert.env), **own})


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


DEFAULT = make_configs()[0]
FIXED_OR_CHANGED = sorted(leaves(DEFAULT()))


def put(cfg, path, value):
    """Set the entry ``path`` of a nested configuration."""
    *sections, name = path.split(".")
    for section in sections:
        cfg = getattr(cfg, section)
    setattr(cfg, name, value)


def other(path, value):
    """Another value of an entry, of the same kind."""
    if path == "terrain.courses":
        return value[::-1]
    if isinstance(value, bool):
        return not value
    if isinstance(value, (int, float)):
        return value / 2 if path == "normalization.clip_actions" else value + type(value)(1)
    if isinstance(value, str):
        return value + "x"
    if isinstance(value, dict):
        return {k: v + 1 for k, v in value.items()}
    return [v + "x" if isinstance(v, str) else v + 0.25 for v in value]


@pytest.mark.parametrize("path", FIXED_OR_CHANGED)
def test_every_entry_has_an_effect_or_is_refused_by_its_name(path):
    def effect(cfg):
        return parkour_config(cfg, 0, "isaacgym", None), task_options(cfg)

    cfg, plain = DEFAULT(), effect(DEFAULT())
    value = other(path, leaves(cfg)[path])
    put(cfg, path, value)
    if path in ("sim.dt", "control.decimation"):  # together: the control step stays
        with pytest.raises(ValueError, match="sim.dt .* times control.decimation .*: change both"):
            effect(cfg)
        cfg.sim.dt, cfg.control.decimation = 0.002, 10
        assert effect(cfg)[0].physics_dt == 0.002
        return
    try:
        found = effect(cfg)
    except ValueError as error:
        assert path in str(error) and len(str(error).splitlines()) == 1
    else:
        assert found != plain, f"{path} does nothing"


def test_enough_entries_do_something():
    """Refusing all would pass the test above."""
    acting = 0
    for path in FIXED_OR_CHANGED:
        cfg = DEFAULT()
        put(cfg, path, other(path, leaves(cfg)[path]))
        try:
            parkour_config(cfg, 0, "isaacgym", None)
            acting += 1
        except ValueError:
            pass
    assert len(FIXED_OR_CHANGED) > 80 and acting > 40


def test_entries_nobody_knows_are_refused():
    cfg = DEFAULT()
    cfg.rewards.scales.tracking_lin_vel = 1.0
    with pytest.raises(ValueError, match="rewards.scales.tracking_lin_vel, which .* does not know"):
        parkour_config(cfg, 0, "isaacgym", None)
    cfg = DEFAULT()
    cfg.terrain.curriculum, cfg.terrain.max_difficulty = False, 0.5
    with pytest.raises(ValueError, match="terrain.max_difficulty is 0.5, and does nothing while"):
        parkour_config(cfg, 0, "isaacgym", None)


def test_what_play_scripts_set_is_accepted():
    cfg = DEFAULT()
    cfg.env.num_envs, cfg.env.test, cfg.seed = 50, True, 1
    cfg.terrain.num_rows = cfg.terrain.num_cols = 5
    cfg.terrain.curriculum = cfg.noise.add_noise = False
    cfg.domain_rand.randomize_friction = cfg.domain_rand.push_robots = False
    config = parkour_config(cfg, 0, "isaacgym", None)
    assert (config.num_envs, config.variants, config.curriculum) == (50, 5, False)


class OnMujoco(Go2ParkourTask):
    simulator = "mujoco"


def small():
    cfg = DEFAULT()
    cfg.env.num_envs, cfg.terrain.num_rows, cfg.terrain.num_cols, cfg.seed = 2, 2, 2, 3
    return cfg


def test_options_of_the_task_act():
    plain, cfg = OnMujoco(small()), small()
    cfg.env.send_timeouts, cfg.rewards.only_positive_rewards = False, True
    cfg.normalization.clip_observations, cfg.normalization.clip_actions = 0.5, 0.2
    task = OnMujoco(cfg)
    negative = 0
    for _ in range(10):
        action = torch.ones(2, 12)
        obs, privileged, reward, _, extras = task.step(action)
        _, _, plain_reward, _, plain_extras = plain.step(action)
        assert "time_outs" not in extras and "time_outs" in plain_extras
        assert obs.abs().max() <= 0.5 and privileged.abs().max() <= 0.5 and (reward >= 0).all()
        negative += int((plain_reward < 0).sum())
    assert plain.get_observations().abs().max() > 0.5 and negative > 0
    # 0.2 of PPO's units is 0.05 of the environment's.
    assert torch.allclose(task.env.last_action, torch.full((2, 12), 0.05))
    for made in (task, plain):
        made.env.close()


def test_play_shows_the_robot(capsys):
    api = install()
    cfg = small()
    cfg.viewer.ref_env, cfg.viewer.pos, cfg.viewer.lookat = 1, [-2.0, 0.0, 1.0], [0.5, 0.0, 0.0]
    params = api.SimParams()
    params.physx.num_threads = 3
    task = Go2ParkourTask(cfg, params, api.SIM_PHYSX, "cpu", headless=False)
    assert task.env.config.threads == 3
    window = task.viewer
    for k in range(4):
        task.step(torch.zeros(2, 12))
        robot = task.env.sim._root[1, :3].numpy()
        assert window.position == pytest.approx(robot + [-2.0, 0.0, 1.0], abs=1e-5)
        assert window.target == pytest.approx(robot + [0.5, 0.0, 0.0], abs=1e-5)
        assert (window.drawn, window.in_sight) == (k + 1, k + 1)
    task.set_camera([0.0, 0.0, 9.0], [1.0, 0.0, 9.0])
    task.step(torch.zeros(2, 12))
    assert window.position.tolist() == [0.0, 0.0, 9.0] and window.drawn == 5
    window.frames = 5  # the user closes it
    with pytest.raises(SystemExit):
        task.step(torch.zeros(2, 12))
    task.env.close()


@pytest.mark.parametrize("newer", ["rsl_rl.modules.normalizer", "rsl_rl.networks", None])
def test_another_rsl_rl_is_noticed_at_registration(monkeypatch, newer):
    """2.0 to 2.2 have the normaliser's module, 2.3 and later the networks'; 1.0.2 neither."""
    here = ("rsl_rl", newer)
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: object() if name in here else None
    )
    registry = Registry()
    if newer is None:
        register(registry)
        assert "go2_parkour" in registry.tasks
        return
    with pytest.raises(SystemExit, match="needs rsl_rl 1.0.2.*type: pip uninstall -y rsl-rl-lib"):
        register(registry)
    assert not registry.tasks
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    check_rsl_rl()
