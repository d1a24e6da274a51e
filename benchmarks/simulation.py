"""Environment control steps per second beside raw physics: ``python -m benchmarks.simulation``.

The ceiling is ``mujoco.rollout`` alone, on the same worlds, from the same states, with the same
targets and threads.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, cast

import numpy as np
import torch
import tyro

from benchmarks.record import record
from go2_sevpo.envs.go2.config import ParkourConfig
from go2_sevpo.envs.go2.description import robot as r
from go2_sevpo.envs.go2.parkour import Go2Parkour
from go2_sevpo.envs.go2.rollout import onnx_policy
from go2_sevpo.envs.simulators.mujoco import MujocoSimulator
from go2_sevpo.policies.onnx_policy import OnnxPolicy, find_policy

WARM_UP = 20
"""Control steps before the clock counts."""


@dataclass
class Args:
    """Measure the environment against raw physics."""

    num_envs: int = 512
    steps: int = 60
    threads: int = 0
    policy: str = "expert"
    out: Path = Path("benchmarks/results.json")


def measure(args: Args) -> Dict[str, float]:
    """Alternate the two loops over the same states so that both see the same machine."""
    torch.set_num_threads(1)
    config = ParkourConfig(
        num_envs=args.num_envs,
        courses=("simple", "hard"),
        shares=(0.5, 0.5),
        variants=64,
        threads=args.threads,
    )
    env = Go2Parkour(config, auto_reset=True)
    policy = OnnxPolicy(find_policy(args.policy))
    act = onnx_policy(policy, 0, 0.0)
    obs, sim = env.reset(0), cast(MujocoSimulator, env.sim)
    seconds = {"environment": 0.0, "raw": 0.0, "policy": 0.0}
    for k in range(args.steps + WARM_UP):
        start = time.perf_counter()
        action, _ = act(obs, torch.zeros(len(obs)))
        middle = time.perf_counter()
        # What the environment asks of the library: r.DECIMATION physics steps towards one target.
        target = env.default + r.ACTION_SCALE * action.clamp(-1, 1)  # (N, 12)
        control = np.repeat(target.numpy().astype(np.float64)[:, None], r.DECIMATION, axis=1)
        initial = sim.state_dict()["state"].numpy()
        states = np.empty((args.num_envs, r.DECIMATION, initial.shape[1]))
        sensors = np.empty((args.num_envs, r.DECIMATION, sim._pool[0].nsensordata))
        options: Dict[str, Any] = {"state": states, "sensordata": sensors, "skip_checks": True}
        raw = time.perf_counter()
        sim._rollout.rollout(
            sim._models, sim._data, initial, control, nstep=r.DECIMATION, **options
        )
        stepped = time.perf_counter()
        obs = env.step(action)[0]
        end = time.perf_counter()
        if k >= WARM_UP:
            seconds["policy"] += middle - start
            seconds["raw"] += stepped - raw
            seconds["environment"] += end - stepped
    env.close()
    total = args.num_envs * args.steps
    return {
        "num_envs": args.num_envs,
        "raw_control_steps_per_second": total / seconds["raw"],
        "environment_control_steps_per_second": total / seconds["environment"],
        "environment_share_of_ceiling": seconds["raw"] / seconds["environment"],
        "policy_seconds_per_environment_second": seconds["policy"] / seconds["environment"],
    }


def main() -> None:
    """Measure, print and record."""
    args = tyro.cli(Args)
    record(args.out, "simulation", measure(args))


if __name__ == "__main__":
    main()
