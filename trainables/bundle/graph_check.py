"""Whether an ONNX graph is one that ClickTune exports, checked before anything runs it."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

OPERATORS = {
    "": frozenset(
        {
            "Abs",
            "Add",
            "And",
            "Cast",
            "Clip",
            "Concat",
            "Constant",
            "DequantizeLinear",
            "Div",
            "DynamicQuantizeLinear",
            "Equal",
            "Erf",
            "Expand",
            "Gather",
            "GatherND",
            "Gelu",
            "Gemm",
            "GreaterOrEqual",
            "Identity",
            "IsNaN",
            "LayerNormalization",
            "MatMul",
            "MatMulInteger",
            "Max",
            "Mul",
            "Not",
            "Pow",
            "QuantizeLinear",
            "Range",
            "ReduceL2",
            "ReduceSum",
            "Reshape",
            "Shape",
            "Sigmoid",
            "Slice",
            "Softmax",
            "Split",
            "Sqrt",
            "Squeeze",
            "Sub",
            "Tanh",
            "Transpose",
            "Unsqueeze",
            "Where",
        }
    ),
    "com.microsoft": frozenset({"GatherBlockQuantized"}),
}
"""The operators that a bundle's graph may have, by domain: arithmetic alone, no loops, branches,
files or code of others."""

LARGEST_DIMENSION = 1 << 20
"""Largest size of a dimension that a graph may make up by itself: a few bytes that ask for
terabytes would take down the process that loads them."""

_SHAPE_INPUTS = {"Expand": (1,), "Range": (0, 1, 2), "Reshape": (1,)}
"""Which inputs of an operator say how large its output is."""


def check_graph(path: Path) -> None:
    """Make sure that a graph keeps its weights in its own file, and only computes.

    Raises:
        ValueError: if it isn't ONNX, a weight lies in another file, which no hash would cover, or
            it has operators or sizes that no bundle needs.
    """
    import onnx
    from onnx.external_data_helper import uses_external_data

    try:
        model = onnx.load(str(path), load_external_data=False)
    except Exception as error:
        raise ValueError(f"{path} is not an ONNX graph: {error}") from error
    for tensor in _messages(model, onnx.TensorProto):
        if uses_external_data(tensor):
            raise ValueError(
                f"{path} keeps weight {tensor.name!r} in another file, which the manifest's hashes "
                "don't cover; export the bundle again"
            )
    if model.functions:
        raise ValueError(f"{path} defines functions of its own, which no bundle of ClickTune does")
    for node in _messages(model, onnx.NodeProto):
        if node.op_type not in OPERATORS.get(node.domain.removeprefix("ai.onnx"), ()):
            name = f"{node.domain}::{node.op_type}" if node.domain else node.op_type
            raise ValueError(
                f"{path} has the operator {name} ({node.name!r}), which no bundle of ClickTune "
                "has; load only bundles of people whom you trust"
            )
    _check_sizes(path, model)


def _check_sizes(path: Path, model: Any) -> None:  # noqa: ANN401 - protobuf ships no types
    from onnx import numpy_helper

    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    for node in model.graph.node:
        for attribute in node.attribute if node.op_type == "Constant" else ():
            if attribute.name == "value":
                constants[node.output[0]] = attribute.t
    for node in model.graph.node:
        for place in _SHAPE_INPUTS.get(node.op_type, ()):
            tensor = constants.get(node.input[place]) if place < len(node.input) else None
            if tensor is None:
                continue
            largest = max((abs(float(v)) for v in numpy_helper.to_array(tensor).flat), default=0)
            # Written so that a NaN is refused.
            if not largest <= LARGEST_DIMENSION:
                raise ValueError(
                    f"{path} asks for a dimension of {largest:g} ({node.op_type} {node.name!r}); "
                    f"no bundle needs more than {LARGEST_DIMENSION}"
                )


def _messages(message: Any, kind: type) -> Iterator[Any]:  # noqa: ANN401 - protobuf ships no types
    """Find messages of a kind in a graph, in its functions and in the graphs inside its nodes."""
    if isinstance(message, kind):
        yield message
    for field, value in message.ListFields():
        if field.message_type is not None:
            for item in [value] if hasattr(value, "ListFields") else value:
                yield from _messages(item, kind)
