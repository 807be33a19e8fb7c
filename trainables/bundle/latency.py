"""Whether a bundle is as fast on this machine as was asked for when it was made."""

import time
from dataclasses import dataclass

import numpy as np

from trainables.bundle.predictor import Predictor

ROUNDS = 9


@dataclass(frozen=True, kw_only=True, slots=True)
class LatencyCheck:
    """How fast a bundle is here."""

    median_ms: float
    """Median over its parity rows, one at a time on one thread, without tokenization."""
    at_export_ms: float
    """The same kind of number, from where it was made."""
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
    rows = [
        predictor.encode({name: [row[name]] for name in predictor.features.columns})
        for row in manifest.parity.rows
    ]
    seconds = []
    for turn in range(ROUNDS + 1):
        for row in rows:
            started = time.perf_counter()
            predictor.predict_inputs(row)
            # The first round warms up.
            if turn:
                seconds.append(time.perf_counter() - started)
    found = LatencyCheck(
        median_ms=float(np.median(seconds)) * 1000,
        at_export_ms=manifest.latency.median_ms,
        limit_ms=limit_ms,
    )
    if limit_ms is not None and found.median_ms > limit_ms:
        raise ValueError(
            f"one row takes {found.median_ms:.2f} ms on one thread of this machine, and may take "
            f"{limit_ms:g} ms; at export it took {found.at_export_ms:.2f} ms on "
            f"{manifest.latency.machine}. Compress again on this kind of machine, or allow more"
        )
    return found
