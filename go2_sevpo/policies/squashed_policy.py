"""Actors with a tanh behind a Gaussian or a VAE, and a choice among their candidates.

The same interface and choices as :class:`go2_sevpo.policies.torch_policy.DiffusionPolicy`.
"""

from __future__ import annotations

from typing import Any, Dict, List, Optional, Tuple, cast

import torch
from torch import nn

from go2_sevpo.networks.gaussian import Mlp, SquashedGaussian, policy_layers
from go2_sevpo.networks.layers import Critic, EnsembleLinear, Normalizer
from go2_sevpo.policies.choice import (
    IN_ORDER,
    LIMITED,
    check_choice,
    choose,
    first_safe_or,
    with_uniform,
)

LATENT_RANGE = 0.5
"""Latents are clipped to this on either side."""


def hidden_sizes(module: Mlp) -> List[int]:
    """Widths of a plain network's hidden layers."""
    return [layer.out_features for layer in policy_layers(module)[:-1]]


def perturbed(
    decoder: Mlp, actor: Mlp, phi: float, obs: torch.Tensor, noise: torch.Tensor
) -> torch.Tensor:
    """BCQ's actions (B, A): decoded from clipped latents and moved by at most ``phi``.

    Args:
        decoder: (s, z) -> action before the tanh.
        actor: (s, a) -> move before the tanh, in units of ``phi``.
        phi: see above.
        obs: (B, S).
        noise: (B, Z), standard normal.
    """
    act = torch.tanh(decoder(obs, noise.clamp(-LATENT_RANGE, LATENT_RANGE)))
    return (act + phi * torch.tanh(actor(obs, act))).clamp(-1.0, 1.0)


class ChosenPolicy(nn.Module):
    """What the policies of this file share: candidates, critics, choice.

    Inputs and outputs as :class:`go2_sevpo.policies.torch_policy.DiffusionPolicy`'s. There is no
    V_c; the cost value is the Q_c of the action taken, 0 where no critic is asked.
    """

    needs_cost = False
    steps = 1
    """T: rows (A,) of noise that a candidate takes."""

    def __init__(
        self,
        normalizer: Normalizer,
        choice: str,
        cost_critic: Optional[Critic],
        reward_critic: Optional[Critic],
        limit: float,
    ) -> None:
        super().__init__()
        check_choice(choice, cost_critic, reward_critic)
        self.normalizer, self.choice, self.limit = normalizer, choice, limit
        self.cost_critic, self.reward_critic = cost_critic, reward_critic

    def propose(self, obs: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
        """Candidates (B, N, A) at normalised ``obs`` (B, S) from ``noise`` (B, N, T, A)."""
        raise NotImplementedError

    def forward(
        self, observation: torch.Tensor, noise: torch.Tensor
    ) -> Tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Act; see the class."""
        obs = self.normalizer(observation)
        if self.choice in IN_ORDER and self.cost_critic is not None:
            first = self.propose(obs, noise[:, :1])[:, 0]
            action, candidate = first_safe_or(
                obs, noise, first, self.cost_critic, self.limit, self._chosen
            )
        else:
            needed = noise[:, :1] if self.choice == "first" else noise
            action, candidate = self._chosen(obs, needed)
        if self.choice == "first" or self.cost_critic is None:
            return action, obs[:, 0] * 0.0, candidate
        return action, self.cost_critic(obs, action).amax(0), candidate

    def _chosen(self, obs: torch.Tensor, noise: torch.Tensor) -> Tuple[torch.Tensor, torch.Tensor]:
        """Action (B, A) and its number (B,) among all candidates of ``noise`` (B, N, T, A)."""
        actions = self.propose(obs, noise)
        own = actions.shape[1]
        if self.choice == "escape":
            actions = with_uniform(actions, noise)
        critics = self.cost_critic, self.reward_critic
        candidate = choose(obs, actions, own, self.choice, *critics, self.limit)
        place = candidate[:, None, None].expand(-1, 1, actions.shape[-1])  # (B, 1, A)
        return torch.gather(actions, 1, place).squeeze(1), candidate

    def describe(self) -> Dict[str, Any]:
        """Plain data from which :func:`empty_squashed` rebuilds the module's shape."""
        raise NotImplementedError

    def _described(self) -> Dict[str, Any]:
        hidden: Optional[List[int]] = None
        heads = 0
        if self.cost_critic is not None:
            inner = self.cost_critic.layers[:-1]
            hidden = [cast(EnsembleLinear, layer).weight.shape[2] for layer in inner]
            heads = self.cost_critic.heads
        return {
            "lidar": self.normalizer.lidar,
            "choice": self.choice,
            "limit": self.limit,
            "critic_hidden": hidden,
            "heads": heads,
            "reward_critic": self.reward_critic is not None,
        }

    @property
    def sampler(self) -> Dict[str, Any]:
        """Steps and choice, for the contract."""
        limit = {"limit": self.limit} if self.choice in LIMITED else {}
        return {
            "kind": "squashed",
            "steps": self.steps,
            "temperature": 1.0,
            "choice": self.choice,
            **limit,
            "noise_scale": 1.0,
        }


class SquashedPolicy(ChosenPolicy):
    """tanh of a Gaussian: candidate 0 is tanh of the mean, the others are samples."""

    def __init__(
        self,
        normalizer: Normalizer,
        actor: SquashedGaussian,
        choice: str = "first",
        cost_critic: Optional[Critic] = None,
        reward_critic: Optional[Critic] = None,
        limit: float = 0.0,
    ) -> None:
        super().__init__(normalizer, choice, cost_critic, reward_critic, limit)
        self.actor = actor

    def propose(self, obs: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
        """See :class:`ChosenPolicy`."""
        mean, std = self.actor.parameters_of(obs)  # (B, A) each
        spread = std.unsqueeze(1) * noise[:, :, 0]  # (B, N, A)
        # The first candidate has no noise.
        first = torch.arange(noise.shape[1], device=noise.device) > 0  # (N,)
        return torch.tanh(mean.unsqueeze(1) + spread * first[:, None].to(spread.dtype))

    def describe(self) -> Dict[str, Any]:
        """Plain data from which :func:`empty_squashed` rebuilds the module's shape."""
        layers = policy_layers(self.actor.body)
        sizes = [layers[0].in_features, *hidden_sizes(self.actor.body)]
        return {
            "type": "squashed",
            "sizes": [*sizes, layers[-1].out_features // 2],
            "log_std": list(self.actor.log_std),
            **self._described(),
        }


class PerturbedPolicy(ChosenPolicy):
    """BCQ's actor: draws of a VAE, perturbed; of 2 A latents, hence two rows of noise."""

    steps = 2

    def __init__(
        self,
        normalizer: Normalizer,
        decoder: Mlp,
        actor: Mlp,
        phi: float,
        choice: str = "first",
        cost_critic: Optional[Critic] = None,
        reward_critic: Optional[Critic] = None,
        limit: float = 0.0,
    ) -> None:
        super().__init__(normalizer, choice, cost_critic, reward_critic, limit)
        self.decoder, self.actor, self.phi = decoder, actor, phi

    def propose(self, obs: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
        """See :class:`ChosenPolicy`."""
        n = noise.shape[1]
        wide = obs.unsqueeze(1).expand(-1, n, -1).flatten(0, 1)  # (B N, S)
        z = noise[:, :, : self.steps].reshape(-1, self.steps * noise.shape[3])  # (B N, 2 A)
        actions = perturbed(self.decoder, self.actor, self.phi, wide, z)
        return actions.reshape(-1, n, noise.shape[-1])

    def describe(self) -> Dict[str, Any]:
        """Plain data from which :func:`empty_squashed` rebuilds the module's shape."""
        layers = policy_layers(self.decoder)
        n_act = layers[-1].out_features
        return {
            "type": "perturbed",
            "sizes": [layers[0].in_features - 2 * n_act, *hidden_sizes(self.actor), n_act],
            "decoder_hidden": hidden_sizes(self.decoder),
            "phi": self.phi,
            **self._described(),
        }


def empty_squashed(
    shape: Dict[str, Any], normalizer: Normalizer, choice: Optional[str]
) -> ChosenPolicy:
    """A policy of this file's ``describe``; ``choice`` replaces its own, if given."""
    n_obs, *hidden, n_act = shape["sizes"]
    cost: Optional[Critic] = None
    reward: Optional[Critic] = None
    if shape["critic_hidden"] is not None:
        cost = Critic(n_obs, n_act, shape["critic_hidden"], shape["heads"])
        if shape["reward_critic"]:
            reward = Critic(n_obs, n_act, shape["critic_hidden"], shape["heads"])
    chosen = (choice or shape["choice"], cost, reward, shape["limit"])
    if shape["type"] == "squashed":
        low, high = shape["log_std"]
        actor = SquashedGaussian(n_obs, n_act, hidden, log_std=(low, high))
        return SquashedPolicy(normalizer, actor, *chosen)
    decoder = Mlp(n_obs + 2 * n_act, shape["decoder_hidden"], n_act)
    move = Mlp(n_obs + n_act, hidden, n_act, activation=nn.Tanh)
    return PerturbedPolicy(normalizer, decoder, move, shape["phi"], *chosen)


__all__ = [
    "LATENT_RANGE",
    "ChosenPolicy",
    "PerturbedPolicy",
    "SquashedPolicy",
    "empty_squashed",
    "hidden_sizes",
    "perturbed",
]
