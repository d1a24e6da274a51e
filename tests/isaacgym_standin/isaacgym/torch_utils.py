"""Quaternions (xyzw) and random numbers under the names that legged_gym imports."""

import numpy as np
import torch


def to_torch(x, dtype=torch.float, device="cuda:0", requires_grad=False):
    """A tensor of ``x``."""
    return torch.tensor(x, dtype=dtype, device=device, requires_grad=requires_grad)


def normalize(x, eps=1e-9):
    """Unit vectors."""
    return x / x.norm(p=2, dim=-1).clamp(min=eps).unsqueeze(-1)


def quat_apply(q, v):
    """Rotate vectors (..., 3) by as many quaternions (..., 4)."""
    shape = v.shape
    q, v = q.reshape(-1, 4), v.reshape(-1, 3)
    t = 2 * torch.cross(q[:, :3], v, dim=-1)
    return (v + q[:, 3:] * t + torch.cross(q[:, :3], t, dim=-1)).view(shape)


def quat_rotate(q, v):
    """Rotate vectors (N, 3) by quaternions (N, 4)."""
    return quat_apply(q, v)


def quat_conjugate(q):
    """The inverse of unit quaternions."""
    return torch.cat([-q[..., :3], q[..., 3:]], dim=-1)


def quat_rotate_inverse(q, v):
    """Rotate vectors (N, 3) by the inverse of quaternions (N, 4)."""
    return quat_apply(quat_conjugate(q), v)


def torch_rand_float(lower, upper, shape, device):
    """Uniform random numbers."""
    return lower + (upper - lower) * torch.rand(*shape, device=device)


def get_axis_params(value, axis_idx, x_value=0.0, dtype=float, n_dims=3):
    """A vector along one axis."""
    found = np.zeros(n_dims)
    found[0], found[axis_idx] = x_value, value
    return list(found.astype(dtype))
