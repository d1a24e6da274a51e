"""Behaviour cloning with the same diffusion actor as SEVPO.

All data (``bc``); episodes within the cost limit only (``bc-safe``); transitions behind which the
data's own cost stays within a limit for some steps (``bc-lookahead``: SEVPO's ``lookahead`` without
a critic); what one policy did, by the data's record of who acts (``bc-actor``); and the first two
with the candidate chosen by the conservative Q_c (``bc-choice``, ``bc-safe-choice``), which isolate
what the selecting critic does.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Optional, Tuple, Union

import torch

from go2_sevpo.algorithms import base, regions
from go2_sevpo.algorithms.conservative import ConservativeConfig, ConservativeCritics
from go2_sevpo.data.dataset import OfflineDataset
from go2_sevpo.networks.layers import polyak
from go2_sevpo.policies.torch_policy import DiffusionPolicy


@dataclass(frozen=True)
class BcConfig:
    """Hyper-parameters of cloning."""

    safe_only: bool = False
    """Use only episodes without a fall whose summed cost is at most ``cost_limit``.

    Needs episode labels.
    """
    cost_limit: float = 10.0
    steps: int = 10000
    batch: int = 256
    rate: float = 3e-4
    ema: float = 0.005
    # actor
    actor: str = "mlp"
    width: int = 256
    depth: int = 3
    dropout: float = 0.0
    diffusion_steps: int = 5
    prediction: str = "clean"
    temperature: float = 1.0


@dataclass(frozen=True)
class BcLookaheadConfig(BcConfig):
    """Hyper-parameters of cloning what the data's own costs say is safe; labels play no part.

    Raises:
        ValueError: a number out of its range.
    """

    lookahead: int = 100
    """Steps, the transition's own included; at most to the end of its episode."""
    window_limit: float = 0.9
    """Largest cost, not discounted, that the data may have in them."""

    def __post_init__(self) -> None:
        """Check the numbers.

        Raises:
            ValueError: what was found and what was expected.
        """
        if self.lookahead < 1:
            raise ValueError(f"lookahead is {self.lookahead}, expected at least 1 step")


@dataclass(frozen=True)
class BcActorConfig(BcConfig):
    """Hyper-parameters of cloning what one policy did."""

    actor_name: str = "expert"
    """Of the policy, as the data name it."""


@dataclass(frozen=True)
class BcChoiceConfig(ConservativeConfig):
    """Hyper-parameters of cloning with a choice by Q_c: stage 1's, then the actor's."""

    safe_only: bool = False
    """Clone only episodes without a fall whose summed cost is at most ``cost_limit``; the critics
    see all.
    """
    cost_limit: float = 10.0
    choice: str = "argmin_cost"
    """How a candidate is chosen; argmax_reward needs Q_r, which it lacks."""
    acting_share: float = 1.0
    """A choice by the limit judges by this share of it."""
    steps: int = 10000
    batch: int = 256
    ema: float = 0.005
    # actor
    actor: str = "mlp"
    width: int = 256
    depth: int = 3
    dropout: float = 0.0
    diffusion_steps: int = 5
    prediction: str = "clean"
    temperature: float = 1.0


ClonerConfig = Union[BcConfig, BcChoiceConfig]


class _Cloner(base.State):
    """The actor and its unweighted diffusion loss."""

    def make_cloner(self, config: ClonerConfig, data: OfflineDataset) -> None:
        """Build the actor, its average and its optimiser."""
        c = config
        self.actor = base.make_actor(
            data,
            c.actor,
            c.width,
            c.depth,
            c.dropout,
            c.diffusion_steps,
            c.prediction,
            self.members,
        )
        self.average = base.frozen_copy(self.actor)
        self.optimizer = base.adam(self.actor.parameters(), c.rate)
        self.rows: Optional[torch.Tensor] = None
        if c.safe_only:
            self.rows = data.safe_rows(c.cost_limit)
            if not len(self.rows):
                raise ValueError(
                    f"no episode without a fall has a cost of at most {c.cost_limit}; "
                    "expected at least one"
                )

    def clone(
        self,
        c: ClonerConfig,
        step: int,
        data: OfflineDataset,
        generator: torch.Generator,
        rows: Optional[torch.Tensor] = None,
    ) -> base.Metrics:
        """One step of cloning on ``rows`` (n,) of the data, or on all."""
        base.set_rate(self.optimizer, base.cosine(c.rate, step, c.steps))
        batch = data.sample(self.shape(c.batch), generator, rows)
        self.actor.train()
        loss, _, _ = base.cloning_loss(self.actor, batch.obs, batch.act, generator)
        base.descend(self.optimizer, base.loss_of(loss))
        # At first the mean over all steps, so that the initial weights do not linger.
        polyak(self.average, self.actor, max(c.ema, 1.0 / (step + 2)))
        return base.summary(actor_loss=loss)


class BehaviorCloning(_Cloner):
    """Minimises the diffusion loss on the data, unweighted."""

    stages = ("policy",)
    modules = ("actor", "average")
    optimizers = ("optimizer",)

    def __init__(
        self, config: BcConfig, data: OfflineDataset, members: Optional[int] = None
    ) -> None:
        self.config, self.members = config, members
        self.make_cloner(config, data)
        self.normalizer = base.make_normalizer(data)
        if isinstance(config, BcLookaheadConfig):
            nothing = torch.zeros_like(data.cost)  # no critic judges what comes behind the window
            ahead = regions.cost_ahead(data.cost, nothing, data.last_row(), config.lookahead)
            self.rows = (ahead <= config.window_limit).nonzero()[:, 0]
            if not len(self.rows):
                raise ValueError(
                    f"no transition has a cost of at most {config.window_limit:g} in the "
                    f"{config.lookahead} steps from it on; expected at least one"
                )
        elif isinstance(config, BcActorConfig):
            self.rows = data.actor_rows(config.actor_name)

    def steps(self, stage: str) -> int:
        """See :class:`base.Algorithm`."""
        return self.config.steps

    def update(
        self, stage: str, step: int, data: OfflineDataset, generator: torch.Generator
    ) -> base.Metrics:
        """See :class:`base.Algorithm`."""
        return self.clone(self.config, step, data, generator, self.rows)

    def policy(self, choice: Optional[str] = None, member: int = 0) -> DiffusionPolicy:
        """See :class:`base.Algorithm`; cloning has no critics, so the first candidate is taken."""
        return DiffusionPolicy(
            self.normalizer, self.one(self.average, member), self.config.temperature
        )


class BcChoice(_Cloner, ConservativeCritics):
    """Clones everything; SEVPO's stage-1 critics choose among the candidates."""

    stages = ("critics", "policy")
    modules = (*ConservativeCritics.modules, "actor", "average")
    optimizers = (*ConservativeCritics.optimizers, "optimizer")
    config: BcChoiceConfig

    def __init__(
        self, config: BcChoiceConfig, data: OfflineDataset, members: Optional[int] = None
    ) -> None:
        super().__init__(config, data, members)
        self.make_cloner(config, data)

    def steps(self, stage: str) -> int:
        """See :class:`base.Algorithm`."""
        return self.config.critic_steps if stage == "critics" else self.config.steps

    def update(
        self, stage: str, step: int, data: OfflineDataset, generator: torch.Generator
    ) -> base.Metrics:
        """See :class:`base.Algorithm`.

        Raises:
            RuntimeError: stage ``policy`` before stage ``critics`` was trained to its end.
        """
        if stage == "critics":
            return self.update_conservative(
                data.sample(self.shape(self.config.critic_batch), generator)
            )
        self.require_critics()
        self.settle_limit(data)
        return self.clone(self.config, step, data, generator, self.rows)

    def policy(self, choice: Optional[str] = None, member: int = 0) -> DiffusionPolicy:
        """See :class:`base.Algorithm`: the candidate with the least Q_c.

        ``argmax_reward`` needs Q_r, which it lacks.
        """
        return DiffusionPolicy(
            self.normalizer,
            self.one(self.average, member),
            self.config.temperature,
            choice or self.config.choice,
            cost_critic=self.one(self.q_c_target, member),
            cost_value=self.one(self.v_c, member),
            limit=self.config.acting_share * self.limit_of(member),
        )


__all__: Tuple[str, ...] = (
    *("BcActorConfig", "BcChoice", "BcChoiceConfig", "BcConfig", "BcLookaheadConfig"),
    "BehaviorCloning",
)
