"""Regions (Algorithm 1, lines 7-8), the limit's conversion and the cost that following the data
leads to.
"""

import pytest
import torch

from go2_sevpo.algorithms import regions
from tests.conftest import needs_torch_2


@pytest.mark.parametrize(
    ("episode_limit", "gamma", "horizon", "cost_scale"),
    [(10.0, 0.5, 3, 1.0), (7.0, 0.9, 4, 2.5), (40.0, 0.99, 1000, 0.1), (3.0, 0.7, 1, 2.0)],
)
def test_the_limit_is_the_discounted_sum_of_an_even_spread(
    episode_limit, gamma, horizon, cost_scale
):
    # docs/algorithm.md: l (1 - gamma^T) / ((1 - gamma) T), here as the sum that it stands for
    expected = sum(gamma**t * cost_scale * episode_limit / horizon for t in range(horizon))
    assert regions.state_limit(episode_limit, gamma, horizon, cost_scale) == pytest.approx(
        expected, rel=1e-9
    )


def test_the_limit_by_hand_and_without_a_scale():
    # (1 + 1/2 + 1/4) 6 / 3 = 3.5
    assert regions.state_limit(6.0, 0.5, 3) == pytest.approx(3.5)
    assert regions.state_limit(6.0, 0.5, 3, 4.0) == pytest.approx(14.0)


@pytest.mark.parametrize(
    ("gamma", "horizon"), [(0.0, 5), (1.0, 5), (-0.1, 5), (1.5, 5), (0.9, 0), (0.9, -1)]
)
def test_a_gamma_or_horizon_without_a_meaning_is_an_error(gamma, horizon):
    expected = f"gamma is {gamma} and horizon {horizon}, expected 0 < gamma < 1 and horizon >= 1"
    with pytest.raises(ValueError, match=expected):
        regions.state_limit(1.0, gamma, horizon)


def test_regions_at_just_below_and_just_above_the_limit():
    limit = 0.75
    below, above = 0.7499999, 0.7500001
    values = [
        # V_c, Q_c, S1, S2
        (below, below, True, False),
        (limit, limit, True, False),
        (limit, above, False, False),  # a safe state with an unsafe action is in neither
        (below, above, False, False),
        (above, below, False, True),
        (above, above, False, True),
        (-1.0, -2.0, True, False),
    ]
    v_c, q_c = torch.tensor([row[0] for row in values]), torch.tensor([row[1] for row in values])
    safe, unsafe = regions.split(v_c, q_c, limit)
    assert safe.tolist() == [row[2] for row in values]
    assert unsafe.tolist() == [row[3] for row in values]
    assert safe.dtype == torch.bool and unsafe.dtype == torch.bool


COST = [1.0, 0.5, 0.0, 2.0, 0.25, 4.0, 8.0]
VALUE = [10.0, 20.0, 30.0, 40.0, 50.0, 60.0, 70.0]
LAST = [2, 2, 2, 6, 6, 6, 6]


@pytest.mark.parametrize(
    ("steps", "expected"),
    [
        # cost of this transition, then the value of its successor
        (1, [11.0, 20.5, 30.0, 42.0, 50.25, 64.0, 78.0]),
        # two transitions, cut at the episodes' ends (rows 2 and 6)
        (2, [21.5, 30.5, 30.0, 52.25, 64.25, 82.0, 78.0]),
        (3, [31.5, 30.5, 30.0, 66.25, 82.25, 82.0, 78.0]),
        (4, [31.5, 30.5, 30.0, 84.25, 82.25, 82.0, 78.0]),
        (99, [31.5, 30.5, 30.0, 84.25, 82.25, 82.0, 78.0]),
    ],
)
def test_the_cost_ahead_counts_exactly_the_window(steps, expected):
    value = torch.tensor([VALUE, [0.0] * 7])
    found = regions.cost_ahead(torch.tensor(COST), value, torch.tensor(LAST), steps)
    assert found.dtype == torch.float32 and found.shape == (2, 7)
    assert found[0].tolist() == expected
    ends = [min(row + steps - 1, LAST[row]) for row in range(7)]
    assert found[1].tolist() == [sum(COST[row : end + 1]) for row, end in zip(range(7), ends)]
    single = regions.cost_ahead(torch.tensor(COST), value[0], torch.tensor(LAST), steps)
    assert single.tolist() == expected


def test_small_costs_behind_a_great_sum_are_not_lost():
    # single precision holds 24 bits: 2^25 + 1 is 2^25, from which 2^25 leaves nothing
    cost = torch.tensor([2.0**25, 1.0, 0.5])
    found = regions.cost_ahead(cost, torch.zeros(3), torch.tensor([2, 2, 2]), 2)
    assert found.tolist() == [2.0**25, 1.5, 0.5]


@needs_torch_2
def test_the_cost_ahead_lies_where_the_costs_lie():
    """On torch's "meta" device, which has shapes but no numbers and mixes with no other."""
    there = torch.zeros(2, 7, device="meta")
    found = regions.cost_ahead(there[0], there, there[0].long(), 3)
    assert found.device == there.device and found.shape == (2, 7)
