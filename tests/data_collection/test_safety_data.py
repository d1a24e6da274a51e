"""Generated Safety-Gymnasium data: seeded, valid, overlapping; and the way from it to a played
policy.
"""

import importlib.util
import json

import h5py
import numpy as np
import pytest

from go2_sevpo.data.dataset import load
from go2_sevpo.data.shards import DatasetError
from go2_sevpo.data_collection.safety_gymnasium import generate as safety_data
from go2_sevpo.data_collection.safety_gymnasium.cli import Generate, run
from go2_sevpo.data_collection.safety_gymnasium.controllers import (
    Driver,
    Linear,
    Statistics,
    random_search,
    rollout,
)
from go2_sevpo.deploy.export.cli import Args as Export
from go2_sevpo.deploy.export.cli import export_run
from go2_sevpo.deploy.play.cli import Args as Play
from go2_sevpo.deploy.play.cli import play
from go2_sevpo.deploy.play.safety_gymnasium import show
from go2_sevpo.envs.safety_gymnasium.files import validate
from go2_sevpo.envs.safety_gymnasium.tasks import find_task, origin_of_file, task_of_file
from go2_sevpo.offline_training.train import Args as Train
from go2_sevpo.offline_training.train import train

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("safety_data")]
if importlib.util.find_spec("safety_gymnasium") is None:
    pytest.skip("Safety-Gymnasium is not installed", allow_module_level=True)


@pytest.fixture(scope="module")
def generated(tmp_path_factory):
    out = tmp_path_factory.mktemp("data") / "cars.hdf5"
    text = run(Generate("CarGoal1", out, episodes=6, seed=1, processes=2))
    assert "6000 transitions" in text
    return out


def test_file_is_in_the_layout_and_says_what_it_is(generated):
    task = find_task("CarGoal1")
    found = validate(generated, task)
    assert found["episodes"] == 6 and found["length"] == 1000 and not found["as_published"]
    made = json.loads(generated.with_suffix(".json").read_text())
    assert made["generated"] and "not a DSRL file" in made["note"] and len(made["controllers"]) == 6
    assert task_of_file(generated) is task
    data = load(generated, origin_of=origin_of_file)
    assert data.manifest["environment"]["name"] == "go2_sevpo/SafetyCarGoal1-v0"
    with h5py.File(generated) as handle:
        obs, nxt = handle["observations"][:1000], handle["next_observations"][:1000]
    assert np.array_equal(obs[1:], nxt[:-1])


def test_same_seed_same_file_whatever_the_processes(generated):
    task = find_task("CarGoal1")
    again = safety_data.generate(task, 6, 1, generated.parent / "again.hdf5", 1, lambda _: None)
    with h5py.File(generated) as a, h5py.File(generated.parent / "again.hdf5") as b:
        assert all(np.array_equal(a[k][()], b[k][()]) for k in a)
    assert (
        again["controllers"]
        == json.loads(generated.with_suffix(".json").read_text())["controllers"]
    )


def test_careful_drivers_avoid_what_careless_ones_touch():
    from go2_sevpo.envs.safety_gymnasium.environment import make

    env, rng = make("CarGoal1"), np.random.default_rng(0)

    def played(margin):
        driver = Driver(margin, 0.8)
        return [
            rollout(env, lambda o: driver.act(o, rng), seed, 1000)[:2] for seed in range(1000, 1006)
        ]

    careless, careful = played(0.0), played(0.4)
    assert np.mean(careless, axis=0)[1] > 10 and np.mean(careful, axis=0)[1] <= 5
    assert np.mean(careless, axis=0)[0] > 20 and np.mean(careful, axis=0)[0] > 15, (
        "both must get to goals"
    )


def test_random_search_improves_and_normalises():
    from go2_sevpo.envs.safety_gymnasium.environment import make

    env, quiet = make("HalfCheetahVelocity"), np.random.default_rng(0)
    found = random_search(
        env,
        17,
        6,
        8,
        0,
        directions=4,
        best=2,
        step=0.05,
        spread=0.1,
        horizon=200,
        say=lambda _: None,
        keep=2,
    )
    still = Linear(np.zeros((6, 17)), np.zeros(17), np.ones(17))
    first, last = (
        rollout(env, lambda o, p=p: p.act(o, quiet), 0, 200)[0] for p in (still, found[-1])
    )
    assert last > first + 5
    rows = np.random.default_rng(0).normal(3.0, 2.0, (500, 4))
    statistics = Statistics(4)
    statistics.add(rows[:200])
    statistics.add(rows[200:])
    assert np.allclose(statistics.mean, rows.mean(0)) and np.allclose(
        statistics.std, rows.std(0, ddof=1), rtol=0.01
    )


@pytest.mark.parametrize("algorithm", ["sevpo", "ccac"])
def test_from_generated_data_to_a_played_policy(generated, tmp_path, algorithm, monkeypatch):
    monkeypatch.setattr("go2_sevpo.envs.safety_gymnasium.environment.EPISODE_STEPS", 40)
    steps = {"sevpo": ["critic_steps=5", "policy_steps=5"], "ccac": ["vae_steps=5", "steps=5"]}[
        algorithm
    ]
    train(Train((generated,), tmp_path / "run", algorithm, set=steps))
    export_run(Export(tmp_path / "run", tmp_path / "p.onnx"))
    report = play(Play(str(tmp_path / "p.onnx"), episodes=2, out=tmp_path / "report"))
    assert (
        report["task"] == "CarGoal1"
        and report["episodes"] == 2
        and report["non_finite_actions"] == 0
    )
    assert [e["length"] for e in report["episodes_detail"]] == [40, 40]
    assert (
        json.loads((tmp_path / "report" / "report.json").read_text())["normalised_cost"]
        == report["normalised_cost"]
    )
    assert "safe below 1" in show(report)


def test_what_cannot_be_generated_is_said(tmp_path, monkeypatch):
    monkeypatch.setattr(safety_data, "WALKED", ())
    with pytest.raises(DatasetError, match="no behaviour to generate data for AntVelocity"):
        run(Generate("AntVelocity", tmp_path / "a.hdf5"))
    (tmp_path / "b.hdf5").write_text("")
    with pytest.raises(DatasetError, match="exists"):
        run(Generate("CarGoal1", tmp_path / "b.hdf5"))
