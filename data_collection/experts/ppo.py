"""rsl_rl's PPO behind one face, whichever version is installed.

================  ==================================================================================
rsl_rl            what differs
================  ==================================================================================
rsl-rl-lib 5.x    observation groups in a TensorDict, actor and critic as models (the default)
rsl-rl-lib 2.x    plain tensors, one ActorCritic (2.2.4 is the newest that imports on Python 3.8)
git tag v1.0.2    as 2.x without symmetry; what legged_gym expects (:mod:`legged_gym_task` has its
                  environment side)
================  ==================================================================================

Versions 3 and 4 are refused: their interfaces were in between and nobody here needs them. No
version has types that hold for the others, so what is rsl_rl's own stays ``Any``.
"""

from __future__ import annotations

import inspect
from functools import partial
from typing import Any, Callable, Dict, List, Optional, Protocol, Tuple

import torch

from go2_sevpo.data_collection.experts.config import PpoConfig
from go2_sevpo.envs.go2.parkour import Go2Parkour
from go2_sevpo.envs.go2.symmetry import (
    Mirror,
    action_mirror,
    observation_mirror,
    privileged_mirror,
)


class Learner(Protocol):
    """What the training loop asks of PPO."""

    learning_rate: float
    entropy: float

    def act(self) -> torch.Tensor:
        """Sample actions (N, 12) in PPO's units at the present observations."""

    def note(self, reward: torch.Tensor, done: torch.Tensor, time_outs: torch.Tensor) -> None:
        """Store what the actions led to, each (N,); the environment has stepped already."""

    def finish(self) -> None:
        """End the rollout: compute returns."""

    def update(self) -> Dict[str, float]:
        """Learn from the rollout; losses by name."""

    def std(self) -> float:
        """Mean standard deviation of the actions."""

    def actor(self) -> Dict[str, torch.Tensor]:
        """The actor as ``K.weight``, ``K.bias`` of a plain sequential network, and ``std``."""

    def load_actor(self, weights: Dict[str, torch.Tensor]) -> None:
        """Take over the weights of :meth:`actor`, not its ``std``."""

    def freeze_actor(self, frozen: bool) -> None:
        """Whether updates leave the actor as it is, the critic's learning rate being fixed."""

    def state_dict(self) -> Dict[str, Any]:
        """Networks and optimiser."""

    def load_state_dict(self, state: Dict[str, Any]) -> None:
        """Restore :meth:`state_dict`."""


class _Annealed:
    """What the training loop sets between updates; rsl_rl's PPO has it in every version."""

    alg: Any  # rsl_rl's PPO

    @property
    def learning_rate(self) -> float:
        """PPO's present learning rate."""
        return self.alg.learning_rate

    @learning_rate.setter
    def learning_rate(self, value: float) -> None:
        self.alg.learning_rate = value

    def _actor_parameters(self) -> List[torch.nn.Parameter]:
        raise NotImplementedError

    def freeze_actor(self, frozen: bool) -> None:
        """See :class:`Learner`."""
        for parameter in self._actor_parameters():
            parameter.requires_grad_(not frozen)
        # An actor that stands still does not diverge: the adaptive rate would only grow.
        self.alg.schedule = "fixed" if frozen else "adaptive"

    @property
    def entropy(self) -> float:
        """Weight of the entropy."""
        return self.alg.entropy_coef

    @entropy.setter
    def entropy(self, value: float) -> None:
        self.alg.entropy_coef = value


class Ppo5(_Annealed):
    """rsl-rl-lib 5.x."""

    def __init__(self, env: Go2Parkour, config: PpoConfig, unit: float) -> None:
        from rsl_rl.runners import OnPolicyRunner

        from go2_sevpo.data_collection.experts.rsl_rl_adapter import RslRlEnv

        self.adapter = RslRlEnv(env, unit)
        # The runner builds PPO from the configuration; its own loop is not used.
        device = str(env.device)
        runner = OnPolicyRunner(self.adapter, config.to_rsl_rl(), log_dir=None, device=device)
        self.alg = runner.alg
        if self.alg.symmetry:
            # rsl_rl evaluates the mirror loss for its log even when only augmentation is used: a
            # seventh of the update.
            self.alg.symmetry.compute_loss = lambda *_: torch.zeros((), device=env.device)

    def act(self) -> torch.Tensor:
        """See :class:`Learner`."""
        self.alg.train_mode()
        return self.alg.act(self.adapter.get_observations())

    def note(self, reward: torch.Tensor, done: torch.Tensor, time_outs: torch.Tensor) -> None:
        """See :class:`Learner`."""
        obs = self.adapter.get_observations()
        self.alg.process_env_step(obs, reward, done, {"time_outs": time_outs})

    def finish(self) -> None:
        """See :class:`Learner`."""
        self.alg.compute_returns(self.adapter.get_observations())

    def update(self) -> Dict[str, float]:
        """See :class:`Learner`."""
        return {k: float(v) for k, v in self.alg.update().items()}

    def std(self) -> float:
        """See :class:`Learner`."""
        return float(self.alg.get_policy().output_std.detach().mean())

    def actor(self) -> Dict[str, torch.Tensor]:
        """See :class:`Learner`."""
        state = self.alg.save()["actor_state_dict"]
        found = {k[len("mlp.") :]: v for k, v in state.items() if k.startswith("mlp.")}
        return {**found, "std": state["distribution.log_std_param"].exp()}

    def load_actor(self, weights: Dict[str, torch.Tensor]) -> None:
        """See :class:`Learner`."""
        given = {f"mlp.{k}": v for k, v in weights.items() if k != "std"}
        own = self.alg.actor.state_dict()
        self.alg.actor.load_state_dict({**own, **given})

    def _actor_parameters(self) -> List[torch.nn.Parameter]:
        return list(self.alg.actor.parameters())

    def state_dict(self) -> Dict[str, Any]:
        """See :class:`Learner`."""
        return self.alg.save()

    def load_state_dict(self, state: Dict[str, Any]) -> None:
        """See :class:`Learner`."""
        self.alg.load(state, None, strict=True)


class Ppo2(_Annealed):
    """rsl-rl-lib 2.x and rsl_rl v1.0.2: ActorCritic and PPO driven directly.

    v1.0.2 has no symmetry: ``mirror`` does nothing.
    """

    def __init__(self, env: Go2Parkour, config: PpoConfig, unit: float) -> None:
        from rsl_rl.algorithms import PPO
        from rsl_rl.modules import ActorCritic

        self.env = env
        num_critic_obs = env.num_obs + env.privileged().shape[1]
        net = ActorCritic(
            env.num_obs,
            num_critic_obs,
            env.num_actions,
            actor_hidden_dims=list(config.hidden),
            critic_hidden_dims=list(config.hidden),
            activation="elu",
            init_noise_std=config.initial_std,
        )
        options: Dict[str, Any] = {
            "num_learning_epochs": config.epochs,
            "num_mini_batches": config.minibatches,
            "clip_param": config.clip,
            "gamma": config.gamma,
            "lam": config.gae_lambda,
            "value_loss_coef": 1.0,
            "entropy_coef": config.entropy[0],
            "learning_rate": 1e-3,
            "max_grad_norm": 1.0,
            "use_clipped_value_loss": True,
            "schedule": "adaptive",
            "desired_kl": config.desired_kl,
            "device": str(env.device),
        }
        known = inspect.signature(PPO.__init__).parameters
        self.mirrored = config.mirror and "symmetry_cfg" in known
        if self.mirrored:
            options["symmetry_cfg"] = {
                "use_data_augmentation": True,
                "use_mirror_loss": False,
                "mirror_loss_coeff": 0.0,
                "_env": env,
                "data_augmentation_func": mirror_plain,
            }
        self.alg = PPO(net.to(env.device), **options)
        sizes = [env.num_obs], [num_critic_obs], [env.num_actions]
        self.alg.init_storage(env.num_envs, config.steps_per_iteration, *sizes)

    @property
    def _net(self) -> Any:
        """The ActorCritic, ``actor_critic`` before 2.3 and ``policy`` since."""
        return getattr(self.alg, "actor_critic", None) or self.alg.policy

    def _critic_obs(self) -> torch.Tensor:
        """What the critic sees, (N, 279)."""
        return torch.cat([self.env.observation, self.env.privileged()], dim=1)

    def act(self) -> torch.Tensor:
        """See :class:`Learner`."""
        self._net.train()
        return self.alg.act(self.env.observation, self._critic_obs())

    def note(self, reward: torch.Tensor, done: torch.Tensor, time_outs: torch.Tensor) -> None:
        """See :class:`Learner`."""
        self.alg.process_env_step(reward, done, {"time_outs": time_outs})

    def finish(self) -> None:
        """See :class:`Learner`."""
        self.alg.compute_returns(self._critic_obs())

    def update(self) -> Dict[str, float]:
        """See :class:`Learner`."""
        losses = self.alg.update()
        return {"value": float(losses[0]), "surrogate": float(losses[1])}

    def std(self) -> float:
        """See :class:`Learner`."""
        return float(self._net.std.detach().mean())

    def actor(self) -> Dict[str, torch.Tensor]:
        """See :class:`Learner`."""
        return {**self._net.actor.state_dict(), "std": self._net.std.detach()}

    def load_actor(self, weights: Dict[str, torch.Tensor]) -> None:
        """See :class:`Learner`."""
        self._net.actor.load_state_dict({k: v for k, v in weights.items() if k != "std"})

    def _actor_parameters(self) -> List[torch.nn.Parameter]:
        return [*self._net.actor.parameters(), self._net.std]

    def state_dict(self) -> Dict[str, Any]:
        """See :class:`Learner`."""
        return {"model": self._net.state_dict(), "optimizer": self.alg.optimizer.state_dict()}

    def load_state_dict(self, state: Dict[str, Any]) -> None:
        """See :class:`Learner`."""
        self._net.load_state_dict(state["model"])
        self.alg.optimizer.load_state_dict(state["optimizer"])


def _with_mirrored(
    rows: Optional[torch.Tensor], *parts: Callable[[], Mirror]
) -> Optional[torch.Tensor]:
    """Rows (B, D) and behind them their mirror images, (2 B, D); ``parts`` make up the columns."""
    if rows is None:
        return None
    indices, signs, start = [], [], 0
    for part in parts:
        index, sign = part()
        indices.append(index + start)  # each part counts its own columns from 0
        signs.append(sign)
        start += len(index)
    index, sign = torch.cat(indices).to(rows.device), torch.cat(signs).to(rows.device)  # (D,)
    return torch.cat([rows, rows[:, index] * sign])


def mirror_plain(
    obs: Optional[torch.Tensor], actions: Optional[torch.Tensor], env: object, is_critic: bool
) -> Tuple[Optional[torch.Tensor], Optional[torch.Tensor]]:
    """Symmetry hook of rsl-rl-lib 2.x: left-right mirrored samples appended, batch B to 2 B.

    ``obs`` are (B, 265), or with ``is_critic`` (B, 279); ``actions`` (B, 12); what is None stays
    None. rsl_rl hands ``env`` over, which is not needed.
    """
    parts: Tuple[Callable[[], Mirror], ...] = (observation_mirror,)
    if is_critic:
        # 265 + 14 numbers, in version 2 of the task 13 more.
        version = 1 if obs is None or obs.shape[1] == 279 else 2
        parts = (observation_mirror, partial(privileged_mirror, version))
    return _with_mirrored(obs, *parts), _with_mirrored(actions, action_mirror)


def installed_version() -> str:
    """Version of rsl_rl; ``1.0.2`` where it does not say.

    The git tag has no metadata of that name.

    Raises:
        ValueError: it is not installed.
    """
    try:
        import rsl_rl  # noqa: F401
    except ImportError as error:
        raise ValueError(
            f"training experts needs rsl_rl ({error}): pip install 'go2-sevpo[expert]'"
        ) from None
    from importlib.metadata import PackageNotFoundError, version

    for name in ("rsl-rl-lib", "rsl_rl", "rsl-rl"):
        try:
            return version(name)
        except PackageNotFoundError:
            continue
    return "1.0.2"


def make_learner(env: Go2Parkour, config: PpoConfig, unit: float) -> Learner:
    """PPO of the installed rsl_rl on ``env``.

    ``unit`` are environment actions per unit of PPO's Gaussian.

    Raises:
        ValueError: rsl_rl is missing or of a version that is not supported.
    """
    found = installed_version()
    major = int(found.split(".")[0])
    if major >= 5:
        return Ppo5(env, config, unit)
    if major in (1, 2):
        return Ppo2(env, config, unit)
    raise ValueError(f"rsl_rl {found} is not supported, expected 5.x, 2.x or v1.0.2")
