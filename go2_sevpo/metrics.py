"""Rates with intervals, and the one text they are shown as."""

from __future__ import annotations

import math
from typing import Sequence, Tuple


def wilson(successes: int, n: int, z: float = 1.959963984540054) -> Tuple[float, float]:
    """Wilson's 95% interval of a rate, as shares in [0, 1].

    Raises:
        ValueError: ``n`` below 1, or ``successes`` outside 0..n.
    """
    if n < 1 or not 0 <= successes <= n:
        raise ValueError(
            f"{successes} successes in {n} trials, "
            "expected 0 <= successes <= trials and trials >= 1"
        )
    p = successes / n
    # The rates q with |p - q| <= z sqrt(q (1 - q) / n) are those within centre +- half.
    centre = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n)) / (1 + z * z / n)
    # At 0 and n the closed form is exact up to rounding; say 0 and 1.
    low = 0.0 if successes == 0 else centre - half
    high = 1.0 if successes == n else centre + half
    return low, high


def percent(rate: float, interval: Sequence[float], digits: int = 1, sign: str = "%") -> str:
    """A rate with its interval as it is shown everywhere: ``97.4% [96.2, 98.2]``.

    Args:
        rate: in [0, 1], like the ends of ``interval``.
        interval: its lower and upper end.
        digits: behind the point.
        sign: what follows the rate.
    """
    low, high = interval
    return f"{100 * rate:.{digits}f}{sign} [{100 * low:.{digits}f}, {100 * high:.{digits}f}]"
