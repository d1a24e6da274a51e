"""Every kind of file that is read: a good one, and the code that reads it."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable, List

import h5py
import numpy as np
import torch
import yaml

from go2_sevpo.algorithms import make_config
from go2_sevpo.data import shards, upkeep
from go2_sevpo.data.dataset import load
from go2_sevpo.data_collection.collect import Args as CollectArgs
from go2_sevpo.data_collection.collect import _check_resume, sources_of
from go2_sevpo.data_collection.experts.config import CONFIG_DIR as EXPERTS
from go2_sevpo.data_collection.experts.config import load_config
from go2_sevpo.deploy.export.cli import write_onnx
from go2_sevpo.deploy.export.torch_actor import read_actor, read_layout
from go2_sevpo.offline_training.reproduce.safety_gymnasium import reuse
from go2_sevpo.offline_training.train import CONFIG_DIR, settings_of
from go2_sevpo.offline_training.train import Args as TrainArgs
from go2_sevpo.policies.onnx_policy import OnnxPolicy
from go2_sevpo.policies.torch_policy import load_policy, save_policy
from go2_sevpo.runs.checkpoint import load_checkpoint, save_checkpoint
from go2_sevpo.runs.csv_log import append_row, forget_after
from go2_sevpo.runs.settings import keep_settings
from tests.conftest import contract_of, diffusion_policy, make_episodes


def digest(*parts: Any) -> str:
    """One text for arrays, tensors and plain data."""
    found = hashlib.sha256()
    for part in parts:
        if isinstance(part, torch.Tensor):
            part = part.detach().numpy()
        found.update(part.tobytes() if isinstance(part, np.ndarray) else repr(part).encode())
    return found.hexdigest()


@dataclass(frozen=True)
class Reader:
    """A kind of file: how a good one is made in a folder, and how it is read.

    ``file`` is what is attacked. ``sealed``: the file carries a checksum, so that nothing may be
    taken that is not what was written; others are a user's own and may say something else.
    ``content``: what the file is made of, for attacks with sense.
    """

    name: str
    file: str
    make: Callable[[Path], None]
    read: Callable[[Path], str]
    sealed: bool
    content: str = "bytes"


def _dataset(folder: Path) -> None:
    made = [make_episodes(lengths=(8, 12), seed=k) for k in range(2)]
    info = {"environment": {"name": "test"}}
    entries = [shards.write_shard(folder / f"{k}.hdf5", one, info) for k, one in enumerate(made)]
    shards.write_manifest(folder, entries, info)


def _loaded(folder: Path) -> str:
    data = load(folder)
    table = {key: value.tolist() for key, value in data.episodes.items()}
    return digest(data.frames, data.act, data.reward, data.cost, table, data.manifest)


def _rows(folder: Path) -> str:
    data = load(folder)
    return digest(data.frames, data.act, data.reward, data.cost)


def _repaired(folder: Path) -> str:
    """Whatever the damage, what is left must be whole shards as they were written."""
    whole = {digest(*make_episodes(lengths=(8, 12), seed=k).columns.values()) for k in range(2)}
    upkeep.repair(folder)
    manifest = shards.read_manifest(folder)
    for entry in manifest["shards"]:
        data = shards.read_shard(folder / entry["file"], entry["sha256"])
        if digest(*(data.columns[key] for key in _ORDER)) not in whole:
            return "damage blessed"
    return "whole"


_ORDER = tuple(make_episodes(lengths=(2,)).columns)


def _dsrl(folder: Path) -> None:
    with h5py.File(folder / "x.hdf5", "w") as handle:
        for key, value in make_episodes(lengths=(8, 12)).columns.items():
            handle[key] = value


def _checkpoint(folder: Path) -> None:
    state = {"step": 3, "w": torch.arange(64.0), "log": {"sums": {"a": torch.ones(2)}}}
    save_checkpoint(folder / "checkpoint.safetensors", "offline", state)


def _checkpoint_read(folder: Path) -> str:
    state = load_checkpoint(folder / "checkpoint.safetensors", "offline")
    return digest(state["step"], state["w"], state["log"]["sums"]["a"])


def _policy(folder: Path) -> None:
    policy = diffusion_policy("first")
    save_policy(folder / "p.safetensors", policy, torch.zeros(4, 265), {"algorithm": "sevpo"})


def _policy_read(folder: Path) -> str:
    policy, observations, info = load_policy(folder / "p.safetensors")
    return digest(*policy.state_dict().values(), observations, info, policy.describe())


def _onnx(folder: Path) -> None:
    policy = diffusion_policy("argmin_cost")
    write_onnx(policy, contract_of(policy, 2), torch.randn(64, 265), folder / "p.onnx")


def _onnx_read(folder: Path) -> str:
    policy = OnnxPolicy(folder / "p.onnx")
    noise = np.random.default_rng(0).normal(size=policy.noise_shape(3)).astype(np.float32)
    return digest(*policy.act(np.ones((3, 265), np.float32), noise), policy.contract)


def _actor(folder: Path) -> None:
    torch.manual_seed(0)
    state = {}
    for number, (rows, columns) in ((0, (16, 265)), (2, (12, 16))):
        state[f"actor.{number}.weight"] = torch.randn(rows, columns)
        state[f"actor.{number}.bias"] = torch.randn(rows)
    torch.save({"model_state_dict": {**state, "std": torch.ones(12)}, "iter": 1}, folder / "m.pt")


def _actor_read(folder: Path) -> str:
    actor = read_actor(folder / "m.pt", read_layout(None))
    return digest(*actor.state_dict().values())


def _layout(folder: Path) -> None:
    (folder / "l.yaml").write_text("prefix: actor.\nactivation: elu\naction_unit: 0.25\n")


def _preset(folder: Path) -> None:
    (folder / "p.yaml").write_text((CONFIG_DIR / "laptop.yaml").read_text())


def _preset_read(folder: Path) -> str:
    args = TrainArgs((), folder, preset=str(folder / "p.yaml"))
    return digest(make_config("sevpo", settings_of(args)))


def _expert(folder: Path) -> None:
    (folder / "e.yaml").write_text((EXPERTS / "expert.yaml").read_text())


def _mix(folder: Path) -> None:
    source = {"policy": "expert", "course": "hard", "episodes": 10, "difficulty": 1.0, "noise": 0.5}
    (folder / "m.yaml").write_text(yaml.safe_dump({"sources": [source, source]}))


def _mix_read(folder: Path) -> str:
    return digest(sources_of(CollectArgs(folder, mix=str(folder / "m.yaml"))))


SETTINGS = {"seed": 0, "steps": 300, "courses": ["simple", "hard"], "mu1": 3.0}


def _settings_read(folder: Path) -> str:
    keep_settings(folder, SETTINGS)
    return "agrees"


def _plan(folder: Path) -> None:
    (folder / "plan.json").write_text(json.dumps(SETTINGS))


def _plan_read(folder: Path) -> str:
    _check_resume(folder, SETTINGS)
    return "agrees"


def _table(folder: Path) -> None:
    whole = {"settings": {"seed": 0}, "rows": [], "data": {}, "curves": {}, "configs": {}}
    (folder / "table1.json").write_text(json.dumps(whole))


def _log(folder: Path) -> None:
    for step in range(5):
        append_row(folder / "log.csv", {"step": step, "loss": 0.1 * step, "note": "a"})


def _log_read(folder: Path) -> str:
    forget_after(folder / "log.csv", "step", 2)
    return digest((folder / "log.csv").read_bytes())


READERS: List[Reader] = [
    Reader("dataset: shard", "0.hdf5", _dataset, _rows, True),
    Reader("dataset: manifest", "manifest.json", _dataset, _loaded, True, "json"),
    Reader("dataset: repair", "1.hdf5", _dataset, _repaired, True),
    Reader("file in DSRL's layout", "x.hdf5", _dsrl, lambda f: _rows(f / "x.hdf5"), False),
    Reader("checkpoint", "checkpoint.safetensors", _checkpoint, _checkpoint_read, True),
    Reader("policy of a run", "p.safetensors", _policy, _policy_read, True),
    Reader("exported policy", "p.onnx", _onnx, _onnx_read, True),
    Reader("rsl_rl checkpoint", "m.pt", _actor, _actor_read, False),
    Reader(
        *("layout", "l.yaml", _layout, lambda f: digest(read_layout(f / "l.yaml"))),
        *(False, "yaml"),
    ),
    Reader("preset of go2-train", "p.yaml", _preset, _preset_read, False, "yaml"),
    Reader(
        *("preset of an expert", "e.yaml", _expert, lambda f: digest(load_config(f / "e.yaml"))),
        *(False, "yaml"),
    ),
    Reader("mix of go2-collect", "m.yaml", _mix, _mix_read, False, "yaml"),
    Reader(
        *("settings of a folder", "settings.json", lambda f: keep_settings(f, SETTINGS)),
        *(_settings_read, True, "json"),
    ),
    Reader("plan of a collection", "plan.json", _plan, _plan_read, True, "json"),
    Reader(
        *("table to reuse", "table1.json", _table),
        *(lambda f: digest(reuse.read([f / "table1.json"])), False, "json"),
    ),
    Reader("log", "log.csv", _log, _log_read, False),
]
