"""Whole training steps as CUDA graphs: one launch instead of a thousand small ones (``go2-train
--device cuda --cuda-graph``).

Not yet run on a GPU: what decides which steps are captured and what the host does around them is
tested on a CPU, where steps are simply done.
"""

from __future__ import annotations

from typing import Any, Callable, Dict, Optional

import torch

from go2_sevpo.algorithms import base
from go2_sevpo.data.dataset import OfflineDataset

WARM_UP = 3
"""Steps of every phase that are done plainly before one is captured: optimisers and libraries
allocate on first use.
"""

Step = Callable[[], Dict[str, torch.Tensor]]
Capture = Callable[[Step, torch.Generator], Step]


def capture_cuda(step: Step, generator: torch.Generator) -> Step:
    """Record ``step`` (without doing it) as a CUDA graph; the result does it."""
    graph = torch.cuda.CUDAGraph()
    graph.register_generator_state(generator)
    with torch.cuda.graph(graph):
        metrics = step()

    def replay() -> Dict[str, torch.Tensor]:
        graph.replay()
        return {k: v.clone() for k, v in metrics.items()}  # the next replay writes over them

    return replay


class GraphedUpdates:
    """``update`` of an algorithm whose steps divide into ``prepare``, ``on_device`` and ``finish``
    and fall into ``phase``s.

    Steps of one phase are the same operations on the device, so one recording serves them all; what
    changes from step to step (learning rates, counts) the host sets before and after.

    Raises:
        ValueError: an algorithm that is not divided so, or data that are not on a GPU.
    """

    def __init__(
        self,
        algorithm: Any,
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
        self.algorithm, self.data, self.generator = algorithm, data, generator
        self.capture = capture or capture_cuda
        self.graphs: Dict[Any, Step] = {}
        self.done: Dict[Any, int] = {}
        algorithm.fixed_shapes = True
        if data.device.type == "cuda":
            for name in algorithm.optimizers:
                base.make_capturable(getattr(algorithm, name))

    def update(self, stage: str, step: int) -> Dict[str, torch.Tensor]:
        """Do one step; returns its scalars."""
        a, phase = self.algorithm, self.algorithm.phase(stage, step)

        def on_device() -> Dict[str, torch.Tensor]:
            metrics: Dict[str, torch.Tensor] = a.on_device(stage, step, self.data, self.generator)
            return metrics

        a.prepare(stage, step)
        if self.done.get(phase, 0) < WARM_UP:
            metrics = self._plainly(on_device)
        else:
            if phase not in self.graphs:
                self.graphs[phase] = self.capture(on_device, self.generator)
            metrics = self.graphs[phase]()
        self.done[phase] = self.done.get(phase, 0) + 1
        a.finish(stage, step)
        return metrics

    def _plainly(self, step: Step) -> Dict[str, torch.Tensor]:
        """On a stream of its own, as capturing asks of the steps before it."""
        if self.data.device.type != "cuda":
            return step()
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            metrics = step()
        torch.cuda.current_stream().wait_stream(stream)
        return metrics
