"""The region report against a V_c written by hand: V_c is the first number of the observation."""

import json

import numpy as np
import pytest
import torch

from go2_sevpo.data import shards
from go2_sevpo.data.shards import DatasetError
from go2_sevpo.data_collection.datasets.cli import Regions, run
from go2_sevpo.data_collection.datasets.regions import warning_time
from go2_sevpo.networks.diffusion import Diffusion
from go2_sevpo.networks.layers import Critic, Denoiser, Normalizer, Value
from go2_sevpo.policies.torch_policy import DiffusionPolicy, GaussianPolicy, save_policy
from tests.conftest import make_episodes


def first_number_policy(n_obs=4, n_act=2, limit=0.5):
    torch.manual_seed(0)
    value = Value(n_obs, (8,))
    first, last = value.net[0], value.net[2]
    for p in value.parameters():
        p.data.zero_()
    first.weight.data[0, 0], first.weight.data[1, 0] = 1.0, -1.0
    last.weight.data[0, 0], last.weight.data[0, 1] = 1.0, -1.0
    diffusion = Diffusion(Denoiser(n_obs, n_act, "mlp", 8, 1, 0.0), 2, "clean")
    critics = Critic(n_obs, n_act, (8,)), Critic(n_obs, n_act, (8,)), value
    normalizer = Normalizer(torch.zeros(n_obs), torch.ones(n_obs))
    return DiffusionPolicy(normalizer, diffusion, 1.0, "argmin_cost", *critics, limit=limit).eval()


@pytest.fixture
def folder(tmp_path):
    """Episodes of 20, 30 and 25 steps, the first and third fall; V_c is 1 in the last 7 steps of
    the first and the last 12 of the third.
    """
    data = make_episodes()
    obs, after = data.columns["observations"], data.columns["next_observations"]
    for rows in (obs, after):
        rows[:, 0] = 0.0
    value = np.zeros(75, np.float32)
    value[20 - 7 : 20], value[75 - 12 :], value[50:53], value[25] = 1.0, 1.0, 1.0, 1.0
    obs[:, 0] = value
    after[:-1, 0] = value[1:]
    path = tmp_path / "data"
    path.mkdir()
    entry = shards.write_shard(path / "00.hdf5", data, {"source": {"policy": "p", "course": "c"}})
    shards.write_manifest(path, [entry], {"seed": 0})
    return path


def test_report_counts_warnings_before_falls(folder, tmp_path):
    save_policy(
        tmp_path / "p.safetensors", first_number_policy(), torch.zeros(3, 4), {"algorithm": "sevpo"}
    )
    text = run(Regions(folder, tmp_path / "p.safetensors", tmp_path / "out"))
    found = json.loads((tmp_path / "out" / "regions.json").read_text())
    assert (found["episodes"], found["falls"], found["successes"], found["limit"]) == (3, 2, 1, 0.5)
    called = {k: (v["episodes"], v["called_unsafe"]) for k, v in found["before_fall"].items()}
    assert called == {"1": (2, 1.0), "5": (2, 1.0), "10": (2, 0.5), "25": (1, 1.0), "50": (0, None)}
    assert found["warning_steps"][2] == pytest.approx(9.5) and found["falls_without_warning"] == 0
    assert found["success_steps_called_unsafe"] == pytest.approx(1 / 30)
    there = found["cost_of_actions_where_unsafe"]
    assert there["steps"] == 7 + 12 + 3 + 1 and there["least_of_16"] <= there["policy"]
    assert (tmp_path / "out" / "regions.png").stat().st_size > 5000
    assert "median 0.19 s" in text and "on the last step: 100.0%" in text


def test_warning_time_is_since_the_last_unbroken_stretch():
    def of(text):
        return warning_time(np.array([c == "u" for c in text]))

    assert (of("u.uu"), of("uu"), of("..."), of(".uuu"), of("u")) == (2, 2, 0, 3, 1)
    # No grace: a warning that is taken back before the fall is none.
    assert of(".uuu.") == 0


def test_what_does_not_fit_is_named(folder, tmp_path):
    save_policy(
        tmp_path / "wide.safetensors",
        first_number_policy(6),
        torch.zeros(3, 6),
        {"algorithm": "sevpo"},
    )
    with pytest.raises(DatasetError, match="has observations of 4 numbers, the policy takes 6"):
        run(Regions(folder, tmp_path / "wide.safetensors", tmp_path / "out"))
    plain = GaussianPolicy([4, 8, 2], torch.ones(2), 1.0)
    save_policy(tmp_path / "plain.safetensors", plain, torch.zeros(3, 4), {"algorithm": "bc"})
    with pytest.raises(ValueError, match="is a bc policy without cost values"):
        run(Regions(folder, tmp_path / "plain.safetensors", tmp_path / "out"))
