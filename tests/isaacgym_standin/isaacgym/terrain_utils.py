"""Terrain generators under the names that legged_gym imports: terrains of these kinds, not the same
ones.
"""

import numpy as np


class SubTerrain:
    """Heights int16 (width, length), in units of ``vertical_scale`` m, ``horizontal_scale`` m
    apart.
    """

    def __init__(
        self,
        terrain_name="terrain",
        width=256,
        length=256,
        vertical_scale=1.0,
        horizontal_scale=1.0,
    ):
        self.terrain_name, self.width, self.length = terrain_name, width, length
        self.vertical_scale, self.horizontal_scale = vertical_scale, horizontal_scale
        self.height_field_raw = np.zeros((width, length), dtype=np.int16)


def _distance_inwards(terrain):
    """Distance of every point from the edge, m."""
    x, y = np.arange(terrain.width), np.arange(terrain.length)
    x, y = np.minimum(x, x[::-1]), np.minimum(y, y[::-1])
    return np.minimum(x[:, None], y[None]) * terrain.horizontal_scale


def _write(terrain, heights):
    terrain.height_field_raw[:] = np.rint(heights / terrain.vertical_scale)
    return terrain


def _inner(terrain, platform_size):
    half = min(terrain.width, terrain.length) * terrain.horizontal_scale / 2
    return max(half - platform_size / 2, 0.0)


def pyramid_sloped_terrain(terrain, slope=1, platform_size=1.0):
    """A pyramid with a flat top."""
    inwards = np.minimum(_distance_inwards(terrain), _inner(terrain, platform_size))
    return _write(terrain, slope * inwards)


def pyramid_stairs_terrain(terrain, step_width, step_height, platform_size=1.0):
    """Stairs on all four sides."""
    inwards = np.minimum(_distance_inwards(terrain), _inner(terrain, platform_size))
    return _write(terrain, step_height * np.floor(inwards / step_width))


def random_uniform_terrain(terrain, min_height, max_height, step=1, downsampled_scale=None):
    """Random heights, added to what is there."""
    cells = max(
        1, round((downsampled_scale or terrain.horizontal_scale) / terrain.horizontal_scale)
    )
    levels = np.arange(min_height, max_height + step, step)
    coarse = np.random.choice(levels, (terrain.width // cells + 1, terrain.length // cells + 1))
    fine = coarse.repeat(cells, 0).repeat(cells, 1)[: terrain.width, : terrain.length]
    return _write(terrain, terrain.height_field_raw * terrain.vertical_scale + fine)


def discrete_obstacles_terrain(
    terrain, max_height, min_size, max_size, num_rects, platform_size=1.0
):
    """Boxes up and down, a flat place in the middle."""
    heights = np.zeros((terrain.width, terrain.length))
    for _ in range(num_rects):
        size = np.random.uniform(min_size, max_size, 2) / terrain.horizontal_scale
        x, y = (np.random.randint(n) for n in heights.shape)
        level = np.random.choice([-max_height, -max_height / 2, max_height / 2, max_height])
        heights[x : x + int(size[0]), y : y + int(size[1])] = level
    heights[_distance_inwards(terrain) > _inner(terrain, platform_size)] = 0.0
    return _write(terrain, heights)


def stepping_stones_terrain(
    terrain, stone_size, stone_distance, max_height, platform_size=1.0, depth=-10
):
    """Stones over a pit."""
    heights = np.full((terrain.width, terrain.length), float(depth))
    stone = max(1, int(stone_size / terrain.horizontal_scale))
    period = stone + max(1, int(stone_distance / terrain.horizontal_scale))
    x, y = (np.arange(n) % period < stone for n in heights.shape)
    heights[np.ix_(x, y)] = 0.0
    heights[_distance_inwards(terrain) > _inner(terrain, platform_size)] = 0.0
    return _write(terrain, heights)


def convert_heightfield_to_trimesh(
    height_field_raw, horizontal_scale, vertical_scale, slope_threshold=None
):
    """Vertices (V, 3) float32, m, and triangles (T, 3) uint32, two a cell.

    Where it is steeper than ``slope_threshold`` the lower vertex moves under the upper one.
    """
    rows, cols = height_field_raw.shape
    z = height_field_raw.astype(np.float32) * vertical_scale
    x, y = np.meshgrid(np.arange(rows), np.arange(cols), indexing="ij")
    shift_x, shift_y = np.zeros((rows, cols)), np.zeros((rows, cols))
    if slope_threshold is not None:
        steep = slope_threshold * horizontal_scale
        up_x, up_y = np.diff(z, axis=0) > steep, np.diff(z, axis=1) > steep
        down_x, down_y = np.diff(z, axis=0) < -steep, np.diff(z, axis=1) < -steep
        shift_x[:-1] += up_x
        shift_x[1:] -= down_x
        shift_y[:, :-1] += up_y
        shift_y[:, 1:] -= down_y
    vertices = np.stack([(x + shift_x), (y + shift_y)], -1) * horizontal_scale
    vertices = np.concatenate([vertices, z[..., None]], -1).reshape(-1, 3).astype(np.float32)
    k = np.arange(rows * cols).reshape(rows, cols)
    a, b, c, d = k[:-1, :-1], k[1:, :-1], k[:-1, 1:], k[1:, 1:]
    triangles = np.stack([a, b, d, a, d, c], -1).reshape(-1, 3).astype(np.uint32)
    return vertices, triangles
