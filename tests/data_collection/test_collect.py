import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from go2_sevpo.data import shards, upkeep
from go2_sevpo.data.dataset import load
from go2_sevpo.data.shards import DatasetError
from go2_sevpo.data_collection import collect as module
from go2_sevpo.data_collection.collect import Args, collect, plan, sources_of
from go2_sevpo.data_collection.datasets.cli import Card, Info, Merge, Repair, Select, Validate, run
from go2_sevpo.runs.lock import BusyError, sole_writer


def arguments(policy, out, **changes):
    options = {
        "policy": str(policy),
        "course": "simple",
        "episodes": 6,
        "episodes_per_shard": 2,
        "seed": 3,
        "noise": 1.0,
        "threads": 1,
    }
    return Args(out, **{**options, **changes})


@pytest.fixture(autouse=True)
def short(monkeypatch):
    original = module.ParkourConfig
    monkeypatch.setattr(
        module, "ParkourConfig", lambda **k: original(**{**k, "episode_seconds": 1.0})
    )


def test_collected_folder_is_valid_and_true_to_its_manifest(gaussian_onnx, tmp_path):
    manifest = collect(arguments(gaussian_onnx, tmp_path))
    assert manifest["episodes"] == 6
    assert len(manifest["shards"]) == 3
    assert shards.validate(tmp_path) == json.loads(json.dumps(manifest))
    data = load(tmp_path)
    assert len(data) == manifest["transitions"] > 100
    assert data.num_obs == manifest["observation"]["size"] == 265
    info = manifest["shards"][0]["info"]
    assert info["policy"]["name"] == "trembler"
    assert len(info["policy"]["sha256"]) == 64
    assert info["environment"]["courses"] == ["simple"]


def test_next_observations_are_true_at_every_row(gaussian_onnx, tmp_path):
    collect(arguments(gaussian_onnx, tmp_path, episodes=2))
    data = shards.read_shard(next(tmp_path.glob("*.hdf5")))
    length = int(data.episodes["length"][0])
    obs, nxt = data.columns["observations"], data.columns["next_observations"]
    assert np.array_equal(nxt[: length - 1], obs[1:length])
    # Behind the last row stands the true successor: its history holds the last observation's frame.
    assert np.array_equal(nxt[length - 1][46:92], obs[length - 1][:46])


def test_interrupted_collection_goes_on_to_the_same_bytes(gaussian_onnx, tmp_path, monkeypatch):
    whole = collect(arguments(gaussian_onnx, tmp_path / "whole"))
    original, calls = module.collect_shard, []

    def breaking(*args):
        if len(calls) == 1:
            raise KeyboardInterrupt
        calls.append(1)
        return original(*args)

    monkeypatch.setattr(module, "collect_shard", breaking)
    with pytest.raises(KeyboardInterrupt):
        collect(arguments(gaussian_onnx, tmp_path / "parts"))
    assert len(list((tmp_path / "parts").glob("*.hdf5"))) == 1
    assert not (tmp_path / "parts" / "manifest.json").exists()
    monkeypatch.setattr(module, "collect_shard", original)
    parts = collect(arguments(gaussian_onnx, tmp_path / "parts"))
    for a, b in zip(whole["shards"], parts["shards"]):
        x, y = (
            shards.read_shard(tmp_path / "whole" / a["file"]),
            shards.read_shard(tmp_path / "parts" / b["file"]),
        )
        assert all(np.array_equal(x.columns[k], y.columns[k]) for k in shards.KEYS)


def test_killed_collection_keeps_finished_shards(gaussian_onnx, tmp_path):
    command = [
        str(Path(sys.executable).with_name("go2-collect")),
        "--policy",
        str(gaussian_onnx),
        "--episodes",
        "400",
        "--episodes-per-shard",
        "2",
        "--threads",
        "1",
        "--out",
        str(tmp_path),
    ]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.time() + 120
    while len(list(tmp_path.glob("*.hdf5"))) < 2 and time.time() < deadline:
        time.sleep(0.05)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    whole = list(tmp_path.glob("*.hdf5"))
    assert len(whole) >= 2
    repaired = upkeep.repair(tmp_path)
    assert repaired["damaged"] == []
    assert shards.validate(tmp_path)["episodes"] == 2 * len(whole)


def test_another_command_into_the_same_folder_is_refused(gaussian_onnx, tmp_path):
    collect(arguments(gaussian_onnx, tmp_path, episodes=2))
    with pytest.raises(DatasetError, match="was begun with seed 3, now 4"):
        collect(arguments(gaussian_onnx, tmp_path, episodes=2, seed=4))


def test_mixes_are_read_and_planned(tmp_path, gaussian_onnx):
    paper = sources_of(Args(tmp_path, mix="paper"))
    assert sum(s.episodes for s in paper if s.policy == "expert") == 6000
    assert sum(s.episodes for s in paper if s.policy == "weak") == 3000
    assert {s.course for s in paper} == {"simple", "hard"}
    jobs = plan(paper, 250)
    assert sum(j.episodes for j in jobs) == 9000
    assert len({j.name for j in jobs}) == len(jobs)
    assert len({j.seed(0) for j in jobs}) == len(jobs)
    (tmp_path / "m.yaml").write_text(
        f"sources:\n- {{policy: {gaussian_onnx}, course: flat, episodes: 3}}\n"
    )
    assert sources_of(Args(tmp_path, mix=str(tmp_path / "m.yaml")))[0].course == "flat"


def test_bad_requests_are_named(tmp_path, gaussian_onnx):
    with pytest.raises(ValueError, match="either --policy or --mix"):
        sources_of(Args(tmp_path))
    with pytest.raises(ValueError, match="no mix 'x': not a file, and the presets are demo, paper"):
        sources_of(Args(tmp_path, mix="x"))
    with pytest.raises(ValueError, match="unknown course 'moon'"):
        collect(arguments(gaussian_onnx, tmp_path, course="moon"))
    (tmp_path / "m.yaml").write_text("sources:\n- {policy: p, course: flat, episode: 3}\n")
    with pytest.raises(ValueError, match="episode"):
        sources_of(Args(tmp_path, mix=str(tmp_path / "m.yaml")))


def test_data_commands(gaussian_onnx, tmp_path):
    folder = tmp_path / "data"
    collect(arguments(gaussian_onnx, folder, episodes=4))
    assert "valid, 2 shards, 4 episodes" in run(Validate(folder))
    text = run(Info(folder))
    assert "trembler on simple" in text
    assert (folder / "histogram.png").stat().st_size > 5000
    assert run(Card(folder)).startswith(str(folder / "card.md"))
    card = (folder / "card.md").read_text()
    assert "on *simple*, difficulty 1, action noise" in card and "SHA-256" in card
    assert "success: the base is within 0.5 m" in card and "| height_scan | 85 |" in card
    assert "transitions" in run(Merge(folder, tmp_path / "all.hdf5"))
    assert len(load(tmp_path / "all.hdf5")) == len(load(folder))
    assert "2 shards, 4 episodes" in run(
        Select(folder, tmp_path / "part", policy="trembler", course="simple")
    )
    assert "valid, 2 shards, 4 episodes" in run(Validate(tmp_path / "part"))
    assert torch.equal(load(tmp_path / "part").frames, load(folder).frames)
    with pytest.raises(
        DatasetError, match="has nothing of policy expert on any course; it has trembler on simple"
    ):
        run(Select(folder, tmp_path / "none", policy="expert"))
    with pytest.raises(DatasetError, match="part is not empty"):
        run(Select(folder, tmp_path / "part", policy="trembler"))
    shard = next(folder.glob("*.hdf5"))
    shard.write_bytes(shard.read_bytes()[:1000])
    with pytest.raises(DatasetError):
        run(Validate(folder))
    assert shard.name in run(Repair(folder))


def test_what_is_being_collected_is_not_repaired(gaussian_onnx, tmp_path):
    folder = tmp_path / "data"
    collect(arguments(gaussian_onnx, folder, episodes=2))
    with sole_writer(folder), pytest.raises(BusyError, match="is being written by another process"):
        run(Repair(folder))
    run(Repair(folder))
    with pytest.raises(DatasetError, match="no folder .*nowhere"):
        run(Repair(tmp_path / "nowhere"))
    assert not (tmp_path / "nowhere").exists()
