"""Train a PPO policy for the parkour courses through rsl_rl (``go2-train-expert``)."""

from __future__ import annotations

from go2_sevpo.envs.simulators.isaacgym.early import prepare

prepare()  # Isaac Gym, if it is asked for, must be imported before torch

import os

# Spinning torch threads starve the physics threads.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import signal
import sys
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from types import FrameType
from typing import Any, Dict, List, Optional

import torch
import tyro

from go2_sevpo.data_collection.experts.config import CONFIG_DIR, ExpertConfig, load_config
from go2_sevpo.data_collection.experts.trainer import Trainer, actor_of
from go2_sevpo.envs.go2.parkour import Go2Parkour
from go2_sevpo.policies.onnx_policy import OnnxPolicy, find_policy
from go2_sevpo.runs.arguments import EXPECTED, complaint
from go2_sevpo.runs.cpu import use_cpu
from go2_sevpo.runs.csv_log import append_row, forget_after
from go2_sevpo.runs.interrupt import told_when_interrupted
from go2_sevpo.runs.lock import sole_writer
from go2_sevpo.runs.progress import Progress
from go2_sevpo.runs.provenance import write_result
from go2_sevpo.runs.reading import read_json
from go2_sevpo.runs.settings import first_difference, plain

MAY_CHANGE = ("ppo.iterations", "env.threads", "env.viewer")
"""Settings that a resumed run may have otherwise."""


class RunLog:
    """CSV and TensorBoard side by side."""

    def __init__(self, out: Path) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self.path, self.writer = out / "progress.csv", SummaryWriter(str(out / "tensorboard"))

    def write(self, row: Dict[str, float]) -> None:
        """Append one row."""
        append_row(self.path, row)
        for name, value in row.items():
            self.writer.add_scalar(name, value, row["iteration"])


@dataclass
class Args:
    """Train a PPO expert (or the weak policy) in simulation."""

    out: Path = Path("runs/expert")
    """Run directory."""
    preset: str = "expert"
    """Preset name (expert, weak) or path of a YAML file."""
    seed: int = 0
    iterations: Optional[int] = None
    """Overrides the preset's number of iterations."""
    num_envs: Optional[int] = None
    """Overrides the preset's number of worlds."""
    simulator: Optional[str] = None
    """Overrides the preset's simulator: mujoco (CPU), mujoco-warp (NVIDIA GPU) or isaacgym."""
    threads: int = 0
    """Physics and torch threads; 0 means all cores."""
    agent: str = "ppo"
    """``ppo`` trains; ``zero`` and ``random`` only try the environment.

    They step it for a moment and print what happens.
    """
    init: Optional[str] = None
    """Begin with the actor of this policy: an ONNX file of a PPO expert, or a shipped one's name.

    The preset's ``critic_iterations`` then let the critic catch up.
    """
    resume: bool = False
    """Go on from the checkpoint in ``out``, bit for bit."""
    save_every: int = 25
    """Iterations between checkpoints."""


def try_environment(config: ExpertConfig, agent: str, seed: int, steps: int = 500) -> None:
    """Step the environment with zero or random actions and print outcomes and the rate."""
    env = Go2Parkour(replace(config.env, seed=seed), auto_reset=True)
    env.reset()
    generator = torch.Generator().manual_seed(seed)
    falls = successes = 0
    costs = rewards = 0.0
    start = time.perf_counter()
    for _ in range(steps):
        action = torch.zeros(env.num_envs, env.num_actions, device=env.device)
        if agent == "random":
            # Uniform in [-0.5, 0.5): half of the range.
            action = ((torch.rand(action.shape, generator=generator) * 2 - 1) * 0.5).to(env.device)
        _, reward, cost, _, _, info = env.step(action)
        falls, successes = falls + int(info["fall"].sum()), successes + int(info["success"].sum())
        costs, rewards = costs + float(cost.mean()), rewards + float(reward.mean())
    rate = steps * env.num_envs / (time.perf_counter() - start)
    print(
        f"{agent} agent: {steps} steps in {env.num_envs} worlds, "
        f"{falls} falls, {successes} successes, mean reward {rewards / steps:.4f}, "
        f"mean cost {costs / steps:.4f}, {rate:.0f} control steps/s"
    )


def _config(args: Args) -> ExpertConfig:
    """The preset with what the command line overrides."""
    path = CONFIG_DIR / f"{args.preset}.yaml"
    config = load_config(path if path.is_file() else Path(args.preset))
    if args.iterations:
        config = replace(config, ppo=replace(config.ppo, iterations=args.iterations))
    options: Dict[str, Any] = {"num_envs": args.num_envs, "simulator": args.simulator}
    chosen = {k: v for k, v in options.items() if v}
    return replace(config, env=replace(config.env, threads=args.threads, **chosen))


def run(args: Args) -> int:
    """Run the command; returns the exit status.

    Raises:
        ValueError: a configuration, an agent or a run folder that does not fit.
    """
    config = _config(args)
    threads = args.threads or os.cpu_count() or 1
    if config.env.simulator == "mujoco":
        use_cpu(threads)  # physics and PPO share the cores
    else:
        torch.set_num_threads(threads)
    if args.agent in ("zero", "random"):
        try_environment(config, args.agent, args.seed)
        return 0
    if args.agent != "ppo":
        raise ValueError(f"unknown agent '{args.agent}', expected ppo, zero or random")
    checkpoint = args.out / "checkpoint.safetensors"
    if checkpoint.exists() and not args.resume:
        raise ValueError(f"{args.out} already holds a run; use --resume to go on, or another --out")
    record: Dict[str, Any] = {"seed": args.seed, **asdict(config)}
    if args.init is not None:
        record["init"] = OnnxPolicy(find_policy(args.init)).identity
    with sole_writer(args.out):
        if args.resume:
            _check_settings(args.out, record)
        trainer = Trainer(config, args.out, args.seed)
        if args.resume:
            trainer.load()
        elif args.init is not None:
            trainer.learner.load_actor(actor_of(args.init, trainer.policy().sizes))
        forget_after(args.out / "progress.csv", "iteration", trainer.iteration)
        write_result(args.out / "config.json", record, indent=1)
        return _loop(trainer, RunLog(args.out), args.save_every)


def _check_settings(out: Path, record: Dict[str, Any]) -> None:
    """Compare the settings with those a run was begun with; it may become longer.

    Raises:
        ValueError: nothing to resume, or naming the first setting that differs.
    """
    if not (out / "checkpoint.safetensors").is_file():
        raise ValueError(f"nothing to resume: no checkpoint.safetensors in {out}")
    begun = read_json(out / "config.json")
    begun.pop("made_by", None)
    found = first_difference(begun, plain(record), MAY_CHANGE)
    if found is not None:
        raise ValueError(f"{out} was begun with other settings: {found}; use another --out")


def _line(row: Dict[str, float], total: int, progress: Progress) -> str:
    """One line about an iteration."""
    shown = "  ".join(f"{k} {v:.2f}" for k, v in row.items() if k.startswith(("success", "level")))
    return (
        f"iteration {row['iteration']}/{total}  {row['steps'] / 1e6:.2f}M steps  "
        f"{row['rate']:.0f}/s  reward {row['reward']:.3f}  std {row['std']:.2f}  {shown}  "
        f"{progress.text()}"
    )


def _loop(trainer: Trainer, log: RunLog, save_every: int) -> int:
    """Iterate, log and save until the end or a signal; returns the exit status."""
    stop: List[int] = []

    def note(number: int, frame: Optional[FrameType]) -> None:
        stop.append(number)

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, note)
    total = trainer.config.ppo.iterations
    progress = Progress(total, trainer.iteration)
    while trainer.iteration < total and not stop:
        row = trainer.iterate()
        log.write(row)
        if trainer.iteration % 10 == 0 or trainer.iteration == total:
            progress.done = trainer.iteration
            print(_line(row, total, progress), flush=True)
        if trainer.iteration % save_every == 0:
            trainer.save()
    trainer.save()
    if stop:
        hint = "the same command with --resume goes on"
        print(f"stopped at iteration {trainer.iteration}; {hint}", flush=True)
        return 130
    return 0


def main() -> None:
    """Entry point of ``go2-train-expert``."""
    with told_when_interrupted("stopped; what was saved is kept"):
        try:
            sys.exit(run(tyro.cli(Args)))
        except EXPECTED as error:
            sys.exit(f"go2-train-expert: {complaint(error)}")


if __name__ == "__main__":
    main()
