"""How long an exported graph takes for one row."""

import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from trainables.bundle.predictor import graph_inputs, open_graph
from trainables.data.row_inputs import RowInputs

NUM_ROWS = 24
ROUNDS = 3
WARM_UP_ROWS = 3


def spread_over_lengths(lengths: np.ndarray, count: int) -> np.ndarray:
    """Choose rows evenly from the shortest to the longest, at most ``count``."""
    order = np.argsort(lengths, kind="stable")
    places = np.unique(np.linspace(0, len(order) - 1, min(count, len(order))).round().astype(int))
    chosen: np.ndarray = order[places]
    return chosen


def measure_latencies(graphs: Sequence[Path], inputs: RowInputs) -> list[float]:
    """Time one row at a time, on one thread, unpadded.

    The graphs take turns, so that what else the machine does in the meantime slows all of them.

    Args:
        graphs: ONNX files.
        inputs: Rows to choose from, over all the lengths of their texts.

    Returns:
        The median of each graph, in milliseconds.
    """
    chosen = spread_over_lengths(inputs.tokens.lengths, NUM_ROWS)
    sessions = [open_graph(path, num_threads=1) for path in graphs]
    batches = [[graph_inputs(s, inputs, np.array([row])) for row in chosen] for s in sessions]
    seconds: list[list[float]] = [[] for _ in graphs]
    for _ in range(ROUNDS):
        for session, rows, taken in zip(sessions, batches, seconds, strict=True):
            for row in rows[:WARM_UP_ROWS]:
                session.run(None, row)
            for row in rows:
                started = time.perf_counter()
                session.run(None, row)
                taken.append(time.perf_counter() - started)
    return [float(np.median(taken)) * 1000 for taken in seconds]
