"""Which matrices of a graph stay in float32, where int8 hurts."""

import contextlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import numpy as np
import torch

from trainables.bundle.predictor import log_odds, open_graph, run_graph
from trainables.compression.quantization import MATRIX_OPERATORS, quantize_graph
from trainables.data.row_inputs import RowInputs

if TYPE_CHECKING:
    import onnx

Measured = TypeVar("Measured")

MATRICES_PER_LAYER = 6
"""Query, key, value, the attention's output, and the two of the feed-forward part."""

NUM_ROWS = 256
"""Rows that groups of matrices are compared on."""


def matrix_groups(graph: Path, num_layers: int) -> list[tuple[str, ...]]:
    """Name the nodes that multiply by a weight matrix: one group a layer, then what comes after.

    Args:
        graph: Exported in float32, so its nodes are in the order of the computation.
        num_layers: Of the encoder.
    """
    import onnx

    model = onnx.load(str(graph))
    names = _matrices(model)
    groups = [
        tuple(names[layer * MATRICES_PER_LAYER : (layer + 1) * MATRICES_PER_LAYER])
        for layer in range(num_layers)
    ]
    return [group for group in (*groups, tuple(names[num_layers * MATRICES_PER_LAYER :])) if group]


def _matrices(model: "onnx.ModelProto") -> list[str]:
    weights = {tensor.name for tensor in model.graph.initializer}
    return [
        node.name
        for node in model.graph.node
        if node.op_type in MATRIX_OPERATORS and node.input[1] in weights
    ]


def quantize_with_fallback(
    graph: Path,
    target: Path,
    groups: Sequence[tuple[str, ...]],
    inputs: RowInputs,
    *,
    measure: Callable[[Path], Measured],
    is_good_enough: Callable[[Measured], bool],
) -> Measured | None:
    """Quantize a graph but for the layers that int8 hurts most, as few of them as it takes.

    Layers are ordered by how much nearer the log-odds come to those in float32 if that layer alone
    stays in float32. Then one more of them stays each time until the result is good enough, at most
    half of them: beyond, int8 gains too little to be worth it.

    Args:
        graph: In float32.
        target: The file to write.
        groups: From :func:`matrix_groups`.
        inputs: Rows to compare on.
        measure: Measures a graph's file; a ValueError says that it can't be.
        is_good_enough: Judges that.

    Returns:
        What was measured of the result; None, and no file, where none was good enough.
    """
    rows = inputs.take(np.arange(min(NUM_ROWS, len(inputs))))

    def run(path: Path) -> np.ndarray:
        session = open_graph(path, num_threads=torch.get_num_threads())
        return log_odds(run_graph(session, rows))

    wanted = run(graph)

    def quantize(kept: Sequence[tuple[str, ...]]) -> None:
        quantize_graph(graph, target, float_nodes=[name for group in kept for name in group])

    def distance(group: tuple[str, ...]) -> float:
        quantize([group])
        found = float(np.square(run(target) - wanted).mean())
        return found if np.isfinite(found) else np.inf

    order = sorted(groups, key=distance)
    for count in range(1, len(groups) // 2 + 1):
        quantize(order[:count])
        with contextlib.suppress(ValueError):
            if is_good_enough(measured := measure(target)):
                return measured
    target.unlink(missing_ok=True)
    return None
