"""The PPO loop of the experts: rollouts, updates, annealing, checkpoints, the deployable policy."""

from __future__ import annotations

import time
from collections import deque
from dataclasses import replace
from pathlib import Path
from typing import Any, Deque, Dict, List, Optional

import torch

from go2_sevpo.data_collection.experts.config import ExpertConfig
from go2_sevpo.data_collection.experts.ppo import installed_version, make_learner
from go2_sevpo.envs.go2.contract import ENVIRONMENTS
from go2_sevpo.envs.go2.parkour import Go2Parkour
from go2_sevpo.policies.onnx_policy import OnnxPolicy, find_policy
from go2_sevpo.policies.torch_policy import GaussianPolicy, save_policy
from go2_sevpo.runs.checkpoint import load_checkpoint, load_newest, rotate, save_checkpoint
from go2_sevpo.runs.finite import check_state
from go2_sevpo.runs.provenance import made_by
from go2_sevpo.runs.randomness import isolated_randomness
from go2_sevpo.runs.reading import read_json

CHECKPOINT_KIND = "ppo"
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
    config = read_json(out / "config.json")
    info = {
        "algorithm": "ppo",
        "seed": config["seed"],
        "iterations": state["iteration"],
        "steps": state["steps"],
        "environment": ENVIRONMENTS[config["env"]["version"]],
        **({"init": config["init"]} if "init" in config else {}),
        "config": {"env": config["env"], "ppo": config["ppo"]},
        "made_by": made_by(),
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
        check_state([state["algorithm"], state["actor"]], f"iteration {self.iteration}")
        rotate(self.out / "checkpoint.safetensors")
        save_checkpoint(self.out / "checkpoint.safetensors", CHECKPOINT_KIND, state)
        with isolated_randomness():
            write_policy(self.out)

    def load(self) -> None:
        """Go on from ``checkpoint.safetensors``.

        Raises:
            ValueError: it was written with another major version of rsl_rl.
        """
        state = load_newest(self.out / "checkpoint.safetensors", CHECKPOINT_KIND)
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
        if iterations > 0 and self.iteration <= iterations:
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
