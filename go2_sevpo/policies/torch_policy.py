"""What a deployable policy is: normaliser, sampler, candidate choice.

One module, exported as one ONNX file.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Dict, List, Optional, Tuple, Union, cast

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
from go2_sevpo.policies.gaussian_policy import BudgetPolicy, GaussianPolicy, budget_feature
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
