"""Whole training steps as CUDA graphs: one launch instead of a thousand small ones.

The command is ``go2-train --device cuda --cuda-graph``.

Not yet run on a GPU: what decides which steps are captured and what the host does around them is
tested on a CPU, where steps are simply done.
"""

from __future__ import annotations

from typing import Callable, Dict, Hashable, Optional, Protocol, Tuple, cast

import torch

from go2_sevpo.algorithms import base
from go2_sevpo.data.dataset import OfflineDataset

WARM_UP = 3
"""Steps of every phase that are done plainly before one is captured.

Optimisers and libraries allocate on first use.
"""

Step = Callable[[], base.Metrics]
Capture = Callable[[Step, torch.Generator], Step]


def capture_cuda(step: Step, generator: torch.Generator) -> Step:
    """Record ``step`` (without doing it) as a CUDA graph; the result does it."""
    graph = torch.cuda.CUDAGraph()
    graph.register_generator_state(generator)
    with torch.cuda.graph(graph):
        metrics = step()

    def replay() -> base.Metrics:
        graph.replay()
        return {k: v.clone() for k, v in metrics.items()}  # the next replay writes over them

    return replay


class Divided(base.Algorithm, Protocol):
    """An algorithm whose steps divide into what the host does and what the device does."""

    optimizers: Tuple[str, ...]
    """Attributes that are optimisers."""
    fixed_shapes: bool
    """Whether tensors have the same shapes in all steps of a phase."""

    def phase(self, stage: str, step: int) -> Hashable:
        """Steps of one phase are the same operations on the device."""

    def prepare(self, stage: str, step: int) -> None:
        """Do what the host does before the device."""

    def on_device(
        self, stage: str, step: int, data: OfflineDataset, generator: torch.Generator
    ) -> base.Metrics:
        """Do everything that happens on the device; return scalars to log."""

    def finish(self, stage: str, step: int) -> None:
        """Do what the host does after the device."""


class GraphedUpdates:
    """``update`` of an algorithm that is :class:`Divided`.

    One recording serves all steps of a phase; what changes from step to step (learning rates,
    counts) the host sets before and after.

    Args:
        algorithm: see :class:`Divided`; the only one is sevpo.
        data: what it samples from, on a GPU.
        generator: of everything that is drawn on the device.
        capture: :func:`capture_cuda` if not given.

    Raises:
        ValueError: an algorithm that is not divided so, or data that are not on a GPU.
    """

    def __init__(
        self,
        algorithm: base.Algorithm,
        data: OfflineDataset,
        generator: torch.Generator,
        capture: Optional[Capture] = None,
    ) -> None:
        if not hasattr(algorithm, "phase"):
            raise ValueError(
                f"CUDA graphs are for sevpo, not for {type(algorithm).__name__.lower()}"
            )
        if capture is None and data.device.type != "cuda":
            raise ValueError(f"CUDA graphs need --device cuda, found {data.device.type}")
        self.algorithm = cast(Divided, algorithm)
        self.data, self.generator = data, generator
        self.capture = capture or capture_cuda
        self.graphs: Dict[Hashable, Step] = {}
        self.done: Dict[Hashable, int] = {}
        self.algorithm.fixed_shapes = True  # a recording holds for its own shapes only
        if data.device.type == "cuda":
            for name in self.algorithm.optimizers:
                base.make_capturable(getattr(algorithm, name))

    def update(self, stage: str, step: int) -> base.Metrics:
        """Do one step; returns its scalars."""
        algorithm, phase = self.algorithm, self.algorithm.phase(stage, step)

        def on_device() -> base.Metrics:
            return algorithm.on_device(stage, step, self.data, self.generator)

        algorithm.prepare(stage, step)
        if self.done.get(phase, 0) < WARM_UP:
            metrics = self._plainly(on_device)
        else:
            if phase not in self.graphs:
                self.graphs[phase] = self.capture(on_device, self.generator)
            metrics = self.graphs[phase]()
        self.done[phase] = self.done.get(phase, 0) + 1
        algorithm.finish(stage, step)
        return metrics

    def _plainly(self, step: Step) -> base.Metrics:
        """On a stream of its own, as capturing asks of the steps before it."""
        if self.data.device.type != "cuda":
            return step()
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            metrics = step()
        torch.cuda.current_stream().wait_stream(stream)
        return metrics
