"""Figure 4: train, collect with the learned policy, train again on a Safety-Gymnasium task, at a
tiny size.
"""

import importlib.util
import json
from dataclasses import replace

import h5py
import numpy as np
import pytest

from go2_sevpo.data.dataset import load
from go2_sevpo.data_collection.safety_gymnasium.cli import Collect
from go2_sevpo.data_collection.safety_gymnasium.cli import run as dsrl_run
from go2_sevpo.envs.safety_gymnasium.files import validate
from go2_sevpo.envs.safety_gymnasium.tasks import find_task, origin_of_file
from go2_sevpo.offline_training.loop import cli as loop
from go2_sevpo.offline_training.reproduce.safety_gymnasium import figure4
from go2_sevpo.policies.contract import ContractError
from go2_sevpo.runs import processes
from tests.conftest import call_in_process
from tests.offline_training.test_safety_tables import TINY, generated

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("figure4")]
if importlib.util.find_spec("safety_gymnasium") is None:
    pytest.skip("Safety-Gymnasium is not installed", allow_module_level=True)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    place = tmp_path_factory.mktemp("figure4")
    patch = pytest.MonkeyPatch()
    patch.setattr(processes, "start", call_in_process)
    patch.setenv("DSRL_DATASET_DIR", str(place / "nothing"))
    (place / "tiny.yaml").write_text(TINY)
    args = figure4.Figure4(
        out=place / "out",
        generated_episodes=8,
        safe_samples=100,
        rounds=1,
        collect_episodes=2,
        safe_enough=1e9,
        preset=str(place / "tiny.yaml"),
        seeds=1,
        episodes=1,
        evaluate_every=2,
        evaluate_episodes=1,
    )
    generated(args.out / "data" / "generated_CarGoal1_8.hdf5")
    yield args, figure4.run(args)
    patch.undo()


def test_learns_again_from_what_its_policy_collected(made, in_process):
    args, result = made
    (learned,) = result["loops"]
    assert len(learned["rounds"]) == 2 and not result["dsrl"]
    assert learned["data"][1]["episodes"] == 2 and learned["data"][1]["transitions"] == 2000
    assert [[p["step"] for p in r["curve"]] for r in learned["rounds"]] == [[2, 4], [2, 4]]
    text = (args.out / "figure4_CarGoal1.md").read_text()
    assert text.count("\n| 0 |") == 2 and "not DSRL's" in text
    assert (args.out / "figure4_CarGoal1.png").stat().st_size > 10_000
    again = figure4.run(args)
    assert again["loops"] == result["loops"]


def test_every_seed_is_a_loop_of_its_own(made):
    args, _ = made
    first, second = figure4.loop_jobs(replace(args, seeds=2), args.out / "data.hdf5")
    differ = [(a, b) for a, b in zip(first.command, second.command) if a != b]
    assert [(a[-1], b[-1]) for a, b in differ] == [
        ("0", "1"),
        ("0", "1"),
    ]  # the folder and the seed
    assert first.log != second.log


def test_collected_file_is_the_policys_own_and_says_so(made):
    args, _ = made
    folder = args.out / "figure4" / "CarGoal1_1_1_seed_0" / "round_0"
    path = folder / "collected_CarGoal1.hdf5"
    note = json.loads(path.with_suffix(".json").read_text())
    assert note["note"].startswith("collected with a policy") and note["policy"]["sha256"]
    assert validate(path, find_task("CarGoal1"))["episodes"] == 2
    assert (
        load(path, origin_of=origin_of_file).manifest["environment"]["name"]
        == "go2_sevpo/SafetyCarGoal1-v0"
    )
    again = Collect(
        "CarGoal1",
        folder / "policy.onnx",
        args.out / "again.hdf5",
        episodes=2,
        seed=note["seed"],
        processes=1,
    )
    dsrl_run(again)
    with h5py.File(path) as a, h5py.File(args.out / "again.hdf5") as b:
        assert all(np.array_equal(a[k][()], b[k][()]) for k in a)
    with pytest.raises(ContractError, match="environment"):
        dsrl_run(Collect("CarGoal2", folder / "policy.onnx", args.out / "other.hdf5", episodes=1))


def test_what_is_not_safe_enough_does_not_collect(made, tmp_path, capsys, in_process):
    args, _ = made
    data = args.out / "data" / "figure4_generated_CarGoal1_1_1.hdf5"
    options = loop.Args(
        (data,), tmp_path / "loop", rounds=1, safe_enough=-1.0, preset=args.preset, play_episodes=1
    )
    rounds = loop.run(options)
    assert len(rounds) == 1 and not rounds[0]["may_collect"]
    assert "cost over the limit" in capsys.readouterr().out
    assert not list(tmp_path.rglob("collected*"))
    result = {"settings": {**figure4.plain(args), "rounds": 1}, "dsrl": False}
    result["loops"] = [{"seed": 0, "rounds": rounds, "data": [figure4.episode_costs(data)]}]
    assert "stopped: not safe enough to collect" in figure4.table(result)


def test_data_of_two_worlds_is_refused(made, tmp_path):
    args, _ = made
    data = args.out / "data" / "figure4_generated_CarGoal1_1_1.hdf5"
    with pytest.raises(ValueError, match="datasets of several worlds: CarGoal1, Go2"):
        loop.run(loop.Args((data, tmp_path), tmp_path / "x"))
    stray = tmp_path / "data.hdf5"
    stray.write_bytes(b"")
    with pytest.raises(ValueError, match="is not named after a Safety-Gymnasium task"):
        loop.run(loop.Args((stray,), tmp_path / "x"))


def test_figure6_draws_every_task(tmp_path):
    from go2_sevpo.deploy.play.video import graphics_problem
    from go2_sevpo.offline_training.reproduce.safety_gymnasium import figure6

    if graphics_problem() is not None:
        pytest.skip(graphics_problem())
    path = figure6.run(figure6.Figure6(tmp_path, width=64, height=48))
    assert path.stat().st_size > 20_000
