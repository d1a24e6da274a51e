"""Train the reach-avoid expert: TD3 with a Lagrange multiplier (``python -m
go2_sevpo.data_collection.reach_avoid.expert``).

TD3 is stable-baselines3's. The multiplier is put around it: the replay buffer keeps reward and cost
apart and hands out reward - lambda cost at the present lambda, which follows the mean episode cost
by dual ascent. Episodes start anywhere from where the goal can be reached without a violation (see
:mod:`go2_sevpo.envs.reach_avoid.truth`).
"""

from __future__ import annotations

import csv
import json
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Dict, List, Optional, Sequence, Tuple

import gymnasium
import numpy as np
import torch
import tyro

from go2_sevpo.envs.reach_avoid import task
from go2_sevpo.envs.reach_avoid.truth import Truth, certify, feasible_starts, load_truth
from go2_sevpo.envs.seeds import REACH_AVOID_EXPERT
from go2_sevpo.metrics import wilson
from go2_sevpo.policies.torch_policy import GaussianPolicy, save_policy
from go2_sevpo.runs.cpu import use_cpu
from go2_sevpo.runs.progress import Progress

try:
    from stable_baselines3 import TD3
    from stable_baselines3.common.buffers import ReplayBuffer
    from stable_baselines3.common.callbacks import BaseCallback
    from stable_baselines3.common.noise import ActionNoise, VectorizedActionNoise
    from stable_baselines3.common.type_aliases import ReplayBufferSamples
    from stable_baselines3.common.vec_env import VecEnv
except ImportError:
    sys.exit(
        "training the reach-avoid expert needs stable-baselines3: pip install 'go2-sevpo[reproduce]'"
    )


@dataclass
class Args:
    """Train the reach-avoid expert."""

    out: Path = Path("runs/reach_avoid_expert")
    truth: Path = Path("runs/reach_avoid_truth.safetensors")
    """Cache of the ground truth; solved if missing (about a minute)."""
    steps: int = 900_000
    """Environment steps over all worlds."""
    worlds: int = 16
    gradient_steps: int = 4
    """Per step of all worlds."""
    hidden: Tuple[int, ...] = (128, 128)
    batch: int = 256
    rate: float = 5e-4
    gamma: float = 0.99
    exploration: float = 0.2
    """Standard deviation of the action noise."""
    random_share: float = 0.15
    """Share of training steps with a uniformly random action: a saturated brake at standstill is
    left in no other way.
    """
    guided: int = 80_000
    """Transitions put into the replay buffer beforehand: greedy control on the ground truth's
    table, with strong noise, so that the critics see goals from the start.
    """
    guided_noise: float = 0.5
    multiplier: float = 2.0
    """lambda at the start."""
    multiplier_rate: float = 0.05
    multiplier_max: float = 10.0
    cost_limit: float = 0.02
    """Allowed hazard steps per episode."""
    leaving_cost: float = 2.0
    """Leaving the map counts as this many hazard steps while training."""
    time_cost: float = 0.02
    """Taken from the reward at each step while training, so that standing still does not pay."""
    evaluation: int = 1000
    """Feasible starts to evaluate on at the end."""
    seed: int = 0


class TaskVecEnv(VecEnv):
    """The vectorised task behind stable-baselines3's interface; restarts are drawn from ``starts``
    (M, 4).
    """

    def __init__(
        self, worlds: int, starts: torch.Tensor, seed: int, leaving_cost: float, time_cost: float
    ) -> None:
        self.leaving_cost, self.time_cost = leaving_cost, time_cost
        space = gymnasium.spaces.Box(-np.inf, np.inf, (task.NUM_OBS,), dtype=np.float32)
        super().__init__(
            worlds, space, gymnasium.spaces.Box(-1.0, 1.0, (task.NUM_ACTIONS,), dtype=np.float32)
        )
        self.env = task.ReachAvoid(worlds, auto_reset=False)
        self.starts, self.generator = starts, torch.Generator().manual_seed(seed)
        self.totals = torch.zeros(worlds, 2)

    def _draw(self, n: int) -> torch.Tensor:
        return self.starts[torch.randint(len(self.starts), (n,), generator=self.generator)]

    def reset(self) -> np.ndarray:
        """See stable-baselines3."""
        return self.env.reset(self._draw(self.num_envs)).numpy()

    def step_async(self, actions: np.ndarray) -> None:
        """See stable-baselines3."""
        self.actions = torch.as_tensor(actions)

    def step_wait(self) -> Tuple[np.ndarray, np.ndarray, np.ndarray, List[Dict[str, Any]]]:
        """See stable-baselines3."""
        obs, reward, cost, terminated, truncated, info = self.env.step(self.actions)
        cost = cost + self.leaving_cost * info["left"].float()
        self.totals += torch.stack([reward, cost], -1)
        reward = reward - self.time_cost
        done = terminated | truncated
        infos: List[Dict[str, Any]] = [{"cost": float(c)} for c in cost]
        for i in done.nonzero()[:, 0].tolist():
            infos[i].update(
                {
                    "terminal_observation": obs[i].numpy().copy(),
                    "TimeLimit.truncated": bool(truncated[i]),
                    "success": bool(info["success"][i]),
                    "episode_cost": float(self.totals[i, 1]),
                    "episode_return": float(self.totals[i, 0]),
                }
            )
        self.totals[done] = 0.0
        self.env.state = torch.where(done[:, None], self._draw(self.num_envs), self.env.state)
        self.env.steps[done] = 0
        return task.observe(self.env.state).numpy(), reward.numpy(), done.numpy(), infos

    def close(self) -> None:
        """Nothing to close."""

    def get_attr(self, attr_name: str, indices: Any = None) -> List[Any]:
        """See stable-baselines3."""
        return [getattr(self, attr_name, None)] * self.num_envs

    def set_attr(self, attr_name: str, value: Any, indices: Any = None) -> None:
        """See stable-baselines3."""
        raise NotImplementedError(
            "set_attr: the training sets nothing on and calls nothing of single worlds"
        )

    def env_method(
        self, method_name: str, *args: Any, indices: Any = None, **kwargs: Any
    ) -> List[Any]:
        """See stable-baselines3."""
        raise NotImplementedError(
            "env_method: the training sets nothing on and calls nothing of single worlds"
        )

    def env_is_wrapped(self, wrapper_class: Any, indices: Any = None) -> List[bool]:
        """See stable-baselines3."""
        return [False] * self.num_envs


class CostReplayBuffer(ReplayBuffer):
    """Keeps costs beside rewards and samples reward - ``multiplier`` x cost."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.costs = np.zeros((self.buffer_size, self.n_envs), dtype=np.float32)
        self.multiplier = 0.0

    def add(
        self,
        obs: Any,
        next_obs: Any,
        action: Any,
        reward: Any,
        done: Any,
        infos: Sequence[Dict[str, Any]],
    ) -> None:
        """See stable-baselines3."""
        self.costs[self.pos] = [i["cost"] for i in infos]
        super().add(obs, next_obs, action, reward, done, list(infos))

    def _get_samples(
        self, batch_inds: np.ndarray, env: Optional[Any] = None
    ) -> ReplayBufferSamples:
        worlds = np.random.randint(0, self.n_envs, size=len(batch_inds))
        at = (batch_inds, worlds)
        done = self.dones[at] * (1.0 - self.timeouts[at])
        reward = self.rewards[at] - self.multiplier * self.costs[at]
        columns = (
            self.observations[at],
            self.actions[at],
            self.next_observations[at],
            done[:, None],
            reward[:, None],
        )
        return ReplayBufferSamples(*(self.to_torch(c.astype(np.float32)) for c in columns))


class MixedNoise(ActionNoise):
    """Gaussian noise; on a share of the steps, noise so large that the clipped action is nearly
    uniform.
    """

    def __init__(self, sigma: float, random_share: float) -> None:
        super().__init__()
        self.sigma, self.random_share = sigma, random_share

    def __call__(self) -> np.ndarray:
        """Draw the noise (2,) of one world."""
        if np.random.random() < self.random_share:
            return np.random.uniform(-2.0, 2.0, task.NUM_ACTIONS).astype(np.float32)
        return np.random.normal(0.0, self.sigma, task.NUM_ACTIONS).astype(np.float32)


class DualAscent(BaseCallback):
    """lambda <- clip(lambda + rate (mean episode cost - limit)), once every 100 finished episodes."""

    def __init__(self, args: Args) -> None:
        super().__init__()
        self.args, self.multiplier = args, args.multiplier
        self.finished: List[Dict[str, Any]] = []
        self.curve: List[Dict[str, float]] = []
        self.progress = Progress(args.steps)

    def _on_training_start(self) -> None:
        self.model.replay_buffer.multiplier = self.multiplier

    def _on_step(self) -> bool:
        self.finished += [i for i in self.locals["infos"] if "success" in i]
        if len(self.finished) >= 100:
            mean = {
                k: float(np.mean([f[k] for f in self.finished]))
                for k in ("episode_cost", "episode_return", "success")
            }
            change = self.args.multiplier_rate * (mean["episode_cost"] - self.args.cost_limit)
            self.multiplier = float(
                np.clip(self.multiplier + change, 0.0, self.args.multiplier_max)
            )
            self.model.replay_buffer.multiplier = self.multiplier
            self.curve.append(
                {"step": float(self.num_timesteps), "multiplier": self.multiplier, **mean}
            )
            self.finished = []
            if len(self.curve) % 5 == 0:
                self.progress.done = self.num_timesteps
                print(
                    f"{self.num_timesteps}/{self.args.steps}  {self.progress.rate:.0f} steps/s  success {mean['success']:.2f}  "
                    f"cost {mean['episode_cost']:.2f}  lambda {self.multiplier:.2f}  {self.progress.text()}",
                    flush=True,
                )
        return True


def to_policy(model: Any, exploration: float) -> GaussianPolicy:
    """The TD3 actor as the project's policy; ``exploration`` is the standard deviation of its noise
    input.
    """
    linear = [m for m in model.actor.mu if isinstance(m, torch.nn.Linear)]
    sizes = [linear[0].in_features, *[m.out_features for m in linear]]
    std = torch.full((task.NUM_ACTIONS,), exploration)
    policy = GaussianPolicy(sizes, std, 1.0, activation="relu", squash=True)
    for mine, theirs in zip([m for m in policy.mlp if isinstance(m, torch.nn.Linear)], linear):
        mine.load_state_dict(theirs.state_dict())
    return policy.eval()


def fill(buffer: CostReplayBuffer, env: TaskVecEnv, truth: Truth, args: Args) -> None:
    """Put ``args.guided`` transitions of noisy greedy control into the buffer."""
    draw, obs = torch.Generator().manual_seed(REACH_AVOID_EXPERT.number(args.seed, 2)), env.reset()
    for _ in range(args.guided // args.worlds):
        action = truth.greedy(env.env.state, True)
        action = action + args.guided_noise * torch.randn(action.shape, generator=draw)
        action = action.clamp(-1.0, 1.0).numpy()
        env.step_async(action)
        nxt, reward, done, infos = env.step_wait()
        true_next = nxt.copy()
        for i in np.flatnonzero(done):
            true_next[i] = infos[i]["terminal_observation"]
        buffer.add(obs, true_next, action, reward, done, infos)
        obs = nxt


def evaluate(policy: GaussianPolicy, starts: torch.Tensor) -> Dict[str, Any]:
    """Safe success from ``starts``: in the goal without a step in the hazard or off the map,
    without noise.
    """
    env = task.ReachAvoid(len(starts), auto_reset=False)
    obs = env.reset(starts)
    cost, alive = torch.zeros(len(starts)), torch.ones(len(starts), dtype=torch.bool)
    success = torch.zeros_like(alive)
    noise = torch.zeros(len(starts), 1, 1, task.NUM_ACTIONS)
    for _ in range(task.MAX_STEPS):
        with torch.no_grad():
            action = policy(obs, noise)[0]
        obs, _, c, terminated, _, info = env.step(action)
        cost, success = cost + c * alive, success | (info["success"] & alive)
        alive &= ~terminated
    good = success & (cost == 0)
    n = len(starts)
    return {
        "episodes": n,
        "success_rate": float(success.float().mean()),
        "safe_rate": float((cost == 0).float().mean()),
        "safe_success_rate": float(good.float().mean()),
        "safe_success_interval": wilson(int(good.sum()), n),
    }


def main() -> None:
    """Train, evaluate, save."""
    args = tyro.cli(Args)
    use_cpu(1)
    truth = load_truth(args.truth)
    env = TaskVecEnv(
        args.worlds,
        feasible_starts(truth, 20_000, REACH_AVOID_EXPERT.number(args.seed)),
        REACH_AVOID_EXPERT.number(args.seed, 1),
        args.leaving_cost,
        args.time_cost,
    )
    noise = MixedNoise(args.exploration, args.random_share)
    model = TD3(
        "MlpPolicy",
        env,
        learning_rate=lambda left: args.rate * max(left, 0.02),
        buffer_size=args.steps + args.guided,
        batch_size=args.batch,
        gamma=args.gamma,
        train_freq=1,
        gradient_steps=args.gradient_steps,
        learning_starts=0,
        seed=args.seed,
        device="cpu",
        action_noise=VectorizedActionNoise(noise, args.worlds),
        replay_buffer_class=CostReplayBuffer,
        policy_kwargs={"net_arch": list(args.hidden)},
    )
    fill(model.replay_buffer, env, truth, args)
    dual = DualAscent(args)
    model.learn(args.steps, callback=dual)
    policy = to_policy(model, args.exploration)
    candidates = feasible_starts(truth, args.evaluation, REACH_AVOID_EXPERT.number(args.seed, 3))
    proven = certify(truth, candidates, True)
    starts = candidates[proven["success"] & (proven["cost"] == 0)]
    report = evaluate(policy, starts)
    config = {k: str(v) if isinstance(v, Path) else v for k, v in asdict(args).items()}
    info = {
        "algorithm": "td3-lagrangian",
        "environment": task.ENV_ID,
        "config": config,
        "evaluation": report,
        "multiplier": dual.multiplier,
    }
    args.out.mkdir(parents=True, exist_ok=True)
    save_policy(args.out / "policy_last.safetensors", policy, task.observe(starts[:256]), info)
    with open(args.out / "progress.csv", "w", newline="", encoding="utf-8") as handle:
        writer = csv.DictWriter(handle, list(dual.curve[0]) if dual.curve else ["step"])
        writer.writeheader()
        writer.writerows({k: f"{v:.6g}" for k, v in row.items()} for row in dual.curve)
    print(json.dumps(report))


if __name__ == "__main__":
    main()
