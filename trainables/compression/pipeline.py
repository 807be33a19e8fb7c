"""From a winner's checkpoint to a bundle: shrink, export, measure, choose."""

import contextlib
import dataclasses
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from trainables.bundle.export import check_output
from trainables.compression.choice import choose, find_finalists
from trainables.compression.config import CompressionConfig
from trainables.compression.exporting import Exported
from trainables.compression.ladder import descend
from trainables.compression.measure import LatencyTimer
from trainables.compression.packing import BundleRequest, write_bundle
from trainables.compression.report import Candidate, CompressionReport, say_layers
from trainables.compression.shrinking import Shrinker, Shrunk
from trainables.compression.winner import Winner, load_winner

DOCUMENTS_MB = 0.03
"""Manifest, model card and features of a bundle, about."""
FINAL_ROUNDS = 12
"""How often a finalist gets each row; the many others, while the search goes on, fewer times."""


def compress(  # noqa: PLR0913 - the fields of a CompressionJob, by name
    checkpoint: Path,
    config: CompressionConfig,
    output: Path,
    *,
    text_columns: Sequence[str],
    metric: str,
    lineage: Mapping[str, Any],
    num_threads: int = 1,
    data_folder: Path | None = None,
    tell: Callable[[str], None] = lambda _line: None,
) -> CompressionReport:
    """Shrink a winner as far as its metric allows, and write the bundle.

    From the winner down, layers, heads and feed-forward units are left out step by step
    (:mod:`trainables.compression.ladder`); each smaller model is recovered by distillation and
    exported in several precisions (:mod:`trainables.compression.exporting`). All are measured in
    ONNX Runtime on the validation rows; the fastest within the limits becomes the bundle. The test
    rows aren't read.

    Args:
        checkpoint: The winner's checkpoint.
        config: The limits, and what to try.
        output: The bundle's folder; an older bundle there is replaced.
        text_columns: Names of the table's text columns, in the study's order.
        metric: The metric that ``max_metric_drop`` limits.
        lineage: JSON values that say where the checkpoint comes from; kept in the manifest.
        num_threads: CPU threads to use. Latency is measured on one.
        data_folder: Where the checkpoint's prepared data lies now; None: where it lay when it was
            trained.
        tell: Called with a line for a person after each model that was tried.

    Returns:
        What was tried and chosen. Its ``bundle`` is None if nothing is within the limits.

    Raises:
        ValueError: if the checkpoint can't be read or doesn't fit its data, the metric is unknown,
            or ``output`` is taken by something else.
    """
    started = time.perf_counter()
    output = output.absolute()
    check_output(output)
    output.parent.mkdir(parents=True, exist_ok=True)
    with (
        _threads(num_threads),
        tempfile.TemporaryDirectory(dir=output.parent, prefix=f".{output.name}-") as work,
    ):
        winner = load_winner(
            checkpoint, text_columns=text_columns, metric=metric, data_folder=data_folder
        )
        if config.confidence > 0.5 and len(np.unique(winner.validation.groups)) < 2:
            raise ValueError(
                f"compression.confidence is {config.confidence}, but all validation rows are of "
                "one group, so that nothing can be drawn from them; use 0.5, or split otherwise"
            )
        if config.trim_vocabulary:
            winner = winner.with_trimmed_vocabulary(config.frequent_pieces)
        winner.trim_positions()
        shrinker = Shrinker(winner, config, Path(work))
        exported: list[Exported] = []
        candidates: list[Candidate] = []
        timer = LatencyTimer(winner.validation.inputs)
        for model in descend(shrinker.ladder, shrinker.make_top, shrinker.shrink):
            exported += model.exported
            candidates += _measure(winner, model.exported, timer)
            _remove_hopeless(model.exported, candidates, config, timer)
            tell(_describe(model, config, metric))
        _time_finalists(exported, candidates, config, timer)
        chosen, reason = choose(candidates, config, metric)
        if chosen is not None:
            probabilities = exported[chosen].probabilities
            calibration = winner.calibrate(config.calibration, probabilities)
            calibrated = winner.metrics(calibration.apply(probabilities))
            steps = (*candidates[chosen].steps, ("calibrated", calibrated))
            candidates[chosen] = dataclasses.replace(candidates[chosen], steps=steps)
            write_bundle(
                winner,
                candidates[chosen],
                exported[chosen],
                BundleRequest(
                    output=output,
                    staging=Path(work) / "bundle",
                    lineage=lineage,
                    max_latency_ms=config.max_latency_ms,
                ),
                calibration=calibration,
            )
        return CompressionReport(
            checkpoint=str(checkpoint),
            metric=metric,
            baseline=winner.baseline,
            candidates=tuple(candidates),
            chosen=chosen,
            bundle=None if chosen is None else str(output),
            reason=reason,
            seconds=time.perf_counter() - started,
        )


@contextlib.contextmanager
def _threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _measure(winner: Winner, exported: Sequence[Exported], timer: LatencyTimer) -> list[Candidate]:
    latencies = timer.measure([item.graph for item in exported])
    other_mb = len(winner.tokenizer.to_str().encode()) / 1e6 + DOCUMENTS_MB
    return [
        Candidate(
            keep_fraction=item.keep_fraction,
            precision=item.precision,
            metrics=item.steps[-1][1],
            metric_drop=winner.drop(item.steps[-1][1]),
            metric_drop_at_most=item.drop_at_most,
            latency_ms=latency,
            size_mb=item.graph.stat().st_size / 1e6 + other_mb,
            shapes=item.shapes,
            steps=item.steps,
        )
        for item, latency in zip(exported, latencies, strict=True)
    ]


def _time_finalists(
    exported: Sequence[Exported],
    candidates: list[Candidate],
    config: CompressionConfig,
    timer: LatencyTimer,
) -> None:
    """Time those that might be chosen again, side by side and more often."""
    finalists = find_finalists(candidates, config)
    graphs = [exported[number].graph for number in finalists]
    for number, latency in zip(finalists, timer.measure(graphs, rounds=FINAL_ROUNDS), strict=True):
        candidates[number] = dataclasses.replace(candidates[number], latency_ms=latency)


def _describe(model: Shrunk, config: CompressionConfig, metric: str) -> str:
    shape = model.shape
    name = (
        f"{say_layers(shape.layers)} at {shape.keep_fraction:.0%}" if shape.layers else "exported"
    )
    if not model.exported:
        return f"{name}: it gives no numbers"
    # The last of them is the smallest.
    value = model.exported[-1].steps[-1][1][metric]
    verdict = "" if model.is_good_enough else ", which is beyond max_metric_drop"
    if verdict and config.confidence > 0.5:
        least = min(item.drop_at_most for item in model.exported)
        verdict = f", which may lose {least:.4f}, beyond max_metric_drop"
    return f"{name}: {metric} {value:.4f}{verdict}"


def _remove_hopeless(
    exported: Sequence[Exported],
    candidates: Sequence[Candidate],
    config: CompressionConfig,
    timer: LatencyTimer,
) -> None:
    """Remove the graphs that can't be chosen: a large encoder's take gigabytes."""
    # The last candidates are those of these graphs.
    for item, candidate in zip(reversed(exported), reversed(candidates), strict=False):
        if candidate.metric_drop_at_most > config.max_metric_drop and item.graph != timer.reference:
            item.graph.unlink()
