"""From a winner's checkpoint to a bundle: prune, recover, export, quantize, measure, choose."""

import contextlib
import copy
import dataclasses
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from trainables.bundle.export import check_output
from trainables.bundle.predictor import open_graph, run_graph
from trainables.compression.choice import choose
from trainables.compression.config import CompressionConfig
from trainables.compression.graph import export_graph
from trainables.compression.measure import measure_latencies
from trainables.compression.packing import write_bundle
from trainables.compression.pruning import Importance, choose_kept, measure_importance, prune
from trainables.compression.quantization import quantize_graph
from trainables.compression.recovery import Teaching, ask_teacher, recover
from trainables.compression.report import Candidate, CompressionReport, Precision
from trainables.compression.shapes import shapes_of
from trainables.compression.winner import Winner, load_winner
from trainables.fine_tune import predict_probabilities
from trainables.model import ClickModel, Model

DOCUMENTS_MB = 0.03
"""Manifest, model card and features of a bundle, about."""


@dataclass(frozen=True, kw_only=True, slots=True)
class _Exported:
    """A candidate before its latency is known."""

    graph: Path
    keep_fraction: float
    precision: Precision
    shapes: dict[str, list[int]]
    steps: tuple[tuple[str, dict[str, float]], ...]
    probabilities: np.ndarray


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
) -> CompressionReport:
    """Shrink a winner as far as its metric allows, and write the bundle.

    Each keep fraction is pruned, recovered by distillation and exported, in fp32 and in int8. All
    are measured in ONNX Runtime on the validation rows; the fastest within the limits becomes the
    bundle. The test rows aren't read.

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
        if config.trim_vocabulary:
            winner = winner.with_trimmed_vocabulary(config.frequent_pieces)
        exported = list(_export_all(winner, config, Path(work)))
        candidates = _measure(winner, exported)
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
                exported[chosen].graph,
                calibration=calibration,
                staging=Path(work) / "bundle",
                output=output,
                lineage=lineage,
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


def _export_all(winner: Winner, config: CompressionConfig, work: Path) -> Iterator[_Exported]:
    """Make the graphs of all candidates, one pruned model after the other."""
    if not isinstance(winner.model, ClickModel):
        # Without an encoder there are no heads and units to leave out.
        yield from _export(winner, winner.model, 1.0, list(winner.steps), work)
        return
    importance: Importance | None = None
    teaching: Teaching | None = None
    for keep in sorted(set(config.keep_fractions), reverse=True):
        model = winner.model
        steps = list(winner.steps)
        if keep < 1:
            if importance is None:
                rows = _sample(len(winner.train), config.importance_rows, [config.seed, 0])
                importance = measure_importance(winner.model, winner.train, rows)
            if teaching is None and config.recovery_epochs:
                rows = _sample(len(winner.train), config.recovery_rows, [config.seed, 2])
                teaching = ask_teacher(winner.model, winner.train, rows)
            model = copy.deepcopy(winner.model)
            prune(model, choose_kept(importance, keep))
            steps += _recover(winner, model, teaching, config)
        yield from _export(winner, model, keep, steps, work)


def _sample(num_rows: int, most: int, seed: list[int]) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return np.sort(rng.permutation(num_rows)[:most])


def _recover(
    winner: Winner, model: ClickModel, teaching: Teaching | None, config: CompressionConfig
) -> list[tuple[str, dict[str, float]]]:
    """Make up for pruning where it cost something, and return the steps' metrics."""
    validation = winner.validation
    pruned = winner.metrics(predict_probabilities(model, validation))
    steps = [("pruned", pruned)]
    if teaching is None or winner.goodness(pruned) >= winner.goodness(winner.baseline):
        return steps
    seen = {winner.goodness(pruned): pruned}

    def evaluate(student: ClickModel) -> float:
        metrics = winner.metrics(predict_probabilities(student, validation))
        seen[winner.goodness(metrics)] = metrics
        return winner.goodness(metrics)

    best = recover(
        model,
        winner.train,
        teaching,
        config,
        evaluate,
        before=winner.goodness(pruned),
    )
    return [*steps, ("recovered", seen[best])]


def _export(
    winner: Winner,
    model: Model,
    keep: float,
    steps: list[tuple[str, dict[str, float]]],
    work: Path,
) -> Iterator[_Exported]:
    graph, smaller = (work / f"keep-{keep:g}-{precision}.onnx" for precision in ("fp32", "int8"))
    features = winner.features
    export_graph(model, graph, max_tokens=features.max_tokens, fields=features.fields.shapes)
    quantize_graph(graph, smaller)
    shapes = shapes_of(model.encoder).to_dict() if isinstance(model, ClickModel) else {}
    precision: Precision
    for path, precision, step in ((graph, "fp32", "exported"), (smaller, "int8", "int8")):
        session = open_graph(path, num_threads=torch.get_num_threads())
        probabilities = run_graph(session, winner.validation.inputs)
        metrics = winner.metrics(probabilities)
        steps = [*steps, (step, metrics)]
        yield _Exported(
            graph=path,
            keep_fraction=keep,
            precision=precision,
            shapes=shapes,
            steps=tuple(steps),
            probabilities=probabilities,
        )


def _measure(winner: Winner, exported: Sequence[_Exported]) -> list[Candidate]:
    latencies = measure_latencies([item.graph for item in exported], winner.validation.inputs)
    other_mb = len(winner.tokenizer.to_str().encode()) / 1e6 + DOCUMENTS_MB
    return [
        Candidate(
            keep_fraction=item.keep_fraction,
            precision=item.precision,
            metrics=item.steps[-1][1],
            metric_drop=winner.goodness(winner.baseline) - winner.goodness(item.steps[-1][1]),
            latency_ms=latency,
            size_mb=item.graph.stat().st_size / 1e6 + other_mb,
            shapes=item.shapes,
            steps=item.steps,
        )
        for item, latency in zip(exported, latencies, strict=True)
    ]
