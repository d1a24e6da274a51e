"""Every range of seeds in one place: what one purpose draws, no other purpose ever sees.

A policy must not be judged on courses that it was trained, chosen or tuned on. Each purpose has a
range of its own, each ``--seed`` a part of that range, each episode one number of that part. Ranges
are laid end to end, so they cannot overlap; what does not fit is refused, never wrapped around.

Go2: the number is a course's seed (:func:`go2_sevpo.envs.go2.description.course.make_course`), and
the first number of a part seeds the simulation's noise there. Safety-Gymnasium: the number seeds
the environment's reset, which takes 32 bits. Reach-avoid: the number seeds a stream of random
states.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import List, Tuple


@dataclass(frozen=True)
class SeedRange:
    """``seeds`` parts of ``episodes`` numbers each, from ``first`` on."""

    purpose: str
    first: int
    seeds: int
    episodes: int

    @property
    def end(self) -> int:
        """First number beyond the range."""
        return self.first + self.seeds * self.episodes

    def number(self, seed: int, episode: int = 0, count: int = 1) -> int:
        """First of the ``count`` numbers of ``seed``'s episodes from ``episode`` on.

        Raises:
            ValueError: a seed or an episode that the range does not have.
        """
        if not 0 <= seed < self.seeds:
            raise ValueError(f"seed is {seed}, expected 0 to {self.seeds - 1} for {self.purpose}")
        if episode < 0 or count < 0 or episode + count > self.episodes:
            raise ValueError(
                f"{episode + count} episodes with one seed, expected at most {self.episodes} "
                f"for {self.purpose}; use several seeds"
            )
        return self.first + seed * self.episodes + episode


def _lay_out(*wanted: Tuple[str, int, int]) -> List[SeedRange]:
    """Ranges end to end from purpose, number of seeds, episodes per seed."""
    ranges: List[SeedRange] = []
    for purpose, seeds, episodes in wanted:
        ranges.append(SeedRange(purpose, ranges[-1].end if ranges else 0, seeds, episodes))
    return ranges


ANY = 2**31
"""Seeds a command accepts where there is room for them: 0 to 2147483646 and one more."""
SOURCES = 1000
"""Sources one mix may have; each collects from a part of its own."""

# Play stands second, right behind the courses that experts are trained on, where it always stood:
# ``go2-play --seed 1`` plays the courses behind the published figures.
TRAINING, PLAY, EVALUATION, LIMITS, GYMNASIUM, COLLECTION = _lay_out(
    ("training an expert", 1, 5_000_000),
    ("go2-play", ANY, 10_000),
    ("evaluation while training", ANY, 10_000),
    ("benchmarks.limits", ANY, 10_000),
    ("gymnasium.make", ANY, 1),
    ("go2-collect", ANY * SOURCES, 1_000_000),
)
GO2_RANGES = (TRAINING, PLAY, EVALUATION, LIMITS, GYMNASIUM, COLLECTION)

SAFETY_PLAY, SAFETY_EVALUATION, SAFETY_GENERATION, SAFETY_SEARCH, SAFETY_COLLECTION = _lay_out(
    ("go2-play", 80_000, 10_000),
    ("evaluation while training", 80_000, 10_000),
    ("go2-dsrl generate", 8_000, 100_000),
    ("the search behind go2-dsrl generate", 8_000, 100_000),
    ("go2-dsrl collect", 80_000, 10_000),
)
SAFETY_RANGES = (
    SAFETY_PLAY,
    SAFETY_EVALUATION,
    SAFETY_GENERATION,
    SAFETY_SEARCH,
    SAFETY_COLLECTION,
)

# What differs here is the stream, one number of a seed's part for each thing that is drawn.
REACH_AVOID_EXPERT, REACH_AVOID_DATA, REACH_AVOID_STARTS, REACH_AVOID_PLAY = _lay_out(
    ("the reach-avoid expert", ANY, 4),
    ("reach-avoid data", ANY, 2),
    ("reach-avoid evaluation starts", ANY, 1),
    ("playing on reach-avoid", ANY, 1_000),
)
REACH_AVOID_RANGES = (REACH_AVOID_EXPERT, REACH_AVOID_DATA, REACH_AVOID_STARTS, REACH_AVOID_PLAY)


def collection_number(seed: int, source: int, episode: int = 0, count: int = 1) -> int:
    """First number of ``count`` episodes of source number ``source`` of a collection.

    Raises:
        ValueError: a seed, a source or an episode that there is no room for.
    """
    if not 0 <= seed < ANY:
        raise ValueError(f"seed is {seed}, expected 0 to {ANY - 1} for {COLLECTION.purpose}")
    if not 0 <= source < SOURCES:
        raise ValueError(f"a mix has {source + 1} sources, expected at most {SOURCES}")
    return COLLECTION.number(seed * SOURCES + source, episode, count)


def play_stream(seed: int, batch: int) -> int:
    """Seed of the noise in batch number ``batch`` of ``go2-play``.

    Raises:
        ValueError: more batches than there is room for.
    """
    if not 0 <= batch < 1000:
        raise ValueError(
            f"{batch + 1} batches of episodes, expected at most 1000; use more --worlds"
        )
    return seed * 1000 + batch
