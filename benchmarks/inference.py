"""Latency of one action on one thread: ``python -m benchmarks.inference``.

Measured are N = 1 and N = 16 for both presets' networks, and the expert.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Dict

import torch
import tyro

from benchmarks.learning import GO2_ACT, GO2_OBS, random_data
from benchmarks.record import record
from go2_sevpo.algorithms import make_algorithm, make_config
from go2_sevpo.deploy.export.cli import write_onnx
from go2_sevpo.deploy.play.go2 import inference_time
from go2_sevpo.envs.go2.contract import environment_contract
from go2_sevpo.offline_training.train import Args as TrainArgs
from go2_sevpo.offline_training.train import settings_of
from go2_sevpo.policies.onnx_policy import OnnxPolicy, find_policy


@dataclass
class Args:
    """Measure inference; the weights are random, latency does not depend on them."""

    calls: int = 1000
    out: Path = Path("benchmarks/results.json")


def _unit(key: str) -> str:
    """``ms_p50`` of ``inference_ms_p50``."""
    return key[len("inference_") :]


def main() -> None:
    """Measure, print and record."""
    args = tyro.cli(Args)
    data = random_data(GO2_OBS, GO2_ACT, 1000)
    values: Dict[str, float] = {}
    with tempfile.TemporaryDirectory() as folder:
        for preset in ("laptop", "paper"):
            config = make_config("sevpo", settings_of(TrainArgs((), Path("o"), "sevpo", preset)))
            policy = make_algorithm("sevpo", config, data).policy("argmin_cost").eval()
            sampler = {**policy.sampler, "candidates": 16}
            contract = {**environment_contract(), "kind": "sevpo", "sampler": sampler}
            path = Path(folder) / f"{preset}.onnx"
            write_onnx(policy, contract, torch.randn(64, GO2_OBS), path)
            for n in (1, 16):
                found = inference_time(OnnxPolicy(path, candidates=n), args.calls)
                for key, value in found.items():
                    values[f"{preset}_n{n}_{_unit(key)}"] = value
    for key, value in inference_time(OnnxPolicy(find_policy("expert")), args.calls).items():
        values[f"ppo_{_unit(key)}"] = value
    record(args.out, "inference_1_thread", values)


if __name__ == "__main__":
    main()
