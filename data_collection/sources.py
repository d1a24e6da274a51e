"""What a collection is made of: so many episodes of a policy on a course, perhaps of two."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from typing import Any, Dict, Optional, Tuple

from go2_sevpo.envs.go2.description.course import KINDS


@dataclass(frozen=True)
class Source:
    """One part of a mix: ``episodes`` of ``policy`` on ``course``.

    ``noise`` scales a Gaussian policy's own noise.
    """

    policy: str
    course: str
    episodes: int
    difficulty: float = 1.0
    noise: float = 0.5
    then: Optional[str] = None
    """A second policy that takes over; who acts is recorded at every step."""
    after: Optional[Tuple[float, float]] = None
    """It does so at a time of the episode drawn from these, s."""
    before_fall: Optional[Tuple[float, float]] = None
    """Or a time before the first policy's own fall, drawn from these, s; episodes in which that one
    does not fall are left out.
    """
    push_speed: Optional[float] = None
    """Largest push along x and along y, m/s; the environment's own if not given."""
    mid_course: bool = False
    """Start on a random stone."""
    falls_only: bool = False
    """Keep only the episodes that end in a fall."""

    def __post_init__(self) -> None:
        """Check the values.

        Raises:
            ValueError: naming what was found and what was expected.
        """
        if self.course not in KINDS:
            raise ValueError(f"unknown course '{self.course}', expected one of {', '.join(KINDS)}")
        if self.episodes < 1:
            raise ValueError(f"episodes is {self.episodes}, expected at least 1")
        given = [n for n in ("after", "before_fall") if getattr(self, n) is not None]
        if len(given) != (1 if self.then else 0):
            raise ValueError(
                f"a source has then {self.then} and {', '.join(given) or 'no time'}; expected both "
                "a policy that takes over and its time (after or before_fall), or neither"
            )
        for name in given:
            times = getattr(self, name)
            if len(times) != 2 or not 0.0 <= times[0] <= times[1]:
                raise ValueError(
                    f"{name} is {list(times)}, expected two times, s, the earlier first"
                )
            object.__setattr__(self, name, (float(times[0]), float(times[1])))
        if self.push_speed is not None and not self.push_speed >= 0:
            raise ValueError(f"push_speed is {self.push_speed}, expected at least 0 m/s")

    @property
    def policies(self) -> Tuple[str, ...]:
        """Who acts, in turn."""
        return (self.policy,) if self.then is None else (self.policy, self.then)


PLAIN = ("policy", "course", "episodes", "difficulty", "noise")


def plain(source: Source) -> Dict[str, Any]:
    """A source as JSON and YAML hold it; what was not given is left out."""
    values = asdict(source)
    found = {}
    for field in fields(source):
        value = values[field.name]
        if field.name in PLAIN or value != field.default:
            found[field.name] = list(value) if isinstance(value, tuple) else value
    return found


__all__ = ["Source", "plain"]
