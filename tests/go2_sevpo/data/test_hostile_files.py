"""Datasets that others made: nothing outside them is read, no damage passes for data."""

import json
import shutil

import h5py
import numpy as np
import pytest

from go2_sevpo.data import shards, upkeep
from go2_sevpo.data.dataset import load
from go2_sevpo.data.dsrl.files import read_dsrl
from go2_sevpo.data.hdf5 import PlainFileError, read_plain
from go2_sevpo.data.shards import DatasetError
from tests.conftest import make_episodes

KEYS = [*shards.KEYS, *(f"episodes/{key}" for key in shards.EPISODE_KEYS)]


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    folder = tmp_path_factory.mktemp("original")
    entry = shards.write_shard(folder / "00.hdf5", make_episodes(lengths=(20, 30)), {})
    shards.write_manifest(folder, [entry], {})
    return folder


@pytest.fixture
def folder(original, tmp_path):
    shutil.copytree(original, tmp_path / "data")
    return tmp_path / "data"


def unsealed(folder):
    """The manifest as somebody else may write it, without its own checksum."""
    manifest = json.loads((folder / "manifest.json").read_text())
    del manifest["sha256"]
    return manifest


def external(handle, key, data, secret):
    handle.create_dataset(
        key, data.shape, data.dtype, external=[(str(secret), 0, h5py.h5f.UNLIMITED)]
    )


def virtual(handle, key, data, secret):
    layout = h5py.VirtualLayout(data.shape, data.dtype)
    layout[:] = h5py.VirtualSource(str(secret), "x", data.shape)
    handle.create_virtual_dataset(key, layout)


def soft_link(handle, key, data, secret):
    handle["elsewhere"] = data
    handle[key] = h5py.SoftLink("/elsewhere")


def external_link(handle, key, data, secret):
    handle[key] = h5py.ExternalLink(str(secret), "x")


def group(handle, key, data, secret):
    handle.create_group(key)


def text(handle, key, data, secret):
    handle[key] = np.array([b"1"] * len(data))


def incredible(handle, key, data, secret):
    handle.create_dataset(
        key, (1 << 40, *data.shape[1:]), data.dtype, chunks=(1024, *data.shape[1:])
    )


@pytest.mark.parametrize("key", ["observations", "costs", "episodes/length"])
@pytest.mark.parametrize(
    ("attack", "message"),
    [
        (external, "lies in another file"),
        (virtual, "lies in another file"),
        (soft_link, "is a link to another place"),
        (external_link, "is a link to another place"),
        (group, "is a group, expected a dataset"),
        (text, "has type .S1, expected numbers"),
        (incredible, "claims .* bytes in a file of"),
    ],
)
def test_only_what_lies_in_the_file_is_read(folder, tmp_path, key, attack, message):
    secret = tmp_path / "secret"
    with h5py.File(secret, "w") as handle:
        handle["x"] = np.zeros(1000)
    with h5py.File(folder / "00.hdf5", "a") as handle:
        data = handle[key][()]
        del handle[key]
        attack(handle, key, data, secret)
    with pytest.raises(DatasetError, match=f"00.hdf5: '{key}' {message}"):
        shards.read_shard(folder / "00.hdf5")
    if not key.startswith("episodes"):
        with pytest.raises(DatasetError, match=f"00.hdf5: '{key}' {message}"):
            read_dsrl(folder / "00.hdf5")


def test_a_linked_group_is_refused_too(folder):
    with h5py.File(folder / "00.hdf5", "a") as handle:
        handle.move("episodes", "others")
        handle["episodes"] = h5py.SoftLink("/others")
    with pytest.raises(DatasetError, match="'episodes/length' is a link to another place"):
        shards.read_shard(folder / "00.hdf5")


@pytest.mark.parametrize(
    "name", ["../00.hdf5", "/etc/hostname", "a/00.hdf5", "", ".", "..", None, 3]
)
@pytest.mark.parametrize("use", ["read_manifest", "validate", "select", "merge", "load"])
def test_shards_are_bare_file_names(folder, tmp_path, name, use):
    manifest = unsealed(folder)
    manifest["shards"][0]["file"] = name
    (folder / "manifest.json").write_text(json.dumps(manifest))
    out = tmp_path / "out"
    do = {
        "read_manifest": lambda: shards.read_manifest(folder),
        "validate": lambda: shards.validate(folder),
        "select": lambda: upkeep.select(folder, out),
        "merge": lambda: upkeep.merge(folder, out),
        "load": lambda: load(folder),
    }[use]
    with pytest.raises(DatasetError, match="manifest.json: a shard is called .*, expected a bare"):
        do()
    assert not out.exists()


@pytest.mark.parametrize("key", KEYS)
def test_a_flipped_bit_is_damage_not_data(folder, key):
    shard = folder / "00.hdf5"
    load(folder)  # right before, so that what is remembered must not help
    with h5py.File(shard, "r") as handle:
        start, size = handle[key].id.get_offset(), handle[key].id.get_storage_size()
    raw = bytearray(shard.read_bytes())
    rng = np.random.default_rng(0)
    for place in rng.integers(start, start + size, 3):
        flipped = bytearray(raw)
        flipped[place] ^= 1 << int(rng.integers(8))
        shard.write_bytes(flipped)
        with pytest.raises(DatasetError, match="SHA-256 is|is not finite|expected"):
            load(folder)
        with pytest.raises(DatasetError):
            upkeep.merge(folder, folder / "all.hdf5")
        assert not (folder / "all.hdf5").exists()
    shard.write_bytes(raw)
    assert len(load(folder)) == 50


@pytest.mark.parametrize("text", ["[]", "3", "null", '"x"'])
def test_a_manifest_of_another_kind_is_refused(folder, text):
    (folder / "manifest.json").write_text(text)
    with pytest.raises(DatasetError, match="manifest.json: schema .*, expected 1"):
        shards.read_manifest(folder)


def test_a_checksum_is_computed_once_for_each_state_of_a_file(folder, monkeypatch):
    shard, right = folder / "00.hdf5", shards.sha256(folder / "00.hdf5")
    asked = []
    monkeypatch.setattr(shards, "sha256", lambda path: asked.append(path) or right)
    monkeypatch.setattr(shards, "_CHECKED", set())
    shards.check_digest(shard, right)
    shards.check_digest(shard, right)
    assert asked == [shard]
    shutil.copyfile(shard, folder / "other.hdf5")
    shards.check_digest(folder / "other.hdf5", right)
    assert asked == [shard, folder / "other.hdf5"]
    wrong = "0" * 64
    text = (
        f"^{shard}: SHA-256 is {right[:12]}\\.\\.\\., expected 000000000000\\.\\.\\. \\(damaged, "
        "or of another dataset; go2-data validate looks at all\\)$"
    )
    for _ in range(2):  # a wrong one is never remembered as right
        with pytest.raises(DatasetError, match=text):
            shards.check_digest(shard, wrong)
    shard.write_bytes(shard.read_bytes() + b"x")
    shards.check_digest(shard, right)
    assert len(asked) == 5


def test_what_really_compresses_well_is_read(tmp_path):
    with h5py.File(tmp_path / "zeros.hdf5", "w") as handle:
        handle.create_dataset("x", data=np.zeros(1 << 18), compression="gzip")
    with h5py.File(tmp_path / "zeros.hdf5", "r") as handle:
        assert handle["x"].nbytes > 1 << 20
        assert len(read_plain(handle, "x")) == 1 << 18


def test_a_manifest_may_be_without_shards_but_not_with_texts_for_them(folder):
    manifest = unsealed(folder)
    for entries in (["00.hdf5/x"], [{"file": "00.hdf5"}, "a/b"]):
        (folder / "manifest.json").write_text(json.dumps({**manifest, "shards": entries}))
        with pytest.raises(DatasetError, match="a shard is called .*, expected a bare file name"):
            shards.read_manifest(folder)
    del manifest["shards"]
    (folder / "manifest.json").write_text(json.dumps(manifest))
    assert shards.read_manifest(folder) == manifest


def test_a_dataset_where_a_group_should_be_is_told(folder):
    with h5py.File(folder / "00.hdf5", "a") as handle:
        del handle["episodes"]
        handle["episodes"] = np.zeros(3)
        with pytest.raises(PlainFileError, match="^'episodes' is a dataset, expected a group$"):
            read_plain(handle, "episodes/length")


def test_a_manifest_that_was_changed_is_refused_and_repair_makes_a_new_one(folder):
    path = folder / "manifest.json"
    manifest = json.loads(path.read_text())
    manifest["transitions"] += 1
    path.write_text(json.dumps(manifest))
    with pytest.raises(DatasetError, match="manifest.json is damaged or was changed by hand"):
        load(folder)
    assert upkeep.repair(folder)["transitions"] == 50
    assert len(load(folder)) == 50
    older = {k: v for k, v in json.loads(path.read_text()).items() if k != "sha256"}
    path.write_text(json.dumps(older))
    assert len(load(folder)) == 50  # of version 0.1, which had none


def _flip(path, key):
    with h5py.File(path, "r") as handle:
        offset = handle[key].id.get_offset()
    content = bytearray(path.read_bytes())
    content[offset + 1] ^= 2  # low bits of the first number: still finite, still in range
    path.write_bytes(bytes(content))


@pytest.mark.parametrize("key", KEYS)
@pytest.mark.parametrize("manifest", [True, False])
def test_repair_never_blesses_a_flipped_bit(folder, key, manifest):
    more = make_episodes(lengths=(9, 8), seed=5)
    entries = json.loads((folder / "manifest.json").read_text())["shards"]
    entries.append(shards.write_shard(folder / "01.hdf5", more, {}))
    shards.write_manifest(folder, entries, {})
    if not manifest:
        (folder / "manifest.json").unlink()
    _flip(folder / "00.hdf5", key)
    repaired = upkeep.repair(folder)
    assert repaired["damaged"] == ["00.hdf5"] and repaired["transitions"] == 17


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: d.columns.update(rewards=d.columns["rewards"][:, None]), "'rewards' has shape"),
        (lambda d: d.columns.update(actions=d.columns["actions"][:, 0]), "'actions' has shape"),
        (
            lambda d: d.columns.update(next_observations=d.columns["next_observations"][:, :3]),
            "observations have 4 numbers, next_observations 3",
        ),
        (lambda d: d.episodes.update(cost=d.episodes["cost"][:1]), "'episodes/cost' has shape"),
        (
            lambda d: d.episodes.update({"return": d.episodes["return"] * np.nan}),
            "'episodes/return' is not finite",
        ),
        (
            lambda d: d.episodes.update(
                {k: np.append(v, 0) for k, v in d.episodes.items()},
            ),
            "an episode without steps",
        ),
    ],
)
def test_shapes_are_checked_before_anything_is_written(tmp_path, change, message):
    data = make_episodes(lengths=(5, 6))
    change(data)
    with pytest.raises(DatasetError, match=message):
        shards.write_shard(tmp_path / "0.hdf5", data, {})
    assert not list(tmp_path.iterdir())
