"""Gradient steps per second of SEVPO and cloning: ``python -m benchmarks.learning``.

PPO's control steps per second are measured, too. Beside each rate stands the arithmetic of a step
(matrix products, counted by torch), its share of the sgemm peak measured in the same run, and the
rate with torch's default matrix product (:mod:`go2_sevpo.runs.cpu`).
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Callable, Dict, Optional, Tuple

import numpy as np
import torch
import tyro

from benchmarks.record import record
from go2_sevpo.algorithms import make_algorithm, make_config
from go2_sevpo.algorithms.sevpo import Sevpo, SevpoConfig
from go2_sevpo.data.dataset import OfflineDataset
from go2_sevpo.data.shards import Episodes
from go2_sevpo.offline_training.train import Args as TrainArgs
from go2_sevpo.offline_training.train import settings_of
from go2_sevpo.runs.cpu import use_cpu

GO2_OBS, GO2_ACT = 265, 12
"""Sizes of the Go2's observations and actions."""

CASES: Tuple[Tuple[str, str, str, str, Optional[int]], ...] = (
    ("sevpo_laptop_critics", "sevpo", "laptop", "critics", None),
    ("sevpo_laptop_policy", "sevpo", "laptop", "policy", None),
    ("fisor_laptop", "fisor", "laptop", "policy", None),
    ("bc_laptop", "bc", "laptop", "policy", None),
    ("sevpo_paper_critics", "sevpo", "paper", "critics", None),
    ("sevpo_paper_policy", "sevpo", "paper", "policy", None),
    ("fisor_paper", "fisor", "paper", "policy", None),
    ("sevpo_reach_avoid_critics", "sevpo", "reach_avoid", "critics", None),
    ("sevpo_reach_avoid_policy", "sevpo", "reach_avoid", "policy", None),
    ("fisor_reach_avoid", "fisor", "reach_avoid", "policy", None),
    ("sevpo_reach_avoid_policy_10_members", "sevpo", "reach_avoid", "policy", 10),
    ("fisor_reach_avoid_10_members", "fisor", "reach_avoid", "policy", 10),
)
"""Title, algorithm, preset, stage and members of what is measured."""


@dataclass
class Args:
    """Measure training speed on Go2-sized data."""

    threads: Tuple[int, ...] = (1, 2)
    seconds: float = 6.0
    ppo: bool = True
    out: Path = Path("benchmarks/results.json")


def random_data(n_obs: int, n_act: int, rows: int = 20000) -> OfflineDataset:
    """Random data of given sizes: speed does not depend on the values."""
    rng = np.random.default_rng(0)
    frames = rng.normal(size=(rows + 1, n_obs)).astype(np.float32)
    ends = np.zeros(rows, np.float32)  # one long episode
    ends[-1] = 1
    columns = {
        "observations": frames[:-1],
        "next_observations": frames[1:],
        "timeouts": ends,
        "actions": rng.uniform(-1, 1, (rows, n_act)).astype(np.float32),
        "rewards": np.zeros(rows, np.float32),
        # Rare enough that some transitions have none ahead.
        "costs": (rng.random(rows) < 0.005).astype(np.float32),
        "constraint": rng.normal(size=rows).astype(np.float32),
        "terminals": np.zeros(rows, np.float32),
    }
    table = {"length": [rows], "return": [0.0], "cost": [0.0], "success": [0], "fall": [0]}
    return OfflineDataset([Episodes(columns, {k: np.array(v) for k, v in table.items()})])


def sgemm_peak(seconds: float = 2.0) -> float:
    """Floating point operations per second of a 1024 x 1024 x 1024 float32 product."""
    a, b = torch.randn(1024, 1024), torch.randn(1024, 1024)
    a @ b  # the first product starts threads
    start, n = time.perf_counter(), 0
    while time.perf_counter() - start < seconds:
        a @ b
        n += 1
    # A product of n x n matrices is n^3 multiplications and as many additions.
    return n * 2 * 1024**3 / (time.perf_counter() - start)


def rate(step: Callable[[int], Any], seconds: float) -> float:
    """Calls per second after three to warm up."""
    for k in range(3):
        step(k)
    start, n = time.perf_counter(), 0
    while time.perf_counter() - start < seconds:
        step(n)
        n += 1
    return n / (time.perf_counter() - start)


def algorithm_step(
    name: str, preset: str, stage: str, data: OfflineDataset, members: Optional[int] = None
) -> Callable[[int], Any]:
    """One gradient step of an algorithm (for every member), ready to call."""
    config = make_config(name, settings_of(TrainArgs((), Path("o"), name, preset)))
    algorithm = make_algorithm(name, config, data, members)
    if isinstance(algorithm, Sevpo) and isinstance(config, SevpoConfig):
        # The policy stage asks for trained critics; how good they are does not change its speed.
        algorithm.critics_trained = config.critic_steps
    generator = torch.Generator().manual_seed(0)
    return lambda k: algorithm.update(stage, k, data, generator)


def ppo_rate(threads: int) -> Dict[str, float]:
    """Control steps per second of PPO iterations two to four on the expert preset."""
    from go2_sevpo.data_collection.experts.train import CONFIG_DIR, Trainer, load_config

    config = load_config(CONFIG_DIR / "expert.yaml")
    config = replace(config, env=replace(config.env, threads=threads, variants=2))
    with tempfile.TemporaryDirectory() as folder:
        trainer = Trainer(config, Path(folder), 0)
        trainer.iterate()  # to warm up
        rows = [trainer.iterate() for _ in range(3)]
        trainer.env.close()
    return {
        "ppo_control_steps_per_second": float(np.mean([r["rate"] for r in rows])),
        "ppo_learning_share": float(np.mean([r["learn_share"] for r in rows])),
    }


def main() -> None:
    """Measure, print and record."""
    from torch.utils.flop_counter import FlopCounterMode  # torch 2; beside Isaac Gym is torch 1

    args = tyro.cli(Args)
    go2, small = random_data(GO2_OBS, GO2_ACT), random_data(5, 2)
    for threads in args.threads:
        torch.set_num_threads(threads)
        # The peak with torch's own product, then with the one the trainers choose.
        torch.set_float32_matmul_precision("highest")
        default_peak = sgemm_peak()
        onednn = use_cpu(threads)
        peak = sgemm_peak()
        values: Dict[str, Any] = {
            "threads": threads,
            "onednn": onednn,
            "sgemm_gflops": peak / 1e9,
            "sgemm_gflops_default": default_peak / 1e9,
        }
        for title, name, preset, stage, members in CASES:
            data = small if preset == "reach_avoid" else go2
            step = algorithm_step(name, preset, stage, data, members)
            step(0)  # also finds the regions of all rows, once
            with FlopCounterMode(display=False) as counter:
                step(1)
            torch.set_float32_matmul_precision("highest")  # torch's default product
            values[f"{title}_steps_per_second_default_product"] = rate(step, args.seconds)
            use_cpu(threads)
            found = rate(step, args.seconds)  # steps/s
            values[f"{title}_steps_per_second"] = found
            values[f"{title}_gflop_per_step"] = counter.get_total_flops() / 1e9
            values[f"{title}_share_of_sgemm"] = found * counter.get_total_flops() / peak
        if args.ppo and threads == max(args.threads):
            values.update(ppo_rate(threads))
        record(args.out, f"learning_{threads}_threads", values)


if __name__ == "__main__":
    main()
