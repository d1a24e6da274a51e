"""Nearness of lidar readings in numbers."""

import math

import pytest
import torch

from go2_sevpo.networks.lidar import with_nearness


@pytest.mark.parametrize("length", [0.1, 0.5, 2.0])
def test_nearness_is_the_exponential_of_minus_the_distance_over_the_length(length):
    """A reading r stands for the distance 1 - r; 0 means that nothing is there."""
    obs = torch.tensor([[7.0, -3.0, 1.0, 0.75, 0.2], [0.5, 0.4, 0.0, 0.01, 0.999]])
    found = with_nearness(obs, (2, length))
    for row, seen in zip(obs.tolist(), found.tolist()):
        near = [0.0 if r == 0 else math.exp(-(1 - r) / length) for r in row[2:]]
        assert seen == pytest.approx(row + near, rel=1e-5)


def test_readings_of_zero_or_below_are_nothing():
    found = with_nearness(torch.tensor([[0.0, -0.5, 1e-6]]), (0, 1.0))
    assert found[0, 3:].tolist() == pytest.approx([0.0, 0.0, math.exp(-1)], rel=1e-5)


def test_any_leading_shape_and_type():
    obs = torch.rand(2, 3, 4, dtype=torch.float64)
    found = with_nearness(obs, (3, 0.2))
    assert found.shape == (2, 3, 5) and found.dtype == torch.float64
    torch.testing.assert_close(found[..., 4], torch.exp((obs[..., 3] - 1) / 0.2))
    torch.testing.assert_close(found[..., :4], obs)


def test_without_a_lidar_nothing_is_added():
    obs = torch.rand(2, 3)
    assert with_nearness(obs, None) is obs
