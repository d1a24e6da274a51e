"""DSRL's scores, file checks and the paper's mixes, by hand-made files."""

import hashlib
import json
import os
from pathlib import Path

import h5py
import numpy as np
import pytest

from go2_sevpo.data.dsrl.files import read_dsrl
from go2_sevpo.data.dsrl.mixes import Mix, draw_mix, write_mix
from go2_sevpo.data.shards import DatasetError, Episodes
from go2_sevpo.envs.safety_gymnasium import files as published
from go2_sevpo.envs.safety_gymnasium.files import find_file, validate
from go2_sevpo.envs.safety_gymnasium.tasks import TASKS, Task, normalised_cost
from go2_sevpo.runs import files

# A task of two observation numbers and one action, published with three trajectories.
TASK = Task("Toy", 0, 2, 1, 0.0, 1.0, 5, 3, 100)


def episodes_of(lengths, costs, n_obs=2, n_act=1, rewards=None):
    """Episodes with the whole cost on the first row; the first observation number is the episode's
    number.
    """
    n, ends = sum(lengths), np.cumsum(lengths) - 1
    starts = ends - np.array(lengths) + 1
    cost, timeouts = np.zeros(n), np.zeros(n)
    cost[starts], timeouts[ends] = costs, 1.0
    number = np.repeat(np.arange(len(lengths)), lengths).astype(float)
    obs = np.stack([number] + [np.arange(n) / 8.0] * (n_obs - 1), 1)
    reward = np.arange(n) + 1.0 if rewards is None else np.array(rewards, float)
    columns = {
        "observations": obs,
        "next_observations": obs + 0.5,
        "actions": np.full((n, n_act), 0.25),
        "rewards": reward,
        "costs": cost,
        "terminals": np.zeros(n),
        "timeouts": timeouts,
    }
    table = {
        "length": np.array(lengths),
        "return": np.add.reduceat(reward, starts),
        "cost": np.array(costs, float),
        "success": np.zeros(len(lengths)),
        "fall": np.zeros(len(lengths)),
    }
    return Episodes({k: v.astype(np.float32) for k, v in columns.items()}, table)


def write(path, episodes):
    with h5py.File(path, "w") as handle:
        for key, value in episodes.columns.items():
            handle[key] = value
    return path


@pytest.mark.parametrize(
    "cost, limit, expected",
    [
        (5.0, 10.0, 0.5),
        (10.0, 10.0, 1.0),
        (0.0, 10.0, 0.0),
        (30.0, 20.0, 1.5),
        (0.0, 0.0, 1.0),
        (3.0, 0.0, 4.0),
        (3.0, 0, 4.0),
        (3.0, 1.0, 3.0),
        (1.0, 0.5, 2.0),
    ],
)
def test_normalised_cost_adds_one_only_where_the_limit_is_0(cost, limit, expected):
    assert normalised_cost(cost, limit) == pytest.approx(expected, rel=1e-12)


def test_files_are_looked_for_where_the_environment_says_then_in_the_cache(monkeypatch):
    assert published.HOST == "https://huggingface.co/datasets/YYY-45/DSRL/resolve/main"
    monkeypatch.setenv("HOME", "/somebody")
    monkeypatch.delenv("DSRL_DATASET_DIR", raising=False)
    cache = Path("/somebody/.dsrl/datasets")
    assert published.folders() == [cache]
    monkeypatch.setenv("DSRL_DATASET_DIR", "")
    assert published.folders() == [cache]
    monkeypatch.setenv("DSRL_DATASET_DIR", "/data")
    assert published.folders() == [Path("/data"), cache]


def test_a_tasks_file_is_a_path_or_in_it_or_in_the_first_place_that_has_it(tmp_path, monkeypatch):
    places = [tmp_path / "a", tmp_path / "b"]
    monkeypatch.setattr(published, "folders", lambda: places)
    name = "SafetyToyGymnasium-v0-5-3.hdf5"
    message = (
        f"^no {name} in {places[0]}, {places[1]}; get it with 'go2-dsrl download Toy' "
        f"or set DSRL_DATASET_DIR$"
    )
    with pytest.raises(DatasetError, match=message):
        find_file(TASK)
    for place in reversed(places):
        place.mkdir()
        (place / name).write_text("")
        assert find_file(TASK) == place / name
    own = tmp_path / "own.hdf5"
    own.write_text("")
    assert find_file(TASK, own) == own and find_file(TASK, places[1]) == places[1] / name
    with pytest.raises(DatasetError, match=f"^no {name} in {tmp_path / 'c'}; get it"):
        find_file(TASK, tmp_path / "c")


def test_what_a_valid_file_holds(tmp_path):
    episodes = episodes_of((2, 4, 3), (0, 7, 2), rewards=[1, -9, 0, 0, 5, 0.5, 2, 0, 0])
    found = validate(write(tmp_path / "x.hdf5", episodes), TASK)
    assert found == {
        "transitions": 9,
        "episodes": 3,
        "unfinished": 0,
        "length": 3.0,
        "return_min": -8.0,
        "return_max": 5.5,
        "cost_mean": 3.0,
        "cost_max": 7.0,
        "as_published": True,
    }
    assert all(type(v) in (int, float, bool) for v in found.values())
    other = validate(write(tmp_path / "x.hdf5", episodes_of((2, 2), (0, 0))), TASK)
    assert other["as_published"] is False and other["episodes"] == 2


@pytest.mark.parametrize("key", ["observations", "next_observations", "actions"])
def test_sizes_are_the_tasks(tmp_path, key):
    episodes = episodes_of((2, 2), (0, 0))
    size = 1 if key == "actions" else 2
    for shape, expected in (((4, size + 1), f"(rows, {size}) for Toy"), ((4,), "(rows, numbers)")):
        episodes.columns[key] = np.zeros(shape, np.float32)
        with pytest.raises(DatasetError) as error:
            validate(write(tmp_path / "x.hdf5", episodes), TASK)
        found = f"{tmp_path / 'x.hdf5'}: '{key}' has shape {shape}, expected {expected}"
        told = str(error.value)
        assert told == found or ("observations" in key and "observations have " in told)


def test_costs_below_0_and_episodes_beyond_1000_steps_are_refused(tmp_path):
    episodes = episodes_of((2, 2), (0, 0))
    episodes.columns["costs"][1] = -0.5
    with pytest.raises(
        DatasetError, match=r"costs go down to -0.5, expected none below 0 \(scaled already\?\)"
    ):
        validate(write(tmp_path / "x.hdf5", episodes), TASK)
    path = write(tmp_path / "x.hdf5", episodes_of((3, 1000), (0, 0)))
    assert validate(path, TASK)["transitions"] == 1003
    path = write(tmp_path / "x.hdf5", episodes_of((3, 1001), (0, 0)))
    with pytest.raises(
        DatasetError,
        match=r"an episode has 1001 steps, expected at most 1000 \(missing timeouts\?\)",
    ):
        validate(path, TASK)


LENGTHS = (5, 3, 4, 6, 2, 7)
# safe up to 10: numbers 0, 1, 3 (14 rows); unsafe: 2, 4, 5 (13 rows)
COSTS = (0, 10, 10.5, 3, 40, 11)


def rows_of(order):
    return sum(LENGTHS[k] for k in order)


def test_mixes_are_drawn_in_a_seeded_order_safe_ones_first():
    data = episodes_of(LENGTHS, COSTS)
    for seed in (0, 3, 11):
        # All of each kind exactly once.
        mix = draw_mix(data, 10.0, 14 / 13, 14, seed)
        rng = np.random.default_rng(seed)
        assert mix.safe.tolist() == rng.permutation([0, 1, 3]).tolist()
        assert mix.unsafe.tolist() == rng.permutation([2, 4, 5]).tolist()
        assert mix.available == (3, 3)
    orders = {tuple(draw_mix(data, 10.0, 1.0, 14, seed).safe.tolist()) for seed in range(30)}
    assert len(orders) == 6  # every order comes up


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize(
    "safe, ratio", [(1, 1.0), (5, 0.5), (14, 8.0), (15, 1.0), (40, 1.0 / 3.0), (29, 3.0)]
)
def test_mixes_end_with_the_trajectory_that_fills_them_and_repeat_only_after_all_were_used(
    seed, safe, ratio
):
    mix = draw_mix(episodes_of(LENGTHS, COSTS), 10.0, ratio, safe, seed)
    for order, pool, wanted in (
        (mix.safe.tolist(), {0, 1, 3}, safe),
        (mix.unsafe.tolist(), {2, 4, 5}, safe / ratio),
    ):
        assert rows_of(order) >= wanted > rows_of(order[:-1])
        for start in range(0, len(order), 3):
            part = order[start : start + 3]
            assert len(set(part)) == len(part) and set(part) <= pool
    again = draw_mix(episodes_of(LENGTHS, COSTS), 10.0, ratio, safe, seed)
    assert again.safe.tolist() == mix.safe.tolist() and again.unsafe.tolist() == mix.unsafe.tolist()


def test_every_round_of_repetitions_has_an_order_of_its_own():
    mix = draw_mix(episodes_of((1,) * 10, (0,) * 9 + (99,)), 10.0, 1.0, 18, 0)
    first, second = mix.safe.tolist()[:9], mix.safe.tolist()[9:]
    assert sorted(first) == sorted(second) == list(range(9)) and first != second
    assert mix.unsafe.tolist() == [9] * 18


def test_the_cost_limit_itself_is_safe():
    data = episodes_of(LENGTHS, COSTS)
    assert draw_mix(data, 9.999, 1.0, 1, 0).available == (2, 4)
    assert draw_mix(data, 10.0, 1.0, 1, 0).available == (3, 3)
    assert draw_mix(data, 10.5, 1.0, 1, 0).available == (4, 2)


def test_a_kind_that_the_data_do_not_have_is_named():
    data = episodes_of(LENGTHS, COSTS)
    text = "the data have no {} trajectory \\(episode cost limit {}\\), expected at least one"
    with pytest.raises(DatasetError, match=text.format("safe", "-1")):
        draw_mix(data, -1.0, 1.0, 5, 0)
    with pytest.raises(DatasetError, match=text.format("unsafe", "40")):
        draw_mix(data, 40.0, 1.0, 5, 0)


def test_a_written_mix_has_its_trajectories_row_by_row_and_says_how_it_was_made(
    tmp_path, monkeypatch
):
    data = episodes_of(LENGTHS, COSTS)
    mix = Mix(np.array([3, 0]), np.array([4, 2, 4]), (3, 7))
    out = tmp_path / "new" / "folder" / "mix.hdf5"
    replace, renamed = os.replace, []

    def record(a, b):
        renamed.append((a, b))
        replace(a, b)

    monkeypatch.setattr(files.os, "replace", record)
    made = write_mix(data, mix, out, {"task": "Toy", "seed": 4})
    assert made == {
        "task": "Toy",
        "seed": 4,
        "safe": {"trajectories": 2, "different": 2, "available": 3, "transitions": 11},
        "unsafe": {"trajectories": 3, "different": 2, "available": 7, "transitions": 8},
        "sha256": hashlib.sha256(out.read_bytes()).hexdigest(),
    }
    text = out.with_name("mix.json").read_text(encoding="utf-8")
    told = json.loads(text)
    assert set(told.pop("made_by")) == {"version", "commit"}
    assert told == made and text.startswith('{\n "task": "Toy",')
    assert renamed[0][1] == out and renamed[0][0].name.startswith("mix.hdf5.")
    # Episodes begin at rows 0, 5, 8, 12, 18 and 20.
    rows = [*range(12, 18), *range(5), *range(18, 20), *range(8, 12), *range(18, 20)]
    found = read_dsrl(out)
    for key, column in data.columns.items():
        assert np.array_equal(found.columns[key], column[rows]), key
    assert found.episodes["length"].tolist() == [6, 5, 2, 4, 2]
    assert found.episodes["cost"].tolist() == [3.0, 0.0, 40.0, 10.5, 40.0]
    with h5py.File(out, "r") as handle:
        assert all(
            handle[k].compression == "gzip" and handle[k].dtype == np.float32 for k in handle
        )
        assert all(handle[k].compression_opts == 1 for k in handle)
    assert sorted(p.name for p in out.parent.iterdir()) == ["mix.hdf5", "mix.json"]
    write_mix(data, mix, out, {})  # again, in the folder that is there now


def test_what_stands_beside_a_mix_makes_its_task_known(tmp_path):
    from go2_sevpo.envs.safety_gymnasium.tasks import task_of_file

    out = tmp_path / "mix.hdf5"
    write_mix(
        episodes_of(LENGTHS, COSTS),
        Mix(np.array([0]), np.array([2]), (1, 1)),
        out,
        {"task": "CarPush2"},
    )
    assert task_of_file(out) is TASKS["CarPush2"]
