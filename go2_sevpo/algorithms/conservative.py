"""Stage 1 of SEVPO: cost values under the most conservative policy (Eqs. 6, 7).

They define the regions. Also used by cloning with a choice of candidates by Q_c.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Dict, Optional, Tuple

import torch

from go2_sevpo.algorithms import base, regions
from go2_sevpo.data.dataset import Batch, OfflineDataset
from go2_sevpo.networks.layers import Critic, Value, polyak

BOOTSTRAPS = ("terminals", "release")


@dataclass(frozen=True)
class ConservativeConfig:
    """Hyper-parameters of stage 1; the comments name the paper's symbol or Table 8's entry.

    Raises:
        ValueError: an option that is none, or a number out of its range.
    """

    # regions
    limit: float = 1.0
    """l, in units of discounted cost value."""
    episode_limit: Optional[float] = None
    """If given, replaces ``limit``: a cost per episode.

    It is converted by :func:`regions.state_limit` over ``horizon``.
    """
    horizon: int = 1000
    tau: float = 0.9
    """Expectile of Eq. 6."""
    gamma: float = 0.99
    alpha: float = 0.99
    """Weight of the bootstrap in Eq. 7: the probability of not reaching the emergency exit.

    1 is plain.
    """
    cost_scale: float = 1.0
    bootstrap: str = "terminals"
    """What ends a backup in Eqs. 7-9: ``terminals`` only, or with time-outs (``release``).

    The authors' code does the latter.
    """
    floor: bool = False
    """Bootstrap from max(V_c, 0).

    Costs are never negative, but regression errors drawn to the low side add up.
    """
    # training
    critic_steps: int = 1000000
    critic_batch: int = 256
    rate: float = 3e-4
    critic_decay: bool = False
    """Cosine decay of the critics' learning rate too (the actor's always decays).

    A smoother V_c then decides the regions.
    """
    target_rate: float = 0.005
    critic_hidden: Tuple[int, ...] = (256, 256)

    def __post_init__(self) -> None:
        """Check the options.

        Raises:
            ValueError: naming the option, what was found and what was expected.
        """
        check_choice(self, "bootstrap", BOOTSTRAPS)
        if not 0.0 < self.gamma < 1.0:
            raise ValueError(f"gamma is {self.gamma}, expected a number in (0, 1)")
        if not 0.5 <= self.tau < 1.0:
            raise ValueError(f"tau is {self.tau}, expected a number in [0.5, 1)")


def check_choice(config: object, name: str, known: Tuple[str, ...]) -> None:
    """Check that a setting is one of ``known``.

    Raises:
        ValueError: it is not.
    """
    found = getattr(config, name)
    if found not in known:
        raise ValueError(f"{name} is '{found}', expected one of {', '.join(known)}")


def expectile_loss(u: torch.Tensor, tau: float) -> torch.Tensor:
    """Eq. 6, elementwise: |tau - 1{u > 0}| u^2 with u = Q_c - V_c.

    tau > 0.5 pulls V_c towards the *least* cost: the weight is tau where Q_c < V_c, 1 - tau above.
    """
    return torch.abs(tau - (u > 0).float()) * u.square()


class ConservativeCritics(base.State):
    """V_c, Q_c and their training; the stage is called ``critics``.

    Attributes:
        limit: l in units of discounted cost value.
        critics_trained: steps of stage 1 done so far.
    """

    modules: Tuple[str, ...] = ("v_c", "q_c", "q_c_target")
    optimizers: Tuple[str, ...] = ("v_optimizer", "q_optimizer")

    config: ConservativeConfig

    def __init__(
        self, config: ConservativeConfig, data: OfflineDataset, members: Optional[int] = None
    ) -> None:
        c = self.config = config
        self.members, self.device, self.n_act = members, data.device, data.num_actions
        self.sizes = data.num_obs, data.num_actions, list(c.critic_hidden)
        self.v_c, self.q_c = self.make_value(), self.make_critic()
        self.q_c_target = base.frozen_copy(self.q_c)
        self.v_optimizer = base.adam(self.v_c.parameters(), c.rate)
        self.q_optimizer = base.adam(self.q_c.parameters(), c.rate)
        self.normalizer = base.make_normalizer(data)
        self.critics_trained = 0
        self.limit = self.threshold(c.limit, c.episode_limit)

    def make_critic(self) -> Critic:
        """A two-headed critic of the dataset's sizes."""
        n_obs, n_act, hidden = self.sizes
        return Critic(n_obs, n_act, hidden, members=self.members).to(self.device)

    def make_value(self) -> Value:
        """A value network of the dataset's sizes."""
        return Value(self.sizes[0], self.sizes[2], self.members).to(self.device)

    def threshold(self, value: float, per_episode: Optional[float]) -> float:
        """A limit in units of discounted cost value; ``per_episode``, if given, is converted."""
        c = self.config
        if per_episode is None:
            return value
        return regions.state_limit(per_episode, c.gamma, c.horizon, c.cost_scale)

    def alive(self, batch: Batch) -> torch.Tensor:
        """1 where the backup goes on, else 0, (B,)."""
        if self.config.bootstrap == "terminals":
            return 1.0 - batch.terminal
        return 1.0 - torch.maximum(batch.terminal, batch.timeout)

    def state_dict(self) -> Dict[str, Any]:
        """See :class:`base.Algorithm`."""
        return {**super().state_dict(), "critics_trained": self.critics_trained}

    def load_state_dict(self, state: Dict[str, Any]) -> None:
        """See :class:`base.Algorithm`."""
        super().load_state_dict(state)
        self.critics_trained = state["critics_trained"]

    def require_critics(self) -> None:
        """Refuse to go on before stage 1 was trained to its end.

        Raises:
            RuntimeError: it was not.
        """
        if self.critics_trained < self.config.critic_steps:
            raise RuntimeError(
                "the policy stage needs trained conservative critics: "
                f"found {self.critics_trained} steps of the critics stage, "
                f"expected {self.config.critic_steps}"
            )

    def update_conservative(self, batch: Batch) -> base.Metrics:
        """Eqs. 6 and 7 on one batch, with the learning rates and the count that go with it."""
        self.prepare_conservative()
        metrics = self.descend_conservative(batch)
        self.critics_trained += 1
        return metrics

    def prepare_conservative(self) -> None:
        """Set the learning rates of the next step."""
        c = self.config
        if c.critic_decay:
            for optimizer in (self.v_optimizer, self.q_optimizer):
                base.set_rate(optimizer, base.cosine(c.rate, self.critics_trained, c.critic_steps))

    def descend_conservative(self, batch: Batch) -> base.Metrics:
        """Eqs. 6 and 7 on one batch: what happens on the device."""
        c = self.config
        # Eq. 6; of the heads (H, B) the larger counts: where data are thin a state looks costlier.
        with torch.no_grad():
            q = self.q_c_target(batch.obs, batch.act).amax(0)
        v = self.v_c(batch.obs)
        v_loss = expectile_loss(q - v, c.tau)  # (B,)
        base.descend(self.v_optimizer, base.loss_of(v_loss))
        # Eq. 7 with the V_c just updated: Q_c -> c + alpha gamma V_c(s').
        with torch.no_grad():
            after = self.v_c(batch.next_obs)
            after = after.clamp_min(0.0) if c.floor else after
            target = c.cost_scale * batch.cost + c.alpha * c.gamma * self.alive(batch) * after
        q_loss = (self.q_c(batch.obs, batch.act) - target).square()  # (H, B)
        base.descend(self.q_optimizer, base.loss_of(q_loss))
        polyak(self.q_c_target, self.q_c, c.target_rate)
        # For the log only; the regions of stage 2 are found when this stage is done.
        safe, unsafe = regions.split(v.detach(), q, self.limit)
        return base.summary(
            v_loss=v_loss,
            q_loss=q_loss.sum(0),
            v_c=v,
            v_c_max=v.max(),
            q_c=q,
            safe_share=safe,
            unsafe_share=unsafe,
        )


__all__ = [
    "BOOTSTRAPS",
    "ConservativeConfig",
    "ConservativeCritics",
    "check_choice",
    "expectile_loss",
]
