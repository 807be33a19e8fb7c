"""How long a graph takes for one row, and whether that is as fast as was asked for."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from trainables.bundle.predictor import Predictor, graph_inputs

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

    from trainables.data.row_inputs import RowInputs

ROUNDS = 3
WARM_UP_ROWS = 3
VERIFY_ROUNDS = 9


def time_rows(
    sessions: Sequence["InferenceSession"],
    inputs: "RowInputs",
    rows: Sequence[int],
    *,
    rounds: int = ROUNDS,
) -> list[float]:
    """Time one row at a time, unpadded and ready for the graph.

    The graphs take turns, so that what else the machine does in the meantime slows all of them.

    Args:
        sessions: Graphs, each with its own number of threads.
        inputs: Rows.
        rows: Which of them, by number.
        rounds: How often each graph gets each row.

    Returns:
        The median of each graph, in milliseconds.
    """
    batches = [[graph_inputs(s, inputs, np.array([row])) for row in rows] for s in sessions]
    seconds: list[list[float]] = [[] for _ in sessions]
    for _ in range(rounds):
        for session, feeds, taken in zip(sessions, batches, seconds, strict=True):
            for feed in feeds[:WARM_UP_ROWS]:
                session.run(None, feed)
            for feed in feeds:
                started = time.perf_counter()
                session.run(None, feed)
                taken.append(time.perf_counter() - started)
    return [float(np.median(taken)) * 1000 for taken in seconds]


@dataclass(frozen=True, kw_only=True, slots=True)
class LatencyCheck:
    """How fast a bundle is here."""

    median_ms: float
    """Median over its parity rows, one at a time on one thread, without tokenization."""
    at_export_ms: float
    """The same of rows of the validation split, from where it was made."""
    limit_ms: float | None
    """What it may take; None: nobody said."""


def check_latency(predictor: Predictor, limit_ms: float | None = None) -> LatencyCheck:
    """Time a bundle's parity rows, which are of all lengths that its validation rows have.

    Args:
        predictor: The bundle, loaded with one thread.
        limit_ms: The most that the median may be; None: the study's ``max_latency_ms``, if it had
            one.

    Raises:
        ValueError: if it is slower than that.
    """
    manifest = predictor.manifest
    if limit_ms is None:
        limit_ms = manifest.compression.get("max_latency_ms")
    rows = manifest.parity.rows
    inputs = predictor.encode(
        {name: [row[name] for row in rows] for name in predictor.features.columns}
    )
    (median,) = time_rows([predictor.session], inputs, range(len(rows)), rounds=VERIFY_ROUNDS)
    found = LatencyCheck(
        median_ms=median, at_export_ms=manifest.latency.median_ms, limit_ms=limit_ms
    )
    if limit_ms is not None and found.median_ms > limit_ms:
        raise ValueError(
            f"one row takes {found.median_ms:.2f} ms on one thread of this machine, and may take "
            f"{limit_ms:g} ms; at export it took {found.at_export_ms:.2f} ms on "
            f"{manifest.latency.machine}. Compress again on this kind of machine, or allow more"
        )
    return found
