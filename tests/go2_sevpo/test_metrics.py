import pytest

from go2_sevpo.metrics import wilson


def test_wilson_matches_published_values():
    assert wilson(17, 20) == pytest.approx(
        (0.6396, 0.9476), abs=1e-4
    )  # the paper's 85% of 20 episodes
    assert wilson(0, 10) == pytest.approx((0.0, 0.2775), abs=1e-4)
    assert wilson(10, 10) == pytest.approx((0.7225, 1.0), abs=1e-4)


def test_wilson_refuses_impossible_counts():
    with pytest.raises(ValueError, match="5 successes in 3 trials"):
        wilson(5, 3)
