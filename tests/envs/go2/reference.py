"""Plain references for the Go2 tests, in double precision and written without the code under test.

Frames as documented: x forward, y left, z up; quaternions wxyz, base to world; legs FL FR RL RR,
joints hip, thigh, calf. Robot lengths are those of Unitree's published ``go2_description``.
"""

import itertools

import numpy as np
import torch

from go2_sevpo.envs.go2.description.course import Box, Course
from go2_sevpo.envs.simulators.base import RobotState

HIP_ORIGINS = np.array([[x, y, 0.0] for x in (0.1934, -0.1934) for y in (0.0465, -0.0465)])
THIGH_ORIGINS = np.array([[0.0, 0.0955, 0.0], [0.0, -0.0955, 0.0]] * 2)
CALF_ORIGIN = np.array([0.0, 0.0, -0.213])
# The foot link in the calf, then the sphere in the foot link.
FOOT_IN_CALF = np.array([0.0, 0.0, -0.213]) + np.array([-0.002, 0.0, 0.0])
DEFAULT_POSE = (0.1, 0.8, -1.5, -0.1, 0.8, -1.5, 0.1, 1.0, -1.5, -0.1, 1.0, -1.5)

RESOLUTION, X0, Y0, NX, NY = 0.025, -1.2, -1.3, 680, 104


def about_x(a):
    return np.array([[1, 0, 0], [0, np.cos(a), -np.sin(a)], [0, np.sin(a), np.cos(a)]])


def about_y(a):
    return np.array([[np.cos(a), 0, np.sin(a)], [0, 1, 0], [-np.sin(a), 0, np.cos(a)]])


def about_z(a):
    return np.array([[np.cos(a), -np.sin(a), 0], [np.sin(a), np.cos(a), 0], [0, 0, 1]])


def rotation(roll, pitch, yaw):
    """Yaw about z, then pitch about the new y, then roll about the new x."""
    return about_z(yaw) @ about_y(pitch) @ about_x(roll)


def multiply(p, q):
    """Hamilton product of quaternions wxyz."""
    (a, b), (c, d) = (p[0], np.array(p[1:])), (q[0], np.array(q[1:]))
    return (a * c - b @ d, *(a * d + c * b + np.cross(b, d)))


def quaternion(roll, pitch, yaw):
    x = (np.cos(roll / 2), np.sin(roll / 2), 0.0, 0.0)
    y = (np.cos(pitch / 2), 0.0, np.sin(pitch / 2), 0.0)
    z = (np.cos(yaw / 2), 0.0, 0.0, np.sin(yaw / 2))
    return tuple(float(v) for v in multiply(multiply(z, y), x))


def feet_in_base(joints):
    """Foot centres (4, 3) by the chain base, hip (about x), thigh and calf (about y), foot."""
    feet = []
    for leg, (hip, thigh, calf) in enumerate(np.asarray(joints, dtype=np.float64).reshape(4, 3)):
        in_thigh = CALF_ORIGIN + about_y(calf) @ FOOT_IN_CALF
        in_hip = THIGH_ORIGINS[leg] + about_y(thigh) @ in_thigh
        feet.append(HIP_ORIGINS[leg] + about_x(hip) @ in_hip)
    return np.array(feet)


def box_surface(box, x, y):
    """The highest point of ``box`` on the vertical line through (x, y), by faces; -inf if none."""
    w, *v = box.quaternion
    v = np.array(v)
    turned = [axis + 2 * np.cross(v, w * axis + np.cross(v, axis)) for axis in np.eye(3)]
    turn = np.array(turned).T
    centre, half, best = np.array(box.position), np.array(box.half_size), -np.inf
    for axis, sign in itertools.product(range(3), (-1.0, 1.0)):
        normal = sign * turn[:, axis]
        if abs(normal[2]) < 1e-9:
            continue
        on_face = centre + half[axis] * normal
        z = on_face[2] - (normal[0] * (x - on_face[0]) + normal[1] * (y - on_face[1])) / normal[2]
        local = turn.T @ (np.array([x, y, z]) - centre)
        if all(abs(local[k]) <= half[k] + 1e-9 for k in range(3) if k != axis):
            best = max(best, z)
    return best


def surface(course, x, y):
    """Height of the course at (x, y): the highest box surface, or the pit's floor."""
    return max([course.floor] + [box_surface(box, x, y) for box in course.boxes])


def cell_of(x, y):
    """Map cell (i, j) that holds the point; the point must not lie on a border between cells."""
    u, v = (x - X0) / RESOLUTION, (y - Y0) / RESOLUTION
    assert min(abs(u - round(u)), abs(v - round(v))) > 1e-4, "the point lies between cells"
    return min(max(int(np.floor(u)), 0), NX - 1), min(max(int(np.floor(v)), 0), NY - 1)


def centre_of(i, j):
    return X0 + (i + 0.5) * RESOLUTION, Y0 + (j + 0.5) * RESOLUTION


def uneven_course(mirrored=False):
    """Three slabs turned about every axis, with gaps between them, over a pit 0.5 m deep."""
    slabs = (
        ((-0.4, 0.1, -0.3), (0.7, 0.8, 0.25), (0.15, -0.1, 0.12)),
        ((0.9, -0.1, -0.15), (0.45, 0.7, 0.25), (-0.12, 0.2, -0.2)),
        ((2.3, 0.2, -0.4), (0.6, 0.6, 0.3), (0.25, 0.05, 0.4)),
    )
    boxes = []
    for (x, y, z), half, (roll, pitch, yaw) in slabs:
        if mirrored:  # in the plane y = 0: y, roll and yaw change sign
            y, roll, yaw = -y, -roll, -yaw
        boxes.append(Box((x, y, z), half, quaternion(roll, pitch, yaw)))
    side = -1.0 if mirrored else 1.0
    ways = np.array([[0.5, 0.2 * side, 0.1], [2.4, -0.3 * side, 0.0]])
    return Course("hard", 1.0, 0, tuple(boxes), ways, -0.5, 1.2)


def make_state(**fields):
    """A state of some robots; what is not given is at rest at the origin, in the default pose."""
    tensors = {k: torch.tensor(np.asarray(v), dtype=torch.float32) for k, v in fields.items()}
    n = len(next(iter(tensors.values()))) if tensors else 1
    rest = {
        "base_position": torch.tensor([[0.0, 0.0, 0.33]]).repeat(n, 1),
        "base_quaternion": torch.tensor([[1.0, 0.0, 0.0, 0.0]]).repeat(n, 1),
        "base_linear_velocity": torch.zeros(n, 3),
        "base_angular_velocity": torch.zeros(n, 3),
        "joint_position": torch.tensor([DEFAULT_POSE]).repeat(n, 1),
        "joint_velocity": torch.zeros(n, 12),
        "joint_torque": torch.zeros(n, 12),
        "foot_force": torch.zeros(n, 4),
        "body_force": torch.zeros(n, 9),
    }
    return RobotState(**{**rest, **tensors})
