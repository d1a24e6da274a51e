"""Control steps per second over the number of worlds, for one back end.

``python -m benchmarks.worlds --simulator mujoco-warp``. For each count the physics alone
(``Simulator.step``, the raw ceiling) and the whole environment step the same kind of worlds:
*simple* and *hard* courses, small random actions, finished worlds reset at once. The clock stops
after the device has finished.
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
    """s, after the device has finished what it was given."""
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
        drawn = torch.rand(n, len(r.JOINT_NAMES), generator=generator, device=device)
        step(0.2 * (2 * drawn - 1))  # (N, 12) in [-0.2, 0.2]
    return n * args.steps / (_clock(device) - start)


def _physics_alone(env: Go2Parkour) -> Callable[[torch.Tensor], None]:
    """The simulator's step under actions (N, 12), without observations and rewards."""

    def step(action: torch.Tensor) -> None:
        env.sim.step(env.default + r.ACTION_SCALE * action)

    return step


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
        raw = rate(_physics_alone(env), n, args, env.device)
        cuda = env.device.type == "cuda"
        found["device"] = torch.cuda.get_device_name(env.device) if cuda else "CPU"
        found[f"physics_{n}"], found[f"environment_{n}"] = raw, whole
        env.close()
    return found


def main() -> None:
    """Measure, print and record."""
    args = tyro.cli(Args)
    record(args.out, f"worlds_{args.simulator}", measure(args))


if __name__ == "__main__":
    main()
