"""Tables 1 to 4: what is trained and how it is judged, the tables' text, and the whole chain of
commands at a tiny size.
"""

import importlib.util
import json
import shutil
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest

from go2_sevpo.algorithms import make_config
from go2_sevpo.data.dataset import load
from go2_sevpo.data.shards import DatasetError
from go2_sevpo.offline_training.reproduce.safety_gymnasium import cells, report, tables
from go2_sevpo.offline_training.reproduce.safety_gymnasium.tables import (
    Table1,
    Table2,
    Table3,
    Table4,
)
from go2_sevpo.offline_training.train import Args, settings_of

TINY = """
sevpo: {reward_scale: 0, actor: mlp, width: 16, depth: 2, dropout: 0.0, prediction: clean,
        episode_limit: 10.0, episode_delta: 10.0, critic_steps: 4,
  policy_steps: 4, critic_hidden: [16], critic_batch: 16, actor_batch: 16, actor_updates: 1,
        unsafe_samples: 4, choice: argmin_cost,
  lidar: {choice: escape}}
ccac: {vae_steps: 4, steps: 4, batch: 16, hidden: [16], vae_hidden: 16, latent: 4}
"""


def generated(path, episodes=8, length=30):
    """A file in the layout of generated CarGoal1 data: half the episodes cost nothing, half more
    than the limit.
    """
    rng, rows = np.random.default_rng(0), episodes * length
    unsafe = np.repeat(np.arange(episodes) % 2, length)
    end = np.tile(np.arange(length) == length - 1, episodes)
    obs = rng.normal(size=(rows, 72))
    columns = {
        "observations": obs,
        "next_observations": np.concatenate([obs[1:], obs[:1]]),
        "actions": rng.uniform(-1, 1, (rows, 2)),
        "rewards": rng.normal(size=rows),
        "costs": unsafe,
        "terminals": 0 * end,
        "timeouts": end,
    }
    path.parent.mkdir(parents=True)
    with h5py.File(path, "w") as handle:
        for key, value in columns.items():
            handle[key] = value.astype(np.float32)


def test_tables_train_what_the_paper_compares():
    one = tables.cells(Table1())
    assert len(one) == 2 * 3 * (6 + 2) and {c.limit for c in one} == {10.0}
    assert len(tables.trainings(one)) == 2 * 3 * 6, (
        "SEVPO and FISOR are trained once and played with N = 1 and N = 16"
    )
    assert len({c.played for c in one}) == len(one)
    both = tables.cells(
        Table3(tasks=("CarGoal1",), algorithms=("sevpo",), choices=("argmax_reward", "argmin_cost"))
    )
    assert len({c.label for c in both}) == 2
    two = tables.cells(Table2(tasks=("CarGoal1",), mixes=("1:3",), choices=("first",)))
    assert [c.settings for c in two] == [(), ("trust_region=off",)]
    four = tables.cells(Table4(choices=("first",)))
    assert [(c.limit, c.settings) for c in four] == [
        (10.0, ()),
        (20.0, ("episode_limit=20", "episode_delta=20")),
        (40.0, ("episode_limit=40", "episode_delta=40")),
    ]
    shared = {c.name for c in one} & {c.name for c in tables.cells(Table3())}
    assert len(shared) == 4, "table 3 judges trainings of table 1 again"


def test_every_method_with_critics_acts_in_every_way():
    rivals = (
        "sevpo",
        "fisor",
        "bc-safe",
        "bc-safe-choice",
        "cpq-osrl",
        "bcq-lag",
        "coptidice-osrl",
    )
    ways = ("first", "preset", "escape", "argmax_reward")
    found = tables.cells(
        Table1(
            tasks=("CarGoal1", "SwimmerVelocity"), mixes=("ori",), algorithms=rivals, choices=ways
        )
    )

    def of(task, algorithm):
        return [c.choice for c in found if (c.task, c.algorithm) == (task, algorithm)]

    # With a lidar the preset is escape, without it argmax_reward: no way has two lines.
    for name in ("sevpo", "cpq-osrl", "bcq-lag"):
        assert of("CarGoal1", name) == ["first", "preset", "argmax_reward"]
        assert of("SwimmerVelocity", name) == ["first", "preset", "escape"]
    assert of("CarGoal1", "fisor") == ["first", "preset", "escape", "argmax_reward"]
    # No Q_r, no argmax_reward.
    assert of("CarGoal1", "bc-safe-choice") == ["first", "preset"]
    assert of("SwimmerVelocity", "bc-safe-choice") == ["first", "preset", "escape"]
    for name in ("bc-safe", "coptidice-osrl"):
        assert of("CarGoal1", name) == [None]


def test_all_methods_of_the_benchmark_have_settings_in_both_presets():
    for preset in ("safety", "paper"):
        for name in cells.BENCHMARK:
            args = Args((Path("none.hdf5"),), Path("out"), algorithm=name, preset=preset)
            assert make_config(name, settings_of(args))


def test_settings_that_are_not_understood():
    assert tables.cells(Table1(mixes=("ori",)))
    with pytest.raises(ValueError, match="mix '3', expected SAFE:UNSAFE"):
        tables.cells(Table1(mixes=("3",)))
    with pytest.raises(DatasetError, match="unknown task 'PointGoal1'"):
        tables.cells(Table1(tasks=("PointGoal1",)))


def rows(label, returns, costs, member=0):
    return {
        "task": "CarGoal1",
        "mix": "1:1",
        "algorithm": label,
        "label": label,
        "limit": 10.0,
        "member": member,
        "choice": "first",
        "returns": returns,
        "costs": costs,
    }


def test_bold_is_the_safe_method_with_the_highest_reward():
    found = [
        rows("sevpo", [20.0, 22.0], [0.0, 12.0]),
        rows("fisor", [10.0, 12.0], [0.0, 0.0]),
        rows("cpq", [39.0, 40.0], [30.0, 0.0]),
    ]
    result = {
        "command": "go2-reproduce table1",
        "settings": {"preset": "safety", "members": 1, "episodes": 2},
        "rows": found,
        "data": {"CarGoal1 1:1": {"dsrl": False}},
    }
    text = report.table(result)
    assert "| **SEVPO** | 0.53 [" in text and "**FISOR**" not in text and "**CPQ**" not in text
    assert "generated data (`go2-dsrl generate`), not DSRL's" in text
    score = report.scored(found[:1])
    assert (
        score["cost"] == pytest.approx(0.6)
        and score["cost_max"] == 12
        and score["failure_rate"] == 0.5
    )
    worst = report.table(result, worst=True)
    assert "greatest cost" in worst and "cost by seed" not in worst


def test_mean_interval_covers_the_mean():
    rng = np.random.default_rng(0)
    hits = sum(
        low <= 1.0 <= high
        for low, high in (report.mean_interval(rng.exponential(size=60)) for _ in range(200))
    )
    assert 0.88 <= hits / 200 <= 0.99


def test_rewards_are_scaled_by_the_range_of_returns(tmp_path):
    generated(tmp_path / "d" / "x.hdf5")
    data = load(tmp_path / "d" / "x.hdf5")
    before, returns = data.reward.clone(), data.episodes["return"]
    factor = data.scale_rewards(0)
    assert factor == pytest.approx(30 / (returns.max() - returns.min()), rel=1e-5)
    assert np.allclose(data.reward, before * factor)
    with pytest.raises(DatasetError, match="reward scale is -1"):
        data.scale_rewards(-1)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"seed": 1}, "seed: 0 -> 1"),
        ({"safe_samples": 90}, "safe_samples: 100 -> 90"),
        ({"preset": "paper"}, "preset: safety -> paper"),
        ({"members": 3}, "members: 1 -> 3"),
        ({"candidates": 4}, "candidates: 2 -> 4"),
        ({"evaluate_every": 7}, "evaluate_every: 2 -> 7"),
        ({"limit": 20.0}, "limit: 10.0 -> 20.0"),
    ],
)
def test_parts_made_with_other_settings_are_refused_by_name(tmp_path, monkeypatch, change, named):
    monkeypatch.setenv("DSRL_DATASET_DIR", str(tmp_path / "nothing"))
    args = Table1(
        out=tmp_path,
        tasks=("CarGoal1",),
        safe_samples=100,
        members=1,
        candidates=2,
        algorithms=("sevpo",),
        mixes=("1:1",),
        evaluate_every=2,
    )

    def planned(args):
        tables.data_jobs(args)
        tables.train_jobs(args)
        tables.play_jobs(args)

    planned(args)
    planned(replace(args, processes=4, episodes=7, device="cuda"))  # what changes no number of it
    with pytest.raises(ValueError, match=f"was begun with other settings: .*{named}"):
        planned(replace(args, **change))


@pytest.mark.skipif(
    importlib.util.find_spec("safety_gymnasium") is None, reason="Safety-Gymnasium is not installed"
)
@pytest.mark.slow
@pytest.mark.xdist_group("tables")
def test_the_whole_chain_and_nothing_twice(tmp_path, monkeypatch, in_process):
    monkeypatch.setenv("DSRL_DATASET_DIR", str(tmp_path / "nothing"))
    (tmp_path / "tiny.yaml").write_text(TINY)
    args = Table1(
        out=tmp_path / "out",
        tasks=("CarGoal1",),
        generated_episodes=8,
        safe_samples=100,
        preset=str(tmp_path / "tiny.yaml"),
        members=1,
        episodes=1,
        candidates=2,
        algorithms=("sevpo", "ccac"),
        mixes=("1:1",),
        evaluate_every=2,
        evaluate_episodes=1,
    )
    generated(args.out / "data" / "generated_CarGoal1_8.hdf5")
    result = tables.run(args)
    assert [(r["algorithm"], r["choice"], len(r["returns"])) for r in result["rows"]] == [
        ("sevpo", "first", 1),
        ("sevpo", "escape", 1),
        ("ccac", "first", 1),
    ]
    assert (
        result["data"]["CarGoal1 1:1"]["dsrl"] is False
        and result["data"]["CarGoal1 1:1"]["safe"]["transitions"] >= 100
    )
    assert {k: [r["step"] for r in c] for k, c in result["curves"].items()} == {
        "CarGoal1_1_1_sevpo": [2, 4],
        "CarGoal1_1_1_ccac": [2, 4],
    }
    assert (args.out / "table1_curves.png").stat().st_size > 10_000
    assert (args.out / "table1.md").read_text().count("| CarGoal1 | 1:1 |") == 3
    for choice, n in (("first", 1), ("preset", 2)):
        played = json.loads(
            (args.out / "play" / f"CarGoal1_1_1_sevpo_{choice}_00" / "report.json").read_text()
        )
        assert played["candidates"] == n
    assert "SEVPO among N candidates: escape on CarGoal1." in (args.out / "table1.md").read_text()
    config = json.loads((args.out / "train" / "CarGoal1_1_1_sevpo" / "config.json").read_text())
    assert config["dataset"]["reward_scale"] > 0
    assert len(tables.play_jobs(replace(args, episodes=2))) == 3, (
        "reports of other lengths are not taken for these"
    )
    assert (
        not tables.train_jobs(args)
        and not tables.play_jobs(args)
        and tables.data_jobs(args) == ([], [])
    )

    part = tables.run(replace(args, mixes=("1:1", "1:3"), finished_only=True))
    assert part["rows"] == result["rows"] and list(part["data"]) == ["CarGoal1 1:1"]
    assert [m["label"] for m in part["missing"]] == ["SEVPO, N = 1", "SEVPO, N = 2", "ccac"]
    left = "Not finished: CarGoal1 1:3 SEVPO, N = 1, CarGoal1 1:3 SEVPO, N = 2, CarGoal1 1:3 CCAC."
    assert left in (args.out / "table1.md").read_text()
    assert result["missing"] == []
    with pytest.raises(ValueError, match="nothing of the table is finished"):
        tables.run(replace(args, out=tmp_path / "fresh", finished_only=True))

    # Elsewhere, from the same data: lines of the first table are taken, and only what differs is
    # left to do.
    other = replace(args, out=tmp_path / "other", reuse=(args.out / "table1.json",))
    shutil.copytree(args.out / "data", other.out / "data")
    known = tables.reusable(other)
    assert (
        len(known) == 3
        and not tables.train_jobs(other, known)
        and not tables.play_jobs(other, known)
    )
    again = tables.run(other)
    assert (
        again["rows"] == result["rows"]
        and again["curves"] == result["curves"]
        and again["configs"] == result["configs"]
    )
    assert (
        "(same data, settings, seeds and number of episodes): 3 of the lines."
        in (other.out / "table1.md").read_text()
    )
    assert not (other.out / "train").exists()
    two = Table2(**{k: getattr(other, k) for k in vars(other) if k != "algorithms"})
    known = tables.reusable(two)
    assert [j.title for j in tables.train_jobs(two, known)] == [
        "train CarGoal1_1_1_sevpo_trust_regionoff"
    ]
    assert len(tables.play_jobs(two, known)) == 2
    for changed in ({"seed": 1}, {"members": 2}, {"episodes": 3}):
        assert not tables.reusable(replace(other, **changed)), changed
    assert {
        r.rows[0]["choice"] for r in tables.reusable(replace(other, candidates=4)).values()
    } == {"first"}
    (tmp_path / "more.yaml").write_text(TINY.replace("policy_steps: 4", "policy_steps: 5"))
    assert list(tables.reusable(replace(other, preset=str(tmp_path / "more.yaml")))) == [
        "CarGoal1_1_1_ccac"
    ]
    plain = json.loads((args.out / "table1.json").read_text())
    (tmp_path / "plain.json").write_text(
        json.dumps({**plain, "settings": {**plain["settings"], "preset": "paper"}})
    )
    assert not tables.reusable(replace(other, reuse=(tmp_path / "plain.json",))), (
        "networks saw another lidar"
    )
    about = other.out / "data" / "generated_CarGoal1_1_1.json"
    about.write_text(json.dumps({**json.loads(about.read_text()), "sha256": "0"}))
    assert not tables.reusable(other), "other data"
    with pytest.raises(ValueError, match="cannot reuse .*, expected a tableK.json"):
        tables.run(replace(other, out=tmp_path / "third", reuse=(about,)))
    assert not (tmp_path / "third").exists(), "told before anything is done"
