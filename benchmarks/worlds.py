"""Control steps per second over the number of worlds, for one back end: ``python -m
benchmarks.worlds --simulator mujoco-warp``.

For each count the physics alone (``Simulator.step``, the raw ceiling) and the whole environment
step the same kind of worlds: *simple* and *hard* courses, small random actions, finished worlds
reset at once. The clock stops after the device has finished.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable, Dict, Tuple

import torch
import tyro

from benchmarks.record import record
from go2_sevpo.envs.go2.config import ParkourConfig
from go2_sevpo.envs.go2.description import robot as r
from go2_sevpo.envs.go2.parkour import Go2Parkour


@dataclass
class Args:
    """Measure a back end over world counts."""

    simulator: str = "mujoco"
    num_envs: Tuple[int, ...] = (64, 512, 2048)
    steps: int = 50
    warmup: int = 10
    threads: int = 0
    out: Path = Path("benchmarks/results.json")


def _clock(device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


def rate(step: Callable[[torch.Tensor], Any], n: int, args: Args, device: torch.device) -> float:
    """Control steps per second of all ``n`` worlds together."""
    generator = torch.Generator(device=device).manual_seed(0)
    start = 0.0
    for k in range(args.warmup + args.steps):
        if k == args.warmup:
            start = _clock(device)
        step(0.2 * (2 * torch.rand(n, len(r.JOINT_NAMES), generator=generator, device=device) - 1))
    return n * args.steps / (_clock(device) - start)


def measure(args: Args) -> Dict[str, Any]:
    """All world counts."""
    torch.set_num_threads(1)
    found: Dict[str, Any] = {"simulator": args.simulator}
    for n in args.num_envs:
        config = ParkourConfig(
            num_envs=n,
            courses=("simple", "hard"),
            shares=(0.5, 0.5),
            variants=64,
            threads=args.threads,
            simulator=args.simulator,
        )
        env = Go2Parkour(config, auto_reset=True)
        env.reset(0)
        whole = rate(env.step, n, args, env.device)
        raw = rate(lambda a, e=env: e.sim.step(e.default + r.ACTION_SCALE * a), n, args, env.device)  # type: ignore[misc]
        found["device"] = (
            torch.cuda.get_device_name(env.device) if env.device.type == "cuda" else "CPU"
        )
        found[f"physics_{n}"], found[f"environment_{n}"] = raw, whole
        env.close()
    return found


def main() -> None:
    """Measure, print and record."""
    args = tyro.cli(Args)
    record(args.out, f"worlds_{args.simulator}", measure(args))


if __name__ == "__main__":
    main()
