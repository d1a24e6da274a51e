"""Stage 1 of SEVPO: cost values under the most conservative policy (Eqs. 6, 7).

They define the regions. Also used by cloning with a choice of candidates by Q_c.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Dict, Optional, Tuple, Union

import torch

from go2_sevpo.algorithms import base, regions
from go2_sevpo.data.dataset import Batch, OfflineDataset
from go2_sevpo.networks.layers import Critic, Value, polyak

BOOTSTRAPS = ("terminals", "release", "printed")
FALLS = ("end", "absorbing")
CHUNK = 65536
"""Rows judged at a time."""


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

    It is converted by :func:`regions.state_limit` over ``horizon``, with the discount of the values
    it is compared with, alpha gamma.
    """
    horizon: int = 1000
    false_alarms: Optional[float] = None
    """If given, replaces ``limit`` when stage 1 is done: l is then the V_c that only this share of
    the calm steps exceeds, those behind which the data do not fall for ``calm_steps`` steps.
    """
    calm_steps: int = 100
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

    The authors' code does the latter; the equations as ``printed`` never end.
    """
    falls: str = "end"
    """What a fall's last step costs in Eq. 7: what was measured (its costs ``end`` with the
    episode), or that for ever, cost / (1 - alpha gamma) (``absorbing``).
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
        check_choice(self, "falls", FALLS)
        if not 0.0 < self.gamma < 1.0:
            raise ValueError(f"gamma is {self.gamma}, expected a number in (0, 1)")
        if not 0.5 <= self.tau < 1.0:
            raise ValueError(f"tau is {self.tau}, expected a number in [0.5, 1)")
        if not 0.0 < self.alpha <= 1.0:
            raise ValueError(f"alpha is {self.alpha}, expected a number in (0, 1]")
        if self.false_alarms is not None and not 0.0 <= self.false_alarms < 1.0:
            raise ValueError(
                f"false_alarms is {self.false_alarms}, expected a share in [0, 1) of the calm steps"
            )

    @property
    def discount(self) -> float:
        """Discount alpha gamma of V_c and Q_c."""
        return self.alpha * self.gamma

    def fall_factor(self) -> float:
        """What the cost of a fall's last step is multiplied by: 1, or 1 / (1 - alpha gamma)."""
        return 1.0 / (1.0 - self.discount) if self.falls == "absorbing" else 1.0


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
        limit: l in units of discounted cost value; with ``false_alarms`` and members (members, 1).
        limit_settled: whether ``false_alarms`` has decided it.
        critics_trained: steps of stage 1 done so far.
    """

    modules: Tuple[str, ...] = ("v_c", "q_c", "q_c_target")
    optimizers: Tuple[str, ...] = ("v_optimizer", "q_optimizer")

    config: ConservativeConfig
    limit: Union[float, torch.Tensor]

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
        self.limit = self.threshold(c.limit, c.episode_limit, c.discount)
        self.limit_settled = c.false_alarms is None

    def make_critic(self) -> Critic:
        """A two-headed critic of the dataset's sizes."""
        n_obs, n_act, hidden = self.sizes
        return Critic(n_obs, n_act, hidden, members=self.members).to(self.device)

    def make_value(self) -> Value:
        """A value network of the dataset's sizes."""
        return Value(self.sizes[0], self.sizes[2], self.members).to(self.device)

    def threshold(self, value: float, per_episode: Optional[float], discount: float) -> float:
        """A limit in units of a cost value with this ``discount``.

        ``per_episode``, if given, is converted.
        """
        c = self.config
        if per_episode is None:
            return value
        return regions.state_limit(per_episode, discount, c.horizon, c.cost_scale)

    def limit_of(self, member: int) -> float:
        """The limit of one member."""
        return float(self.limit.reshape(-1)[member] if torch.is_tensor(self.limit) else self.limit)

    @torch.no_grad()
    def settle_limit(self, data: OfflineDataset) -> None:
        """Set l by ``false_alarms``, once stage 1 is done; nothing to do without it, or again.

        Raises:
            ValueError: no calm step in the data.
        """
        c = self.config
        if c.false_alarms is None or self.limit_settled:
            return
        rows = data.calm_rows(c.calm_steps)
        if not len(rows):
            raise ValueError(
                f"false_alarms needs steps behind which the data do not fall for {c.calm_steps} "
                "steps, found none; give a limit (false_alarms=null limit=...)"
            )
        values = [
            # Every member judges the same rows.
            self.v_c(data.rows(part.expand(self.shape(len(part)))).obs)
            for part in rows.split(CHUNK)
        ]
        limit = regions.upper_quantile(torch.cat(values, -1), c.false_alarms)  # () or (members,)
        self.limit = float(limit) if self.members is None else limit[:, None]
        self.limit_settled = True

    def alive(self, batch: Batch) -> torch.Tensor:
        """1 where the backup goes on, else 0, (B,)."""
        if self.config.bootstrap == "printed":
            return torch.ones_like(batch.terminal)
        if self.config.bootstrap == "terminals":
            return 1.0 - batch.terminal
        return 1.0 - torch.maximum(batch.terminal, batch.timeout)

    def seen_cost(self, cost: torch.Tensor, fall: Optional[torch.Tensor]) -> torch.Tensor:
        """Costs (B,) as Eq. 7 sees them: scaled, and those of a fall's last step for ever.

        ``fall`` (B,) is 1 on such steps; the latter only if ``falls`` says so.
        """
        c = self.config
        cost = c.cost_scale * cost
        if c.falls == "absorbing":
            assert fall is not None
            cost = torch.where(fall > 0, c.fall_factor() * cost, cost)
        return cost

    def state_dict(self) -> Dict[str, Any]:
        """See :class:`base.Algorithm`."""
        state = {**super().state_dict(), "critics_trained": self.critics_trained}
        if self.config.false_alarms is not None and self.limit_settled:
            state["limit"] = torch.as_tensor(self.limit)
        return state

    def load_state_dict(self, state: Dict[str, Any]) -> None:
        """See :class:`base.Algorithm`."""
        super().load_state_dict(state)
        self.critics_trained = state["critics_trained"]
        if "limit" in state:
            limit = state["limit"].to(self.device)
            self.limit = float(limit) if self.members is None else limit
            self.limit_settled = True

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
            cost = self.seen_cost(batch.cost, batch.fall)
            target = cost + c.alpha * c.gamma * self.alive(batch) * after
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
    "FALLS",
    "ConservativeConfig",
    "ConservativeCritics",
    "check_choice",
    "expectile_loss",
]
