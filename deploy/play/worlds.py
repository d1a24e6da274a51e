"""The worlds a policy is played in: shared by evaluation, video and viewer."""

from __future__ import annotations

from typing import Any

from go2_sevpo.envs.go2.config import ParkourConfig, Randomization
from go2_sevpo.envs.go2.parkour import Go2Parkour
from go2_sevpo.envs.seeds import PLAY
from go2_sevpo.policies.onnx_policy import OnnxPolicy


def evaluation_env(args: Any, worlds: int, first: int = 0, batch: int = 0, viewer: bool = False) -> Go2Parkour:
    """``worlds`` worlds for the episodes from number ``first`` on, each with a course of its own.

    ``args`` has course, difficulty, seed, threads, physics_dt, simulator and randomization (:class:`go2_sevpo.deploy.play.cli.Args`).

    Raises:
        ValueError: a value that is not understood.
    """
    config = ParkourConfig(
        num_envs=worlds, courses=(args.course,), difficulty=args.difficulty, variants=worlds, seed=args.seed + batch,
        course_seed=PLAY.number(args.seed, first, worlds), threads=args.threads if worlds > 1 else 1,
        physics_dt=args.physics_dt, simulator=args.simulator, randomization=Randomization() if args.randomization else Randomization.off(),
        viewer=viewer,
    )  # fmt: skip
    return Go2Parkour(config)


def noise_scale(args: Any, policy: OnnxPolicy) -> float:
    """The sampling noise asked for, or the policy's own (0 for Gaussian policies)."""
    return policy.contract["sampler"].get("noise_scale", 1.0) if args.noise is None else args.noise
