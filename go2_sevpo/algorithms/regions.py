"""Safe and unsafe regions (paper, Algorithm 1, lines 7-8) and the conversion of cost limits."""

from __future__ import annotations

from typing import Tuple, Union

import torch


def state_limit(episode_limit: float, gamma: float, horizon: int, cost_scale: float = 1.0) -> float:
    """Discounted value of spreading ``episode_limit`` evenly over ``horizon`` steps, scaled.

    l (1 - gamma^T) / ((1 - gamma) T) times ``cost_scale``: the conversion used by CPQ, FISOR and
    OSRL.

    Raises:
        ValueError: gamma outside (0, 1) or a horizon below 1.
    """
    if not 0.0 < gamma < 1.0 or horizon < 1:
        raise ValueError(
            f"gamma is {gamma} and horizon {horizon}, expected 0 < gamma < 1 and horizon >= 1"
        )
    return cost_scale * episode_limit * (1.0 - gamma**horizon) / ((1.0 - gamma) * horizon)


def upper_quantile(values: torch.Tensor, share: float) -> torch.Tensor:
    """The least of ``values`` (..., M) that at most this ``share`` of them exceeds, (...,)."""
    m = values.shape[-1]
    # kthvalue, as torch.quantile takes no more than 16 million numbers; the share times m is
    # rounded first, or 0.1 * 30 would be a little more than 3.
    above = min(int(round(share * m, 6)), m - 1)
    return values.kthvalue(m - above, dim=-1).values


def split(
    v_c: torch.Tensor, q_c: torch.Tensor, limit: Union[float, torch.Tensor]
) -> Tuple[torch.Tensor, torch.Tensor]:
    """Masks (B,) of S1 = {V_c <= l, Q_c <= l} and S2 = {V_c > l}; V_c <= l < Q_c is in neither."""
    unsafe = v_c > limit
    return ~unsafe & (q_c <= limit), unsafe


def cost_ahead(
    cost: torch.Tensor, value: torch.Tensor, last_row: torch.Tensor, steps: int
) -> torch.Tensor:
    """Cost of following the data for ``steps`` transitions and of what is to come then, (..., M).

    The window ends with the episode at the latest.

    Args:
        cost: (M,) of every transition, not discounted within the window.
        value: (..., M) cost value of every transition's successor; 0 where nothing follows.
        last_row: (M,) the last row of each row's episode.
        steps: at least 1.
    """
    row = torch.arange(len(cost), device=cost.device)
    end = torch.minimum(row + steps - 1, last_row)  # the window's last row
    # Cost before each row, (M + 1,); in float64, as the sum runs over all of the data.
    total = torch.cat([cost.new_zeros(1, dtype=torch.float64), cost.double().cumsum(0)])
    return (total[end + 1] - total[row]).float() + value[..., end]
