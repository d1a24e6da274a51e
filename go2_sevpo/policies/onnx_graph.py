"""What a policy's graph may hold, and the checksum that says it is as it was written.

Plain arithmetic on tensors, all in one file: nothing that can run on for ever, calls other code, or
reads other files.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import FrozenSet, Iterator, Optional

import onnx

from go2_sevpo.policies.contract import ContractError

_NAMES = """
Abs Add Ceil Clip Cos Div Erf Exp Floor Identity Log Max Mean Min Mod Mul Neg Pow Reciprocal Round
Sign Sin Sqrt Sub Sum Trunc And Equal Greater GreaterOrEqual Less LessOrEqual Not Or Where IsNaN
IsInf If NonZero Celu Elu Gelu HardSigmoid HardSwish LeakyRelu LogSoftmax Mish PRelu Relu Selu
Sigmoid Softmax Softplus Softsign Tanh BatchNormalization Einsum Gemm InstanceNormalization
LayerNormalization MatMul AveragePool Conv GlobalAveragePool MaxPool ArgMax ArgMin CumSum ReduceL2
ReduceMax ReduceMean ReduceMin ReduceProd ReduceSum ReduceSumSquare TopK Cast Concat Constant
ConstantOfShape Expand Flatten Gather GatherElements GatherND Pad Range Reshape ScatterElements
ScatterND Shape Size Slice Split Squeeze Tile Transpose Unsqueeze
"""
OPERATORS: FrozenSet[str] = frozenset(_NAMES.split())
"""Operators a policy may have. Of control flow only the branch, which ends; nothing random."""
DOMAINS = ("", "ai.onnx")
"""Operators of others may be anything."""
DIGEST_KEY = "go2_sevpo.sha256"
"""Metadata that holds :func:`graph_digest`."""


def _graphs(graph: onnx.GraphProto) -> Iterator[onnx.GraphProto]:
    """A graph and the graphs inside its operators (the branches of an If)."""
    yield graph
    for node in graph.node:
        for attribute in node.attribute:
            for inner in (attribute.g, *attribute.graphs):
                if inner.node or inner.initializer:
                    yield from _graphs(inner)


def graph_digest(model: onnx.ModelProto) -> str:
    """SHA-256 of all that a model computes and states: graph, weights, metadata, operator sets."""
    digest = hashlib.sha256(model.graph.SerializeToString(deterministic=True))
    for entry in sorted(model.metadata_props, key=lambda entry: entry.key):
        if entry.key != DIGEST_KEY:
            digest.update(f"\n{entry.key}\n{entry.value}".encode())
    for used in model.opset_import:
        digest.update(f"\n{used.domain} {used.version}".encode())
    return digest.hexdigest()


def stated_digest(model: onnx.ModelProto) -> Optional[str]:
    """The checksum a model was written with; None in files of version 0.1."""
    for entry in model.metadata_props:
        if entry.key == DIGEST_KEY:
            return str(entry.value)
    return None


def add_metadata(model: onnx.ModelProto, key: str, value: str) -> None:
    """Add an entry of metadata, and the checksum over all there is now."""
    for name, text in ((key, value), (DIGEST_KEY, "")):
        kept = [entry for entry in model.metadata_props if entry.key != name]
        del model.metadata_props[:]
        model.metadata_props.extend(kept)
        entry = model.metadata_props.add()
        entry.key, entry.value = name, text
    model.metadata_props[-1].value = graph_digest(model)


def check_graph(path: Path) -> None:
    """Look at a file before onnxruntime does. What is no ONNX file at all is left to onnxruntime.

    Raises:
        ContractError: naming an operator that policies do not have, weights that lie elsewhere, or
            that the file is damaged.
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
            if node.op_type not in OPERATORS or node.domain not in DOMAINS:
                name = f"{node.domain}.{node.op_type}" if node.domain else node.op_type
                raise ContractError(f"{path} has the operator {name}, which policies do not have")
        constants = (a.t for node in graph.node for a in node.attribute if a.HasField("t"))
        for weight in (*graph.initializer, *constants):
            if weight.data_location == onnx.TensorProto.EXTERNAL:
                raise ContractError(
                    f"{path}: weight '{weight.name}' lies in another file, expected all in one"
                )
    expected = stated_digest(model)
    if expected is not None and graph_digest(model) != expected:
        raise ContractError(
            f"{path} is damaged: its content has another SHA-256 than when it was exported"
        )
