"""Behaviour cloning with the same diffusion actor as SEVPO: all data, or episodes within the cost limit only."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Dict, Optional, Tuple

import torch

from go2_sevpo.algorithms import base
from go2_sevpo.data.dataset import OfflineDataset
from go2_sevpo.networks import polyak
from go2_sevpo.policy import DiffusionPolicy


@dataclass(frozen=True)
class BcConfig:
    """Hyper-parameters of cloning."""

    safe_only: bool = False
    """Use only episodes without a fall whose summed cost is at most ``cost_limit`` (needs episode labels)."""
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


class BehaviorCloning(base.State):
    """Minimises the diffusion loss on the data, unweighted."""

    stages = ("policy",)
    modules = ("actor", "average")
    optimizers = ("optimizer",)

    def __init__(self, config: BcConfig, data: OfflineDataset) -> None:
        c = self.config = config
        self.actor = base.make_actor(data, c.actor, c.width, c.depth, c.dropout, c.diffusion_steps, c.prediction)
        self.actor.to(data.device)
        self.average = base.frozen_copy(self.actor)
        self.optimizer = base.adam(self.actor.parameters(), c.rate)
        self.normalizer = base.make_normalizer(data)
        self.rows: Optional[torch.Tensor] = None
        if c.safe_only:
            self.rows = data.safe_rows(c.cost_limit)
            if not len(self.rows):
                raise ValueError(
                    f"no episode without a fall has a cost of at most {c.cost_limit}; expected at least one"
                )

    def steps(self, stage: str) -> int:
        """See :class:`base.Algorithm`."""
        return self.config.steps

    def update(self, stage: str, step: int, data: OfflineDataset, generator: torch.Generator) -> Dict[str, Any]:
        """See :class:`base.Algorithm`."""
        base.set_rate(self.optimizer, base.cosine(self.config.rate, step, self.config.steps))
        batch = data.sample(self.config.batch, generator, self.rows)
        self.actor.train()
        loss, _, _ = base.cloning_loss(self.actor, batch.obs, batch.act, generator)
        self.optimizer.zero_grad(set_to_none=True)
        loss.mean().backward()
        self.optimizer.step()
        polyak(self.average, self.actor, max(self.config.ema, 1.0 / (step + 2)))
        return base.summary(actor_loss=loss)

    def policy(self, choice: Optional[str] = None) -> DiffusionPolicy:
        """See :class:`base.Algorithm`; cloning has no critics, so the first candidate is taken."""
        return DiffusionPolicy(self.normalizer, self.average, self.config.temperature)


__all__: Tuple[str, ...] = ("BcConfig", "BehaviorCloning")
