"""Commands that are attacked while they run: small, whole, and repeatable bit for bit."""

from __future__ import annotations

import csv
import hashlib
import json
import os
import sys
import traceback
from dataclasses import dataclass
from pathlib import Path
from typing import Callable, Dict, List, Optional

from safetensors import safe_open

from go2_sevpo.data import shards
from go2_sevpo.data_collection import collect
from go2_sevpo.data_collection.experts import train as expert
from go2_sevpo.deploy.export import cli as export
from go2_sevpo.offline_training import train_job
from go2_sevpo.runs.checkpoint import load_checkpoint
from tests.chaos.readers import digest
from tests.conftest import make_episodes

TIMED = ("steps_per_second", "rate", "seconds", "learn_share")
"""Columns that no two runs share."""


@dataclass(frozen=True)
class Command:
    """A command: its words for an output folder, its entry point, and what it leaves there."""

    name: str
    words: Callable[[Path], List[str]]
    main: Callable[[], None]
    result: Callable[[Path], Dict[str, str]]


def run_here(command: Command, out: Path, log: Path, prepare: Callable[[], None]) -> None:
    """Run a command in this (forked) process and end it with the command's status."""
    handle = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(handle, 1)
    os.dup2(handle, 2)
    sys.argv = [command.name, *command.words(out)]
    status, begun = 0, False
    try:
        prepare()
        begun = True
        command.main()
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else int(end.code is not None)
        if isinstance(end.code, str):
            print(end.code, file=sys.stderr, flush=True)
    except BaseException:
        # A signal before the command began is this harness's own matter.
        status = 70 if begun else 130
        if begun:
            traceback.print_exc()
    sys.stdout.flush()
    os._exit(status)


def start(
    command: Command, out: Path, log: Path, prepare: Optional[Callable[[], None]] = None
) -> int:
    """Fork a process that runs a command; returns its number."""
    child = os.fork()
    if child == 0:
        run_here(command, out, log, prepare or (lambda: None))
    return child


def _bytes(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _sealed(path: Path) -> str:
    """The checksum over a checkpoint's content; safetensors writes metadata in any order."""
    kind = "offline" if path.name.startswith("checkpoint") else "policy"
    load_checkpoint(path, kind)  # which holds it against the content
    with safe_open(str(path), framework="pt") as handle:
        return handle.metadata()["sha256"]


def _rows(path: Path) -> str:
    with open(path, newline="", encoding="utf-8") as handle:
        rows = list(csv.DictReader(handle))
    return digest([{k: v for k, v in row.items() if k not in TIMED} for row in rows])


def _trained(out: Path) -> Dict[str, str]:
    found = {path.name: _rows(path) for path in sorted(out.glob("*.csv"))}
    for path in (*out.glob("*.safetensors"), *out.glob("member_*/*.safetensors")):
        if "checkpoint." not in path.name or path.name == "checkpoint.safetensors":
            found[str(path.relative_to(out))] = _sealed(path)
    return found


def _expert(out: Path) -> Dict[str, str]:
    state = load_checkpoint(out / "checkpoint.safetensors", "ppo")
    weights = [state["actor"][name] for name in sorted(state["actor"])]
    return {
        "progress.csv": _rows(out / "progress.csv"),
        "weights": digest(*weights, state["iteration"], state["torch_rng"]),
        "policy": _sealed(out / "policy_last.safetensors"),
    }


def _collected(out: Path) -> Dict[str, str]:
    shards.validate(out)
    files = (*out.glob("*.hdf5"), out / "manifest.json")
    return {path.name: _bytes(path) for path in files}


def commands(folder: Path) -> List[Command]:
    """The commands; what they read is made in ``folder``."""
    data = folder / "data"
    made = make_episodes(lengths=(30, 40, 50), seed=3)
    entries = [shards.write_shard(data / "0.hdf5", made, {})]
    shards.write_manifest(data, entries, {})
    small = "width=16 depth=1 critic_hidden=[16] actor_batch=16 critic_batch=16"

    def training(algorithm: str, settings: str, *more: str) -> Callable[[Path], List[str]]:
        words = [str(data), "--algorithm", algorithm, "--log-every", "5", "--save-every", "12"]
        return lambda out: [*words, "--out", str(out), *more, "--set", *settings.split()]

    sevpo = f"{small} actor=resnet dropout=0.1 critic_steps=40 policy_steps=40"

    def expert_words(out: Path) -> List[str]:
        resume = ["--resume"] if (out / "checkpoint.safetensors").is_file() else []
        return ["--preset", str(folder / "e.yaml"), "--save-every", "1", "--out", str(out), *resume]

    ppo = {"iterations": 4, "steps_per_iteration": 8, "hidden": [16, 16], "minibatches": 1}
    world = {"num_envs": 6, "courses": ["simple"], "shares": [1.0], "variants": 2, "threads": 1}
    (folder / "e.yaml").write_text(json.dumps({"env": world, "ppo": ppo}))
    collection = ["--policy", "weak", "--episodes", "6", "--episodes-per-shard", "2"]
    return [
        Command(
            "go2-train sevpo, two members",
            training("sevpo", sevpo, "--members", "2"),
            *(train_job.main, _trained),
        ),
        Command("go2-train bc", training("bc", "steps=80 batch=16"), train_job.main, _trained),
        Command("go2-train-expert", expert_words, expert.main, _expert),
        Command(
            "go2-collect",
            lambda out: [*collection, "--threads", "1", "--out", str(out)],
            *(collect.main, _collected),
        ),
    ]


def exporting(run: Path) -> Command:
    """``go2-export`` of a finished run; the output folder holds one file."""
    return Command(
        "go2-export",
        lambda out: [str(run), "--out", str(out / "policy.onnx")],
        *(export.main, lambda out: {"policy.onnx": _bytes(out / "policy.onnx")}),
    )
