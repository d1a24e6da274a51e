"""Transitions in memory by hand-made episodes: which frame is whose successor, statistics, sums,
loading.
"""

import json

import h5py
import numpy as np
import pytest
import torch

from go2_sevpo.data import dataset as dataset_module
from go2_sevpo.data import shards
from go2_sevpo.data.dataset import OfflineDataset, load
from go2_sevpo.data.dsrl.files import read_dsrl
from go2_sevpo.data.shards import DatasetError, Episodes
from go2_sevpo.envs.safety_gymnasium.tasks import origin_of_file

close = torch.testing.assert_close


def hand_made(lengths, start=0.0, odd=(), costs=None, returns=None, falls=None, width=2):
    """Episodes whose observations count up from ``start`` in steps of 1 (second column: their
    squares, and so on); the successors of rows ``odd`` are 1000 + row instead.
    """
    n, ends = sum(lengths), np.cumsum(lengths) - 1
    falls = np.zeros(len(lengths)) if falls is None else np.array(falls, float)
    obs, nxt, value = np.zeros((n, width)), np.zeros((n, width)), start
    powers = np.arange(1, width + 1)
    row = 0
    for length in lengths:
        for _ in range(length):
            obs[row], nxt[row] = value**powers, (value + 1.0) ** powers
            value, row = value + 1.0, row + 1
        value += 1.0  # behind the last successor
    for row in odd:
        nxt[row] = 1000.0 + row
    terminals, timeouts = np.zeros(n), np.zeros(n)
    terminals[ends], timeouts[ends] = falls, 1.0 - falls
    costs = np.zeros(n) if costs is None else np.array(costs, float)
    columns = {
        "observations": obs,
        "next_observations": nxt,
        "actions": np.linspace(-1.5, 1.2, n)[:, None],
        "rewards": 10.0 + np.arange(n),
        "costs": costs,
        "terminals": terminals,
        "timeouts": timeouts,
    }
    cuts = np.concatenate([[0], ends[:-1] + 1])
    table = {
        "length": np.array(lengths),
        "cost": np.add.reduceat(costs, cuts),
        "fall": falls,
        "return": np.add.reduceat(columns["rewards"], cuts)
        if returns is None
        else np.array(returns, float),
        "success": 1.0 - falls,
    }
    return Episodes({k: v.astype(np.float32) for k, v in columns.items()}, table)


def raw(data, numbers):
    """First column of frames before they were normalised."""
    return (data.frames[numbers, 0] * data.std[0] + data.mean[0]).round().tolist()


def test_each_episodes_last_successor_lies_behind_it():
    data = OfflineDataset(iter([hand_made([3, 2]), hand_made([1, 4], 20.0)]))
    assert len(data) == 10 and (data.num_obs, data.raw_obs, data.num_actions) == (2, 2, 1)
    assert data.first.tolist() == [0, 1, 2, 4, 5, 7, 9, 10, 11, 12]
    assert data.second.tolist() == [1, 2, 3, 5, 6, 8, 10, 11, 12, 13]
    assert raw(data, data.first) == [0, 1, 2, 4, 5, 20, 22, 23, 24, 25]
    assert raw(data, data.second) == [1, 2, 3, 5, 6, 21, 23, 24, 25, 26]
    assert len(data.frames) == 14


def test_successors_that_are_not_the_next_row_lie_behind_their_episode():
    parts = [hand_made([4, 3], odd=(1, 2, 4)), hand_made([2, 3], 50.0, odd=(2, 3))]
    data = OfflineDataset(parts)
    # Frames: 0-3, last successor 4, odd 5 and 6; 7-9, 10, odd 11; 12-13, 14; 15-17, 18, odd 19 and
    # 20.
    assert data.first.tolist() == [0, 1, 2, 3, 7, 8, 9, 12, 13, 15, 16, 17]
    assert data.second.tolist() == [1, 5, 6, 4, 11, 9, 10, 13, 14, 19, 20, 18]
    expected = np.concatenate([p.columns["next_observations"][:, 0] for p in parts])
    assert raw(data, data.second) == expected.tolist()
    assert len(data.frames) == 21


def test_an_odd_last_successor_is_kept_once():
    data = OfflineDataset([hand_made([2, 2], odd=(1, 3))])
    assert data.second.tolist() == [1, 2, 4, 5] and len(data.frames) == 6
    assert raw(data, data.second) == [1, 1001, 4, 1003]


def test_statistics_are_over_all_frames_and_frames_are_normalised():
    data = OfflineDataset([hand_made([2, 1], odd=(0,))])
    column = np.array([0.0, 1.0, 2.0, 1000.0, 3.0, 4.0])
    frames = np.stack([column, column**2], 1)
    frames[3] = 1000.0
    mean, std = frames.mean(0), frames.std(0, ddof=1)
    assert data.mean.tolist() == pytest.approx(mean.tolist(), rel=1e-6)
    assert data.std.tolist() == pytest.approx(std.tolist(), rel=1e-6)
    close(data.frames, torch.tensor((frames - mean) / std).float(), rtol=1e-5, atol=1e-6)


def constant_but(values, rows=200):
    """One episode of ``rows`` transitions whose observations are 7 except for ``values`` by row."""
    episodes = hand_made([rows], width=1)
    frames = np.full((rows + 1, 1), 7.0, np.float32)
    for row, value in values.items():
        frames[row] = value
    episodes.columns["observations"], episodes.columns["next_observations"] = (
        frames[:-1],
        frames[1:],
    )
    return episodes, frames


def test_scales_have_a_floor_of_5_percent_and_numbers_a_bound_of_10():
    assert dataset_module.MIN_STD == 0.05
    episodes, frames = constant_but({3: 7.4, 4: 6.3, 5: 7.02})
    std = frames.astype(np.float64).std(ddof=1)
    assert std < 0.06
    floor = max(std, 0.05)
    data = OfflineDataset([episodes])
    assert data.std.item() == pytest.approx(floor, rel=1e-3)
    calm = OfflineDataset([constant_but({3: 7.4, 5: 7.02})[0]])
    assert calm.std.item() == pytest.approx(0.05, rel=1e-6)
    mean = calm.mean.item()
    # 8: within the bound
    assert calm.frames[3, 0].item() == pytest.approx((7.4 - mean) / 0.05, rel=1e-4)
    assert calm.frames[5, 0].item() == pytest.approx((7.02 - mean) / 0.05, rel=1e-3)
    wild = OfflineDataset([constant_but({3: 7.52, 4: 6.48, 5: 7.47})[0]])
    assert wild.std.item() == pytest.approx(0.0601, abs=2e-3)
    far, _ = constant_but({3: 8.5, 4: 5.5, 5: 7.8}, 4000)
    bounded = OfflineDataset([far])
    assert bounded.frames[3].item() == 10.0 and bounded.frames[4].item() == -10.0
    assert bounded.frames[5].item() == 10.0 and abs(bounded.frames[6].item()) < 0.01
    just, _ = constant_but({3: 7.49, 4: 7.51}, 8000)
    edge = OfflineDataset([just])  # 9.8 and 10.2 of the floor
    assert edge.frames[3].item() == pytest.approx(9.8, abs=0.01) and edge.frames[4].item() == 10.0


def test_columns_come_as_they_are_and_actions_within_their_bounds():
    part = hand_made([3, 2], costs=[0, 1, 2, 3, 4], falls=[1, 0])
    data = OfflineDataset([part])
    close(data.act, torch.tensor([[-1.0], [-0.825], [-0.15], [0.525], [1.0]]))
    assert data.reward.tolist() == [10, 11, 12, 13, 14] and data.cost.tolist() == [0, 1, 2, 3, 4]
    assert data.terminal.tolist() == [0, 0, 1, 0, 0] and data.timeout.tolist() == [0, 0, 0, 0, 1]
    assert data.device == torch.device("cpu") and data.manifest == {}
    assert all(t.dtype == torch.float32 for t in (data.act, data.reward, data.cost, data.frames))
    assert OfflineDataset([part], "cpu", {"x": 1}).manifest == {"x": 1}
    with pytest.raises(DatasetError, match="^no episodes, expected at least one$"):
        OfflineDataset([])


@pytest.mark.skipif(
    int(torch.__version__.split(".")[0]) < 2, reason="older ones lack this device in part"
)
def test_everything_is_put_on_the_asked_device():
    """Torch's device without memory stands for any other."""
    data = OfflineDataset([hand_made([3, 2])], "meta")
    held = (
        data.first,
        data.second,
        data.frames,
        data.mean,
        data.std,
        data.act,
        data.reward,
        data.cost,
    )
    held += (data.terminal, data.timeout, data.last_row(), data.episode_of_row())
    assert {str(each.device) for each in held} == {"meta"}


def test_rows_are_transitions_with_every_field_in_its_place():
    data = OfflineDataset([hand_made([3, 2], costs=[5, 6, 7, 8, 9], falls=[1, 0])])
    index = torch.tensor([4, 2, 2])
    batch = data.rows(index)
    scale = lambda t: (t[:, 0] * data.std[0] + data.mean[0]).round().tolist()  # noqa: E731
    assert scale(batch.obs) == [5, 2, 2] and scale(batch.next_obs) == [6, 3, 3]
    assert batch.reward.tolist() == [14, 12, 12] and batch.cost.tolist() == [9, 7, 7]
    assert batch.terminal.tolist() == [0, 1, 1] and batch.timeout.tolist() == [1, 0, 0]
    close(batch.act, torch.tensor([[1.0], [-0.15], [-0.15]]))
    assert batch.index is index


def test_draws_cover_all_rows_or_the_given_ones_and_repeat_with_the_generator():
    data = OfflineDataset([hand_made([3, 2])])
    draw = lambda n, rows=None, seed=0: data.sample(  # noqa: E731
        n, torch.Generator().manual_seed(seed), rows
    )
    assert set(draw(200).index.tolist()) == {0, 1, 2, 3, 4}
    assert set(draw(200, torch.tensor([4, 1])).index.tolist()) == {1, 4}
    shaped = draw((2, 5), torch.tensor([3]))
    assert shaped.index.tolist() == [[3] * 5] * 2
    assert shaped.obs.shape == (2, 5, 2) and shaped.reward.tolist() == [[13.0] * 5] * 2
    assert draw(7).index.shape == (7,)
    assert draw(50).index.tolist() == draw(50).index.tolist() != draw(50, seed=1).index.tolist()
    # The state of the generator decides, not torch's own.
    generator = torch.Generator().manual_seed(0)
    both = [data.sample(20, generator).index.tolist() for _ in range(2)]
    assert both[0] == draw(20).index.tolist() != both[1]


def test_rewards_are_scaled_by_a_factor_or_by_fisors():
    data = OfflineDataset([hand_made([3, 2])])
    assert data.scale_rewards(0.5) == 0.5
    assert data.reward.tolist() == [5.0, 5.5, 6.0, 6.5, 7.0]
    # FISOR: T / (r_max - r_min), T the longest episode's steps; here 3 / (6 - -1.5).
    fisor = OfflineDataset([hand_made([3, 2], returns=[-1.5, 6.0])])
    assert fisor.scale_rewards(0) == pytest.approx(0.4, rel=1e-12)
    close(fisor.reward, torch.tensor([4.0, 4.4, 4.8, 5.2, 5.6]))
    longest_last = OfflineDataset([hand_made([1, 4, 2], returns=[0.0, 3.0, 10.0])])
    assert longest_last.scale_rewards(0.0) == pytest.approx(0.4)
    close_returns = OfflineDataset([hand_made([1, 2], returns=[0.0, 0.25])])
    assert close_returns.scale_rewards(0) == pytest.approx(8.0)
    assert OfflineDataset([hand_made([1])]).scale_rewards(1.0) == 1.0
    with pytest.raises(DatasetError, match="reward scale is -0.5, expected 0 or more"):
        data.scale_rewards(-0.5)
    alike = OfflineDataset([hand_made([2, 3], returns=[2.5, 2.5])])
    with pytest.raises(
        DatasetError,
        match="all episodes return 2.5, expected different returns to scale rewards by",
    ):
        alike.scale_rewards(0)
    with pytest.raises(DatasetError, match="^all episodes return 1.5, expected different"):
        OfflineDataset([hand_made([2], returns=[1.5])]).scale_rewards(0)


def test_cost_to_go_is_the_rest_of_the_episode_with_the_row_itself():
    part = hand_made([3, 1, 2], costs=[1, 2, 0.5, 4, 0, 8])
    data = OfflineDataset([part, hand_made([2], 30.0, costs=[0.25, 16])])
    found = data.cost_to_go
    assert found.tolist() == [3.5, 2.5, 0.5, 4.0, 8.0, 8.0, 16.25, 16.0]
    assert found.dtype == torch.float32 and data.cost_to_go is found


def test_rows_know_their_episode_and_its_last_row():
    data = OfflineDataset([hand_made([3, 1]), hand_made([2], 30.0)])
    assert data.last_row().tolist() == [2, 2, 2, 3, 5, 5]
    assert data.episode_of_row().tolist() == [0, 0, 0, 1, 2, 2]


@pytest.mark.parametrize(
    "limit, expected",
    [(-0.1, []), (0.0, [3]), (1.99, [3]), (2.0, [3, 6, 7]), (100.0, [3, 6, 7])],
)
def test_safe_rows_are_those_of_episodes_within_the_limit_that_do_not_fall(limit, expected):
    data = OfflineDataset(
        [hand_made([3, 1, 2, 2], costs=[0, 0, 1, 0, 0, 0, 1, 1], falls=[1, 0, 1, 0])]
    )
    # Episode costs 1, 0, 0, 2; the first and the third fall.
    assert data.safe_rows(limit).tolist() == expected


def test_lengths_may_be_stored_as_any_number():
    part = hand_made([3, 1, 2], costs=[1, 2, 0.5, 4, 0, 8])
    part.episodes["length"] = part.episodes["length"].astype(np.float32)
    data = OfflineDataset([part])
    assert data.last_row().tolist() == [2, 2, 2, 3, 5, 5]
    assert data.episode_of_row().tolist() == [0, 0, 0, 1, 2, 2]
    assert data.cost_to_go.tolist() == [3.5, 2.5, 0.5, 4.0, 8.0, 8.0]
    assert data.second.tolist() == [1, 2, 3, 5, 7, 8]


def test_returns_are_subtracted_with_full_precision():
    part = hand_made([1, 2])
    part.episodes["return"] = np.array([-0.75, 2.0**24], np.float32)
    expected = 2.0 / (2.0**24 + 0.75)
    assert OfflineDataset([part]).scale_rewards(0) == pytest.approx(expected, rel=1e-12, abs=0.0)


def test_lidar_readings_get_their_nearness_before_normalising():
    part = hand_made([3], width=1)
    frames = np.array(
        [[0.2, 0.0, 1.0], [0.4, 0.5, 0.0], [0.6, 0.9, 0.2], [0.8, 0.7, 0.6]], np.float32
    )
    part.columns["observations"], part.columns["next_observations"] = frames[:-1], frames[1:]
    data = OfflineDataset([part], lidar=(1, 0.25))
    near = np.where(frames[:, 1:] > 0, np.exp((frames[:, 1:] - 1.0) / 0.25), 0.0)
    whole = np.concatenate([frames, near], 1).astype(np.float64)
    assert (data.raw_obs, data.num_obs, data.lidar) == (3, 5, (1, 0.25))
    std = np.maximum(whole.std(0, ddof=1), 0.05)
    close(data.frames, torch.tensor((whole - whole.mean(0)) / std).float(), rtol=1e-4, atol=1e-5)


def write_flat(path, part, cut=None, leave_out=()):
    with h5py.File(path, "w") as handle:
        for key, value in part.columns.items():
            if key not in leave_out:
                handle[key] = value[:cut]
    return path


def test_a_flat_file_is_cut_at_terminals_and_timeouts(tmp_path):
    part = hand_made([3, 2, 4], costs=[1, 0, 2, 0, 0.5, 0, 0, 0, 7], falls=[1, 0, 0], odd=(1,))
    data = read_dsrl(write_flat(tmp_path / "x.hdf5", part))
    assert data.episodes["length"].tolist() == [3, 2, 4]
    assert data.episodes["return"].tolist() == [33.0, 27.0, 66.0]
    assert data.episodes["cost"].tolist() == [3.0, 0.5, 7.0]
    assert data.episodes["fall"].tolist() == [1.0, 0.0, 0.0]
    assert data.episodes["success"].tolist() == [0.0, 0.0, 0.0]
    assert data.rows == 9 and all(v.dtype == np.float32 for v in data.columns.values())
    assert np.array_equal(data.columns["next_observations"], part.columns["next_observations"])


def test_numbers_of_a_flat_file_become_single_precision(tmp_path):
    part = hand_made([3], costs=[0.1, 0.2, 0.0])
    part.columns = {k: v.astype(np.float64) for k, v in part.columns.items()}
    data = read_dsrl(write_flat(tmp_path / "x.hdf5", part))
    assert all(v.dtype == np.float32 for v in data.columns.values())


def test_rows_behind_the_last_end_are_left_out(tmp_path):
    part = hand_made([3, 2, 4])
    data = read_dsrl(write_flat(tmp_path / "x.hdf5", part, cut=7))
    assert data.rows == 5 and data.episodes["length"].tolist() == [3, 2]
    assert data.episodes["return"].tolist() == [33.0, 27.0]
    assert data.unfinished == 2
    assert read_dsrl(write_flat(tmp_path / "y.hdf5", part)).unfinished == 0
    whole = load(tmp_path / "x.hdf5", tmp_path / "y.hdf5")
    assert (whole.unfinished, len(whole)) == (2, 14)


def test_single_numbers_may_stand_in_a_column_of_their_own(tmp_path):
    """(rows, 1), which DSRL's loader squeezes."""
    part = hand_made([3, 2], costs=[1, 0, 2, 0, 0.5], falls=[1, 0])
    expected = read_dsrl(write_flat(tmp_path / "x.hdf5", part))
    single = ("rewards", "costs", "terminals", "timeouts")
    part.columns = {k: v[:, None] if k in single else v for k, v in part.columns.items()}
    found = read_dsrl(write_flat(tmp_path / "y.hdf5", part))
    for key, value in expected.columns.items():
        assert np.array_equal(found.columns[key], value), key
    for key, value in expected.episodes.items():
        assert np.array_equal(found.episodes[key], value), key


@pytest.mark.parametrize(
    "key, change, expected",
    [
        ("rewards", lambda v: np.stack([v, v], 1), r"\(rows,\) or \(rows, 1\)"),
        ("actions", lambda v: v[:, 0], r"\(rows, numbers\)"),
        ("observations", lambda v: v[:, :, None], r"\(rows, numbers\)"),
    ],
)
def test_columns_of_other_shapes_are_refused(tmp_path, key, change, expected):
    part = hand_made([3, 2])
    part.columns[key] = change(part.columns[key])
    with pytest.raises(DatasetError, match=rf"x.hdf5: '{key}' has shape .*, expected {expected}"):
        read_dsrl(write_flat(tmp_path / "x.hdf5", part))


def test_flat_files_that_lack_something_are_refused(tmp_path):
    part = hand_made([3])
    path = write_flat(tmp_path / "x.hdf5", part, leave_out=("costs", "timeouts"))
    with pytest.raises(
        DatasetError,
        match="x.hdf5: keys costs, timeouts are missing, expected observations, next_obs",
    ):
        read_dsrl(path)
    with pytest.raises(
        DatasetError,
        match="x.hdf5: no terminal or timeout, expected the end of at least one episode",
    ):
        read_dsrl(write_flat(path, part, cut=2))
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(DatasetError, match="x.hdf5 is not a complete HDF5 file: .+"):
        read_dsrl(path)
    part.columns["rewards"][1] = np.inf
    with pytest.raises(DatasetError, match="x.hdf5: 'rewards' is not finite at row 1"):
        read_dsrl(write_flat(path, part))


def folder(path, parts, **common):
    path.mkdir()
    entries = [shards.write_shard(path / f"{k}.hdf5", part, {}) for k, part in enumerate(parts)]
    return path, shards.write_manifest(path, entries, common)


def test_folders_and_files_are_loaded_in_the_given_order(tmp_path):
    one, manifest = folder(tmp_path / "one", [hand_made([2]), hand_made([1], 10.0)])
    flat = write_flat(tmp_path / "flat.hdf5", hand_made([3], 20.0))
    assert raw(load(one), load(one).first) == [0, 1, 10]
    both = load(str(flat), one)
    assert raw(both, both.first) == [20, 21, 22, 0, 1, 10]
    assert both.manifest == manifest and both.lidar is None
    assert both.device == torch.device("cpu")
    assert load(flat).manifest == {}  # nobody knows what it is
    with pytest.raises(DatasetError, match="nowhere holds no dataset: manifest.json is missing"):
        load(tmp_path / "nowhere")


def test_manifests_are_joined_if_environment_and_observation_agree(tmp_path):
    same = {"environment": {"name": "e"}, "observation": {"size": 2}}
    one, first = folder(tmp_path / "one", [hand_made([2])], **same, seed=3)
    two, second = folder(tmp_path / "two", [hand_made([1]), hand_made([3])], **same, seed=4)
    joined = load(one, two).manifest
    assert joined["seed"] == 3 and joined["shards"] == first["shards"] + second["shards"]
    other, _ = folder(tmp_path / "three", [hand_made([1])], **{**same, "observation": {"size": 5}})
    with pytest.raises(
        DatasetError, match=r"datasets differ in observation: \{'size': 2\} and \{'size': 5\}"
    ):
        load(one, two, other)
    last, _ = folder(tmp_path / "four", [hand_made([1])], observation={"size": 2})
    with pytest.raises(DatasetError, match=r"differ in environment: \{'name': 'e'\} and None"):
        load(one, last)


def test_files_of_known_tasks_say_so_and_may_get_nearness(tmp_path):
    car = write_flat(
        tmp_path / "SafetyCarGoal1Gymnasium-v0-120-1671.hdf5", hand_made([3], width=26)
    )
    assert load(car).manifest == {}  # the file itself does not say
    data = load(car, origin_of=origin_of_file)
    assert data.manifest == {
        "environment": {"name": "go2_sevpo/SafetyCarGoal1-v0"},
        "shards": [{"sha256": shards.sha256(car)}],
    }
    assert data.lidar is None and data.num_obs == 26
    assert load(car, lidar_length=0.0, origin_of=origin_of_file).lidar is None
    near = load(car, lidar_length=0.125, origin_of=origin_of_file)
    assert near.lidar == (24, 0.125) and (near.raw_obs, near.num_obs) == (26, 28)
    swimmer = write_flat(tmp_path / "swim.hdf5", hand_made([2]))
    swimmer.with_suffix(".json").write_text(json.dumps({"task": "SwimmerVelocity"}))
    data = load(swimmer, lidar_length=0.125, origin_of=origin_of_file)
    assert data.lidar is None and data.manifest["environment"]["name"].endswith(
        "SwimmerVelocity-v1"
    )
    with pytest.raises(DatasetError, match="datasets differ in environment"):
        load(car, swimmer, origin_of=origin_of_file)
