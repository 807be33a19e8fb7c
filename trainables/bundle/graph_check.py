"""Whether an ONNX graph is one that ClickTune exports, checked before anything runs it."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import onnx

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
            "CumSum",
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
            "Relu",
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

LARGEST_CONSTANT = 1 << 20
"""Most numbers that a graph may ask for by constants of its own, where a bundle's shapes follow
from its inputs: a few bytes could ask for terabytes. Shapes that it computes aren't bounded so."""


def check_graph(path: Path) -> None:
    """Make sure that a graph keeps its weights in its own file, and only computes.

    Raises:
        ValueError: if it isn't ONNX, a weight lies in another file, which no hash would cover, or
            it has operators or sizes that no bundle needs.
    """
    import onnx

    try:
        model = onnx.load(str(path), load_external_data=False)
    except Exception as error:
        raise ValueError(f"{path} is not an ONNX graph: {error}") from error
    _check_weights(path, model)
    if model.functions:
        raise ValueError(f"{path} defines functions of its own, which no bundle of ClickTune does")
    for node in _messages(model, onnx.NodeProto):
        if node.op_type not in OPERATORS.get(node.domain.removeprefix("ai.onnx"), ()):
            name = f"{node.domain}::{node.op_type}" if node.domain else node.op_type
            raise ValueError(
                f"{path} has the operator {name} ({node.name!r}), which no bundle of ClickTune "
                "has; load only bundles of people whom you trust"
            )
    try:
        _check_sizes(path, model)
    except (TypeError, IndexError, OverflowError) as error:
        raise ValueError(f"{path} has constants that can't be read: {error}") from error


def _check_weights(path: Path, model: "onnx.ModelProto") -> None:
    import onnx
    from onnx.external_data_helper import uses_external_data

    for tensor in _messages(model, onnx.TensorProto):
        if uses_external_data(tensor):
            raise ValueError(
                f"{path} keeps weight {tensor.name!r} in another file, which the manifest's hashes "
                "don't cover; export the bundle again"
            )
    if any(_messages(model, onnx.SparseTensorProto)):
        raise ValueError(f"{path} has sparse weights, which no bundle of ClickTune has")


def _check_sizes(path: Path, model: "onnx.ModelProto") -> None:
    constants = _constants(model)
    for node in model.graph.node:
        known = [constants.get(name) for name in node.input]
        asked = 0.0
        if node.op_type == "Expand" and known[1] is not None:
            asked = float(np.prod(np.abs(known[1].astype(np.float64))))
        elif node.op_type == "Range":
            given = [float(each.flat[0]) for each in known if each is not None and each.size]
            asked = max(map(abs, given), default=0.0)
            if len(given) == 3 and given[2]:
                asked = abs((given[1] - given[0]) / given[2])
        # Written so that a NaN is refused.
        if not asked <= LARGEST_CONSTANT:
            raise ValueError(
                f"{path} asks for {asked:g} numbers ({node.op_type} {node.name!r}); no bundle asks "
                f"for more than {LARGEST_CONSTANT}"
            )


def _constants(model: "onnx.ModelProto") -> dict[str, np.ndarray]:
    from onnx import numpy_helper

    found = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    for node in model.graph.node:
        for attribute in node.attribute if node.op_type == "Constant" else ():
            plain = {
                "value_int": attribute.i,
                "value_ints": list(attribute.ints),
                "value_float": attribute.f,
                "value_floats": list(attribute.floats),
            }
            if attribute.name == "value":
                found.update({name: numpy_helper.to_array(attribute.t) for name in node.output})
            elif attribute.name in plain:
                found.update({name: np.array(plain[attribute.name]) for name in node.output})
    return found


def _messages(message: Any, kind: type) -> Iterator[Any]:  # noqa: ANN401 - protobuf ships no types
    """Find messages of a kind in a graph, in its functions and in the graphs inside its nodes."""
    if isinstance(message, kind):
        yield message
    for field, value in message.ListFields():
        if field.message_type is not None:
            for item in [value] if hasattr(value, "ListFields") else value:
                yield from _messages(item, kind)
