"""Evaluation during training: what is best, what is kept, and that it does not disturb the
training.
"""

import csv

import pytest
import torch

from go2_sevpo.data.shards import DatasetError
from go2_sevpo.data_collection.collect import Args as CollectArgs
from go2_sevpo.data_collection.collect import collect
from go2_sevpo.deploy.export.cli import Args as ExportArgs
from go2_sevpo.deploy.export.cli import export_run
from go2_sevpo.offline_training.evaluation.best import BestKeeper
from go2_sevpo.offline_training.evaluation.go2 import courses_of, go2_rank
from go2_sevpo.offline_training.train import Args, train
from go2_sevpo.policies.torch_policy import load_policy

SMALL = ["width=16", "depth=2", "batch=16", "steps=6"]


def read(folder):
    with open(folder / "evaluation.csv", newline="") as handle:
        return list(csv.DictReader(handle))


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    out = tmp_path_factory.mktemp("evaluation") / "data"
    collect(CollectArgs(out=out, policy="weak", course="simple", episodes=3, threads=1))
    return out


def test_best_is_most_successes_then_least_cost(tmp_path):
    scores = iter([(0.5, 3.0), (0.5, 2.0), (0.4, 0.0), (0.5, 2.0), (0.6, 9.0)])

    def evaluate(_):
        success, cost = next(scores)
        return {"success": success, "cost": cost}

    keeper = BestKeeper(evaluate, 10, tmp_path, go2_rank)
    assert [keeper.offer(0, 10 * k, None)[0] for k in range(5)] == [True, True, False, False, True]
    assert keeper.best == {0: [0.6, -9.0]}
    rows = read(tmp_path)
    assert [float(r["success"]) for r in rows] == [0.5, 0.5, 0.4, 0.5, 0.6]


def test_evaluations_leave_the_training_as_it_is(data, tmp_path):
    for name, every in (("plain", 0), ("watched", 3)):
        options = Args(
            (data,),
            tmp_path / name,
            "bc",
            seed=1,
            set=SMALL,
            evaluate_every=every,
            evaluate_episodes=2,
        )
        assert train(options)
    plain, watched = (
        load_policy(tmp_path / name / "policy_last.safetensors")[0].state_dict()
        for name in ("plain", "watched")
    )
    assert all(torch.equal(plain[k], watched[k]) for k in plain)
    rows = read(tmp_path / "watched")
    assert [int(r["step"]) for r in rows] == [3, 6]
    assert {"success", "fall", "cost", "success/simple"} <= set(rows[0])
    _, _, info = load_policy(tmp_path / "watched" / "policy_best.safetensors")
    assert info["evaluation"]["success"] == max(float(r["success"]) for r in rows)
    export_run(ExportArgs(tmp_path / "watched", tmp_path / "best.onnx", best=True))
    assert (tmp_path / "best.onnx").is_file()
    assert not (tmp_path / "plain" / "policy_best.safetensors").exists()


def test_members_have_a_best_each(data, tmp_path):
    options = Args(
        (data,), tmp_path / "run", "bc", members=2, set=SMALL, evaluate_every=6, evaluate_episodes=2
    )
    assert train(options)
    assert all(
        (tmp_path / "run" / f"member_{k:02d}" / "policy_best.safetensors").is_file()
        for k in range(2)
    )


def test_data_of_another_task_cannot_be_played():
    with pytest.raises(
        DatasetError,
        match="plays go2_sevpo/Go2Parkour-v0 or a Safety-Gymnasium task, but the dataset is "
        "of an unknown one",
    ):
        courses_of({"shards": []})
