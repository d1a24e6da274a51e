"""torch's exporter to ONNX, whichever version."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any, Dict, List, Tuple

import torch
from torch import nn

OPSET = 17
OLD_OPSET = 16
"""Of torch 1.12, beside Isaac Gym: layer normalisation is then written as its parts."""


def new_torch() -> bool:
    """Whether this torch writes layer normalisation as one operator."""
    return tuple(int(x) for x in torch.__version__.split("+")[0].split(".")[:2]) >= (1, 13)


def export_graph(
    module: nn.Module,
    example: Tuple[torch.Tensor, ...],
    out: Path,
    inputs: List[str],
    outputs: List[str],
    axes: Dict[str, Dict[int, str]],
    opset: int,
) -> None:
    """Write the bare graph of ``module`` at ``example``; ``axes`` names those that stay free."""
    # The tracing exporter keeps candidate count and batch symbolic through reshape; newer torch
    # must be asked for it.
    options: Dict[str, Any] = {}
    if "dynamo" in torch.onnx.export.__code__.co_varnames:
        options["dynamo"] = False
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            module,
            example,
            str(out),
            input_names=inputs,
            output_names=outputs,
            dynamic_axes=axes,
            opset_version=opset,
            **options,
        )
