"""Dataset folders by content: manifests, checksums, every check's message, repair, merge,
select.
"""

import hashlib
import json
import os
import shutil

import h5py
import numpy as np
import pytest

from go2_sevpo.data import shards, upkeep
from go2_sevpo.data.shards import DatasetError, Episodes
from go2_sevpo.runs.files import write_atomically
from tests.conftest import make_episodes


def tiny(lengths=(2, 3), seed=0):
    """Two episodes: the first falls (cost 1), the second succeeds; returns 1.5 and -2.5."""
    episodes = make_episodes(lengths, 3, 2, seed)
    rewards = np.zeros(sum(lengths), np.float32)
    rewards[0], rewards[lengths[0]] = 1.5, -2.5
    episodes.columns["rewards"] = rewards
    episodes.episodes["return"] = np.array([1.5, -2.5] + [0.0] * (len(lengths) - 2))
    return episodes


def error_of(call, *arguments):
    with pytest.raises(DatasetError) as error:
        call(*arguments)
    return str(error.value)


def test_names_in_files():
    assert shards.SCHEMA == 1 and shards.MANIFEST == "manifest.json"
    assert shards.KEYS == (
        "observations",
        "next_observations",
        "actions",
        "rewards",
        "costs",
        "terminals",
        "timeouts",
    )
    assert shards.EPISODE_KEYS == ("length", "return", "cost", "success", "fall")
    assert issubclass(DatasetError, ValueError)


def test_checksums_are_of_the_whole_file(tmp_path):
    content = bytes(range(256)) * 4096 + b"more than one block of a MiB"
    (tmp_path / "x").write_bytes(content)
    assert shards.sha256(tmp_path / "x") == hashlib.sha256(content).hexdigest()
    (tmp_path / "x").write_bytes(b"")
    assert shards.sha256(tmp_path / "x") == hashlib.sha256(b"").hexdigest()


def test_text_is_written_under_a_temporary_name_and_flushed_first(tmp_path, monkeypatch):
    done = []
    fsync, replace = os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda n: (done.append("flush"), fsync(n)))

    def record(a, b):
        done.append((os.path.basename(str(a)), os.path.basename(str(b)), a.read_bytes()))
        replace(a, b)

    monkeypatch.setattr(os, "replace", record)
    write_atomically(tmp_path / "a.json", "ü")
    first, (temporary, name, content), folder = done
    assert (first, folder) == ("flush", "flush")
    assert temporary.startswith("a.json.") and temporary.endswith(".tmp")
    assert (name, content) == ("a.json", "ü".encode())
    done.clear()
    shards.write_shard(tmp_path / "0.hdf5", tiny(), {})
    assert done[0] == "flush" and done[1][1] == "0.hdf5" and done[1][0] != "0.hdf5"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["0.hdf5", "a.json"]


def test_entry_and_content_of_a_shard(tmp_path):
    path, data = tmp_path / "07.hdf5", tiny()
    info = {"seed": 3, "source": {"policy": "p"}}
    entry = shards.write_shard(path, data, info)
    assert entry == {
        "file": "07.hdf5",
        "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        "transitions": 5,
        "episodes": 2,
        "return_mean": -0.5,
        "cost_mean": 0.5,
        "successes": 1,
        "falls": 1,
        "info": info,
    }
    assert json.loads(json.dumps(entry)) == entry
    assert data.rows == 5 and shards.shard_info(path) == info
    with h5py.File(path, "r") as handle:
        assert handle.attrs["schema"] == 1 and json.loads(handle.attrs["info"]) == info
        assert all(handle[key].dtype == np.float32 for key in shards.KEYS)
    found = shards.read_shard(path)
    for key in shards.KEYS:
        assert np.array_equal(found.columns[key], data.columns[key])
    for key in shards.EPISODE_KEYS:
        assert np.array_equal(found.episodes[key], data.episodes[key])


def test_successors_are_true_where_they_are_the_next_row_and_at_every_end():
    data = tiny((3, 2))
    assert shards.true_successors(data).tolist() == [True] * 5
    data.columns["next_observations"][0, 2] += 1.0  # one number of several is enough
    data.columns["next_observations"][2] += 1.0  # an end is true by definition
    data.columns["next_observations"][3] += 1.0
    data.columns["next_observations"][4] += 1.0
    assert shards.true_successors(data).tolist() == [False, True, True, False, True]


def test_every_inconsistency_is_named_with_what_was_expected():
    def broken(change, strict=True):
        data = tiny()
        change(data)
        return error_of(shards.check_episodes, data, "s", strict)

    assert broken(lambda d: d.columns.pop("costs")) == (
        "s: key 'costs' is missing, expected observations, next_observations, actions, "
        "rewards, costs, "
        "terminals, timeouts"
    )
    short = lambda d: d.columns.update(actions=d.columns["actions"][:-1])  # noqa: E731
    assert broken(short) == "s: 'actions' has 4 rows, expected 5"
    infinite = lambda d: d.columns["observations"].__setitem__((3, 1), np.inf)  # noqa: E731
    text = "s: 'observations' is not finite at row 3, expected finite numbers"
    assert broken(infinite) == text
    last_of_two = lambda d: (  # noqa: E731
        d.columns["observations"].__setitem__((4, 0), np.nan),
        infinite(d),
    )
    assert broken(last_of_two) == text  # the first of two
    longer = lambda d: d.episodes.update(length=np.array([2, 4]))  # noqa: E731
    assert broken(longer) == "s: episode lengths sum to 6, expected 5 rows"
    as_floats = lambda d: d.episodes.update(length=np.array([2.0, 4.0]))  # noqa: E731
    assert broken(as_floats) == "s: episode lengths sum to 6, expected 5 rows"
    other = lambda d: d.episodes.update(length=np.array([3, 2]))  # noqa: E731
    ends = "s: 2 terminals or timeouts, expected exactly one at the end of each of 2 episodes"
    assert broken(other) == ends
    fewer = lambda d: d.columns["timeouts"].__setitem__(slice(None), 0.0)  # noqa: E731
    assert broken(fewer) == ends.replace("s: 2", "s: 1")
    third = lambda d: d.columns["terminals"].__setitem__(2, 1.0)  # noqa: E731
    assert broken(third) == ends.replace("s: 2", "s: 3")
    odd = lambda d: d.columns["next_observations"].__setitem__(3, 9.0)  # noqa: E731
    text = "s: next_observations at row 3 differ from the following observations"
    assert broken(odd) == text
    both = lambda d: (odd(d), d.columns["next_observations"].__setitem__(2, 9.0))  # noqa: E731
    assert broken(both) == text.replace("row 3", "row 2")
    data = tiny()
    odd(data)
    shards.check_episodes(data, "s", strict=False)
    assert broken(third, False) == ends.replace("s: 2", "s: 3")
    assert error_of(shards.check_episodes, data, "s") == text  # strict unless asked otherwise


def test_an_end_may_be_terminal_and_timeout_at_once():
    data = tiny()
    data.columns["timeouts"][1] = 1.0
    data.columns["terminals"][1] = 1.0
    shards.check_episodes(data, "s")


def test_nothing_is_written_of_inconsistent_episodes(tmp_path):
    data = tiny()
    data.columns["costs"] = data.columns["costs"][:-1]
    assert error_of(shards.write_shard, tmp_path / "3.hdf5", data, {}) == (
        "3.hdf5: 'costs' has 4 rows, expected 5"
    )
    assert not list(tmp_path.iterdir())


def test_shards_that_cannot_be_used_are_named(tmp_path):
    path = tmp_path / "0.hdf5"
    assert error_of(shards.read_shard, path) == f"no shard at {path}"
    shards.write_shard(path, tiny(), {})
    with h5py.File(path, "r+") as handle:
        handle.attrs["schema"] = 2
    assert error_of(shards.read_shard, path) == f"{path}: schema 2, expected 1"
    with h5py.File(path, "r+") as handle:
        handle.attrs["schema"] = 1
        del handle["episodes/fall"]
    assert error_of(shards.read_shard, path).startswith(
        f"{path}: key 'episodes/fall' is missing, expected observations, next_observations"
    )
    shards.write_shard(path, tiny(), {})
    with h5py.File(path, "r+") as handle:
        handle["rewards"][2] = np.nan
    assert error_of(shards.read_shard, path).startswith(f"{path}: 'rewards' is not finite at row 2")
    with h5py.File(path, "r+") as handle:
        handle["rewards"][2] = 0.0
        handle["next_observations"][0] = 9.0
    assert "next_observations at row 0 differ" in error_of(shards.read_shard, path)
    with h5py.File(path, "r+") as handle:
        del handle["actions"]
        del handle.attrs["info"]
    assert "key 'actions' is missing" in error_of(shards.read_shard, path)
    assert error_of(shards.shard_info, path).startswith(f"{path} is not a shard: ")
    path.write_bytes(path.read_bytes()[:300])
    assert error_of(shards.read_shard, path).startswith(
        f"{path} is not a complete HDF5 file (truncated?): "
    )
    assert error_of(shards.shard_info, path).startswith(f"{path} is not a shard: ")


def write_folder(path, count=2, common=None, infos=None):
    path.mkdir(parents=True, exist_ok=True)
    entries = []
    for k in range(count):
        info = {"k": k} if infos is None else infos[k]
        entries.append(shards.write_shard(path / f"{k}.hdf5", tiny((2, 3 + k), k), info))
    return shards.write_manifest(path, entries, common or {})


def test_a_manifest_sums_its_shards(tmp_path):
    common = {"environment": {"name": "e"}, "seed": 5}
    manifest = write_folder(tmp_path, 3, common)
    shorter = {k: v for k, v in manifest.items() if k != "shards"}
    assert shorter == {
        "schema": 1,
        "environment": {"name": "e"},
        "seed": 5,
        "transitions": 5 + 6 + 7,
        "episodes": 6,
        "successes": 3,
        "falls": 3,
    }
    assert [e["file"] for e in manifest["shards"]] == ["0.hdf5", "1.hdf5", "2.hdf5"]
    written = json.loads((tmp_path / "manifest.json").read_text(encoding="utf-8"))
    sorted_text = json.dumps(manifest, sort_keys=True).encode()
    assert written == {**manifest, "sha256": hashlib.sha256(sorted_text).hexdigest()}
    assert shards.read_manifest(tmp_path) == manifest == shards.validate(tmp_path)
    assert (tmp_path / "manifest.json").read_text().startswith('{\n "schema": 1,')


def test_manifests_that_cannot_be_used_are_named(tmp_path):
    assert error_of(shards.read_manifest, tmp_path) == (
        f"{tmp_path} holds no dataset: manifest.json is missing"
    )
    (tmp_path / "0.hdf5").write_bytes(b"")
    assert error_of(shards.read_manifest, tmp_path) == (
        f"{tmp_path} holds an unfinished collection (run the same go2-collect again, or "
        f"go2-data repair): "
        "manifest.json is missing"
    )
    path = tmp_path / "manifest.json"
    path.write_text("{")
    assert error_of(shards.read_manifest, tmp_path).startswith(f"{path} is not valid JSON: ")
    path.write_text("{}")
    assert error_of(shards.read_manifest, tmp_path) == f"{path}: schema None, expected 1"
    path.write_text('{"schema": 2}')
    assert error_of(shards.read_manifest, tmp_path) == f"{path}: schema 2, expected 1"


def test_every_shard_is_checked_against_the_manifest(tmp_path):
    manifest = write_folder(tmp_path)
    second = tmp_path / "1.hdf5"
    other = shards.write_shard(tmp_path / "other.hdf5", tiny((4, 4)), {})
    shutil.move(str(tmp_path / "other.hdf5"), str(second))
    expected = manifest["shards"][1]["sha256"]
    assert error_of(shards.validate, tmp_path) == (
        f"{second}: SHA-256 is {other['sha256'][:12]}..., expected {expected[:12]}..."
    )
    manifest["shards"][1]["sha256"] = other["sha256"]
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    assert error_of(shards.validate, tmp_path) == f"{second}: 8 transitions, expected 6"
    second.unlink()
    assert error_of(shards.validate, tmp_path) == f"shard 1.hdf5 is missing from {tmp_path}"


def test_a_shard_whose_content_is_inconsistent_does_not_validate(tmp_path):
    manifest = write_folder(tmp_path)
    with h5py.File(tmp_path / "0.hdf5", "r+") as handle:
        handle["costs"][1] = np.inf
    manifest["shards"][0]["sha256"] = shards.sha256(tmp_path / "0.hdf5")
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    assert "'costs' is not finite at row 1" in error_of(shards.validate, tmp_path)


def test_repair_keeps_what_is_whole_and_what_the_old_manifest_said(tmp_path):
    common = {"environment": {"name": "e"}, "observation": 3, "sources": [1], "seed": 5, "other": 6}
    infos = [{"environment": {"name": "shard's"}}, {}, {}]
    old = write_folder(tmp_path, 3, common, infos)
    (tmp_path / "1.hdf5").write_bytes(b"broken")
    (tmp_path / "5.hdf5.tmp").write_bytes(b"")
    (tmp_path / "5.txt").write_bytes(b"")
    found = upkeep.repair(tmp_path)
    assert found == {
        "schema": 1,
        "environment": {"name": "e"},
        "observation": 3,
        "sources": [1],
        "seed": 5,
        "transitions": 12,
        "episodes": 4,
        "successes": 2,
        "falls": 2,
        "shards": [old["shards"][0], old["shards"][2]],
        "damaged": ["1.hdf5"],
    }
    names = sorted(p.name for p in tmp_path.iterdir())
    assert names == ["0.hdf5", "1.hdf5.damaged", "2.hdf5", "5.txt", "manifest.json"]
    assert (tmp_path / "1.hdf5.damaged").read_bytes() == b"broken"
    del found["damaged"]
    assert shards.validate(tmp_path) == found


def test_repair_without_a_manifest_takes_environment_and_observation_from_the_shards(tmp_path):
    infos = [
        {"observation": 1},
        {"environment": "b", "observation": 2, "seed": 9},
        {"environment": "c"},
    ]
    write_folder(tmp_path, 3, {"seed": 4}, infos)
    (tmp_path / "manifest.json").unlink()
    found = upkeep.repair(tmp_path)
    assert found["environment"] == "b" and found["observation"] == 1 and "seed" not in found
    assert found["damaged"] == [] and found["transitions"] == 18
    assert [e["info"] for e in found["shards"]] == infos


def test_repair_where_nothing_is_whole_is_refused(tmp_path):
    for k in range(2):
        (tmp_path / f"{k}.hdf5").write_bytes(b"broken")
    assert error_of(upkeep.repair, tmp_path) == f"{tmp_path} holds no whole shard (2 damaged)"


def test_merged_file_has_all_rows_in_order(tmp_path, monkeypatch):
    write_folder(tmp_path / "d", 3)
    replace, renamed = os.replace, []

    def record(a, b):
        renamed.append((a, b))
        replace(a, b)

    monkeypatch.setattr(os, "replace", record)
    out = tmp_path / "new" / "folder" / "all.hdf5"
    assert upkeep.merge(tmp_path / "d", out) == 18
    parts = [tiny((2, 3 + k), k) for k in range(3)]
    with h5py.File(out, "r") as handle:
        assert sorted(handle) == sorted(shards.KEYS)
        for key in shards.KEYS:
            assert handle[key].dtype == np.float32
            assert np.array_equal(handle[key][()], np.concatenate([p.columns[key] for p in parts]))
    assert sorted(p.name for p in out.parent.iterdir()) == ["all.hdf5", "all.json"]
    temporary, final = renamed[0]
    assert final == out and temporary.parent == out.parent and temporary.suffix == ".tmp"
    beside = json.loads(out.with_suffix(".json").read_text())
    for key in ("success", "fall"):
        assert beside[key] == np.concatenate([p.episodes[key] for p in parts]).tolist()
    upkeep.merge(tmp_path / "d", out)  # again, over the old one and into a folder that is there


SOURCES = [
    {"policy": "runs/weak.onnx", "course": "simple"},
    {"policy": "expert", "course": "simple"},
    {"policy": "runs/weak.onnx", "course": "hard"},
]


@pytest.fixture
def sourced(tmp_path):
    common = {"environment": "e", "seed": 5, "sources": SOURCES, "observation": 3}
    write_folder(tmp_path / "d", 4, common, [{"source": s} for s in SOURCES] + [{}])
    return tmp_path / "d"


@pytest.mark.parametrize(
    "policy, course, expected",
    [
        ("weak", None, [0, 2]),
        (None, "simple", [0, 1]),
        ("weak", "simple", [0]),
        ("expert", None, [1]),
        (None, None, [0, 1, 2, 3]),
    ],
)
def test_selected_shards_are_those_of_policy_and_course(sourced, policy, course, expected):
    out = sourced.parent / "out" / "deep"
    found = upkeep.select(sourced, out, policy, course)
    old = shards.read_manifest(sourced)
    assert [e["file"] for e in found["shards"]] == [f"{k}.hdf5" for k in expected]
    assert found["shards"] == [old["shards"][k] for k in expected]
    assert found["sources"] == [SOURCES[k] for k in expected if k < 3]
    assert (found["environment"], found["seed"], found["observation"]) == ("e", 5, 3)
    assert found["transitions"] == sum(5 + k for k in expected)
    assert found["episodes"] == 2 * len(expected) and found["schema"] == 1
    assert shards.validate(out) == found
    assert os.path.samefile(sourced / f"{expected[0]}.hdf5", out / f"{expected[0]}.hdf5")  # linked


def test_shards_are_copied_where_they_cannot_be_linked(sourced, monkeypatch):
    def no(*_):
        raise OSError("no links here")

    monkeypatch.setattr(os, "link", no)
    out = sourced.parent / "out"
    out.mkdir()  # there, but empty
    found = upkeep.select(sourced, out, "expert")
    assert shards.validate(out) == found
    assert not os.path.samefile(sourced / "1.hdf5", out / "1.hdf5")


def test_selections_of_nothing_or_into_something_are_refused(sourced):
    out = sourced.parent / "out"
    has = "it has ? on ?, expert on simple, weak on hard, weak on simple"
    assert error_of(upkeep.select, sourced, out, "none", "hard") == (
        f"{sourced} has nothing of policy none on hard; {has}"
    )
    assert error_of(upkeep.select, sourced, out, None, "flat") == (
        f"{sourced} has nothing of policy any on flat; {has}"
    )
    assert f"has nothing of policy none on any course; {has}" in error_of(
        upkeep.select, sourced, out, "none"
    )
    assert not out.exists()
    out.mkdir()
    (out / "x").write_text("")
    text = f"{out} is not empty; use another --out"
    assert error_of(upkeep.select, sourced, out, "weak") == text


def test_a_selection_without_sources_in_the_manifest_has_none(tmp_path):
    write_folder(tmp_path / "d", 1, {"seed": 1}, [{"source": SOURCES[1]}])
    assert upkeep.select(tmp_path / "d", tmp_path / "o")["sources"] == []


def test_rows_are_counted_by_rewards():
    assert Episodes({"rewards": np.zeros(4)}, {}).rows == 4
