"""Bad arguments and the machine's own faults: every command tells them in one line, and at once."""

import importlib

import pytest
import torch

from go2_sevpo.data import shards
from tests.conftest import make_episodes

TRAIN, PLAY = "offline_training.train", "deploy.play.cli"
COLLECT, LOOP = "data_collection.collect", "offline_training.loop.cli"
NOWHERE = "/proc/x"  # a folder that nobody can make
CASES = [
    (TRAIN, "DATA --out run --set limit=abc", "setting 'limit' of sevpo is 'abc', expected a fin"),
    (TRAIN, "DATA --out run --set critic_batch=0", "is 0, expected a whole number of at least 1"),
    (TRAIN, "DATA --out run --set crtic_steps=3", "did you mean 'critic_steps'"),
    (TRAIN, "DATA --out run --device cuda", "device is 'cuda', but torch .* sees no NVIDIA GPU"),
    (TRAIN, "DATA --out run --device gpu", "device is 'gpu', expected cpu or cuda"),
    (TRAIN, "DATA --out run --log-every 0", "log-every is 0, expected at least 1"),
    (TRAIN, "DATA --out run --save-every 0", "save-every is 0, expected at least 1"),
    (TRAIN, "DATA --out run --threads 0", "threads is 0, expected at least 1"),
    (TRAIN, "DATA --out run --seed -1", "seed is -1, expected at least 0"),
    (TRAIN, f"DATA --out {NOWHERE}", "/proc/x: No such file or directory; free it, or name anothe"),
    (TRAIN, "nowhere --out run", "nowhere holds no dataset: manifest.json is missing"),
    (PLAY, "sevpo --episodes 2 --seed -1", "seed is -1, expected 0 to 2147483647 for go2-play"),
    (PLAY, "sevpo --episodes 20000", "expected at most 10000 for go2-play; use several seeds"),
    (PLAY, "sevpo --episodes 2 --physics-dt 0", "physics step is 0.0 s, expected a divisor of"),
    (PLAY, "sevpo --episodes 2 --physics-dt -1", "physics step is -1.0 s, expected a divisor of"),
    (PLAY, "sevpo --episodes 2 --noise nan", "noise is nan, expected a finite number"),
    (PLAY, "sevpo --episodes 2 --worlds 0", "worlds is 0, expected at least 1"),
    (PLAY, "sevpo --episodes 2000 --worlds 1", "expected at most 1000; use more --worlds"),
    (PLAY, f"sevpo --episodes 2 --out {NOWHERE}", "/proc/x: No such file or directory"),
    (PLAY, "nobody", "no policy 'nobody': not a file, and the shipped policies are expert"),
    (COLLECT, "--policy expert --out c --seed -1", "seed is -1, expected 0 to 2147483647 for go2-"),
    (
        COLLECT,
        "--policy expert --out c --episodes-per-shard 0",
        "episodes-per-shard is 0, expected",
    ),
    (COLLECT, "--policy expert --out c --noise inf", "noise is inf, expected a finite number"),
    (COLLECT, f"--policy expert --out {NOWHERE}", "/proc/x: No such file or directory"),
    (LOOP, f"DATA --out {NOWHERE}", "/proc/x: No such file or directory"),
    ("deploy.export.cli", "nowhere --out x.onnx", "no checkpoint at nowhere/policy_last"),
    ("data_collection.datasets.cli", "info nowhere", "nowhere holds no dataset"),
    (
        "offline_training.reproduce.cli",
        "figure1 --out f --algorithms td3",
        "unknown algorithm 'td3'",
    ),
]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("commands") / "data"
    folder.mkdir()
    entry = shards.write_shard(folder / "00.hdf5", make_episodes(lengths=(20, 30)), {})
    shards.write_manifest(folder, [entry], {})
    return folder


@pytest.mark.parametrize(("module", "arguments", "message"), CASES)
def test_what_is_wrong_is_one_line(module, arguments, message, data, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    if "--device cuda" in arguments and torch.cuda.is_available():
        pytest.skip("there is a GPU")
    words = [str(data) if word == "DATA" else word for word in arguments.split()]
    monkeypatch.setattr("sys.argv", [module, *words])
    with pytest.raises(SystemExit, match=f"^go2-[a-z-]+: .*{message}") as end:
        importlib.import_module(f"go2_sevpo.{module}").main()
    assert "\n" not in str(end.value.code)
