"""What stands still: convex solids, height fields, planes, each with its friction coefficient."""

import numpy as np
from isaacgym._semantics import GymError


class Hull:
    """A convex solid from its corners (V, 3), m."""

    mesh = True

    def __init__(self, points, friction):
        self.points, self.friction = points, friction

    def xml(self, name):
        vertices = " ".join(f"{x:.9g}" for x in self.points.flatten())
        return f'<mesh name="{name}" vertex="{vertices}"/>', f'type="mesh" mesh="{name}"'

    def fill(self, model, name):
        """Nothing to add after compiling."""


class Heights:
    """Heights (X, Y), m, on a grid with its first point at ``origin`` (3,), ``scale`` m apart."""

    mesh = True

    def __init__(self, heights, scale, origin, friction):
        self.heights, self.friction = heights, friction
        self.scale, self.origin = scale, origin
        self.bottom, self.top = heights.min(), max(heights.max(), heights.min() + 1e-3)

    def xml(self, name):
        nx, ny = self.heights.shape
        rx, ry = (nx - 1) * self.scale / 2, (ny - 1) * self.scale / 2
        x, y, z = self.origin
        asset = (
            f'<hfield name="{name}" nrow="{ny}" ncol="{nx}" '
            f'size="{rx} {ry} {self.top - self.bottom} 1.0"/>'
        )
        place = f'pos="{x + rx} {y + ry} {z + self.bottom}"'
        return asset, f'type="hfield" hfield="{name}" {place}'

    def fill(self, model, name):
        """Write the heights, which MJCF cannot hold."""
        field = model.hfield(name)
        values = (self.heights.T - self.bottom) / (self.top - self.bottom)
        start = model.hfield_adr[field.id]
        model.hfield_data[start : start + values.size] = values.flatten()


class Plane:
    """A level plane ``height`` m up."""

    mesh = False

    def __init__(self, height, friction):
        self.height, self.friction = height, friction

    def xml(self, name):
        return "", f'type="plane" size="100 100 1" pos="0 0 {self.height}"'

    def fill(self, model, name):
        """Nothing to add after compiling."""


def solids_of_mesh(vertices, triangles, friction):
    """Closed convex parts of a triangle mesh, or the height field that it is."""
    grid = _grid_of_mesh(vertices, triangles)
    if grid is not None:
        return [Heights(*grid, friction)]
    parts = []
    for ids in _components(len(vertices), triangles):
        _check_outward(vertices, triangles[np.isin(triangles[:, 0], ids)])
        parts.append(Hull(vertices[ids], friction))
    return parts


def _grid_of_mesh(vertices, triangles):
    """Heights, scale and origin if the mesh is a large grid with two triangles a cell."""
    v, f = len(vertices), len(triangles)
    # r c = v and 2 (r - 1) (c - 1) = f
    total = v + 1 - f / 2
    square = total * total - 4 * v
    if v < 10000 or square < 0 or abs(np.sqrt(square) - round(np.sqrt(square))) > 1e-9:
        return None
    rows = int((total + np.sqrt(square)) / 2)
    if rows < 2 or v % rows:
        return None
    low = vertices[:, :2].min(axis=0)
    span = vertices[:, :2].max(axis=0) - low
    # Cells are square; either number may be the rows'.
    rows, cols = (rows, v // rows) if span[0] > span[1] else sorted((rows, v // rows))
    scale = span[0] / (rows - 1)
    # Vertices of steep slopes were moved by whole cells: the highest of a place counts.
    place = np.rint((vertices[:, :2] - low) / scale).astype(int)
    heights = np.full((rows, cols), -np.inf)
    np.maximum.at(
        heights, (place[:, 0].clip(0, rows - 1), place[:, 1].clip(0, cols - 1)), vertices[:, 2]
    )
    if np.isinf(heights).any():
        # A place that was left takes its neighbour's height.
        for axis in (0, 1):
            for shift in (1, -1):
                empty = np.isinf(heights)
                heights[empty] = np.roll(heights, shift, axis)[empty]
    return heights, scale, np.array([low[0], low[1], 0.0])


def _components(n, faces):
    """Vertices of each connected part of a mesh."""
    group = np.arange(n)
    while True:
        least = group.copy()
        for column in range(3):
            np.minimum.at(least, faces[:, column], group[faces].min(axis=1))
        if (least == group).all():
            order = np.argsort(group, kind="stable")
            starts = np.flatnonzero(np.diff(group[order])) + 1
            return np.split(order, starts)
        group = least


def _check_outward(points, faces):
    """PhysX's triangles are one-sided: their normals must point out of the solid."""
    middle = points[np.unique(faces)].mean(axis=0)
    a, b, c = (points[faces[:, k]] for k in range(3))
    if (np.einsum("ij,ij->i", np.cross(b - a, c - a), a - middle) <= 0).any():
        raise GymError("a triangle of the mesh faces inwards")
