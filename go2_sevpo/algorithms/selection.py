"""Which rows of the data a frozen stage 1 selects for the actor: S1, S2 and the draws from them."""

from __future__ import annotations

from typing import List, Optional, Tuple

import torch

from go2_sevpo.algorithms import regions
from go2_sevpo.algorithms.conservative import CHUNK
from go2_sevpo.algorithms.unsafe import UnsafeObjective
from go2_sevpo.data.dataset import Batch, OfflineDataset


class Selection:
    """S1 and S2 as masks over the data, and draws from the rows that matter to the actor.

    Stage 1 no longer changes, so the regions are found once. Rows in neither region weigh nothing
    in Eq. 16, and those of S2 nothing where there is no unsafe objective: drawing them would only
    make the batch smaller.

    Attributes:
        data: what was judged, if it was kept.
        safe, unsafe: (M,) or (members, M).
        shares: share of the data in S1 and in S2, () or (members,) each.
        count: rows to draw from, () or (members,).
        order: those rows first, (n,) or (members, n) with the largest count n.
    """

    def __init__(
        self,
        safe: torch.Tensor,
        unsafe: torch.Tensor,
        with_unsafe: bool,
        data: Optional[OfflineDataset] = None,
    ) -> None:
        """Keep the masks; ``with_unsafe`` draws from S2 too.

        Raises:
            ValueError: nothing to draw from.
        """
        self.safe, self.unsafe, self.data = safe, unsafe, data
        self.shares = safe.float().mean(-1), unsafe.float().mean(-1)
        useful = safe | unsafe if with_unsafe else safe
        self.count = useful.sum(-1)
        if int(self.count.min()) == 0:
            raise ValueError(
                "no transition of the data passes the region test; expected some within the limit l"
            )
        # Useful rows come first; members with fewer than the others are drawn less far.
        order = torch.sort(useful.int(), dim=-1, descending=True, stable=True).indices
        self.order = order[..., : int(self.count.max())]

    def sample(
        self, data: OfflineDataset, shape: Tuple[int, ...], generator: torch.Generator
    ) -> Batch:
        """Draw transitions with replacement, ``shape`` (B,) or (members, B)."""
        # In float64, as float32 has fewer numbers in [0, 1) than large data have rows.
        share = torch.rand(
            shape, generator=generator, device=self.order.device, dtype=torch.float64
        )
        place = (share * self.count[..., None]).long()
        return data.rows(self.order.gather(-1, place))

    def masks(self, batch: Batch) -> Tuple[torch.Tensor, torch.Tensor]:
        """S1 and S2 of a batch drawn from the data, (..., B) each."""
        assert batch.index is not None
        return self.safe.gather(-1, batch.index), self.unsafe.gather(-1, batch.index)


@torch.no_grad()
def select(algorithm: UnsafeObjective, data: OfflineDataset, with_unsafe: bool) -> Selection:
    """Judge all rows by an algorithm's stage 1 (Algorithm 1, lines 7-8).

    Also by ``lookahead``, if its configuration asks for it. ``with_unsafe``: see
    :class:`Selection`.

    Raises:
        ValueError: no row passes.
    """
    config, limit = algorithm.config, algorithm.limit
    safe: List[torch.Tensor] = []
    unsafe: List[torch.Tensor] = []
    after: List[torch.Tensor] = []
    for index in torch.arange(len(data), device=data.device).split(CHUNK):
        # Every member judges the same rows.
        batch = data.rows(index.expand(algorithm.shape(len(index))))
        # Of Q_c's heads the larger counts.
        q_c = algorithm.q_c_target(batch.obs, batch.act).amax(0)
        in_safe, in_unsafe = regions.split(algorithm.v_c(batch.obs), q_c, limit)
        safe.append(in_safe)
        unsafe.append(in_unsafe)
        if config.lookahead > 0:
            # max(V_c, 0) of the successor, as costs are never negative.
            value = algorithm.v_c(batch.next_obs).clamp_min(0.0)
            after.append(value * algorithm.alive(batch))
    mask = torch.cat(safe, -1)
    if config.lookahead > 0:
        # A fall costs here what it costs in Eq. 7.
        cost = algorithm.seen_cost(data.cost, data.fall)
        rest = torch.cat(after, -1)
        ahead = regions.cost_ahead(cost, rest, data.last_row(), config.lookahead)
        mask = mask & (ahead <= limit)
    return Selection(mask, torch.cat(unsafe, -1), with_unsafe, data)
