"""int8 weights in an ONNX graph."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import onnx

LARGE_TABLE = 256
"""Rows from which an embedding table is worth quantizing."""


def quantize_graph(source: Path, target: Path) -> None:
    """Write a copy of a graph with int8 weights: about a quarter of the size, and faster.

    Linear layers: weights int8 per output channel, activations uint8 with a scale that is found as
    they come (ONNX Runtime's dynamic quantization). The weights use 7 of the 8 bits: CPUs without
    VNNI add two products of 8 bits in a 16-bit register that overflows, so with 8 bits the same
    bundle would predict differently there. Embedding tables: int8 with a scale for each word.

    Args:
        source: A graph with float32 weights inside.
        target: The file to write.
    """
    import onnx
    from onnxruntime.quantization import QuantType, quantize_dynamic

    model = onnx.load(str(source))
    # The quantizer infers shapes itself, and refuses those that an exporter noted of a matrix
    # before it was transposed, as that of torch 2.11 does.
    del model.graph.value_info[:]
    for node in list(model.graph.node):
        if node.op_type == "Gather":
            _quantize_table(model, node)
    # What its optional first pass does (fusing nodes) would hide matrices from the second; without
    # this mark, that it wasn't run is logged as a warning each time.
    onnx.helper.set_model_props(model, {"onnx.quant.pre_process": "onnxruntime.quant"})
    quantize_dynamic(
        model,
        str(target),
        weight_type=QuantType.QInt8,
        per_channel=True,
        reduce_range=True,
        op_types_to_quantize=["MatMul", "Gemm"],
    )


def _quantize_table(model: "onnx.ModelProto", node: Any) -> None:  # noqa: ANN401 - no types
    """Replace ``Gather(table, ids)`` by ``Cast(Gather(int8 table, ids)) * Gather(scales, ids)``.

    ONNX Runtime's own quantizer has one scale for the whole table, which its longest word vector
    sets; one for each word costs 4 bytes a word and loses next to nothing.
    """
    from onnx import TensorProto, helper, numpy_helper

    graph = model.graph
    name, ids = node.input
    table = next((i for i in graph.initializer if i.name == name), None)
    users = sum(name in other.input for other in graph.node)
    if table is None or users != 1 or len(table.dims) != 2 or table.dims[0] < LARGE_TABLE:
        return
    values = numpy_helper.to_array(table)
    if values.dtype != np.float32:
        return
    codes, scales = quantize_rows(values)
    graph.initializer.remove(table)
    graph.initializer.append(numpy_helper.from_array(codes, f"{name}_int8"))
    graph.initializer.append(numpy_helper.from_array(scales, f"{name}_scale"))
    replacement = [
        helper.make_node("Gather", [f"{name}_int8", ids], [f"{name}_rows"]),
        helper.make_node("Cast", [f"{name}_rows"], [f"{name}_float"], to=TensorProto.FLOAT),
        helper.make_node("Gather", [f"{name}_scale", ids], [f"{name}_scales"]),
        helper.make_node("Mul", [f"{name}_float", f"{name}_scales"], list(node.output)),
    ]
    position = list(graph.node).index(node)
    graph.node.remove(node)
    for offset, new in enumerate(replacement):
        graph.node.insert(position + offset, new)


def quantize_rows(table: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Round each row of a table to whole multiples of a 127th of its largest absolute value.

    Args:
        table: (rows, columns) float32.

    Returns:
        int8 (rows, columns) codes and float32 (rows, 1) scales; ``codes * scales`` is off by half a
        scale at most.
    """
    largest = np.abs(table).max(axis=1, keepdims=True)
    scales = (largest / np.float32(127)).astype(np.float32)
    # A row of zeros, or of numbers so small that a 127th of them is none.
    scales = np.where(scales > 0, scales, np.float32(1))
    return np.rint(table / scales).astype(np.int8), scales
