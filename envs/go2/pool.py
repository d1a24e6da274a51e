"""The courses an environment draws from, and the curriculum over their levels."""

from __future__ import annotations

import math
from typing import List, Tuple

import torch

from go2_sevpo.envs.go2.config import ParkourConfig
from go2_sevpo.envs.go2.description.course import Course, make_course


class CoursePool:
    """All courses of a configuration: by kind, then level (with a curriculum), then variant."""

    def __init__(self, config: ParkourConfig) -> None:
        self.config = config
        self.levels = config.levels if config.curriculum else 1
        self.courses: List[Course] = []
        for kind in config.courses:
            count = 1 if kind == "flat" else config.variants
            for level in range(self.levels):
                first = config.course_seed + level * config.variants
                difficulty = self.difficulty(level)
                self.courses.extend(
                    make_course(kind, difficulty, first + k % count, config.shape)
                    for k in range(config.variants)
                )

    def difficulty(self, level: int) -> float:
        """Difficulty of a curriculum level, or the configured one."""
        if not self.config.curriculum:
            return self.config.difficulty
        return self.config.max_level_difficulty * level / max(self.levels - 1, 1)

    def tables(self) -> Tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Waypoints (C, W, 3), m; number of the last one (C,); tilt of their stones (C, W), rad.

        W is one more than the longest course has; waypoints are padded with the destination, tilts
        with 0.
        """
        longest = max(len(c.waypoints) for c in self.courses) + 1
        ways = [torch.from_numpy(c.waypoints).float() for c in self.courses]
        padded = torch.stack([torch.cat([w, w[-1:].expand(longest - len(w), 3)]) for w in ways])
        rolls = []
        for course in self.courses:
            # Without the two platforms; a stone's quaternion is a turn about x, (cos, sin, 0, 0).
            stones = course.boxes[1:-1]
            angles = [2.0 * math.atan2(b.quaternion[1], b.quaternion[0]) for b in stones]
            rolls.append(angles + [0.0] * (longest - len(angles)))
        return padded, torch.tensor([len(w) - 1 for w in ways]), torch.tensor(rolls)

    def draw(
        self, ids: torch.Tensor, levels: torch.Tensor, generator: torch.Generator
    ) -> Tuple[torch.Tensor, torch.Tensor]:
        """Kind and course numbers (K,) for worlds ``ids`` (K,) with ``levels`` (K, kinds).

        With a curriculum both are drawn; without, world i always gets the same kind by share and
        variant number i.
        """
        c, n, device = self.config, len(ids), ids.device
        shares = torch.tensor(c.shares, device=device)  # (kinds,)
        if c.curriculum:
            kind = torch.multinomial(shares, n, replacement=True, generator=generator)
            level = levels.gather(1, kind[:, None])[:, 0]  # (K,), the level within the kind drawn
            variant = torch.randint(c.variants, (n,), generator=generator, device=device)
            return kind, (kind * self.levels + level) * c.variants + variant
        # World i + 1/2 falls between two cumulated shares; the clamp is for rounding of the last.
        edges = shares.cumsum(0) / shares.sum() * c.num_envs
        kind = torch.bucketize(ids.float() + 0.5, edges).clamp_max(len(c.courses) - 1)
        return kind, kind * c.variants + ids % c.variants

    def next_level(
        self,
        level: torch.Tensor,
        success: torch.Tensor,
        early: torch.Tensor,
        generator: torch.Generator,
    ) -> torch.Tensor:
        """Levels (K,) after an episode: up on success (K,), down after an ``early`` end (K,).

        From the top the way leads to a random level, no lower than the middle.
        """
        top = self.levels - 1
        up = level + success.long() - (early & ~success).long()
        again = torch.randint(self.levels, up.shape, generator=generator, device=level.device)
        return torch.where(up > top, again.clamp_min(top // 2), up.clamp(0, top))
