"""Height look-ups: which cell a point falls into, on which course, and what lies there."""

import numpy as np
import pytest
import torch

from go2_sevpo.envs.go2.description.course import Box, Course
from go2_sevpo.envs.go2.description.terrain import TerrainMaps
from tests.envs.go2 import reference as ref

CPU = torch.device("cpu")
CELLS = ref.NX * ref.NY


def slab(top, floor):
    """One level stone from x = 0 to 2 and y = -0.5 to 0.5."""
    return Course(
        "simple",
        1.0,
        0,
        (Box((1.0, 0.0, top - 0.2), (1.0, 0.5, 0.2)),),
        np.zeros((1, 3)),
        floor,
        0.8,
    )


@pytest.fixture(scope="module")
def three():
    return TerrainMaps([slab(0.1, -0.3), slab(0.2, -0.6), ref.uneven_course()], CPU)


def test_maps_are_flat_single_precision_and_680_by_104(three):
    assert (three.nx, three.ny) == (680, 104)  # 17 x 2.6 m in cells of 2.5 cm
    for grid in (three.height, three.rim):
        assert grid.dtype == torch.float32
        assert grid.shape == (3 * CELLS,)


@pytest.mark.parametrize(
    ("course", "x", "y", "expected"),
    [
        (0, 0.51, 0.13, 0.1),
        (1, 0.51, 0.13, 0.2),
        (0, 0.51, 0.63, -0.3),  # left of the stone: the pit
        (1, 0.51, -0.63, -0.6),
        (1, -0.3, 0.0, -0.6),
        (0, 2.3, 0.0, -0.3),
    ],
)
def test_height_of_the_right_course(three, course, x, y, expected):
    cells = three.cells(torch.tensor([course]), torch.tensor([[[x, y]]]))
    assert three.height[cells].tolist() == [[pytest.approx(expected)]]
    # The rim goes on where the pit is.
    assert three.rim[cells].tolist() == [[pytest.approx(0.1 * (course + 1))]]


def test_cells_are_numbered_course_by_course_then_along_x_then_along_y(three):
    points = torch.tensor(
        [
            [[-1.19, -1.29], [-1.19, -1.26], [-1.16, -1.29]],
            [[0.01, 0.01], [0.01, -0.01], [15.79, 1.29]],
        ]
    )
    found = three.cells(torch.tensor([2, 1]), points)
    # x = 0.01 is 1.21 m from the near end (cell 48), y = 0.01 1.31 m from the right (cell 52).
    middle = CELLS + 48 * 104
    expected = [
        [2 * CELLS, 2 * CELLS + 1, 2 * CELLS + 104],
        [middle + 52, middle + 51, 2 * CELLS - 1],
    ]
    assert found.tolist() == expected
    assert found.dtype == torch.int64


@pytest.mark.parametrize(
    ("x", "i"),
    [(-1.2001, 0), (-1.5, 0), (-99.0, 0), (15.7999, 679), (15.81, 679), (99.0, 679)],
)
@pytest.mark.parametrize(
    ("y", "j"),
    [(-1.2999, 0), (-1.4, 0), (-9.0, 0), (1.2999, 103), (1.31, 103), (9.0, 103)],
)
def test_points_outside_use_the_border(three, x, y, i, j):
    found = three.cells(torch.tensor([1]), torch.tensor([[[x, y]]]))
    assert found.tolist() == [[CELLS + i * 104 + j]]


def test_cells_end_at_multiples_of_two_and_a_half_centimetres(three):
    for k in (3, 40, 55):
        x = [-1.2 + 0.025 * k - 0.0005, -1.2 + 0.025 * k + 0.0005]
        y = [-1.3 + 0.025 * k - 0.0005, -1.3 + 0.025 * k + 0.0005]
        points = torch.tensor([[[a, b] for a in x for b in y]])
        expected = [a * 104 + b for a in (k - 1, k) for b in (k - 1, k)]
        assert three.cells(torch.tensor([0]), points).tolist() == [expected]


def test_heights_of_an_uneven_course_are_those_at_the_cells_centres(three):
    rng = np.random.default_rng(3)
    points = np.stack([rng.uniform(-1.1, 3.2, 60), rng.uniform(-1.2, 1.2, 60)], axis=-1)
    cells = three.cells(torch.tensor([2]), torch.tensor(points[None], dtype=torch.float32))[0]
    course, centres = ref.uneven_course(), [ref.centre_of(*ref.cell_of(x, y)) for x, y in points]
    expected = [ref.surface(course, x, y) for x, y in centres]
    assert three.height[cells].numpy() == pytest.approx(np.array(expected), abs=1e-6)
    assert len(set(np.round(expected, 3))) > 20


def test_maps_go_to_the_given_device():
    maps = TerrainMaps([slab(0.1, -0.3)], torch.device("meta"))
    assert (maps.height.device.type, maps.rim.device.type) == ("meta", "meta")
    assert maps.height.shape == maps.rim.shape == (CELLS,)
