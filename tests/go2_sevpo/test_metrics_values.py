"""Wilson's interval against its closed form, the score test's roots and scipy's."""

import inspect
import math
from statistics import NormalDist

import pytest

from go2_sevpo.metrics import wilson


@pytest.mark.parametrize(
    "successes, n", [(1, 7), (3, 10), (6, 7), (17, 20), (50, 100), (999, 1000)]
)
@pytest.mark.parametrize("confidence", [0.95, 0.8])
def test_bounds_are_the_rates_the_score_test_just_accepts(successes, n, confidence):
    """(p - r)^2 = z^2 r (1 - r) / n for both bounds r (Wilson 1927), the lower below p and the
    upper above.
    """
    z = NormalDist().inv_cdf(0.5 + confidence / 2.0)
    low, high = wilson(successes, n) if confidence == 0.95 else wilson(successes, n, z)
    p = successes / n
    assert 0.0 < low < p < high < 1.0
    for rate in (low, high):
        assert (p - rate) ** 2 == pytest.approx(z * z * rate * (1.0 - rate) / n, rel=1e-9)


@pytest.mark.parametrize("successes, n", [(0, 1), (1, 1), (0, 10), (10, 10), (3, 10), (17, 20)])
def test_bounds_are_scipys(successes, n):
    stats = pytest.importorskip("scipy.stats")
    expected = stats.binomtest(successes, n).proportion_ci(0.95, method="wilson")
    assert wilson(successes, n) == pytest.approx((expected.low, expected.high), rel=1e-9, abs=1e-12)


def test_ends_are_exact():
    z = 1.959963984540054  # the normal distribution's 97.5% point
    assert inspect.signature(wilson).parameters["z"].default == z
    for n in (1, 3, 7, 49, 1000):
        low, high = wilson(0, n)
        assert low == 0.0 and high == pytest.approx(z * z / (n + z * z), rel=1e-12)
        low, high = wilson(n, n)
        assert high == 1.0 and low == pytest.approx(n / (n + z * z), rel=1e-12)
    assert math.isclose(NormalDist().inv_cdf(0.975), z, rel_tol=1e-12)


@pytest.mark.parametrize("successes, n", [(0, 0), (-1, 5), (6, 5), (0, -1)])
def test_impossible_counts_are_refused(successes, n):
    with pytest.raises(
        ValueError,
        match=f"^{successes} successes in {n} trials, expected 0 <= successes <= trials and "
        f"trials >= 1",
    ):
        wilson(successes, n)
