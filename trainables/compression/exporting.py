"""The graphs of one model, in each precision, measured on the validation rows."""

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from trainables.bundle.predictor import open_graph, run_graph
from trainables.compression.config import CompressionConfig
from trainables.compression.fallback import matrix_groups, quantize_with_fallback
from trainables.compression.graph import export_graph
from trainables.compression.quantization import can_pack, halve_weights, quantize_graph
from trainables.compression.report import Precision
from trainables.compression.shapes import shapes_of
from trainables.compression.winner import Winner
from trainables.model import ClickModel, Model

StepMetrics = tuple[str, dict[str, float]]
"""A step's name, and the validation metrics after it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Exported:
    """A graph of a smaller model, before its latency is known."""

    graph: Path
    keep_fraction: float
    precision: Precision
    shapes: dict[str, list[int]]
    steps: tuple[StepMetrics, ...]
    probabilities: np.ndarray
    """What it gives for the validation rows."""
    drop_at_most: float
    """What it loses of the metric at most; see :meth:`Winner.drop_at_most`."""


class DivergedError(ValueError):
    """A model or a graph gives something that is no probability."""


def measure_finite(winner: Winner, probabilities: np.ndarray) -> dict[str, float]:
    """Return the metrics of what a model gives for the validation rows, (n,).

    Raises:
        DivergedError: if that isn't all numbers.
    """
    if not np.isfinite(probabilities).all():
        raise DivergedError("a smaller model gives numbers that are none")
    return winner.metrics(probabilities)


def export_all(
    winner: Winner,
    model: Model,
    steps: tuple[StepMetrics, ...],
    *,
    keep_fraction: float,
    config: CompressionConfig,
    folder: Path,
) -> list[Exported]:
    """Export a model in each precision.

    Where float32 is good enough and int8 isn't, layers that int8 hurts stay in float32, and there
    is a variant with weights in float16. A quantized graph that gives no numbers is left out.

    Args:
        winner: The model before it was made smaller, and the rows to measure on.
        model: What to export.
        steps: What was done to it so far.
        keep_fraction: Share of its heads and units that stayed.
        config: What a graph may lose to be good enough.
        folder: A new folder for the graphs.

    Raises:
        DivergedError: if the model itself gives no numbers.
    """
    folder.mkdir()
    shapes = shapes_of(model.encoder).to_dict() if isinstance(model, ClickModel) else {}

    def measure(graph: Path, precision: Precision) -> Exported:
        session = open_graph(graph, num_threads=torch.get_num_threads())
        probabilities = run_graph(session, winner.validation.inputs)
        step = "exported" if precision == "fp32" else precision
        before = steps if precision == "fp32" else exported[0].steps
        metrics = measure_finite(winner, probabilities)
        return Exported(
            graph=graph,
            keep_fraction=keep_fraction,
            precision=precision,
            shapes=shapes,
            steps=(*before, (step, metrics)),
            probabilities=probabilities,
            drop_at_most=drop_at_most(metrics, probabilities),
        )

    def drop_at_most(metrics: dict[str, float], probabilities: np.ndarray) -> float:
        drop = winner.drop(metrics)
        # Drawing costs more than measuring, and what is beyond the limit already stays there.
        if config.confidence == 0.5 or drop > config.max_metric_drop:
            return drop
        return winner.drop_at_most(probabilities, config.confidence)

    def is_good_enough(item: Exported) -> bool:
        return item.drop_at_most <= config.max_metric_drop

    features = winner.features
    whole = folder / "fp32.onnx"
    export_graph(model, whole, max_tokens=features.max_tokens, fields=features.fields.shapes)
    exported: list[Exported] = []
    exported.append(measure(whole, "fp32"))
    for precision, pack_words in _int8_kinds(model):
        graph = folder / f"{precision}.onnx"
        quantize_graph(whole, graph, pack_words=pack_words)
        with contextlib.suppress(DivergedError):
            exported.append(measure(graph, precision))
    if is_good_enough(exported[0]) and not any(map(is_good_enough, exported[1:])):
        exported += _without_int8(winner, model, whole, measure, is_good_enough)
    return exported


def _int8_kinds(model: Model) -> Iterator[tuple[Precision, bool]]:
    yield "int8", False
    if isinstance(model, ClickModel):
        words = model.encoder.embeddings.word_embeddings
        if can_pack(words.num_embeddings, words.embedding_dim):
            yield "int8+int4", True


def _without_int8(
    winner: Winner,
    model: Model,
    whole: Path,
    measure: Callable[[Path, Precision], Exported],
    is_good_enough: Callable[[Exported], bool],
) -> Iterator[Exported]:
    """Make the variants that give back some of what int8 saves."""
    num_layers = model.num_layers if isinstance(model, ClickModel) else 0
    groups = matrix_groups(whole, num_layers)
    half = whole.with_name("fp16.onnx")
    mixed = quantize_with_fallback(
        whole,
        whole.with_name("int8+fp32.onnx"),
        groups,
        winner.validation.inputs,
        measure=lambda graph: measure(graph, "int8+fp32"),
        is_good_enough=is_good_enough,
    )
    if mixed is not None:
        yield mixed
    halve_weights(whole, half)
    yield measure(half, "fp16")
