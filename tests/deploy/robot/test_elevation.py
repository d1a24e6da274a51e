"""The rolling map on made surfaces whose heights are known."""

import numpy as np
import pytest

from go2_sevpo.deploy.robot.elevation import ElevationMap, Grid
from go2_sevpo.deploy.robot.messages.variable import HeightMap


def stairs(xy):
    """Two levels and a pit between them, m."""
    x = xy[..., 0]
    return np.where(x < 0.5, 0.1, np.where(x < 0.9, -1.2, 0.2))


def scan(rng, count=40000, sigma=0.01):
    xy = rng.uniform(-1.5, 1.5, (count, 2))
    return np.column_stack([xy, stairs(xy) + rng.normal(0, sigma, count)])


def test_cells_span_their_origin():
    grid = Grid((1.0, -1.0), 0.5, np.arange(6.0).reshape(2, 3))
    asked = np.array([[1.01, -0.99], [1.49, -0.51], [1.51, -0.99], [1.2, 0.4], [0.99, 0.0]])
    assert np.array_equal(grid.sample(asked), [0.0, 0.0, 3.0, 2.0, np.nan], equal_nan=True)


def test_a_map_goes_through_unitrees_message():
    rng = np.random.default_rng(0)
    height = rng.normal(size=(4, 7))
    height[2, 3] = np.nan
    grid = Grid((0.25, -0.75), 0.0625, height)
    raw = grid.to_message(1.0).to_bytes()
    message = HeightMap.from_bytes(raw)
    assert message.data.shape == (7, 4)  # rows along y
    again = Grid.from_message(message)
    xy = np.array([[0.25 + 0.0625 * 2.5, -0.75 + 0.0625 * 5.5]])
    assert again.sample(xy) == pytest.approx(height[2, 5])
    assert np.allclose(again.height, height, equal_nan=True)


def test_heights_come_out_and_what_nobody_saw_is_unknown():
    rng, elevation = np.random.default_rng(1), ElevationMap()
    elevation.move(np.zeros(3))
    for k in range(5):
        elevation.add(scan(rng), 0.1 * k)
    xy = rng.uniform(-1.3, 1.3, (500, 2))
    clear = (np.abs(xy[:, 0] - 0.5) > 0.05) & (np.abs(xy[:, 0] - 0.9) > 0.05)
    error = elevation.sample(xy[clear]) - stairs(xy[clear])
    assert np.abs(error).max() < 0.03 and np.abs(error.mean()) < 0.01
    assert np.isnan(elevation.sample(np.array([[1.8, 0.0], [5.0, 0.0]]))).all()


def test_the_map_follows_the_robot_and_keeps_its_cells():
    rng, elevation = np.random.default_rng(2), ElevationMap()
    elevation.move(np.zeros(3))
    elevation.add(scan(rng), 0.0)
    asked = np.array([[1.2, 0.3], [0.2, -0.4]])
    before = elevation.sample(asked)
    elevation.move(np.array([0.7, 0.1, 0.0]))
    assert np.array_equal(elevation.sample(asked), before)
    assert np.isfinite(elevation.sample(np.array([[-1.2, 0.0]]))).all()
    elevation.move(np.array([4.0, 0.0, 0.0]))
    assert np.isnan(elevation.sample(np.array([[0.2, -0.4]]))).all()
    elevation.move(np.array([40.0, 0.0, 0.0]))
    assert np.isnan(elevation.height).all()


def test_a_drift_in_height_moves_the_whole_map():
    rng, elevation = np.random.default_rng(3), ElevationMap()
    elevation.move(np.zeros(3))
    elevation.add(scan(rng), 0.0)
    elevation.move(np.array([0.5, 0.0, 0.0]))
    lifted = scan(rng, 15000)
    lifted = lifted[lifted[:, 0] > 0.95] + [0.0, 0.0, 0.04]  # only the far level is seen
    elevation.add(lifted, 0.1)
    behind = elevation.sample(np.array([[-0.5, 0.0], [0.0, 0.5], [0.3, -0.3]]))
    assert np.allclose(behind, 0.14, atol=0.015)


def test_what_contradicts_replaces():
    elevation = ElevationMap()
    elevation.move(np.zeros(3))
    at = np.array([[0.41, 0.01, 0.0]])
    elevation.add(at, 0.0)
    elevation.add(at - [0, 0, 1.0], 0.1)
    assert elevation.sample(at[:, :2]) == pytest.approx(-1.0)


def test_standing_feet_give_the_ground_around():
    elevation = ElevationMap()
    elevation.move(np.zeros(3))
    elevation.add(np.array([[0.21, 0.01, -0.5]]), 0.0)
    feet = np.array(
        [[0.2, 0.14, 0.02], [0.2, -0.14, 0.02], [-0.2, 0.14, -0.02], [-0.2, -0.14, -0.02]]
    )
    elevation.stand(feet)
    found = elevation.sample(np.array([[0.1, 0.1], [-0.3, 0.0], [0.21, 0.01], [0.7, 0.0]]))
    assert found[:2] == pytest.approx([0.01, -0.03], abs=0.003)
    assert found[2] == pytest.approx(-0.5)  # what was seen stays
    assert np.isnan(found[3])
