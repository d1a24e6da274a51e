"""Collections of two policies, with who acted at each step."""

import numpy as np
import pytest

from go2_sevpo.data import shards
from go2_sevpo.data.dataset import load
from go2_sevpo.data.shards import DatasetError, Episodes
from go2_sevpo.data_collection import collect as module
from go2_sevpo.data_collection.collect import Args, collect, sources_of
from go2_sevpo.data_collection.datasets import report
from go2_sevpo.data_collection.handover import chosen
from go2_sevpo.data_collection.sources import Source, plain
from go2_sevpo.envs.go2.rollout import Rollout
from tests.conftest import make_episodes


@pytest.fixture(autouse=True)
def short(monkeypatch):
    original = module.ParkourConfig
    monkeypatch.setattr(
        module, "ParkourConfig", lambda **k: original(**{**k, "episode_seconds": 2.0})
    )


def collected(folder, *sources):
    recipe = folder / "mix.yaml"
    recipe.write_text(str({"sources": list(sources)}))
    return collect(Args(folder / "data", mix=str(recipe), threads=1))


def test_taken_over_episodes_are_the_weak_policys_then_the_experts(tmp_path):
    source = {"policy": "weak", "then": "expert", "before_fall": [0.1, 0.5]}
    manifest = collected(tmp_path, {**source, "course": "simple", "episodes": 4})
    data = shards.read_shard(next((tmp_path / "data").glob("*.hdf5")))  # checked as it is read
    assert data.actors == ("weak", "expert") and data.columns["actor"].dtype == np.int16
    info = shards.shard_info(next((tmp_path / "data").glob("*.hdf5")))
    ends = np.cumsum(data.episodes["length"])
    for start, end, record in zip(np.r_[0, ends[:-1]], ends, info["records"]):
        who = data.columns["actor"][start:end]
        own = record["taken_over_at"]
        assert who.tolist() == [0] * own + [1] * (len(who) - own)
        cost = float(data.columns["costs"][start:end].sum())
        assert record["cost"] == pytest.approx(cost) and len(who) == record["length"]
        assert record["return"] == pytest.approx(data.columns["rewards"][start:end].sum(), abs=1e-3)
    assert manifest["sources"] == [
        {
            "policy": "weak",
            "course": "simple",
            "episodes": 4,
            "difficulty": 1.0,
            "noise": 0.5,
            "then": "expert",
            "before_fall": [0.1, 0.5],
        }
    ]
    loaded = load(tmp_path / "data")
    assert loaded.actors == ["weak", "expert"]
    assert len(loaded.actor_rows("expert")) == int(data.columns["actor"].sum())


def test_an_expert_that_hands_over_falls_and_only_falls_are_kept(tmp_path):
    common = {"course": "simple", "episodes": 3}
    broken = {"policy": "expert", "then": "weak", "after": [0.2, 0.4], "falls_only": True}
    manifest = collected(tmp_path, {**broken, **common}, {"policy": "weak", **common})
    assert manifest["successes"] == 0 and manifest["falls"] == manifest["episodes"]
    data = load(tmp_path / "data")
    # The second part has no column; its one policy acted throughout.
    assert data.actors == ["expert", "weak"] and int((data.actor < 0).sum()) == 0
    first = data.actor_rows("expert")
    assert 3 * 10 <= len(first) <= 3 * 20 and int(first.max()) < len(data) // 2 + 60


def test_of_episodes_that_do_not_fall_none_is_kept():
    columns = {"rewards": np.arange(5.0)}
    records = [{"fall": False, "length": 2}, {"fall": True, "length": 3}]
    source = Source("a", "simple", 2, falls_only=True)
    kept, who = chosen(Rollout(records, 9, columns), np.arange(5), source)
    assert kept.columns["rewards"].tolist() == who.tolist() == [2, 3, 4]
    assert kept.episodes == records[1:]
    with pytest.raises(ValueError, match="none of 1 episodes of a ends in a fall"):
        chosen(Rollout(records[:1], 9, {"rewards": np.arange(2.0)}), np.arange(2), source)


def test_a_card_says_who_took_over_and_when():
    plain_source = {"policy": "weak", "course": "hard"}
    assert report.source_name(plain_source) == "weak on hard"
    source = {**plain_source, "then": "a/saviour.onnx", "before_fall": [0.0, 0.8]}
    source.update(push_speed=1.2, falls_only=True, mid_course=True)
    assert report.source_name(source) == "weak, then saviour on hard, pushes 1.2, mid-course"
    assert report._special(source) == (
        "; `saviour.onnx` takes over 0 to 0.8 s before its own fall; pushes of up to 1.2 m/s; "
        "from a random stone; only those that fall"
    )
    assert report._special(plain_source) == ""


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"then": "weak"}, "then weak and no time; expected both"),
        ({"after": [0.0, 1.0]}, "then None and after; expected both"),
        ({"then": "weak", "after": [1.0, 0.5]}, r"after is \[1.0, 0.5\], expected two times"),
        ({"push_speed": -1.0}, "push_speed is -1.0, expected at least 0 m/s"),
    ],
)
def test_sources_without_a_meaning_are_named(values, message):
    with pytest.raises(ValueError, match=message):
        Source("expert", "simple", 1, **values)


def test_plain_sources_are_written_as_they_always_were(tmp_path):
    """A collection that was begun before there were handovers is gone on with."""
    assert plain(Source("expert", "hard", 7)) == {
        "policy": "expert",
        "course": "hard",
        "episodes": 7,
        "difficulty": 1.0,
        "noise": 0.5,
    }
    (tmp_path / "odd.yaml").write_text("sources: [{policy: a, course: simple, epsodes: 3}]")
    with pytest.raises(ValueError, match="then with after or before_fall, push_speed"):
        sources_of(Args(tmp_path, mix=str(tmp_path / "odd.yaml")))


def test_an_actor_that_has_no_name_is_refused(tmp_path):
    data = make_episodes((3,))
    columns = {**data.columns, "actor": np.array([0, 1, 2])}
    with pytest.raises(DatasetError, match=r"'actor' holds \[0, 1, 2\], expected places in its 2"):
        shards.write_shard(tmp_path / "a.hdf5", Episodes(columns, data.episodes, ("a", "b")), {})
    shards.write_shard(tmp_path / "b.hdf5", Episodes(columns, data.episodes, ("a", "b", "c")), {})
    again = shards.read_shard(tmp_path / "b.hdf5")
    assert again.actors == ("a", "b", "c") and again.columns["actor"].tolist() == [0, 1, 2]
    shards.write_shard(tmp_path / "old.hdf5", data, {"policy": {"name": "expert"}})
    old = shards.read_shard(tmp_path / "old.hdf5")
    assert old.actors == ("expert",) and "actor" not in old.columns
