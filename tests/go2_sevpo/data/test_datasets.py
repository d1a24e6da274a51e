import json

import h5py
import numpy as np
import pytest
import torch

from go2_sevpo.data import shards, upkeep
from go2_sevpo.data.dataset import OfflineDataset, load
from go2_sevpo.data.shards import DatasetError
from tests.conftest import make_episodes


@pytest.fixture
def folder(tmp_path):
    entries = [
        shards.write_shard(
            tmp_path / f"{k:02d}.hdf5",
            make_episodes(seed=k),
            {"source": {"policy": "p", "course": "c"}},
        )
        for k in range(3)
    ]
    shards.write_manifest(tmp_path, entries, {"seed": 0})
    return tmp_path


def test_written_folder_validates_and_loads_every_transition(folder):
    manifest = shards.validate(folder)
    data = load(folder)
    assert manifest["transitions"] == len(data) == 3 * 75
    assert manifest["episodes"] == 9
    one = make_episodes(seed=1)
    batch = data.rows(torch.arange(75, 150))
    raw = batch.obs * data.std + data.mean
    assert np.allclose(raw.numpy(), one.columns["observations"], atol=1e-5)
    assert np.allclose(
        (batch.next_obs * data.std + data.mean).numpy(), one.columns["next_observations"], atol=1e-5
    )
    assert np.array_equal(batch.reward.numpy(), one.columns["rewards"])
    assert np.array_equal(batch.terminal.numpy(), one.columns["terminals"])


def test_successor_of_an_episodes_last_row_is_its_own(folder):
    data = load(folder)
    last = torch.tensor([19])  # the first episode has 20 steps
    after = data.rows(last).next_obs * data.std + data.mean
    assert np.allclose(
        after.numpy()[0], make_episodes(seed=0).columns["next_observations"][19], atol=1e-5
    )


def test_observations_are_normalised(folder):
    data = load(folder)
    assert data.frames.mean(0).abs().max() < 1e-4
    assert (data.frames.std(0) - 1).abs().max() < 0.05


def test_safe_rows_are_whole_safe_episodes(dataset):
    rows = dataset.safe_rows(0.0)
    assert rows.tolist() == list(range(20, 50))  # only the middle episode does not fall


def test_truncated_shard_is_found_by_validate_and_set_aside_by_repair(folder):
    path = folder / "01.hdf5"
    path.write_bytes(path.read_bytes()[:-500])
    with pytest.raises(DatasetError, match="SHA-256"):
        shards.validate(folder)
    repaired = upkeep.repair(folder)
    assert repaired["damaged"] == ["01.hdf5"]
    assert repaired["transitions"] == 150
    assert (folder / "01.hdf5.damaged").is_file()
    assert shards.validate(folder)["episodes"] == 6
    assert len(load(folder)) == 150


def test_flipped_byte_is_found(folder):
    raw = bytearray((folder / "02.hdf5").read_bytes())
    raw[-40] ^= 1
    (folder / "02.hdf5").write_bytes(bytes(raw))
    with pytest.raises(DatasetError, match="SHA-256"):
        shards.validate(folder)


def test_missing_manifest_shard_and_folder_are_told_apart(folder, tmp_path):
    with pytest.raises(DatasetError, match="no dataset"):
        load(tmp_path / "nowhere")
    (folder / "00.hdf5").unlink()
    with pytest.raises(DatasetError, match=r"shard 00.hdf5 is missing"):
        shards.validate(folder)
    (folder / "manifest.json").unlink()
    with pytest.raises(DatasetError, match="unfinished collection"):
        load(folder)
    (folder / "manifest.json").write_text(json.dumps({"schema": 99}))
    with pytest.raises(DatasetError, match="schema 99, expected 1"):
        load(folder)


@pytest.mark.parametrize("key", ["observations", "costs"])
def test_nan_is_refused_before_anything_is_written(tmp_path, episodes, key):
    episodes.columns[key][7] = np.nan
    with pytest.raises(DatasetError, match=f"'{key}' is not finite at row 7"):
        shards.write_shard(tmp_path / "x.hdf5", episodes, {})
    assert not list(tmp_path.iterdir())


def test_episode_without_an_end_is_refused(tmp_path, episodes):
    episodes.columns["timeouts"][:] = 0
    with pytest.raises(DatasetError, match="exactly one at the end of each of 3 episodes"):
        shards.write_shard(tmp_path / "x.hdf5", episodes, {})


def test_shards_with_wrong_successors_are_refused(tmp_path, episodes):
    episodes.columns["next_observations"][3] += 1
    with pytest.raises(
        DatasetError, match="next_observations at row 3 differ from the following observations"
    ):
        shards.write_shard(tmp_path / "x.hdf5", episodes, {})


def test_successors_of_others_are_kept_as_they_are(episodes):
    """Files of others may hold successors that are not the next row: every row gets back exactly
    what the file says.
    """
    for row in (0, 3, 18, 40, 74):
        episodes.columns["next_observations"][row] += 1 + row
    data = OfflineDataset([episodes])
    batch = data.rows(torch.arange(75))
    for got, key in ((batch.obs, "observations"), (batch.next_obs, "next_observations")):
        expected = (torch.from_numpy(episodes.columns[key]) - data.mean) / data.std
        assert torch.allclose(got, expected.clamp(-10, 10), atol=1e-5)


def test_merged_file_has_dsrl_keys_and_loads_the_same(folder, tmp_path):
    out = tmp_path / "merged" / "all.hdf5"
    assert upkeep.merge(folder, out) == 225
    with h5py.File(out) as handle:
        assert set(handle) == set(shards.KEYS)
        assert all(handle[k].dtype == np.float32 and len(handle[k]) == 225 for k in shards.KEYS)
    a, b = load(folder), load(out)
    assert torch.equal(a.frames, b.frames)
    assert torch.equal(a.cost, b.cost)
    assert a.episodes["length"].tolist() == b.episodes["length"].tolist()


def test_merged_file_keeps_outcomes_and_contract(folder, tmp_path):
    out = tmp_path / "all.hdf5"
    upkeep.merge(folder, out)
    a, b = load(folder), load(out)
    assert a.episodes["success"].any() and a.episodes["fall"].any()
    for key in ("success", "fall"):
        assert np.array_equal(a.episodes[key], b.episodes[key])
    for key in ("environment", "observation"):
        assert b.manifest.get(key) == a.manifest.get(key)
    # Both can be trained on together, as they are of one environment.
    assert len(load(folder, out)) == 450


def test_the_json_beside_a_merged_file_must_be_of_that_file(folder, tmp_path):
    out = tmp_path / "all.hdf5"
    upkeep.merge(folder, out)
    beside = out.with_suffix(".json")
    text = beside.read_text()
    beside.write_text(text.replace('"sha256": "', '"sha256": "0'))
    with pytest.raises(DatasetError, match="of a file with another SHA-256"):
        load(out)
    found = json.loads(text)
    found["success"].pop()
    beside.write_text(json.dumps(found))
    with pytest.raises(DatasetError, match="outcomes, expected one for each of the"):
        load(out)
    beside.write_text(json.dumps({**found, "fall": 3}))
    with pytest.raises(DatasetError, match="no list of success and fall"):
        load(out)
    beside.write_text("{")
    with pytest.raises(DatasetError, match="not valid JSON"):
        load(out)
    beside.unlink()
    assert not load(out).episodes["success"].any()


def test_sampling_repeats_with_the_generator(dataset):
    a = dataset.sample(50, torch.Generator().manual_seed(1))
    b = dataset.sample(50, torch.Generator().manual_seed(1))
    c = dataset.sample(50, torch.Generator().manual_seed(2))
    assert torch.equal(a.obs, b.obs)
    assert not torch.equal(a.obs, c.obs)


def test_several_folders_are_one_dataset_and_must_be_of_one_environment(tmp_path):
    folders = []
    for k, name in enumerate(("a", "b", "other")):
        path = tmp_path / name
        path.mkdir()
        entry = shards.write_shard(path / "00.hdf5", make_episodes(seed=k), {})
        environment = {"name": "another" if name == "other" else "one"}
        shards.write_manifest(path, [entry], {"environment": environment})
        folders.append(path)
    joined = load(folders[0], folders[1])
    assert len(joined) == 150 and len(joined.manifest["shards"]) == 2
    first = load(folders[0])
    assert torch.allclose(joined.act[:75], first.act)
    with pytest.raises(
        DatasetError,
        match="datasets differ in environment: {'name': 'one'} and {'name': 'another'}",
    ):
        load(folders[0], folders[2])
