"""Height look-ups on rasterised courses, batched over worlds."""

from __future__ import annotations

from typing import Sequence

import numpy as np
import torch

from go2_sevpo.envs.go2.description import course as c


class TerrainMaps:
    """The maps of C courses, one after the other in memory, so that one index finds a cell.

    ``height`` and ``rim``, each (C * nx * ny,) float32, m; see
    :func:`go2_sevpo.envs.go2.description.course.height_maps`.
    """

    def __init__(self, courses: Sequence[c.Course], device: torch.device) -> None:
        maps = [c.height_maps(course) for course in courses]
        self.nx, self.ny = maps[0]["height"].shape
        self.height = self._flat([m["height"] for m in maps], device)
        self.rim = self._flat([m["rim"] for m in maps], device)

    def _flat(self, grids: Sequence[np.ndarray], device: torch.device) -> torch.Tensor:
        return torch.from_numpy(np.stack(grids)).reshape(-1).to(device)

    def cells(self, course_ids: torch.Tensor, xy: torch.Tensor) -> torch.Tensor:
        """Flat cell numbers (N, P) of points ``xy`` (N, P, 2), m, on courses (N,).

        Points outside the map use its border.
        """
        i = ((xy[..., 0] - c.MAP_X0) / c.MAP_RESOLUTION).long().clamp_(0, self.nx - 1)
        j = ((xy[..., 1] - c.MAP_Y0) / c.MAP_RESOLUTION).long().clamp_(0, self.ny - 1)
        # Row-major over (course, x, y); (N, 1) + (N, P) -> (N, P)
        return (course_ids[:, None] * self.nx + i) * self.ny + j
