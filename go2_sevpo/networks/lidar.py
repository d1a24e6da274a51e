"""How near the things are that a lidar sees, for networks."""

from __future__ import annotations

from typing import Optional, Tuple

import torch

Lidar = Tuple[int, float]
"""Index of the first lidar reading (the others follow to the observation's end), and a length in
shares of the lidar's range.
"""


def with_nearness(obs: torch.Tensor, lidar: Optional[Lidar]) -> torch.Tensor:
    """Observations (B, S) with the nearness of every lidar reading behind them.

    Nearness is exp(-distance / length), of a reading 1 - distance (0: nothing there). A reading
    changes by a fifteenth of its range over the last 0.2 m before a hazard, which networks learn
    only from many trajectories; its nearness changes by half. As it is if there is no lidar.
    """
    if lidar is None:
        return obs
    first, length = lidar
    reading = obs[..., first:]  # (B, L)
    near = torch.exp((reading - 1.0) / length)
    return torch.cat([obs, near * (reading > 0).to(obs.dtype)], dim=-1)  # (B, S + L)
