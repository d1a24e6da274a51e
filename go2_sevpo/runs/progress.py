"""How fast a long run is and how long it still takes, said in one way."""

from __future__ import annotations

import time


def duration(seconds: float) -> str:
    """A time left as people say it: ``40 s``, ``12 min``, ``3.5 h``."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"


class Progress:
    """Counts what is done of ``total``, from now on; ``done`` of it was there already.

    Attributes:
        total, done: in units of the work.
        paused: seconds that do not count.
    """

    def __init__(self, total: float, done: float = 0.0) -> None:
        self.total, self.done, self.paused = total, done, 0.0
        # What was there at the start was not done at this run's rate.
        self._first, self._start = done, time.perf_counter()

    @property
    def seconds(self) -> float:
        """Seconds since the beginning, without pauses."""
        return max(time.perf_counter() - self._start - self.paused, 1e-9)

    @property
    def rate(self) -> float:
        """Units per second."""
        return (self.done - self._first) / self.seconds

    @property
    def left(self) -> float:
        """Seconds that the rest will take at this rate; infinite before anything is done."""
        return (self.total - self.done) / self.rate if self.rate > 0 else float("inf")

    def advance(self, done: float) -> None:
        """Note that ``done`` more units are finished."""
        self.done += done

    def text(self) -> str:
        """The time left, as the end of a line of progress."""
        return f"ETA {duration(self.left)}" if self.rate > 0 else "ETA unknown"
