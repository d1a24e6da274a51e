"""TD3 of stable-baselines3 with a Lagrange multiplier around it.

The replay buffer keeps reward and cost apart and hands out reward - lambda cost at the present
lambda, which follows the mean episode cost by dual ascent.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, Dict, List, Optional, Sequence, Tuple, Type, cast

import gymnasium
import numpy as np
import torch

from go2_sevpo.data_collection.reach_avoid.expert_args import Args
from go2_sevpo.envs.reach_avoid import task
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
        "training the reach-avoid expert needs stable-baselines3: "
        "pip install 'go2-sevpo[reproduce]'"
    )

if TYPE_CHECKING:
    from stable_baselines3.common.vec_env.base_vec_env import VecEnvIndices
    from stable_baselines3.common.vec_env.vec_normalize import VecNormalize

EPISODES_PER_UPDATE = 100
"""Finished episodes that the multiplier's next step is taken from."""
_UNUSED = "the training sets nothing on and calls nothing of single worlds"


class TaskVecEnv(VecEnv):
    """The vectorised task behind stable-baselines3's interface.

    Restarts are drawn from ``starts`` (M, 4); ``leaving_cost`` and ``time_cost`` are of
    :class:`Args`.
    """

    def __init__(
        self, worlds: int, starts: torch.Tensor, seed: int, leaving_cost: float, time_cost: float
    ) -> None:
        self.leaving_cost, self.time_cost = leaving_cost, time_cost
        observations = gymnasium.spaces.Box(-np.inf, np.inf, (task.NUM_OBS,), dtype=np.float32)
        actions = gymnasium.spaces.Box(-1.0, 1.0, (task.NUM_ACTIONS,), dtype=np.float32)
        super().__init__(worlds, observations, actions)
        self.env = task.ReachAvoid(worlds, auto_reset=False)
        self.starts, self.generator = starts, torch.Generator().manual_seed(seed)
        self.totals = torch.zeros(worlds, 2)  # return and cost of the present episodes

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
        reward = reward - self.time_cost  # behind the totals, which report the task's own reward
        done = terminated | truncated
        infos: List[Dict[str, Any]] = [{"cost": float(c)} for c in cost]
        for i in done.nonzero()[:, 0].tolist():
            # stable-baselines3 takes the true last observation and the kind of end from here.
            infos[i]["terminal_observation"] = obs[i].numpy().copy()
            infos[i]["TimeLimit.truncated"] = bool(truncated[i])
            infos[i]["success"] = bool(info["success"][i])
            infos[i]["episode_return"], infos[i]["episode_cost"] = self.totals[i].tolist()
        self.totals[done] = 0.0
        # Starts are drawn for every world and step, used where an episode has ended.
        self.env.state = torch.where(done[:, None], self._draw(self.num_envs), self.env.state)
        self.env.steps[done] = 0
        return task.observe(self.env.state).numpy(), reward.numpy(), done.numpy(), infos

    def close(self) -> None:
        """Nothing to close."""

    def get_attr(self, attr_name: str, indices: VecEnvIndices = None) -> List[Any]:
        """See stable-baselines3."""
        return [getattr(self, attr_name, None)] * self.num_envs

    def set_attr(self, attr_name: str, value: object, indices: VecEnvIndices = None) -> None:
        """See stable-baselines3."""
        raise NotImplementedError(f"set_attr: {_UNUSED}")

    def env_method(
        self, method_name: str, *args: Any, indices: VecEnvIndices = None, **kwargs: Any
    ) -> List[Any]:
        """See stable-baselines3."""
        raise NotImplementedError(f"env_method: {_UNUSED}")

    def env_is_wrapped(
        self, wrapper_class: Type[gymnasium.Wrapper], indices: VecEnvIndices = None
    ) -> List[bool]:
        """See stable-baselines3."""
        return [False] * self.num_envs


class CostReplayBuffer(ReplayBuffer):
    """Keeps costs beside rewards and samples reward - ``multiplier`` x cost."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:  # handed on as they are
        super().__init__(*args, **kwargs)
        self.costs = np.zeros((self.buffer_size, self.n_envs), dtype=np.float32)
        self.multiplier = 0.0

    def add(
        self,
        obs: np.ndarray,
        next_obs: np.ndarray,
        action: np.ndarray,
        reward: np.ndarray,
        done: np.ndarray,
        infos: Sequence[Dict[str, Any]],
    ) -> None:
        """Keep one step of all worlds, (N, ...) each; ``infos`` have its ``cost``."""
        self.costs[self.pos] = [i["cost"] for i in infos]
        super().add(obs, next_obs, action, reward, done, list(infos))

    def _get_samples(
        self, batch_inds: np.ndarray, env: Optional[VecNormalize] = None
    ) -> ReplayBufferSamples:
        """Transitions at steps ``batch_inds`` (B,), each of a world drawn at random."""
        worlds = np.random.randint(0, self.n_envs, size=len(batch_inds))
        at = (batch_inds, worlds)
        done = self.dones[at] * (1.0 - self.timeouts[at])  # time limits bootstrap
        reward = self.rewards[at] - self.multiplier * self.costs[at]
        before, action, after = (
            x[at] for x in (self.observations, self.actions, self.next_observations)
        )
        columns = (before, action, after, done[:, None], reward[:, None])
        return ReplayBufferSamples(*(self.to_torch(c.astype(np.float32)) for c in columns))


class MixedNoise(ActionNoise):
    """Gaussian noise; on a share of the steps, noise so large that it decides the action.

    The sum is clipped to [-1, 1], which is nearly uniform then.
    """

    def __init__(self, sigma: float, random_share: float) -> None:
        super().__init__()
        self.sigma, self.random_share = sigma, random_share

    def __call__(self) -> np.ndarray:
        """Draw the noise (2,) of one world."""
        if np.random.random() < self.random_share:
            return np.random.uniform(-2.0, 2.0, task.NUM_ACTIONS).astype(np.float32)
        return np.random.normal(0.0, self.sigma, task.NUM_ACTIONS).astype(np.float32)


def cost_buffer(model: TD3) -> CostReplayBuffer:
    """The buffer that ``model`` was told to make."""
    return cast(CostReplayBuffer, model.replay_buffer)


class DualAscent(BaseCallback):
    """lambda <- clip(lambda + rate (mean episode cost - limit)), every 100 finished episodes."""

    model: TD3

    def __init__(self, args: Args) -> None:
        super().__init__()
        self.args, self.multiplier = args, args.multiplier
        self.finished: List[Dict[str, Any]] = []
        self.curve: List[Dict[str, float]] = []
        self.progress = Progress(args.steps)

    def _on_training_start(self) -> None:
        cost_buffer(self.model).multiplier = self.multiplier

    def _on_step(self) -> bool:
        self.finished += [i for i in self.locals["infos"] if "success" in i]
        if len(self.finished) >= EPISODES_PER_UPDATE:
            self._update()
        return True

    def _update(self) -> None:
        args, keys = self.args, ("episode_cost", "episode_return", "success")
        mean = {k: float(np.mean([f[k] for f in self.finished])) for k in keys}
        change = args.multiplier_rate * (mean["episode_cost"] - args.cost_limit)
        self.multiplier = float(np.clip(self.multiplier + change, 0.0, args.multiplier_max))
        cost_buffer(self.model).multiplier = self.multiplier
        step = float(self.num_timesteps)
        self.curve.append({"step": step, "multiplier": self.multiplier, **mean})
        self.finished = []
        if len(self.curve) % 5 == 0:
            self.progress.done = self.num_timesteps
            print(
                f"{self.num_timesteps}/{args.steps}  {self.progress.rate:.0f} steps/s  "
                f"success {mean['success']:.2f}  cost {mean['episode_cost']:.2f}  "
                f"lambda {self.multiplier:.2f}  {self.progress.text()}",
                flush=True,
            )


def make_td3(env: TaskVecEnv, args: Args) -> TD3:
    """TD3 on ``env``, with the buffer and the noise of this module."""
    noise = MixedNoise(args.exploration, args.random_share)
    return TD3(
        "MlpPolicy",
        env,
        # Falls linearly with the share of the training that is left.
        learning_rate=lambda left: args.rate * max(left, 0.02),
        buffer_size=args.steps + args.guided,
        batch_size=args.batch,
        gamma=args.gamma,
        train_freq=1,
        gradient_steps=args.gradient_steps,
        learning_starts=0,  # the guided transitions are there
        seed=args.seed,
        device="cpu",
        action_noise=VectorizedActionNoise(noise, args.worlds),
        replay_buffer_class=CostReplayBuffer,
        policy_kwargs={"net_arch": list(args.hidden)},
    )
