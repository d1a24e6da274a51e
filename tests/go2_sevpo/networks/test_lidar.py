"""Nearness of what a lidar sees: the same numbers in training, in the policy and in the exported
file.
"""

import json

import h5py
import numpy as np
import pytest
import torch

from go2_sevpo.algorithms import make_algorithm, make_config
from go2_sevpo.data.dataset import load
from go2_sevpo.deploy.export.cli import Args as Export
from go2_sevpo.deploy.export.cli import export_run
from go2_sevpo.envs.safety_gymnasium.tasks import find_task, origin_of_file
from go2_sevpo.networks.layers import Normalizer
from go2_sevpo.networks.lidar import with_nearness
from go2_sevpo.offline_training.train import Args as Train
from go2_sevpo.offline_training.train import train
from go2_sevpo.policies.onnx_policy import OnnxPolicy
from go2_sevpo.policies.torch_policy import load_policy, save_policy

SMALL = {
    "sevpo": {
        "critic_steps": 2,
        "policy_steps": 2,
        "actor": "mlp",
        "width": 8,
        "depth": 2,
        "critic_hidden": (8, 8),
        "lookahead": 5,
    },
    "cpq": {"steps": 2, "hidden": (8, 8), "vae_hidden": 8},
    "ccac": {"vae_steps": 2, "steps": 2, "hidden": (8, 8), "vae_hidden": 8, "latent": 2},
    "bc": {"steps": 2, "width": 8, "depth": 2},
}


@pytest.fixture(scope="module")
def car(tmp_path_factory):
    """Two short random episodes in CarGoal1's layout; not from the simulator."""
    path = tmp_path_factory.mktemp("car") / "car.hdf5"
    rng, n = np.random.default_rng(0), 100
    obs = rng.uniform(-1, 1, (n, 72)).astype(np.float32)
    obs[:, 24:] = np.clip(obs[:, 24:], 0, 1)
    ends = (np.arange(n) % 50 == 49).astype(np.float32)
    with h5py.File(path, "w") as f:
        f["observations"], f["next_observations"] = obs, np.roll(obs, -1, 0)
        f["actions"] = rng.uniform(-1, 1, (n, 2)).astype(np.float32)
        f["rewards"], f["costs"] = rng.normal(size=n).astype(np.float32), np.zeros(n, np.float32)
        f["terminals"], f["timeouts"] = np.zeros(n, np.float32), ends
    path.with_suffix(".json").write_text(json.dumps({"task": "CarGoal1"}))
    return path


def test_nearness_of_readings():
    obs = torch.tensor([[5.0, 0.0, 0.9, 1.0]])
    found = with_nearness(obs, (1, 0.1))
    assert torch.allclose(
        found, torch.tensor([[5.0, 0.0, 0.9, 1.0, 0.0, float(np.exp(-1.0)), 1.0]])
    )
    assert with_nearness(obs, None) is obs


def test_normalizer_and_dataset_give_networks_the_same(car):
    data = load(car, lidar_length=0.1, origin_of=origin_of_file)
    assert (data.raw_obs, data.num_obs, data.lidar) == (72, 120, (24, 0.1))
    with h5py.File(car) as f:
        obs = torch.from_numpy(f["observations"][:])
    normalizer = Normalizer(data.mean, data.std, data.lidar)
    assert normalizer.num_obs == 72
    assert torch.allclose(normalizer(obs), data.rows(torch.arange(len(data))).obs, atol=1e-5)
    plain = load(car)
    assert plain.lidar is None and plain.num_obs == plain.raw_obs == 72


def test_only_tasks_with_a_lidar_have_one(dataset):
    assert [find_task(t).lidar for t in ("CarGoal1", "CarPush2", "AntVelocity")] == [24, 24, None]
    assert dataset.lidar is None and dataset.raw_obs == dataset.num_obs


@pytest.mark.parametrize("name", sorted(SMALL))
def test_policies_take_raw_observations(car, tmp_path, name):
    data = load(car, lidar_length=0.1, origin_of=origin_of_file)
    algorithm = make_algorithm(name, make_config(name, SMALL[name]), data)
    generator = torch.Generator().manual_seed(0)
    for stage in algorithm.stages:
        for step in range(2):
            algorithm.update(stage, step, data, generator)
    policy = algorithm.policy()
    obs = torch.rand(6, 72)
    info = {"algorithm": name, "environment": "go2_sevpo/SafetyCarGoal1-v0"}
    save_policy(tmp_path / "p.safetensors", policy, torch.rand(20, 72), info)
    again = load_policy(tmp_path / "p.safetensors")[0]
    assert again.normalizer.lidar == (24, 0.1)
    noise = torch.randn(6, 1, int(policy.sampler["steps"]), 2)
    spent = (torch.zeros(6),) if policy.needs_cost else ()
    with torch.no_grad():
        expected = policy(obs, noise, *spent)[0]
        assert torch.equal(again(obs, noise, *spent)[0], expected)
        nearer = obs.clone()
        nearer[:, 30] = 1.0
        assert not torch.equal(policy(nearer, noise, *spent)[0], expected)
    export_run(Export(tmp_path / "p.safetensors", tmp_path / "p.onnx", candidates=1))
    found = OnnxPolicy(tmp_path / "p.onnx").act(
        obs.numpy(), noise.numpy(), np.zeros(6, np.float32)
    )[0]
    assert np.abs(found - expected.numpy()).max() < 1e-5


@pytest.mark.parametrize(
    ("length", "share", "expected"), [(0.1, None, 0.3), (0.0, None, 1.0), (0.1, 0.7, 0.7)]
)
def test_candidates_are_judged_by_less_than_the_limit_where_networks_see_nearness(
    car, length, share, expected
):
    config = make_config("sevpo", {**SMALL["sevpo"], "episode_limit": 10.0, "acting_share": share})
    algorithm = make_algorithm(
        "sevpo", config, load(car, lidar_length=length, origin_of=origin_of_file)
    )
    assert algorithm.policy("escape").limit == pytest.approx(expected * algorithm.limit)


@pytest.mark.parametrize(
    ("preset", "length", "expected"),
    [("safety", None, 0.1), ("paper", None, None), ("safety", 0.0, None)],
)
def test_go2_train_uses_it_where_there_is_a_lidar(car, tmp_path, preset, length, expected):
    settings = ["steps=2", "width=8", "depth=2"]
    assert train(
        Train(
            (car,),
            tmp_path / "run",
            "bc",
            preset,
            set=settings,
            lidar_length=length,
        )
    )
    info = json.loads((tmp_path / "run" / "config.json").read_text())
    assert info["dataset"].get("lidar_length") == expected
    assert load_policy(tmp_path / "run" / "policy_last.safetensors")[1].shape[1] == 72


def test_a_negative_length_is_an_error(car, tmp_path):
    with pytest.raises(ValueError, match="lidar length is -1, expected 0 or more"):
        train(Train((car,), tmp_path / "run", "bc", lidar_length=-1.0))
