"""Table 5: mixes, what is evaluated, the table; and the whole chain of commands at a tiny size."""

import json

import pytest
import torch

from go2_sevpo.offline_training.reproduce.go2 import table5
from go2_sevpo.offline_training.reproduce.go2 import table5_report as report
from go2_sevpo.offline_training.reproduce.go2.table5 import Table5
from go2_sevpo.policies.torch_policy import GaussianPolicy, save_policy

TINY = """
sevpo: {actor: mlp, width: 16, depth: 2, dropout: 0.0, prediction: clean, limit: 1.5, delta: 1.5,
        gamma: 0.98, critic_steps: 6,
  policy_steps: 6, critic_hidden: [16], critic_batch: 16, actor_batch: 16, actor_updates: 1,
        unsafe_objective: none, b2: 0.0,
  choice: first}
"""


def test_mixes_hold_what_they_promise():
    args = Table5(scale=0.1)
    paper = {(s["policy"], s["course"]): s["episodes"] for s in table5.sources(args, "paper")}
    assert paper == {
        ("expert", "simple"): 300,
        ("expert", "hard"): 300,
        ("weak", "simple"): 150,
        ("weak", "hard"): 150,
    }
    assert {s["policy"] for s in table5.sources(args, "expert")} == {"expert"}
    for mix, ratio in (("harsh2", 2.0), ("harsh5", 5.0)):
        length = {"expert": table5.EXPERT_LENGTH, "weak": table5.WEAK_LENGTH}
        steps = {"expert": 0, "weak": 0}
        for s in table5.sources(args, mix):
            steps[s["policy"]] += s["episodes"] * length[s["policy"]][s["course"]]
        assert steps["weak"] / steps["expert"] == pytest.approx(ratio, rel=0.02)
        assert sum(steps.values()) == pytest.approx(0.1 * table5.TRANSITIONS, rel=0.02)
    with pytest.raises(
        ValueError, match="unknown mix 'soft', expected some of expert, paper, harsh2, harsh5"
    ):
        table5.sources(args, "soft")


def test_size_fills_in_what_is_not_given():
    laptop, gpu = Table5(scale=0.3), Table5(size="gpu", harsh_scale=0.2)
    assert (laptop.scale, laptop.harsh_scale, laptop.preset, laptop.device) == (
        0.3,
        0.3,
        "laptop",
        "cpu",
    )
    assert (gpu.scale, gpu.harsh_scale, gpu.preset, gpu.simulator) == (
        1.0,
        0.2,
        "paper",
        "mujoco-warp",
    )
    assert sum(s["episodes"] for s in table5.sources(gpu, "paper")) == 9000
    harsh = sum(s["episodes"] for s in table5.sources(gpu, "harsh2"))
    assert harsh == sum(s["episodes"] for s in table5.sources(Table5(scale=0.2), "harsh2"))
    with pytest.raises(ValueError, match="unknown size 'desk', expected one of laptop, gpu"):
        Table5(size="desk")


def test_a_best_policy_that_is_the_last_is_played_once(tmp_path):
    args = Table5(
        tmp_path,
        mixes=("paper",),
        algorithms=("bc",),
        courses=("simple", "hard"),
        members=2,
        candidates=(1,),
        episodes=9,
    )
    policies = [GaussianPolicy([3, 2], torch.zeros(2), 1.0) for _ in range(3)]
    for member, kept, k in ((0, "last", 0), (0, "best", 0), (1, "last", 1), (1, "best", 2)):
        folder = tmp_path / "train" / "paper" / "bc" / f"member_{member:02d}"
        folder.mkdir(parents=True, exist_ok=True)
        save_policy(folder / f"policy_{kept}.safetensors", policies[k], torch.zeros(4, 3), {})
    jobs = {j.title: json.loads(j.command[-1]) for j in table5.play_jobs(args)}
    assert sorted(jobs) == [
        "play paper_bc_best_N1_all_01",
        "play paper_bc_last_N1_all_00",
        "play paper_bc_last_N1_all_01",
    ]
    for commands in jobs.values():  # one export, then both courses
        assert [c[3] for c in commands] == [
            "go2_sevpo.deploy.export.cli",
            "go2_sevpo.deploy.play.cli",
            "go2_sevpo.deploy.play.cli",
        ]
    report = tmp_path / "play" / "paper_bc_last_N1_simple_00"
    report.mkdir()
    (report / "report.json").write_text(json.dumps({"episodes": 8}))  # one too few: played again
    assert {j.title: json.loads(j.command[-1]) for j in table5.play_jobs(args)} == jobs
    (report / "report.json").write_text(json.dumps({"episodes": 9}))
    left = {j.title: json.loads(j.command[-1]) for j in table5.play_jobs(args)}
    assert [c[c.index("--course") + 1] for c in left["play paper_bc_last_N1_all_00"][1:]] == [
        "hard"
    ]


def test_every_method_is_played_alone_and_those_that_choose_also_with_candidates():
    found = table5.evaluations(Table5(mixes=("paper",), members=1, courses=("simple",)))
    keys = {(e["algorithm"], e["kept"], e["n"]) for e in found}
    assert {k[0] for k in keys if k[2] == 1} == {
        *("sevpo", "fisor", "bc", "bc-safe", "bc-lookahead", "bc-choice")
    }
    assert {k[0] for k in keys if k[2] == 16} == {"sevpo", "fisor", "bc-choice"}
    assert {k[1] for k in keys} == {"last", "best"}
    assert {e["kept"] for e in table5.evaluations(Table5(evaluate_every=0))} == {"last"}
    assert [table5.episodes_of(Table5(choice_episodes=50), {"n": n}) for n in (1, 16)] == [334, 50]
    assert table5.episodes_of(Table5(), {"n": 16}) == 334


def test_rates_are_over_all_episodes_and_the_worst_seed_is_named():
    rows = [
        {"member": 0, "outcome": "ssss", "cost": [0, 0, 0, 0]},
        {"member": 1, "outcome": "sfft", "cost": [0, 8, 8, 0]},
    ]
    success, fall, timeout, cost = report.cells(rows)
    assert success.startswith("62.5 [") and success.endswith("; 25.0")
    assert fall.startswith("25.0 [") and timeout.startswith("12.5 [") and cost == "2.00"


def test_a_row_says_which_parts_of_sevpo_were_on():
    off, on = {"unsafe_objective": "none", "b2": 1.0}, {"unsafe_objective": "awr", "b2": 1.0}
    assert report.title("sevpo", {"sevpo": off}) == "SEVPO, safe part"
    assert report.title("sevpo", {"sevpo": {**on, "b2": 0.0}}) == "SEVPO, safe part"
    assert report.title("sevpo", {"sevpo": on}) == "SEVPO"
    assert report.title("bc-lookahead", {}) == "lookahead and cloning"


@pytest.mark.slow
@pytest.mark.xdist_group("tables")
def test_the_whole_chain_runs_and_goes_on(tmp_path, capsys, in_process):
    preset = tmp_path / "tiny.yaml"
    preset.write_text(TINY)
    args = Table5(
        tmp_path / "out",
        scale=0.0005,
        preset=str(preset),
        mixes=("harsh2",),
        algorithms=("sevpo",),
        courses=("simple",),
        members=2,
        episodes=2,
        candidates=(2,),
        evaluate_every=0,
    )
    result = table5.run(args)
    assert [len(r["outcome"]) for r in result["rows"]] == [2, 2]
    assert set(result["data"]["harsh2"]) == {"expert on simple", "weak on simple"}
    assert json.loads((args.out / "table5.json").read_text())["settings"]["members"] == 2
    text = (args.out / "table5.md").read_text()
    assert (
        "| simple | SEVPO, safe part | 2 | last |" in text
        and "The paper (Isaac Gym, 20 episodes" in text
    )
    capsys.readouterr()
    assert table5.data_jobs(args) == table5.train_jobs(args) == table5.play_jobs(args) == []
    assert table5.run(args)["rows"] == result["rows"]
    assert "begins" not in capsys.readouterr().out


@pytest.mark.xdist_group("tables")
def test_the_experts_part_is_taken_out_of_the_papers_mix(tmp_path, capsys, in_process):
    args = Table5(
        tmp_path, scale=0.001, mixes=("paper", "expert"), algorithms=(), courses=("simple",)
    )
    result = table5.run(args)
    assert {k: v["episodes"] for k, v in result["data"]["paper"].items()} == {
        "expert on simple": 6,
        "weak on simple": 3,
    }
    assert result["data"]["expert"] == {
        "expert on simple": result["data"]["paper"]["expert on simple"]
    }
    assert "collect expert" not in capsys.readouterr().out
