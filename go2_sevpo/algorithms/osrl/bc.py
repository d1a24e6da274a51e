"""Behaviour cloning as in OSRL: a deterministic tanh network and squared error.

``bc-osrl`` clones all data, ``bc-safe-osrl`` the episodes whose cost is at most the limit.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Optional

import numpy as np
import torch

from go2_sevpo.algorithms import base
from go2_sevpo.algorithms.osrl.common import Noise, OsrlConfig, OsrlState
from go2_sevpo.data.dataset import Batch, OfflineDataset
from go2_sevpo.networks.gaussian import Mlp, copy_mean, policy_layers
from go2_sevpo.policies.torch_policy import GaussianPolicy


@dataclass(frozen=True)
class BcOsrlConfig(OsrlConfig):
    """Hyper-parameters; the values are OSRL's."""

    safe_only: bool = False
    """Use only episodes whose summed cost is at most ``episode_limit``."""


class BcOsrl(OsrlState):
    """Minimises (tanh f(s) - a)^2."""

    stages = ("policy",)
    modules = ("actor",)
    optimizers = ("optimizer",)
    config: BcOsrlConfig

    def __init__(
        self, config: BcOsrlConfig, data: OfflineDataset, members: Optional[int] = None
    ) -> None:
        super().__init__(config, data, members)
        c = config
        self.actor = Mlp(self.n_obs, c.hidden, self.n_act, members).to(self.device)
        self.optimizer = base.adam(self.actor.parameters(), c.rate)
        self.rows: Optional[torch.Tensor] = None
        if c.safe_only:
            safe = np.asarray(data.episodes["cost"]) <= c.episode_limit
            if not safe.any():
                raise ValueError(
                    f"no episode has a cost of at most {c.episode_limit}; expected at least one"
                )
            mask = torch.from_numpy(safe).to(self.device)[data.episode_of_row()]
            self.rows = mask.nonzero()[:, 0]

    def draw(self, generator: torch.Generator) -> Noise:
        """See :class:`OsrlState`: none."""
        return {}

    def update(
        self, stage: str, step: int, data: OfflineDataset, generator: torch.Generator
    ) -> base.Metrics:
        """See :class:`base.Algorithm`."""
        batch = data.sample(self.shape(self.config.batch), generator, self.rows)
        return self.descend(stage, batch, {})

    def descend(self, stage: str, batch: Batch, noise: Noise) -> base.Metrics:
        """See :class:`OsrlState`."""
        loss = (torch.tanh(self.actor(batch.obs)) - batch.act).square().mean(-1)  # (B,)
        base.descend(self.optimizer, base.loss_of(loss))
        return base.summary(actor_loss=loss)

    def policy(self, choice: Optional[str] = None, member: int = 0) -> GaussianPolicy:
        """See :class:`base.Algorithm`; cloning has no critics, so ``choice`` has no meaning."""
        layers = policy_layers(self.one(self.actor, member))
        sizes = [layers[0].in_features, *(x.out_features for x in layers)]
        policy = GaussianPolicy(sizes, torch.zeros(self.n_act), 1.0, "relu", True, self.normalizer)
        copy_mean(layers, policy.mlp)
        return policy.eval()


__all__ = ["BcOsrl", "BcOsrlConfig"]
