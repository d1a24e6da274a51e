"""The rescue and the stitching benchmark: what is collected, tables, and whole chains, tiny."""

import json

import numpy as np
import pytest

from go2_sevpo.data_collection import collect
from go2_sevpo.offline_training.reproduce.go2 import (
    benchmark,
    benchmark_report,
    play_job,
    rescue,
    stitch,
)
from go2_sevpo.offline_training.reproduce.go2.arms import ARMS, check_arms
from go2_sevpo.offline_training.reproduce.go2.rescue import Rescue
from go2_sevpo.offline_training.reproduce.go2.stitch import Stitch

TINY = """
sevpo: &sevpo
  {actor: mlp, width: 16, depth: 2, dropout: 0.0, prediction: clean, gamma: 0.98, critic_steps: 6,
   falls: absorbing, limit: 40.0, policy_steps: 6, critic_hidden: [16],
   critic_batch: 16, actor_batch: 16, actor_updates: 1, unsafe_samples: 4}
bc: {actor: mlp, width: 16, depth: 2, steps: 4, batch: 16}
fisor: {actor: mlp, width: 16, depth: 2, dropout: 0.0, steps: 4, critic_hidden: [16],
  critic_batch: 16, actor_batch: 16, actor_updates: 1}
"""


def test_rescues_are_collected_from_four_kinds_of_episodes():
    found = rescue.sources(Rescue(scale=0.1, rescuer="saviour.onnx"))
    assert [(s["policy"], s["episodes"]) for s in found] == [
        ("expert", 30),
        ("weak", 30),
        ("weak", 30),
        ("saviour.onnx", 10),
    ]
    assert found[2]["then"] == "saviour.onnx" and found[2]["before_fall"] == [0.0, 0.8]
    assert found[3]["push_speed"] == 1.2 and "push_speed" not in found[0]


def test_one_thing_at_a_time_is_varied_or_all_together():
    args = Stitch(kinds=("random", "late"), shares=(0.0, 0.05), collected=(300, 100))
    assert stitch.mixes(args) == [
        ("random", 0.0, 300),
        ("random", 0.05, 300),
        ("late", 0.0, 300),
        ("random", 0.0, 100),
    ]
    grid = Stitch(kinds=("random", "late"), shares=(0.0, 0.05), collected=(300, 100), grid=True)
    assert len(stitch.mixes(grid)) == 8
    assert stitch.name_of(("late", 0.01, 100)) == "late_1pct_100"


def test_of_interrupted_episodes_only_those_that_fall_are_taken():
    args = Stitch(half="half.onnx")
    none = stitch.sources(args, ("random", 0.0, 100))
    assert len(none) == 1 and none[0]["falls_only"] and none[0]["then"] == "weak"
    some = stitch.sources(args, ("stones", 0.05, 100))
    assert [s["episodes"] for s in some] == [95, 5] and some[0]["mid_course"]
    assert "then" not in some[1] and "falls_only" not in some[1]
    half = stitch.sources(args, ("half", 0.0, 100))
    assert half[0]["policy"] == "half.onnx" and "then" not in half[0]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"kinds": ("odd",)}, "unknown kind 'odd', expected some of random"),
        ({"kinds": ("half",)}, "kind half needs --half"),
        ({"shares": (1.0,)}, r"share is 1, expected a number in \[0, 1\)"),
        ({"collected": ()}, "at least one kind, one share and one number"),
    ],
)
def test_mixes_without_a_meaning_are_named(settings, message):
    with pytest.raises(ValueError, match=message):
        stitch.mixes(Stitch(**settings))


def test_arms_say_which_parts_are_on():
    with pytest.raises(ValueError, match="unknown arm 'cql', expected some of sevpo, sevpo-awr"):
        check_arms(("sevpo", "cql"))
    assert ARMS["sevpo"].title == "SEVPO, safe part"
    assert "unsafe_objective=none" in ARMS["sevpo"].settings
    unsafe = {ARMS[f"sevpo-{k}"].settings[0] for k in ("awr", "gradient", "search")}
    assert unsafe == {f"unsafe_objective={k}" for k in ("awr", "gradient", "search")}


def test_rates_are_over_all_seeds_and_leave_out_what_did_not_happen():
    text = benchmark_report.rate(["ssf-", "s---"])
    assert text.startswith("75.0 [") and text.endswith("(66.7, 100.0)")
    assert benchmark_report.rate(["--", "-"]) == "no such state"


def rows_of(**found):
    return [
        {"data": "rescue", "arm": arm, "title": arm.upper(), **outcome}
        for arm, outcomes in found.items()
        for outcome in outcomes
    ]


def test_the_rescue_table_has_a_row_for_each_arm_and_a_column_for_each_time():
    outcome = {"before": {"0.1": "sf", "0.2": "ss"}, "undisturbed": "st", "push": "ff"}
    result = {
        "command": "go2-reproduce rescue",
        "settings": {
            "course": "hard",
            "preset": "laptop",
            "seeds": [0],
            "members": 2,
            "episodes": 2,
            "before": [0.1, 0.2],
            "push_speed": 1.2,
            "arms": ["a"],
        },
        "data": {"rescue": {"episodes": 3, "transitions": 9, "safe": 1}},
        "rows": rows_of(a=[outcome, outcome]),
    }
    lines = benchmark_report.rescue_table(result).splitlines()
    assert "| method | 0.1 s | 0.2 s | undisturbed | pushes of 1.2 m/s |" in lines
    (row,) = [line for line in lines if line.startswith("| A |")]
    cells = [c.strip().split(" ")[0] for c in row.strip("|").split("|")]
    assert cells == ["A", "50.0", "100.0", "50.0", "0.0"]


def test_where_nothing_is_safe_cloning_safe_episodes_has_a_row_without_numbers():
    result = {
        "command": "go2-reproduce stitch",
        "settings": {
            "course": "hard",
            "preset": "laptop",
            "seeds": [0],
            "members": 1,
            "episodes": 4,
            "arms": ["bc", "bc-safe"],
        },
        "data": {"random_0pct_4": {"episodes": 4, "transitions": 9, "safe": 0}},
        "rows": [
            {**row, "data": "random_0pct_4"}
            for row in rows_of(bc=[{"undisturbed": "sfft", "cost": [1, 2, 3, 2]}])
        ],
    }
    text = benchmark_report.stitch_table(result)
    assert "| cloning, safe episodes | nothing to clone |  |  |" in text
    (row,) = [line for line in text.splitlines() if line.startswith("| BC |")]
    assert [c.strip().split(" ")[0] for c in row.strip("|").split("|")] == [
        *("BC", "25.0", "50.0", "2.00"),
    ]


@pytest.fixture
def short(monkeypatch):
    """Episodes of at most 1.5 s; the weak policy falls earlier."""
    for module in (play_job, collect):
        config = module.ParkourConfig
        monkeypatch.setattr(
            module,
            "ParkourConfig",
            lambda config=config, **k: config(**{**k, "episode_seconds": 1.5}),
        )


@pytest.mark.slow
@pytest.mark.xdist_group("tables")
def test_the_rescue_benchmark_runs_and_goes_on(tmp_path, capsys, in_process, short):
    preset = tmp_path / "tiny.yaml"
    preset.write_text(TINY)
    args = Rescue(
        tmp_path / "out",
        ("sevpo", "sevpo-gradient", "bc-lookahead", "oracle"),
        course="simple",
        preset=str(preset),
        members=1,
        episodes=3,
        scale=0.01,
        before=(0.2, 0.4),
    )
    result = rescue.run(args)
    assert [row["arm"] for row in result["rows"]] == ["rescuer", *args.arms]
    for row in result["rows"]:
        assert set(row["before"]) == {"0.2", "0.4"} and len(row["before"]["0.2"]) == 3
        assert len(row["undisturbed"]) == len(row["push"]) == 3
        assert set(row["before"]["0.4"]) <= set("sf-")
    assert result["rows"][0]["undisturbed"] == "ttt"  # the shipped expert, until it is stopped
    assert result["configs"]["oracle"]["actor_name"] == "expert"
    assert result["configs"]["sevpo-gradient"]["unsafe_objective"] == "gradient"
    assert "| the rescuer itself |" in (args.out / "rescue.md").read_text()
    capsys.readouterr()
    assert rescue.run(args)["rows"] == result["rows"]
    assert "begins" not in capsys.readouterr().out
    with pytest.raises(ValueError, match="was begun with other settings: episodes: 3 -> 4"):
        rescue.run(Rescue(**{**vars(args), "episodes": 4}))


@pytest.mark.slow
@pytest.mark.xdist_group("tables")
def test_the_stitching_benchmark_runs_and_takes_more_seeds(
    tmp_path, monkeypatch, in_process, short
):
    preset = tmp_path / "tiny.yaml"
    preset.write_text(TINY)
    args = Stitch(
        tmp_path / "out",
        ("sevpo", "bc-safe", "bc"),
        course="simple",
        preset=str(preset),
        members=1,
        episodes=2,
        kinds=("random",),
        shares=(0.0, 0.5),
        collected=(4,),
    )
    monkeypatch.setitem(stitch.KINDS, "random", {"after": [0.1, 0.2]})
    result = stitch.run(args)
    rows = [(row["data"], row["arm"]) for row in result["rows"]]
    none, half = "random_0pct_4", "random_50pct_4"
    assert rows == [
        *((none, "sevpo"), (none, "bc")),
        *((half, "sevpo"), (half, "bc-safe"), (half, "bc")),
    ]
    assert result["data"][none]["safe"] == 0 and result["data"][none]["successes"] == 0
    assert "nothing to clone" in (args.out / "stitch.md").read_text()
    more = stitch.run(Stitch(**{**vars(args), "seeds": (0, 1), "arms": ("bc",)}))
    assert [row["number"] for row in more["rows"]] == [0, 1, 0, 1]
    assert json.loads((args.out / "stitch.json").read_text())["settings"]["seeds"] == [0, 1]
    assert np.isfinite(more["rows"][0]["cost"]).all()
    assert benchmark.train_jobs(args, [none, half], "expert") == []
