"""Side work that leaves the training's random numbers as they are."""

from __future__ import annotations

from contextlib import contextmanager
from typing import Iterator

import torch


@contextmanager
def isolated_randomness() -> Iterator[None]:
    """Give torch's own streams back as they were, whatever the block draws from them.

    Networks draw their first weights from torch's global stream. Writing a policy or evaluating
    one builds networks; without this, how often a run saves would decide what it learns.
    """
    with torch.random.fork_rng():
        yield
