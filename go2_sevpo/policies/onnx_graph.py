"""What a policy's graph may hold: nothing that can run on for ever or that lies in another file."""

from __future__ import annotations

from pathlib import Path
from typing import Iterator

import onnx

from go2_sevpo.policies.contract import ContractError

ENDLESS = ("Loop", "Scan", "SequenceMap")
"""Operators whose bodies are repeated as often as the file says."""
DOMAINS = ("", "ai.onnx")
"""Operators of others may be anything."""


def _graphs(graph: onnx.GraphProto) -> Iterator[onnx.GraphProto]:
    """A graph and the graphs inside its operators (the branches of an If)."""
    yield graph
    for node in graph.node:
        for attribute in node.attribute:
            for inner in (attribute.g, *attribute.graphs):
                if inner.node or inner.initializer:
                    yield from _graphs(inner)


def check_graph(path: Path) -> None:
    """Look at a file before onnxruntime does. What is no ONNX file at all is left to onnxruntime.

    Raises:
        ContractError: naming an operator that policies do not have, or weights that lie elsewhere.
    """
    try:
        model = onnx.load(str(path), load_external_data=False)
    except Exception:
        # The parser's own family of exceptions; onnxruntime tells better what is wrong.
        return
    if model.functions:
        raise ContractError(f"{path} defines functions, expected plain operators")
    for graph in _graphs(model.graph):
        for node in graph.node:
            if node.op_type in ENDLESS or node.domain not in DOMAINS:
                name = f"{node.domain}.{node.op_type}" if node.domain else node.op_type
                raise ContractError(f"{path} has the operator {name}, which policies do not have")
        for weight in graph.initializer:
            if weight.data_location == onnx.TensorProto.EXTERNAL:
                raise ContractError(
                    f"{path}: weight '{weight.name}' lies in another file, expected all in one"
                )
