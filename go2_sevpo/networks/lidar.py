"""How near the things are that a lidar sees, for networks."""

from __future__ import annotations

from typing import Optional, Tuple

import torch

Lidar = Tuple[int, float]
"""Index of the first lidar reading (the others follow to the observation's end), and a length in
shares of the lidar's range.
"""


def with_nearness(obs: torch.Tensor, lidar: Optional[Lidar]) -> torch.Tensor:
    """Observations (B, S) with exp(-distance / length) of every lidar reading (1 - distance; 0:
    nothing there) behind them.

    A reading changes by a fifteenth of its range over the last 0.2 m before a hazard, which
    networks learn only from many trajectories; its nearness changes by half. As it is if there is
    no lidar.
    """
    if lidar is None:
        return obs
    first, length = lidar
    reading = obs[..., first:]
    return torch.cat(
        [obs, torch.exp((reading - 1.0) / length) * (reading > 0).to(obs.dtype)], dim=-1
    )
