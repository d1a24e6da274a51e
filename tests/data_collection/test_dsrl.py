"""DSRL: names and scores, files in the exact layout, mixes, and a download that is interrupted."""

import http.server
import json
import threading

import h5py
import numpy as np
import pytest

from go2_sevpo.data.dataset import load
from go2_sevpo.data.dsrl.files import read_dsrl
from go2_sevpo.data.shards import DatasetError
from go2_sevpo.data_collection.safety_gymnasium.cli import (
    Download,
    Mix,
    Tasks,
    Validate,
    download,
    run,
)
from go2_sevpo.envs.safety_gymnasium import files, tasks

TASK = tasks.TASKS["CarGoal1"]


def write_file(path, costs=(0, 3, 0, 40, 60), lengths=(30, 20, 30, 25, 25), **changes):
    """A file exactly as DSRL writes them: flat float32 columns, gzip, no attributes, episodes cut
    by flags.
    """
    rng, n = np.random.default_rng(0), sum(lengths)
    columns = {
        "observations": rng.normal(size=(n, 72)),
        "next_observations": rng.normal(size=(n, 72)),
        "actions": rng.uniform(-1, 1, size=(n, 2)),
        "rewards": rng.normal(size=n),
        "costs": np.zeros(n),
        "terminals": np.zeros(n),
        "timeouts": np.zeros(n),
    }
    start = 0
    for k, (length, cost) in enumerate(zip(lengths, costs)):
        columns["costs"][start] = cost
        columns["actions"][start : start + length, 0] = k / 10  # names the trajectory
        start += length
        columns["timeouts"][start - 1] = 1
    columns.update(changes)
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as handle:
        for key, value in columns.items():
            handle.create_dataset(key, data=np.asarray(value, np.float32), compression="gzip")
    return path


def test_names_and_scores_are_dsrls():
    assert (
        TASK.file_name == "SafetyCarGoal1Gymnasium-v0-120-1671.hdf5"
        and TASK.env_id == "SafetyCarGoal1-v0"
    )
    cheetah = tasks.find_task("OfflineHalfCheetahVelocityGymnasium-v1")
    assert cheetah.file_name == "SafetyHalfCheetahVelocityGymnasium-v1-250-2495.hdf5"
    assert (
        TASK.normalised_return(TASK.return_max) == 1.0
        and TASK.normalised_return(TASK.return_min) == 0.0
    )
    assert (
        tasks.normalised_cost(5, 10) == 0.5
        and tasks.normalised_cost(0, 0) == 1.0
        and tasks.normalised_cost(3, 0) == 4.0
    )
    assert len(tasks.TASKS) == 9
    with pytest.raises(DatasetError, match="unknown task 'CarRun'"):
        tasks.find_task("CarRun")


def test_files_are_found_in_their_places(tmp_path, monkeypatch):
    monkeypatch.setenv("DSRL_DATASET_DIR", str(tmp_path / "here"))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    with pytest.raises(DatasetError, match="go2-dsrl download CarGoal1"):
        files.find_file(TASK)
    cached = write_file(tmp_path / "home" / ".dsrl" / "datasets" / TASK.file_name)
    assert files.find_file(TASK) == cached
    named = write_file(tmp_path / "here" / TASK.file_name)
    assert files.find_file(TASK) == named
    assert files.find_file(TASK, cached) == cached
    assert str(named) in run(Tasks()) and "SwimmerVelocity" in run(Tasks())


def test_valid_file_is_described_and_loads(tmp_path):
    path = write_file(tmp_path / TASK.file_name)
    text = run(Validate("CarGoal1", path))
    assert (
        "valid; transitions 130, episodes 5" in text
        and "cost_max 60" in text
        and "as_published False" in text
    )
    assert len(load(path)) == 130  # random successors and all: they are kept as they are


@pytest.mark.parametrize(
    "changes, message",
    [
        (
            {"observations": np.zeros((130, 60))},
            "observations have 60 numbers, next_observations 72",
        ),
        ({"costs": np.full(130, -1.0)}, "costs go down to -1, expected none below 0"),
        ({"rewards": np.full(130, np.nan)}, "'rewards' is not finite at row 0"),
        ({"timeouts": np.zeros(130)}, "no terminal or timeout"),
    ],
)
def test_bad_files_are_refused(tmp_path, changes, message):
    with pytest.raises(DatasetError, match=message):
        run(Validate("CarGoal1", write_file(tmp_path / "x.hdf5", **changes)))


def test_mix_is_whole_trajectories_duplicated_only_when_needed(tmp_path):
    path = write_file(tmp_path / "source.hdf5")
    out = tmp_path / "mix" / "mix.hdf5"
    text = run(Mix("CarGoal1", out, (1.0, 3.0), path, safe_samples=60))
    made = json.loads(out.with_suffix(".json").read_text())
    data = read_dsrl(out)
    cost, length = data.episodes["cost"], data.episodes["length"]
    assert made["safe"]["transitions"] == length[cost <= 10].sum() >= 60
    assert made["unsafe"]["transitions"] == length[cost > 10].sum() >= 180
    # 60 safe rows are there without repetition; 180 unsafe ones out of 50 need each of the two
    # trajectories several times.
    names = np.round(10 * data.columns["actions"][np.cumsum(length) - 1, 0]).astype(int)
    assert len(set(names[cost <= 10])) == (cost <= 10).sum() == made["safe"]["different"]
    assert set(names[cost > 10]) == {3, 4} and made["unsafe"] == {
        "trajectories": 8,
        "different": 2,
        "available": 2,
        "transitions": 200,
    }
    counts = np.bincount(names[cost > 10])[3:]
    assert abs(int(counts[0]) - int(counts[1])) <= 1
    assert "safe: " in text and made["source_sha256"] and made["seed"] == 0
    again = tmp_path / "again.hdf5"
    run(Mix("CarGoal1", again, (1.0, 3.0), path, safe_samples=60))
    assert np.array_equal(read_dsrl(again).columns["actions"], data.columns["actions"])
    with pytest.raises(DatasetError, match="no unsafe trajectory"):
        run(Mix("CarGoal1", again, (1.0, 1.0), path, limit=1000.0, safe_samples=60))
    with pytest.raises(DatasetError, match="expected two positive numbers"):
        run(Mix("CarGoal1", again, (1.0, 0.0), path))


@pytest.fixture
def host(tmp_path):
    """A server that breaks off its first answer half-way and honours Range."""
    content = write_file(tmp_path / "served" / TASK.file_name).read_bytes()
    asked = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):  # noqa: N802
            start = int((self.headers.get("Range") or "bytes=0-")[6:-1])
            asked.append(start)
            if not self.path.endswith(TASK.file_name):
                self.send_error(404)
                return
            self.send_response(206 if start else 200)
            self.send_header("Content-Length", str(len(content) - start))
            self.end_headers()
            self.wfile.write(
                content[start : len(content) // 2] if len(asked) == 1 else content[start:]
            )

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}", content, asked
    server.shutdown()
    server.server_close()
    thread.join()


def test_interrupted_download_goes_on_and_only_a_whole_file_gets_the_name(tmp_path, host):
    address, content, asked = host
    folder = tmp_path / "cache"
    with pytest.raises(DatasetError, match="the same command goes on"):
        download(TASK, folder, address)
    part = folder / (TASK.file_name + ".part")
    half = part.stat().st_size
    assert 0 < half < len(content) and not (folder / TASK.file_name).exists()
    with pytest.raises(DatasetError, match="expected 00ff"):
        download(TASK, folder, address, "00ff")
    assert asked == [0, half]
    text = run(Download("CarGoal1", folder, address))
    assert (
        (folder / TASK.file_name).read_bytes() == content
        and not part.exists()
        and "SHA-256" in text
    )
    with pytest.raises(DatasetError, match="404"):
        download(tasks.TASKS["CarPush1"], folder, address)
