"""Zero-copy exchange of tensors with the simulation."""

import torch


class Handle:
    """What the simulation hands out and takes: a tensor in disguise."""

    def __init__(self, tensor):
        self.tensor = tensor


def wrap_tensor(handle):
    """The torch tensor behind a handle, shared."""
    if not isinstance(handle, Handle):
        raise TypeError(
            f"wrap_tensor got {type(handle).__name__}, expected what an acquire function returned"
        )
    return handle.tensor


def unwrap_tensor(tensor):
    """A handle of a torch tensor, shared."""
    if not isinstance(tensor, torch.Tensor):
        raise TypeError(f"unwrap_tensor got {type(tensor).__name__}, expected a torch tensor")
    if not tensor.is_contiguous():
        raise RuntimeError("Input tensor must be contiguous")
    return Handle(tensor)
