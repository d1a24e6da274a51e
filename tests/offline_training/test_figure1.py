"""Figure 1 end to end at the smallest size, and its evaluation."""

import json

import numpy as np
import pytest
import torch

from go2_sevpo.data import shards
from go2_sevpo.data.dataset import load
from go2_sevpo.data_collection.reach_avoid import data as reach_avoid_data
from go2_sevpo.deploy.export.cli import Args as ExportArgs
from go2_sevpo.deploy.export.cli import export_run
from go2_sevpo.envs.reach_avoid import play, task
from go2_sevpo.envs.reach_avoid import truth as truth_module
from go2_sevpo.envs.reach_avoid.truth import load_truth
from go2_sevpo.offline_training import train as training
from go2_sevpo.offline_training.reproduce.reach_avoid import figure1, sweep
from go2_sevpo.policies.contract import ContractError, check_contract
from go2_sevpo.policies.onnx_policy import OnnxPolicy
from go2_sevpo.policies.torch_policy import GaussianPolicy

pytestmark = pytest.mark.xdist_group("reach_avoid")
TINY = """
sevpo: {critic_steps: 20, policy_steps: 20, critic_hidden: [16, 16], critic_batch: 32,
        actor_batch: 32, actor_updates: 1,
        actor: mlp, width: 16, depth: 2, dropout: 0.0, limit: 0.5}
fisor: {steps: 20, critic_hidden: [16, 16], critic_batch: 32, actor_batch: 32, actor: mlp,
        width: 16, depth: 2, dropout: 0.0}
bc: {steps: 20, batch: 32, width: 16, depth: 2}
bc-choice: {critic_steps: 20, steps: 20, critic_hidden: [16, 16], critic_batch: 32, batch: 32,
        width: 16, depth: 2}
cpq: {steps: 20, batch: 32, hidden: [16, 16], vae_hidden: 16}
coptidice: {steps: 20, batch: 32, hidden: [16, 16]}
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory, reach_avoid_truth):
    """A folder with the tiny preset and one dataset."""
    folder = tmp_path_factory.mktemp("figure1")
    (folder / "tiny.yaml").write_text(TINY)
    reach_avoid_data.collect(
        reach_avoid_data.Args(folder / "data", ratio=5, safe=3000, truth=reach_avoid_truth, seed=1)
    )
    return folder


def test_ratio_counts_transitions_of_safe_expert_and_unsafe_random_episodes(place):
    manifest = shards.read_manifest(place / "data")
    safe, unsafe = (shards.read_shard(place / "data" / f"{p}.hdf5") for p in ("safe", "unsafe"))
    assert 3000 <= safe.rows < 3300
    assert 600 <= unsafe.rows < 900
    assert np.all(safe.episodes["cost"] == 0)
    assert np.all(safe.episodes["fall"] == 0)
    assert np.all(unsafe.episodes["cost"] > 0)
    assert safe.episodes["success"].mean() > 0.8
    assert manifest["environment"]["name"] == task.ENV_ID
    assert manifest["construction"]["ratio"] == 5
    # Rewards and successors are the task's own.
    state = task.state_of(torch.from_numpy(unsafe.columns["observations"]))
    moved = task.advance(state, torch.from_numpy(unsafe.columns["actions"]))
    assert np.allclose(task.observe(moved).numpy(), unsafe.columns["next_observations"], atol=1e-4)
    assert np.array_equal(task.in_hazard(moved).numpy(), unsafe.columns["costs"] > 0)
    # h is above 0 exactly where there is a cost, and says how far inside or outside.
    h = unsafe.columns["constraint"]
    assert np.array_equal(h > 0, unsafe.columns["costs"] > 0)
    distance = np.linalg.norm(unsafe.columns["next_observations"][:, :2], axis=1)
    assert np.allclose(h, 0.8 - distance, atol=1e-5) and h.min() < -1.0
    assert load(place / "data").rows(torch.tensor([3])).constraint.shape == (1,)


def test_collecting_again_keeps_the_data_and_refuses_another_construction(place, reach_avoid_truth):
    before = (place / "data" / "safe.hdf5").stat().st_mtime
    args = reach_avoid_data.Args(
        place / "data", ratio=5, safe=3000, truth=reach_avoid_truth, seed=1
    )
    reach_avoid_data.collect(args)
    assert (place / "data" / "safe.hdf5").stat().st_mtime == before
    args.ratio = 7
    with pytest.raises(shards.DatasetError, match="another construction"):
        reach_avoid_data.collect(args)


def test_starts_are_what_they_are_called(reach_avoid_truth):
    truth = load_truth(reach_avoid_truth)
    starts = play.evaluation_starts(truth, 30, 4, 0)
    assert starts.paper.shape == (4, 4)
    assert len(starts.feasible) == len(starts.infeasible) == len(starts.least) == 30
    proof = truth_module.certify(truth, starts.feasible, True)
    assert bool((proof["success"] & (proof["cost"] == 0)).all())
    assert bool((starts.least >= 1).all())


def _constant(action):
    policy = GaussianPolicy([5, 4, 2], torch.zeros(2), 1.0)
    for p in policy.parameters():
        p.data.zero_()
    policy.mlp[-1].bias.data = torch.tensor(action)
    policy.diffusion = type("D", (), {"steps": 1})()
    return policy


def test_episodes_are_counted_as_they_went():
    """Straight ahead from three starts: through the hazard and off the map, into the goal, and
    standing still.
    """
    starts = torch.tensor([[-2.03, 0.0, 2.0, 0.0], [1.02, 2.2, 1.0, 0.0], [-2.0, -2.0, 0.0, 0.0]])
    found, paths = play.play(_constant([0.0, 0.0]), starts, 1, 0, keep_paths=True)
    assert found.violations.tolist() == [16, 0, 0]  # x = -0.73 ... 0.77
    assert "".join(play.OUTCOMES[i] for i in found.outcome) == "lst"
    assert found.steps.tolist()[1:] == [18, 300]
    assert [len(p) - 1 for p in paths] == found.steps.tolist()


LONGER = [pytest.param(n, marks=pytest.mark.slow) for n in ("fisor", "bc-choice", "bc-safe", "bc")]


@pytest.mark.parametrize("name", ["sevpo", "cpq", "coptidice", *LONGER])
def test_any_algorithm_exports_through_the_same_path_and_plays_the_same(place, tmp_path, name):
    run = tmp_path / "run"
    sets = ["cost_limit=0.0"] if name == "bc-safe" else []
    assert training.train(
        training.Args(
            (place / "data",), run, name, str(place / "tiny.yaml"), set=sets, candidates=4
        )
    )
    export_run(ExportArgs(run, tmp_path / "policy.onnx"))
    policy = OnnxPolicy(tmp_path / "policy.onnx")
    assert policy.contract["robot"] == "reach_avoid_vehicle"
    check_contract(policy.contract, task.environment_contract(), name)
    from go2_sevpo.envs.go2.contract import environment_contract

    with pytest.raises(
        ContractError, match='\'robot\' is "reach_avoid_vehicle", the environment has "unitree_go2"'
    ):
        check_contract(
            {**environment_contract(), "robot": "reach_avoid_vehicle"}, environment_contract(), name
        )
    obs = load(place / "data").frames[:8].numpy()
    action, value, candidate = policy.act(
        obs, np.random.default_rng(0).normal(size=policy.noise_shape(8)).astype(np.float32)
    )
    assert action.shape == (8, 2)
    assert np.abs(action).max() <= 1
    assert (
        candidate.max() < policy.candidates == (4 if name in ("sevpo", "fisor", "bc-choice") else 1)
    )


@pytest.mark.slow
def test_the_command_resumes_and_leaves_table_json_and_pictures(
    place, reach_avoid_truth, tmp_path, capsys, in_process
):
    args = figure1.Figure1(
        out=tmp_path / "f1",
        truth=reach_avoid_truth,
        preset=str(place / "tiny.yaml"),
        ratios=(5,),
        algorithms=("sevpo", "bc-choice"),
        members=2,
        safe=1500,
        starts=6,
        paper_repeats=2,
        candidates=(1, 4),
    )
    result = figure1.run(args)
    text = capsys.readouterr().out
    assert "cloning, all data | 1 |" in text
    assert "cloning + Q_c choice | 4 |" in text
    parts = {
        p["algorithm"]: p for p in json.loads((args.out / "figure1.json").read_text())["results"]
    }
    assert set(parts) == {"sevpo", "bc-choice"}
    episodes = parts["sevpo"]["evaluations"]["N4"]["episodes"]
    assert len(episodes) == 2
    assert (
        len(episodes[0]["feasible"]["violations"]) == len(episodes[0]["feasible"]["outcome"]) == 6
    )
    for name in ("figure1.png", "figure5.png", "figure1.md"):
        assert (args.out / name).stat().st_size > 300
    before = (args.out / "evaluation" / "ratio_5_sevpo.json").stat().st_mtime
    assert figure1.run(args)["results"] == result["results"]
    assert (args.out / "evaluation" / "ratio_5_sevpo.json").stat().st_mtime == before
    with pytest.raises(ValueError, match="unknown algorithm 'td3'"):
        figure1.run(figure1.Figure1(algorithms=("td3",)))


@pytest.mark.slow
def test_sweep_shares_stage_one_and_tabulates_every_way_of_acting(
    place, reach_avoid_truth, tmp_path, capsys, in_process
):
    names = ("default", "b2 = 0.1")
    args = sweep.Sweep(
        out=tmp_path / "sweep",
        truth=reach_avoid_truth,
        preset=str(place / "tiny.yaml"),
        members=2,
        safe=1500,
        starts=4,
        paper_repeats=2,
        only=names,
    )
    sweep.run(args)
    (stage_one,) = args.out.glob("stage_one_*.safetensors")
    files = [sweep._stage_one_file(args, sweep._settings(args, n)) for n in (*names, "alpha = 1")]
    assert files[0] == files[1] == stage_one != files[2]  # alpha changes stage 1, b2 does not
    rows = json.loads((args.out / "sweep.json").read_text())["results"]
    assert [r["name"] for r in rows] == list(names)
    assert set(rows[0]["acting"]) == {"first_1", "argmin_cost_16", "argmax_reward_16"}
    assert "| b2 = 0.1 |" in capsys.readouterr().out
    with pytest.raises(ValueError, match="unknown variant 'x'"):
        sweep.run(sweep.Sweep(out=tmp_path / "other", only=("x",)))


def test_every_variant_of_the_sweep_is_a_valid_configuration():
    for name in sweep.VARIANTS:
        settings = sweep._settings(sweep.Sweep(), name)
        assert sweep.make_config("sevpo", settings) is not None
