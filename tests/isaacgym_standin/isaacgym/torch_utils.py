"""Names that legged_gym imports; its own environments are not run on the stand-in."""

import torch


def to_torch(x, dtype=torch.float, device="cpu", requires_grad=False):
    """A tensor of ``x``."""
    return torch.tensor(x, dtype=dtype, device=device, requires_grad=requires_grad)


def normalize(x, eps=1e-9):
    """Unit vectors."""
    return x / x.norm(p=2, dim=-1).clamp(min=eps).unsqueeze(-1)


def quat_apply(q, v):
    """Rotate vectors (N, 3) by quaternions xyzw (N, 4)."""
    t = 2 * torch.cross(q[..., :3], v, dim=-1)
    return v + q[..., 3:] * t + torch.cross(q[..., :3], t, dim=-1)


def quat_rotate_inverse(q, v):
    """Rotate vectors (N, 3) by the inverse of quaternions xyzw (N, 4)."""
    return quat_apply(torch.cat([-q[..., :3], q[..., 3:]], dim=-1), v)
