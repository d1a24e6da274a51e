"""Safety-Gymnasium beside a modern MuJoCo: each cure, the order of observations, costs, limits,
seeds, playing.
"""

import dataclasses
import importlib.util
import sys

import gymnasium
import mujoco
import numpy as np
import pytest

if importlib.util.find_spec("safety_gymnasium") is None:
    pytest.skip("Safety-Gymnasium is not installed", allow_module_level=True)

from go2_sevpo.data.shards import DatasetError
from go2_sevpo.envs.safety_gymnasium import compat as safety_compat
from go2_sevpo.envs.safety_gymnasium.environment import SafetyEnv, env_id, make
from go2_sevpo.envs.safety_gymnasium.play import play
from go2_sevpo.envs.safety_gymnasium.tasks import TASKS

SENSORS = (
    ("accelerometer", 3),
    ("velocimeter", 3),
    ("gyro", 3),
    ("magnetometer", 3),
    ("ballangvel_rear", 3),
    ("ballquat_rear", 9),
)
LIDARS = {
    "Goal": ("goal_lidar", "hazards_lidar", "vases_lidar"),
    "Button": ("buttons_lidar", "goal_lidar", "hazards_lidar", "gremlins_lidar"),
    "Push": ("goal_lidar", "hazards_lidar", "pillars_lidar", "push_box_lidar"),
}


def test_arrays_as_field_defaults_are_cured_only_inside():
    def declare():
        @dataclasses.dataclass
        class Asset:
            place: np.ndarray = np.zeros(3)

        return Asset

    with safety_compat.cured():
        asset = declare()
    first, second = asset(), asset()
    first.place[0] = 5.0
    assert second.place[0] == 0.0
    if sys.version_info >= (3, 11):
        with pytest.raises(ValueError, match="mutable default"):
            declare()


def test_joints_are_found_by_array_only_inside():
    model = mujoco.MjModel.from_xml_string(
        "<mujoco><worldbody><body><joint name='a'/><geom size='1'/></body></worldbody></mujoco>"
    )
    with safety_compat.cured():
        assert model.jnt(np.array([0])).name == "a" and model.jnt("a").id == 0
    with pytest.raises(TypeError):
        model.jnt(np.array([0]))


def test_textures_are_read_once_and_the_sky_is_a_gradient(tmp_path):
    import yaml

    reads = []

    class Counting:
        FullLoader = yaml.FullLoader

        def load(self, stream, *args, **options):
            reads.append(stream.name)
            return yaml.load(stream, *args, **options)

    path = tmp_path / "go2_sevpo.assets.yaml"
    path.write_text("textures: {skybox: {file: sky.png}, floor: {file: f.png}}")
    cached = safety_compat._CachedYaml(Counting())
    for _ in range(3):
        with open(path, encoding="utf-8") as handle:
            table = cached.load(handle, Loader=cached.FullLoader)
        assert table["textures"]["skybox"]["@builtin"] == "gradient" and table["textures"][
            "floor"
        ] == {"file": "f.png"}
        table["textures"].clear()  # the package changes what it gets
    assert len(reads) == 1


def test_package_is_used_without_its_own_init():
    make("CarGoal1")
    assert not hasattr(sys.modules["safety_gymnasium"], "register")


@pytest.mark.parametrize("name", list(TASKS))
def test_every_task_runs_with_dsrls_sizes(name):
    env = make(name)
    obs, _ = env.reset(seed=0)
    assert obs.shape == (TASKS[name].num_obs,) and obs.dtype == np.float32
    assert env.action_space.shape == (TASKS[name].num_actions,)
    env.action_space.seed(0)
    for _ in range(5):
        obs, reward, terminated, truncated, info = env.step(env.action_space.sample())
        assert np.isfinite(obs).all() and isinstance(reward, float) and info["cost"] >= 0.0
        assert not terminated and not truncated
    env.close()


@pytest.mark.parametrize("name", ["CarGoal1", "CarButton1", "CarPush1"])
def test_observations_are_in_the_order_of_the_data(name):
    """gymnasium 1.0.0 sorted dictionary spaces, which silently permutes the vector against every
    DSRL file.
    """
    env = make(name)
    expected = [*SENSORS, *((lidar, 16) for lidar in LIDARS[name[3:-1]])]
    found = [
        (k, int(np.prod(s.shape))) for k, s in env._env.task.obs_info.obs_space_dict.spaces.items()
    ]
    assert found == expected
    env.reset(seed=3)
    # Turn in place: the gyro's part of the vector, and no other place, holds the turning rate.
    for _ in range(20):
        obs = env.step(np.array([1.0, -1.0]))[0]
    assert abs(obs[8]) > 0.5 and abs(obs[8] - env._env.task.agent.get_sensor("gyro")[2]) < 1e-6


def test_same_seed_same_episode_another_seed_another():
    runs = []
    for seed in (4, 4, 5):
        env = make("CarGoal1")
        obs = [env.reset(seed=seed)[0]]
        rng = np.random.default_rng(0)
        obs += [env.step(rng.uniform(-1, 1, 2))[0] for _ in range(30)]
        runs.append(np.stack(obs))
    assert np.array_equal(runs[0], runs[1]) and not np.array_equal(runs[0], runs[2])


def test_cost_is_paid_in_a_hazard():
    env = make("CarGoal1")
    env.reset(seed=0)
    task, model, data = env._env.task, *env._physics()
    hazard = np.array(task.hazards.pos[0])
    joint = model.body("agent").jntadr[0]
    place = model.jnt_qposadr[joint]
    data.qpos[place : place + 2] += hazard[:2] - np.array(task.agent.pos[:2])
    mujoco.mj_forward(model, data)
    assert env.step(np.zeros(2))[4]["cost"] == 1.0


def test_velocity_tasks_end_after_a_thousand_steps_and_pay_for_speed():
    env = make("SwimmerVelocity")
    env.reset(seed=0)
    for k in range(1000):
        _, _, terminated, truncated, info = env.step(np.zeros(2))
        assert truncated == (k == 999) and not terminated
    env.reset(seed=0)
    env._env.data.qvel[0] = 1.0
    assert env.step(np.zeros(2))[4]["cost"] == 1.0


def test_names_and_registration():
    assert env_id("CarGoal1") == "go2_sevpo/SafetyCarGoal1-v0"
    env = gymnasium.make("go2_sevpo/SafetySwimmerVelocity-v1")
    assert isinstance(env.unwrapped, SafetyEnv)
    env.close()
    with pytest.raises(DatasetError, match="unknown task 'PointGoal1'"):
        make("PointGoal1")


def test_pictures_show_the_scene():
    from go2_sevpo.deploy.play.video import graphics_problem

    if graphics_problem() is not None:
        pytest.skip(graphics_problem())
    env = make("CarGoal1", width=160, height=120)
    env.reset(seed=0)
    first = env.render()
    assert first.shape == (120, 160, 3) and first.std() > 10
    blue, red, green = (
        int(((first[..., k] > first[..., m] + 40) & (first[..., k] > first[..., n] + 40)).sum())
        for k, m, n in ((2, 0, 1), (0, 1, 2), (1, 0, 2))
    )
    assert blue > 100 and red > 5 and green > 30, "hazards, car and goal are to be seen"
    env.reset(seed=1)
    assert not np.array_equal(env.render(), first)
    env.close()


@pytest.mark.parametrize("processes", [0, 2])
def test_playing_does_not_depend_on_how_worlds_are_stepped(processes, monkeypatch):
    monkeypatch.setattr("go2_sevpo.envs.safety_gymnasium.environment.EPISODE_STEPS", 25)

    def act(obs, spent_cost):
        assert spent_cost.shape == (len(obs),) and (spent_cost >= 0).all()
        return np.tanh(obs[:, :2])

    if processes:
        monkeypatch.setattr(
            "go2_sevpo.envs.safety_gymnasium.environment.EPISODE_STEPS", 1000
        )  # processes have a limit of their own
        found = play("SwimmerVelocity", act, 2, 7, processes)
        assert found.steps.tolist() == [1000, 1000]
        return
    found = play("CarGoal1", act, 3, 7)
    assert found.steps.tolist() == [25, 25, 25]
    for k in range(3):
        env = make("CarGoal1")
        obs, _ = env.reset(seed=7 + k)
        total = cost = 0.0
        for _ in range(25):
            obs, reward, _, _, info = env.step(act(obs[None], np.zeros(1))[0])
            total, cost = total + reward, cost + info["cost"]
        assert (found.returns[k], found.costs[k]) == (pytest.approx(total, abs=1e-5), cost)
