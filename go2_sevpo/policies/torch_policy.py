"""What a deployable policy is: normaliser, sampler, candidate choice.

One module, exported as one ONNX file.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Dict, List, Optional, Sequence, Tuple, Union, cast

import torch
from torch import nn

from go2_sevpo.networks.diffusion import Diffusion
from go2_sevpo.networks.layers import Critic, Denoiser, EnsembleLinear, Normalizer, Value
from go2_sevpo.policies.choice import (
    CHOICES,
    IN_ORDER,
    LIMITED,
    check_choice,
    choose,
    first_safe_or,
    with_uniform,
)
from go2_sevpo.policies.squashed_policy import ChosenPolicy, empty_squashed
from go2_sevpo.runs.checkpoint import CheckpointError, load_checkpoint, save_checkpoint

POLICY_KIND = "policy"


class DiffusionPolicy(nn.Module):
    """A diffusion actor and the choice among its candidates.

    Inputs ``observation`` (B, S), not normalised, and ``noise`` (B, N, T, A), standard normal;
    outputs ``action`` (B, A) in [-1, 1], ``cost_value`` (B,) and ``candidate`` (B,) int64.

    ``choice`` among the N candidates: ``first`` (no critic), ``argmin_cost`` (least Q_c),
    ``first_safe`` (the first of those with Q_c <= ``limit``: the actor's own distribution, cut at
    the limit) and ``argmax_reward`` (of those the greatest Q_r); both take the least Q_c where
    there is none. ``escape`` is ``first_safe``, but the least Q_c is then sought among N * T
    uniform actions, too: Eq. 12 solved on the spot, for places the actor does not find out of.
    Those actions are made of ``noise`` and numbered from N on.

    With ``acting_noise`` the noise has one more row, (B, N, T + 1, A): behind the choice
    ``acting_noise`` times ``lost_noise`` times the first candidate's last row is added to the
    action. Sampling in few steps returns nearly the mean of the data's actions; this gives back
    their spread.

    Attributes:
        lost_noise: (A,) standard deviations; None where they were not measured.
    """

    needs_cost = False
    """Whether the episode's cost so far is a third input."""
    lost_noise: Optional[torch.Tensor]

    def __init__(
        self,
        normalizer: Normalizer,
        diffusion: Diffusion,
        temperature: float = 1.0,
        choice: str = "first",
        cost_critic: Optional[Critic] = None,
        reward_critic: Optional[Critic] = None,
        cost_value: Optional[Value] = None,
        limit: float = 0.0,
        acting_noise: float = 0.0,
        lost_noise: Optional[torch.Tensor] = None,
    ) -> None:
        super().__init__()
        check_choice(choice, cost_critic, reward_critic)
        if acting_noise > 0 and lost_noise is None:
            raise ValueError(
                f"acting noise {acting_noise:g} for a policy whose lost noise was not measured, "
                "expected 0"
            )
        self.normalizer, self.diffusion = normalizer, diffusion
        self.temperature, self.choice, self.limit = temperature, choice, limit
        self.cost_critic, self.reward_critic = cost_critic, reward_critic
        self.cost_value = cost_value
        self.acting_noise = acting_noise
        self.register_buffer("lost_noise", None if lost_noise is None else lost_noise.clone())

    def forward(
        self, observation: torch.Tensor, noise: torch.Tensor
    ) -> Tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Act; see the class."""
        obs = self.normalizer(observation)
        noisy = self.acting_noise > 0
        extra = noise[:, 0, self.diffusion.steps] if noisy else None  # (B, A)
        noise = noise[:, :, : self.diffusion.steps] if noisy else noise  # (B, N, T, A)
        # Zeros of the batch's size: in the exported graph they follow from the input.
        value = obs[:, 0] * 0.0 if self.cost_value is None else self.cost_value(obs)
        if self.choice in IN_ORDER and self.cost_critic is not None:
            first = self._sample(obs, noise[:, :1])[:, 0]
            action, candidate = first_safe_or(
                obs, noise, first, self.cost_critic, self.limit, self._chosen
            )
        else:
            needed = noise[:, :1] if self.choice == "first" else noise
            action, candidate = self._chosen(obs, needed)
        if extra is not None and self.lost_noise is not None:
            spread = self.acting_noise * self.lost_noise  # (A,)
            action = (action + spread * extra).clamp(-1.0, 1.0)
        return action, value, candidate

    def _sample(self, obs: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
        """The actor's candidates (B, N, A) from ``noise`` (B, N, T, A)."""
        n = noise.shape[1]
        # The observation is encoded once for its N candidates.
        context = self.diffusion.denoiser.encode(obs)  # (B, width)
        wide = context.unsqueeze(1).expand(-1, n, -1).flatten(0, 1)  # (B N, width)
        actions = self.diffusion.sample(obs, noise.flatten(0, 1), self.temperature, wide)
        return actions.reshape(-1, n, noise.shape[-1])

    def _chosen(self, obs: torch.Tensor, noise: torch.Tensor) -> Tuple[torch.Tensor, torch.Tensor]:
        """Action (B, A) and its number (B,) among all candidates of ``noise`` (B, N, T, A)."""
        actions = self._sample(obs, noise)
        if self.choice == "escape":
            actions = with_uniform(actions, noise)
        candidate = self._choose(obs, actions, noise.shape[1])
        place = candidate[:, None, None].expand(-1, 1, actions.shape[-1])  # (B, 1, A)
        return torch.gather(actions, 1, place).squeeze(1), candidate

    def _choose(self, obs: torch.Tensor, actions: torch.Tensor, own: int) -> torch.Tensor:
        """Number (B,) of an action (B, N, A); the first ``own`` are the actor's."""
        critics = self.cost_critic, self.reward_critic
        return choose(obs, actions, own, self.choice, *critics, self.limit)

    def describe(self) -> Dict[str, Any]:
        """Plain data from which :func:`load_policy` rebuilds the module's shape."""
        denoiser = self.diffusion.denoiser
        hidden: Optional[List[int]] = None
        if self.cost_critic is not None:
            inner = self.cost_critic.layers[:-1]
            hidden = [cast(EnsembleLinear, layer).weight.shape[2] for layer in inner]
        return {
            "type": "diffusion",
            "observation_size": self.normalizer.num_obs,
            "lidar": self.normalizer.lidar,
            "action_size": denoiser.out.out_features,
            "actor": denoiser.kind,
            "width": denoiser.from_obs.out_features,
            "depth": denoiser.depth,
            "diffusion_steps": self.diffusion.steps,
            "prediction": self.diffusion.prediction,
            "temperature": self.temperature,
            "choice": self.choice,
            "limit": self.limit,
            "critic_hidden": hidden,
            "reward_critic": self.reward_critic is not None,
            "acting_noise": self.acting_noise,
            "lost_noise": self.lost_noise is not None,
        }

    @property
    def sampler(self) -> Dict[str, Any]:
        """Rows of noise, temperature and choice, for the contract.

        The rows are the diffusion steps, and one more with acting noise.
        """
        limit = {"limit": self.limit} if self.choice in LIMITED else {}
        noisy = {"acting_noise": self.acting_noise} if self.acting_noise > 0 else {}
        return {
            "kind": "diffusion",
            "steps": self.diffusion.steps + len(noisy),
            "prediction": self.diffusion.prediction,
            "temperature": self.temperature,
            "choice": self.choice,
            **limit,
            **noisy,
            "noise_scale": 1.0,
        }


class GaussianPolicy(nn.Module):
    """A PPO, TD3 or CPQ actor behind the same interface.

    action = clip(unit * (mean + std * noise[:, 0, 0]), -1, 1). ``squash`` passes the mean through
    tanh first, as TD3's actors do. Without a ``normalizer`` observations are taken raw.

    Args:
        sizes: of the layers: (S, hidden ..., A).
        std: (A,) standard deviation, in the units of the mean.
        unit: what one unit of the mean is as an action.
        activation: ``elu`` or ``relu``.
        squash: see above.
        normalizer: see above.
    """

    needs_cost = False
    std: torch.Tensor

    def __init__(
        self,
        sizes: Sequence[int],
        std: torch.Tensor,
        unit: float,
        activation: str = "elu",
        squash: bool = False,
        normalizer: Optional[Normalizer] = None,
    ) -> None:
        super().__init__()
        if activation not in ("elu", "relu"):
            raise ValueError(f"unknown activation '{activation}', expected elu or relu")
        layers: List[nn.Module] = []
        for a, b in zip(sizes[:-2], sizes[1:-1]):
            layers += [nn.Linear(a, b), nn.ELU() if activation == "elu" else nn.ReLU()]
        layers.append(nn.Linear(sizes[-2], sizes[-1]))
        self.mlp = nn.Sequential(*layers, nn.Tanh()) if squash else nn.Sequential(*layers)
        self.sizes, self.unit, self.activation, self.squash = list(sizes), unit, activation, squash
        self.register_buffer("std", std.clone())
        self.normalizer = normalizer

    def forward(
        self, observation: torch.Tensor, noise: torch.Tensor
    ) -> Tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """See :class:`DiffusionPolicy`; there is no cost value (0) and one candidate."""
        obs = observation if self.normalizer is None else self.normalizer(observation)
        # One candidate and one step: of the noise (B, N, T, A) only (B, A) is used.
        action = self.mlp(obs) + self.std * noise[:, 0, 0]
        zero = observation[:, 0] * 0.0
        return (self.unit * action).clamp(-1.0, 1.0), zero, zero.long()

    def describe(self) -> Dict[str, Any]:
        """Plain data from which :func:`load_policy` rebuilds the module's shape."""
        shape: Dict[str, Any] = {
            "type": "gaussian",
            "sizes": self.sizes,
            "unit": self.unit,
            "activation": self.activation,
            "squash": self.squash,
        }
        if self.normalizer is not None:
            shape["lidar"] = self.normalizer.lidar
        return {**shape, "normalizer": self.normalizer is not None}

    @property
    def sampler(self) -> Dict[str, Any]:
        """One step of Gaussian noise; played without it unless asked for."""
        return {
            "kind": "gaussian",
            "steps": 1,
            "temperature": 1.0,
            "choice": "first",
            "noise_scale": 0.0,
        }


def budget_feature(budget: torch.Tensor, scale: float) -> torch.Tensor:
    """How networks see cost budgets (B,): budget / (budget + scale), (B, 1) in [0, 1).

    With a scale of 0: as they are.
    """
    if scale == 0:
        return budget.unsqueeze(-1)
    return (budget / (budget + scale)).unsqueeze(-1)


class BudgetPolicy(GaussianPolicy):
    """An actor that also sees what is left of its cost budget.

    It has a third input ``spent_cost`` (B,), the episode's cost so far. ``budget`` is the cost
    allowed per episode, ``scale`` that of :func:`budget_feature`; ``sizes`` counts the budget as
    one more observation.
    """

    needs_cost = True

    def __init__(
        self, sizes: Sequence[int], normalizer: Normalizer, budget: float, scale: float
    ) -> None:
        super().__init__(sizes, torch.zeros(sizes[-1]), 1.0, "relu", True, normalizer)
        self.budget, self.scale = budget, scale

    def forward(  # type: ignore[override]  # the third input; see :func:`act`
        self, observation: torch.Tensor, noise: torch.Tensor, spent_cost: torch.Tensor
    ) -> Tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """See :class:`DiffusionPolicy`; the cost value is what is left, and one candidate."""
        assert self.normalizer is not None
        left = (self.budget - spent_cost).clamp(min=0.0)  # (B,)
        seen = [self.normalizer(observation), budget_feature(left, self.scale)]
        action = self.mlp(torch.cat(seen, dim=-1)) + self.std * noise[:, 0, 0]
        return action.clamp(-1.0, 1.0), left, (observation[:, 0] * 0.0).long()

    def describe(self) -> Dict[str, Any]:
        """See :class:`GaussianPolicy`."""
        return {**super().describe(), "type": "budget", "budget": self.budget, "scale": self.scale}

    @property
    def sampler(self) -> Dict[str, Any]:
        """See :class:`GaussianPolicy`; says that the cost of the episode so far is an input."""
        return {**super().sampler, "cost_budget": self.budget}


Policy = Union[DiffusionPolicy, GaussianPolicy, ChosenPolicy]


def act(
    policy: Policy, observation: torch.Tensor, noise: torch.Tensor, spent_cost: torch.Tensor
) -> Tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Action (B, A), cost value (B,) and candidate (B,) of any policy.

    ``spent_cost`` (B,), the episodes' cost so far, reaches those that need it.
    """
    if policy.needs_cost:
        return policy(observation, noise, spent_cost)
    return policy(observation, noise)


def save_policy(
    path: Union[str, Path], policy: Policy, observations: torch.Tensor, info: Dict[str, Any]
) -> None:
    """Write a policy with its provenance ``info``.

    Some logged ``observations`` (K, S) go with it, for the export's parity proof.
    """
    state = {
        "shape": policy.describe(),
        "weights": policy.state_dict(),
        "observations": observations,
        "info": info,
    }
    save_checkpoint(path, POLICY_KIND, state)


def load_policy(
    path: Union[str, Path], choice: Optional[str] = None, temperature: Optional[float] = None
) -> Tuple[Policy, torch.Tensor, Dict[str, Any]]:
    """Read :func:`save_policy`'s file: the policy, the logged observations, the provenance.

    ``choice`` (of policies that choose) and ``temperature`` (of diffusion policies) replace their
    own, if given.

    Raises:
        CheckpointError: not such a file, or the weights do not fit the shape it states.
    """
    state = load_checkpoint(path, POLICY_KIND)
    shape, weights = state["shape"], state["weights"]
    if shape["type"] == "diffusion":
        policy: Policy = _empty_diffusion(shape, choice, temperature)
    elif shape["type"] in ("squashed", "perturbed"):
        policy = empty_squashed(shape, _empty_normalizer(shape["sizes"][0], shape), choice)
    else:
        policy = _empty_gaussian(shape)
    try:
        policy.load_state_dict(weights)
    except RuntimeError as error:
        raise CheckpointError(
            f"{path}: weights do not fit the policy's shape: {str(error).splitlines()[-1].strip()}"
        ) from error
    return policy.eval(), state["observations"], state["info"]


def _empty_normalizer(size: int, shape: Dict[str, Any]) -> Normalizer:
    """One for ``size`` numbers, nearness among them; its statistics come with the weights."""
    lidar = shape.get("lidar")
    if lidar is not None:
        lidar = int(lidar[0]), float(lidar[1])
    return Normalizer(torch.zeros(size), torch.ones(size), lidar)


def _empty_gaussian(shape: Dict[str, Any]) -> GaussianPolicy:
    """A policy of :meth:`GaussianPolicy.describe`'s shape; older files lack some of its keys."""
    sizes: List[int] = shape["sizes"]
    if shape["type"] == "budget":
        # The budget is one of the first layer's inputs, but is not normalised.
        normalizer = _empty_normalizer(sizes[0] - 1, shape)
        return BudgetPolicy(sizes, normalizer, shape["budget"], shape["scale"])
    return GaussianPolicy(
        sizes,
        torch.ones(sizes[-1]),
        shape["unit"],
        shape.get("activation", "elu"),
        shape.get("squash", False),
        _empty_normalizer(sizes[0], shape) if shape.get("normalizer") else None,
    )


def _empty_diffusion(
    shape: Dict[str, Any], choice: Optional[str], temperature: Optional[float]
) -> DiffusionPolicy:
    """A policy of :meth:`DiffusionPolicy.describe`'s shape."""
    n_obs, n_act = shape["observation_size"], shape["action_size"]
    if shape.get("lidar") is not None:
        # Networks see the nearness of every reading, too.
        n_obs += n_obs - int(shape["lidar"][0])
    denoiser = Denoiser(n_obs, n_act, shape["actor"], shape["width"], shape["depth"])
    hidden: Optional[List[int]] = shape["critic_hidden"]
    cost_critic: Optional[Critic] = None
    reward_critic: Optional[Critic] = None
    cost_value: Optional[Value] = None
    if hidden is not None:
        cost_critic = Critic(n_obs, n_act, hidden)
        if shape.get("reward_critic", True):
            reward_critic = Critic(n_obs, n_act, hidden)
        cost_value = Value(n_obs, hidden)
    return DiffusionPolicy(
        _empty_normalizer(n_obs, shape),
        Diffusion(denoiser, shape["diffusion_steps"], shape["prediction"]),
        shape["temperature"] if temperature is None else temperature,
        choice or shape["choice"],
        cost_critic,
        reward_critic,
        cost_value,
        limit=shape["limit"],
        # Older files lack these keys.
        acting_noise=shape.get("acting_noise", 0.0),
        lost_noise=torch.zeros(shape["action_size"]) if shape.get("lost_noise") else None,
    )


__all__ = [
    "CHOICES",
    "LIMITED",
    "POLICY_KIND",
    "BudgetPolicy",
    "ChosenPolicy",
    "DiffusionPolicy",
    "GaussianPolicy",
    "Policy",
    "act",
    "budget_feature",
    "load_policy",
    "save_policy",
]
