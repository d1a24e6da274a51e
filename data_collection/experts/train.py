"""Train a PPO policy for the parkour courses through rsl_rl (``go2-train-expert``)."""

from __future__ import annotations

from go2_sevpo.envs.simulators.isaacgym.early import prepare

prepare()  # Isaac Gym, if it is asked for, must be imported before torch

import os

# Spinning torch threads starve the physics threads.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import json
import signal
import sys
import time
from collections import deque
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from types import FrameType
from typing import Any, Deque, Dict, List, Optional

import torch
import tyro

from go2_sevpo.data_collection.experts.config import CONFIG_DIR, ExpertConfig, load_config
from go2_sevpo.data_collection.experts.ppo import installed_version, make_learner
from go2_sevpo.envs.go2.contract import ENVIRONMENTS
from go2_sevpo.envs.go2.parkour import Go2Parkour
from go2_sevpo.policies.onnx_policy import OnnxPolicy, find_policy
from go2_sevpo.policies.torch_policy import GaussianPolicy, save_policy
from go2_sevpo.runs.arguments import EXPECTED, complaint
from go2_sevpo.runs.checkpoint import load_checkpoint, save_checkpoint
from go2_sevpo.runs.cpu import use_cpu
from go2_sevpo.runs.csv_log import append_row, forget_after
from go2_sevpo.runs.files import write_atomically
from go2_sevpo.runs.lock import sole_writer
from go2_sevpo.runs.progress import Progress
from go2_sevpo.runs.randomness import isolated_randomness
from go2_sevpo.runs.settings import first_difference, plain

CHECKPOINT_KIND = "ppo"
MAY_CHANGE = ("ppo.iterations", "env.threads", "env.viewer")
"""Settings that a resumed run may have otherwise."""
RECENT = 400
"""Episodes that the success in the log is counted over."""
ACTION_UNIT = 0.25
"""Environment actions per unit of PPO's Gaussian: 0.3 rad, the field's usual action scale."""


def policy_of(actor: Dict[str, torch.Tensor]) -> GaussianPolicy:
    """The deployable policy from what :meth:`experts.ppo.Learner.actor` returns."""
    weights = {k: v for k, v in actor.items() if k != "std"}
    layers = [v for k, v in weights.items() if k.endswith("weight")]  # each (out, in)
    sizes = [layers[0].shape[1], *(w.shape[0] for w in layers)]
    policy = GaussianPolicy(sizes, actor["std"], ACTION_UNIT)
    policy.mlp.load_state_dict(weights)
    return policy


def actor_of(name: str, sizes: List[int]) -> Dict[str, torch.Tensor]:
    """The actor of an exported PPO expert, as :meth:`experts.ppo.Learner.actor` names it.

    Raises:
        ValueError: not a plain actor with layers of ``sizes``.
    """
    import onnx
    from onnx import numpy_helper

    path = find_policy(name)
    OnnxPolicy(path)  # refuses what is no policy of this project
    stored = {x.name: numpy_helper.to_array(x) for x in onnx.load(str(path)).graph.initializer}
    actor = {
        key[len("mlp.") :]: torch.from_numpy(value.copy())
        for key, value in stored.items()
        if key.startswith("mlp.")
    }
    layers = [value for key, value in actor.items() if key.endswith("weight")]  # each (out, in)
    found = [layers[0].shape[1], *(w.shape[0] for w in layers)] if layers else []
    if found != sizes:
        raise ValueError(f"{path} has an actor with layers of {found}, expected {sizes}")
    return actor


def write_policy(out: Path) -> None:
    """Write ``policy_last.safetensors``, which go2-export reads, in the run's folder ``out``.

    It is made from the run's checkpoint and configuration.
    """
    state = load_checkpoint(out / "checkpoint.safetensors", CHECKPOINT_KIND)
    config = json.loads((out / "config.json").read_text(encoding="utf-8"))
    info = {
        "algorithm": "ppo",
        "seed": config["seed"],
        "iterations": state["iteration"],
        "steps": state["steps"],
        "environment": ENVIRONMENTS[config["env"]["version"]],
        **({"init": config["init"]} if "init" in config else {}),
        "config": {"env": config["env"], "ppo": config["ppo"]},
    }
    observations = state["env"]["buffers"]["observation"][:256]  # (K, 265), for the parity proof
    save_policy(out / "policy_last.safetensors", policy_of(state["actor"]), observations, info)


class Trainer:
    """The PPO loop: rollouts, updates, annealing, logs, checkpoints that resume exactly."""

    def __init__(self, config: ExpertConfig, out: Path, seed: int) -> None:
        torch.manual_seed(seed)
        self.config, self.out = config, out
        self.env = Go2Parkour(replace(config.env, seed=seed), auto_reset=True)
        self.env.reset()
        self.learner = make_learner(self.env, config.ppo, ACTION_UNIT)
        self.iteration, self.steps, self.seconds = 0, 0, 0.0
        # Kind, success, fall of the latest episodes.
        self.finished: Deque[List[int]] = deque(maxlen=RECENT)

    def policy(self) -> GaussianPolicy:
        """The present actor as a deployable policy."""
        return policy_of(self.learner.actor())

    def save(self) -> None:
        """Write ``checkpoint.safetensors``: networks, optimiser, environment, random states."""
        state = {
            "iteration": self.iteration,
            "steps": self.steps,
            "seconds": self.seconds,
            "algorithm": self.learner.state_dict(),
            "actor": self.learner.actor(),
            "rsl_rl": installed_version(),
            "learning_rate": self.learner.learning_rate,
            "torch_rng": torch.get_rng_state(),
            "cuda_rng": self._cuda_rng(),
            "env": self.env.state_dict(),
            "finished": list(self.finished),
        }
        save_checkpoint(self.out / "checkpoint.safetensors", CHECKPOINT_KIND, state)
        with isolated_randomness():
            write_policy(self.out)

    def load(self) -> None:
        """Go on from ``checkpoint.safetensors``.

        Raises:
            ValueError: it was written with another major version of rsl_rl.
        """
        state = load_checkpoint(self.out / "checkpoint.safetensors", CHECKPOINT_KIND)
        found, present = state.get("rsl_rl", "5"), installed_version()
        if found.split(".")[0] != present.split(".")[0]:
            raise ValueError(
                f"{self.out} was begun with rsl_rl {found}, installed is {present}: "
                "their states do not fit"
            )
        self.learner.load_state_dict(state["algorithm"])
        # rsl_rl keeps the adapted rate beside the optimiser, in an attribute of its own.
        self.learner.learning_rate = state["learning_rate"]
        self.iteration, self.steps = state["iteration"], state["steps"]
        self.seconds = state["seconds"]
        self.finished.extend(state["finished"])
        self.learner.freeze_actor(self.iteration < self.config.ppo.critic_iterations)
        self.env.load_state_dict(state["env"])
        torch.set_rng_state(state["torch_rng"])
        if state.get("cuda_rng") is not None and self.env.device.type == "cuda":
            torch.cuda.set_rng_state(state["cuda_rng"], self.env.device)

    def _cuda_rng(self) -> Optional[torch.Tensor]:
        return torch.cuda.get_rng_state(self.env.device) if self.env.device.type == "cuda" else None

    def _anneal(self) -> float:
        """Set entropy weight for this iteration and return the learning rate's cap."""
        ppo = self.config.ppo
        share = min(self.iteration / max(ppo.iterations, 1), 1.0)
        first, last = ppo.entropy
        self.learner.entropy = first + share * (last - first)
        first, last = ppo.max_learning_rate
        return first * (last / first) ** share  # geometric

    def iterate(self) -> Dict[str, float]:
        """One rollout and one update; returns what to log."""
        cap = self._anneal()
        ppo = self.config.ppo
        iterations, first = ppo.ramp
        if iterations and self.iteration <= iterations:
            share = first + (1.0 - first) * self.iteration / iterations
            self.env.set_randomization(self.config.env.randomization.scaled(min(share, 1.0)))
        if self.iteration == 0 and ppo.critic_iterations:
            self.learner.freeze_actor(True)
        elif self.iteration == ppo.critic_iterations:
            self.learner.freeze_actor(False)
        # PPO adapts the rate to the divergence of its updates, below the cap.
        self.learner.learning_rate = min(self.learner.learning_rate, cap)
        start = time.perf_counter()
        measured = self._rollout()
        middle = time.perf_counter()
        losses = self.learner.update()
        end = time.perf_counter()
        steps = self.env.num_envs * self.config.ppo.steps_per_iteration
        self.iteration += 1
        self.steps += steps
        self.seconds += end - start
        row = {
            "iteration": self.iteration,
            "steps": self.steps,
            "seconds": self.seconds,
            "rate": steps / (end - start),
            "learn_share": (end - middle) / (end - start),
            "reward": measured.pop("reward"),
            "cost": measured.pop("cost"),
            "learning_rate": self.learner.learning_rate,
            "std": self.learner.std(),
        }
        row.update({f"loss/{k}": v for k, v in losses.items()})
        row.update(measured)
        row.update(self._progress())
        return row

    def _rollout(self) -> Dict[str, float]:
        """Steps for one update; sums of mean reward and cost, and the last step's reward terms."""
        rewards, costs = 0.0, 0.0
        with torch.no_grad():
            for _ in range(self.config.ppo.steps_per_iteration):
                action = self.learner.act() * ACTION_UNIT  # (N, 12)
                _, reward, cost, terminated, truncated, info = self.env.step(action)
                done = terminated | truncated
                # Only a true time limit bootstraps; being stuck ends like a fall.
                self.learner.note(reward, done.long(), (truncated & ~info["stuck"]).float())
                rewards, costs = rewards + float(reward.mean()), costs + float(cost.mean())
                self._note_finished(done, info)
            self.learner.finish()
        terms = {f"reward/{k}": float(v.mean()) for k, v in info["reward_terms"].items()}
        return {"reward": rewards, "cost": costs, **terms}

    def _note_finished(self, done: torch.Tensor, info: Dict[str, Any]) -> None:
        # The environment has reset these worlds; kind and outcome of the ended episode are in info.
        for i in done.nonzero()[:, 0].tolist():
            success, fall = bool(info["success"][i]), bool(info["fall"][i])
            self.finished.append([int(info["kind"][i]), success, fall])

    def _progress(self) -> Dict[str, float]:
        """Success of the latest episodes and mean level, by kind of course."""
        found: Dict[str, float] = {}
        for k, kind in enumerate(self.config.env.courses):
            mine = [success for number, success, _ in self.finished if number == k]
            found[f"success/{kind}"] = sum(mine) / max(len(mine), 1)
            found[f"level/{kind}"] = float(self.env.levels[:, k].float().mean())
        return found


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
        write_atomically(args.out / "config.json", json.dumps(record, indent=1))
        return _loop(trainer, RunLog(args.out), args.save_every)


def _check_settings(out: Path, record: Dict[str, Any]) -> None:
    """Compare the settings with those a run was begun with; it may become longer.

    Raises:
        ValueError: nothing to resume, or naming the first setting that differs.
    """
    if not (out / "checkpoint.safetensors").is_file():
        raise ValueError(f"nothing to resume: no checkpoint.safetensors in {out}")
    begun = json.loads((out / "config.json").read_text(encoding="utf-8"))
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
    try:
        sys.exit(run(tyro.cli(Args)))
    except EXPECTED as error:
        sys.exit(f"go2-train-expert: {complaint(error)}")


if __name__ == "__main__":
    main()
