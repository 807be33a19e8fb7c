"""Where int8 hurts, the layers that it hurts stay in float32, and no others."""

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from trainables.bundle.predictor import log_odds, open_graph, run_graph
from trainables.compression.fallback import matrix_groups, quantize_with_fallback
from trainables.compression.graph import export_graph
from trainables.compression.quantization import halve_weights, quantize_graph
from trainables.data.prepared import Rows
from trainables.model import ClickModel


def spoil(model: ClickModel, place: int) -> None:
    """Let one unit of a layer give numbers so large that 8 bits leave nothing of the others."""
    layer = model.encoder.encoder.layer[place]
    with torch.no_grad():
        layer.intermediate.dense.bias[0] = 20_000.0
        layer.output.dense.weight[:, 0] = 0.0


@pytest.fixture
def graph(model: ClickModel, tmp_path: Path) -> Path:
    spoil(model, 1)
    export_graph(model, tmp_path / "fp32.onnx", max_tokens=32)
    return tmp_path / "fp32.onnx"


def worst(graph: Path, other: Path, rows: Rows) -> float:
    """Return the largest difference of log-odds between two graphs."""
    one, two = (
        log_odds(run_graph(open_graph(p, num_threads=1), rows.inputs)) for p in (graph, other)
    )
    return float(np.abs(one - two).max())


def test_every_matrix_is_in_the_group_of_its_layer(graph: Path) -> None:
    groups = matrix_groups(graph, 3)

    assert [len(group) for group in groups] == [6, 6, 6, 1]
    assert len({name for group in groups for name in group}) == 19


def test_the_layer_that_int8_hurts_stays_in_float(graph: Path, rows: Rows, tmp_path: Path) -> None:
    quantize_graph(graph, tmp_path / "int8.onnx")
    mixed = tmp_path / "mixed.onnx"
    assert worst(graph, tmp_path / "int8.onnx", rows) > 0.3

    groups = matrix_groups(graph, 3)

    distance = quantize_with_fallback(
        graph,
        mixed,
        groups,
        rows.inputs,
        measure=lambda path: worst(graph, path, rows),
        is_good_enough=lambda found: found < 0.15,
    )

    assert distance == worst(graph, mixed, rows)
    assert in_float(mixed, groups) == set(groups[1])


def test_the_head_may_be_what_int8_hurts(model: ClickModel, rows: Rows, tmp_path: Path) -> None:
    """The graph's head is a Gemm, which the quantizer renames before it looks for it."""
    with torch.no_grad():
        model.encoder.encoder.layer[2].output.LayerNorm.bias[0] = 20_000.0
        model.head.weight[0, 0] = 0.0
    whole, mixed = tmp_path / "fp32.onnx", tmp_path / "mixed.onnx"
    export_graph(model, whole, max_tokens=32)
    groups = matrix_groups(whole, 3)

    distance = quantize_with_fallback(
        whole,
        mixed,
        groups,
        rows.inputs,
        measure=lambda path: worst(whole, path, rows),
        is_good_enough=lambda found: found < 0.15,
    )

    assert distance is not None
    assert in_float(mixed, groups) == set(groups[3])


def in_float(graph: Path, groups: list[tuple[str, ...]]) -> set[str]:
    """Return the matrix products that a quantized graph computes in float32."""
    nodes = onnx.load(str(graph)).graph.node
    names = {n.name.removesuffix("_MatMul") for n in nodes if n.op_type in ("MatMul", "Gemm")}
    return names & {name for group in groups for name in group}


def test_at_most_half_of_the_layers_stay_in_float(graph: Path, rows: Rows, tmp_path: Path) -> None:
    asked: list[Path] = []

    found = quantize_with_fallback(
        graph,
        tmp_path / "mixed.onnx",
        matrix_groups(graph, 3),
        rows.inputs,
        measure=asked.append,
        is_good_enough=lambda _: False,
    )

    assert found is None
    assert len(asked) == 2
    assert not (tmp_path / "mixed.onnx").exists()


def test_weights_in_16_bits_take_half_and_change_next_to_nothing(
    model: ClickModel, rows: Rows, tmp_path: Path
) -> None:
    export_graph(model, tmp_path / "fp32.onnx", max_tokens=32)

    halve_weights(tmp_path / "fp32.onnx", tmp_path / "fp16.onnx")

    whole, half = ((tmp_path / f"{name}.onnx") for name in ("fp32", "fp16"))
    assert worst(whole, half, rows) < 0.01
    weights = 4 * sum(parameter.numel() for parameter in model.parameters())
    assert whole.stat().st_size - half.stat().st_size > 0.4 * weights


def test_a_weight_that_16_bits_cannot_hold_stays_as_it_is(
    model: ClickModel, rows: Rows, tmp_path: Path
) -> None:
    with torch.no_grad():
        model.encoder.encoder.layer[0].intermediate.dense.bias[0] = 70_000.0
    export_graph(model, tmp_path / "fp32.onnx", max_tokens=32)

    halve_weights(tmp_path / "fp32.onnx", tmp_path / "fp16.onnx")

    assert worst(tmp_path / "fp32.onnx", tmp_path / "fp16.onnx", rows) < 0.05
