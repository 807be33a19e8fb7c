"""Smaller weights in an ONNX graph: 8 bits, 4 bits for word vectors, 16 bits."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import onnx

LARGE_TABLE = 64
"""Rows from which an embedding table is worth quantizing."""

WORDS = "word_embeddings.weight"
"""How the name of an encoder's table of word vectors ends in a graph."""

BLOCK_SIZES = (64, 32, 16)
"""Numbers of a word vector that share a scale, the largest that divides it; ONNX Runtime takes
powers of two from 16."""

CONTRIB = "com.microsoft"
"""ONNX Runtime's own operators."""

MATRIX_OPERATORS = ("MatMul", "Gemm")
"""What multiplies by a weight matrix."""

CLIP_RATIOS = (1.0, 0.9, 0.8, 0.7)
"""Shares of a block's largest value that its scale may be set to reach."""


def can_pack(rows: int, columns: int) -> bool:
    """Tell whether a table of word vectors of this shape can be stored in 4 bits."""
    return rows >= LARGE_TABLE and _block_size(columns) is not None


def _block_size(columns: int) -> int | None:
    return next((size for size in BLOCK_SIZES if columns % size == 0), None)


def quantize_graph(
    source: Path, target: Path, *, pack_words: bool = False, float_nodes: Sequence[str] = ()
) -> None:
    """Write a copy of a graph with int8 weights: about a quarter of the size, and faster.

    Linear layers: weights int8 per output channel, activations uint8 with a scale that is found as
    they come (ONNX Runtime's dynamic quantization). The weights use 7 of the 8 bits: CPUs without
    VNNI add two products of 8 bits in a 16-bit register that overflows, so with 8 bits the same
    bundle would predict differently there. Embedding tables: int8 with a scale for each row.

    Args:
        source: A graph with float32 weights inside.
        target: The file to write.
        pack_words: Store word vectors in 4 bits, with a scale for each block of a vector: more than
            half of a small BERT's weights are word vectors.
        float_nodes: Names of matrix products that stay in float32.
    """
    import onnx
    from onnxruntime.quantization import QuantType, quantize_dynamic

    model = onnx.load(str(source))
    # The quantizer infers shapes itself, and refuses those that an exporter noted of a matrix
    # before it was transposed, as that of torch 2.11 does.
    del model.graph.value_info[:]
    for lookup in _lookups(model):
        if not (pack_words and lookup.node.input[0].endswith(WORDS)):
            _replace(model, lookup, _in_8_bits(lookup))
    # What its optional first pass does (fusing nodes) would hide matrices from the second; without
    # this mark, that it wasn't run is logged as a warning each time.
    onnx.helper.set_model_props(model, {"onnx.quant.pre_process": "onnxruntime.quant"})
    quantize_dynamic(
        model,
        str(target),
        weight_type=QuantType.QInt8,
        per_channel=True,
        reduce_range=True,
        op_types_to_quantize=list(MATRIX_OPERATORS),
        # A Gemm is made a MatMul of this name before it is looked up.
        nodes_to_exclude=[name + end for name in float_nodes for end in ("", "_MatMul")],
    )
    if pack_words:
        # Only now: it doesn't know the shape of what ONNX Runtime's own operators give.
        _pack_words(target)


@dataclass(frozen=True, slots=True)
class _Lookup:
    """``Gather(table, ids)`` of a large table that nothing else uses."""

    node: Any
    table: Any
    values: np.ndarray


def _lookups(model: "onnx.ModelProto") -> list[_Lookup]:
    from onnx import numpy_helper

    nodes = model.graph.node
    tables = {table.name: table for table in model.graph.initializer}
    found = []
    for node in nodes:
        table = tables.get(node.input[0]) if node.op_type == "Gather" else None
        if table is None or len(table.dims) != 2 or table.dims[0] < LARGE_TABLE:
            continue
        values = numpy_helper.to_array(table)
        if values.dtype == np.float32 and sum(table.name in n.input for n in nodes) == 1:
            found.append(_Lookup(node, table, values))
    return found


def _replace(
    model: "onnx.ModelProto", lookup: _Lookup, parts: tuple[Sequence[Any], Sequence[Any]]
) -> None:
    """Put nodes and initializers in the place of a lookup and its table."""
    nodes, initializers = parts
    graph = model.graph
    position = list(graph.node).index(lookup.node)
    graph.node.remove(lookup.node)
    graph.initializer.remove(lookup.table)
    graph.initializer.extend(initializers)
    for offset, node in enumerate(nodes):
        graph.node.insert(position + offset, node)


def _in_8_bits(lookup: _Lookup) -> tuple[Sequence[Any], Sequence[Any]]:
    """Make ``Cast(Gather(int8 table, ids)) * Gather(scales, ids)``.

    ONNX Runtime's own quantizer has one scale for the whole table, which its longest word vector
    sets; one for each word costs 4 bytes a word and loses next to nothing.
    """
    from onnx import TensorProto, helper, numpy_helper

    name, ids = lookup.node.input
    codes, scales = quantize_rows(lookup.values)
    nodes = (
        helper.make_node("Gather", [f"{name}_int8", ids], [f"{name}_rows"]),
        helper.make_node("Cast", [f"{name}_rows"], [f"{name}_float"], to=TensorProto.FLOAT),
        helper.make_node("Gather", [f"{name}_scale", ids], [f"{name}_scales"]),
        helper.make_node("Mul", [f"{name}_float", f"{name}_scales"], list(lookup.node.output)),
    )
    return nodes, (
        numpy_helper.from_array(codes, f"{name}_int8"),
        numpy_helper.from_array(scales, f"{name}_scale"),
    )


def halve_weights(source: Path, target: Path) -> None:
    """Write a copy of a graph whose float32 weights are stored in float16: half of the size.

    They are cast back when the graph is loaded, so it computes in float32 and takes as long. What
    float16 can't hold (beyond 65,504) stays as it is.

    Args:
        source: A graph with float32 weights inside.
        target: The file to write.
    """
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    model = onnx.load(str(source))
    graph = model.graph
    casts = []
    for tensor in list(graph.initializer):
        values = numpy_helper.to_array(tensor)
        limit = np.finfo(np.float16).max
        if values.dtype != np.float32 or values.size < LARGE_TABLE or np.abs(values).max() > limit:
            continue
        graph.initializer.remove(tensor)
        half = numpy_helper.from_array(values.astype(np.float16), f"{tensor.name}_half")
        graph.initializer.append(half)
        casts.append(helper.make_node("Cast", [half.name], [tensor.name], to=TensorProto.FLOAT))
    for place, cast in enumerate(casts):
        graph.node.insert(place, cast)
    onnx.save(model, str(target))


def _pack_words(path: Path) -> None:
    """Store a graph's word vectors in 4 bits, in place; ONNX Runtime looks them up by itself."""
    import onnx
    from onnx import helper, numpy_helper

    model = onnx.load(str(path))
    for lookup in _lookups(model):
        name, ids = lookup.node.input
        if not name.endswith(WORDS):
            continue
        packed, scales = pack_rows(lookup.values)
        node = helper.make_node(
            "GatherBlockQuantized",
            [f"{name}_int4", ids, f"{name}_scale"],
            list(lookup.node.output),
            domain=CONTRIB,
            gather_axis=0,
            quantize_axis=1,
            block_size=lookup.values.shape[1] // scales.shape[1],
        )
        weights = (
            numpy_helper.from_array(packed, f"{name}_int4"),
            numpy_helper.from_array(scales, f"{name}_scale"),
        )
        _replace(model, lookup, ([node], weights))
    if all(opset.domain != CONTRIB for opset in model.opset_import):
        model.opset_import.append(helper.make_opsetid(CONTRIB, 1))
    onnx.save(model, str(path))


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


def pack_rows(table: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Round blocks of each row to whole multiples, from -8 to 7, of a scale for each block.

    Of a few scales, each block gets the one with the least square error: with 16 steps, a little
    less reach makes all others finer.

    Args:
        table: (rows, columns) float32; columns divisible by one of ``BLOCK_SIZES``.

    Returns:
        uint8 (rows, columns / 2), two codes plus 8 in a byte, the first in its lower half, and
        float32 (rows, blocks) scales; ``(code - 8) * scale`` is the value.
    """
    size = _block_size(table.shape[1])
    assert size is not None, "can_pack comes first"
    blocks = table.reshape(len(table), -1, size)
    largest = np.abs(blocks).max(axis=2, keepdims=True)
    codes = np.zeros(blocks.shape, np.int8)
    scales = np.ones(largest.shape, np.float32)
    least = np.full(largest.shape, np.inf)
    for ratio in CLIP_RATIOS:
        scale = (largest * np.float32(ratio / 7.5)).astype(np.float32)
        scale = np.where(scale > 0, scale, np.float32(1))
        rounded = np.clip(np.rint(blocks / scale), -8, 7)
        error = np.square(rounded * scale - blocks, dtype=np.float64).sum(axis=2, keepdims=True)
        better = error < least
        least = np.where(better, error, least)
        scales = np.where(better, scale, scales)
        codes = np.where(better, rounded, codes).astype(np.int8)
    unsigned = (codes + 8).astype(np.uint8).reshape(table.shape)
    return unsigned[:, 0::2] | unsigned[:, 1::2] << 4, scales[..., 0]
