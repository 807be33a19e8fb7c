"""Quantization: int8 weights in one smaller file that still answers nearly the same."""

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import BertConfig, BertModel

from trainables.bundle.graph_check import check_graph
from trainables.bundle.predictor import log_odds, open_graph, run_graph
from trainables.compression.graph import export_graph
from trainables.compression.measure import LatencyTimer, spread_over_lengths
from trainables.compression.pruning import choose_kept, measure_importance, prune
from trainables.compression.quantization import (
    halve_weights,
    pack_rows,
    quantize_graph,
    quantize_rows,
)
from trainables.data.prepared import Rows
from trainables.fine_tune import predict_probabilities
from trainables.model import ClickModel


@pytest.fixture
def graphs(model: ClickModel, rows: Rows, tmp_path: Path) -> dict[str, Path]:
    """A pruned model, exported and quantized."""
    prune(model, choose_kept(measure_importance(model, rows, np.arange(30)), 0.5))
    paths = {name: tmp_path / f"{name}.onnx" for name in ("fp32", "int8", "int4")}
    export_graph(model, paths["fp32"], max_tokens=32)
    quantize_graph(paths["fp32"], paths["int8"])
    quantize_graph(paths["fp32"], paths["int4"], pack_words=True)
    return paths


def test_graphs_of_a_pruned_model_answer_as_it_does(
    graphs: dict[str, Path], model: ClickModel, rows: Rows
) -> None:
    expected = predict_probabilities(model, rows)

    exported, quantized, packed = (
        run_graph(open_graph(path, num_threads=1), rows.inputs) for path in graphs.values()
    )

    np.testing.assert_allclose(exported, expected, atol=1e-6)
    assert np.abs(log_odds(quantized) - log_odds(expected)).max() < 0.25
    assert np.corrcoef(quantized, expected)[0, 1] > 0.98
    assert np.corrcoef(packed, expected)[0, 1] > 0.95

    types = {i.name: i.data_type for i in onnx.load(str(graphs["int8"])).graph.initializer}
    assert types["encoder.embeddings.word_embeddings.weight_int8"] == onnx.TensorProto.INT8
    assert "encoder.embeddings.word_embeddings.weight" not in types
    sizes = [graphs[name].stat().st_size for name in ("int4", "int8", "fp32")]
    assert sizes == sorted(sizes)
    for path in graphs.values():
        check_graph(path)
    assert {p.name for p in graphs["fp32"].parent.iterdir()} == {
        "fp32.onnx",
        "int4.onnx",
        "int8.onnx",
    }


def test_graphs_timed_one_after_the_other_are_told_in_the_same_time(
    graphs: dict[str, Path], rows: Rows
) -> None:
    timer = LatencyTimer(rows.inputs)
    assert timer.reference is None

    first = timer.measure([graphs["fp32"], graphs["int8"]])
    second = timer.measure([graphs["int4"]])

    assert timer.reference == graphs["int8"]
    assert all(0 < latency < 1000 for latency in (*first, *second))
    assert timer.measure([]) == []


@given(
    values=st.lists(
        st.lists(st.floats(-1e6, 1e6, width=32), min_size=4, max_size=4), min_size=1, max_size=6
    )
)
def test_a_quantized_row_is_off_by_half_a_step_at_most(values: list[list[float]]) -> None:
    table = np.array(values, dtype=np.float32)

    codes, scales = quantize_rows(table)

    assert codes.dtype == np.int8
    assert scales.shape == (len(values), 1)
    error = np.abs(codes * scales.astype(np.float64) - table)
    assert (error <= 0.501 * scales + 1e-30).all()


def unpack(packed: np.ndarray, scales: np.ndarray) -> np.ndarray:
    """Return the values that codes stand for, as the bundle's format describes them."""
    codes = np.stack([packed & 15, packed >> 4], axis=-1).reshape(len(packed), -1)
    blocks = codes.reshape(len(packed), scales.shape[1], -1).astype(np.float64) - 8
    values: np.ndarray = (blocks * scales[..., None]).reshape(len(packed), -1)
    return values


@given(
    values=st.lists(
        st.lists(st.floats(-1e6, 1e6, width=32), min_size=32, max_size=32), min_size=1, max_size=4
    )
)
def test_a_packed_block_is_no_worse_than_by_its_largest_value(values: list[list[float]]) -> None:
    table = np.array(values, dtype=np.float32)

    packed, scales = pack_rows(table)

    assert packed.dtype == np.uint8
    assert packed.shape == (len(values), 16)
    assert scales.shape == (len(values), 1)
    errors = np.square(unpack(packed, scales) - table).sum(axis=1)
    # Rounding to 15 steps is off by half a step, except for the value above the highest one.
    step = np.abs(table).max(axis=1).astype(np.float64) / 7.5
    assert (errors <= 32 * np.square(0.501 * step) + 1e-30).all()


def test_runtime_looks_up_what_the_codes_stand_for(
    graphs: dict[str, Path], rows: Rows, model: ClickModel, tmp_path: Path
) -> None:
    """A model with the rounded word vectors in float gives what the packed graph gives."""
    words = model.encoder.embeddings.word_embeddings.weight
    packed, scales = pack_rows(words.detach().numpy())
    words.data = torch.from_numpy(unpack(packed, scales).astype(np.float32))
    export_graph(model, tmp_path / "rounded.onnx", max_tokens=32)
    quantize_graph(tmp_path / "rounded.onnx", tmp_path / "expected.onnx")

    expected, found = (
        run_graph(open_graph(path, num_threads=1), rows.inputs)
        for path in (tmp_path / "expected.onnx", graphs["int4"])
    )

    # The 8 bits of the expected graph's own table stand between them.
    np.testing.assert_allclose(log_odds(found), log_odds(expected), atol=0.1)


def test_chosen_rows_cover_all_lengths() -> None:
    lengths = np.array([9, 3, 7, 5, 30, 4])

    assert lengths[spread_over_lengths(lengths, 3)].tolist() == [3, 5, 30]
    assert sorted(spread_over_lengths(lengths, 99).tolist()) == [0, 1, 2, 3, 4, 5]


@pytest.mark.parametrize("activation", ["gelu", "gelu_new", "relu", "silu"])
def test_graphs_of_every_usual_activation_are_known(
    activation: str, rows: Rows, tmp_path: Path
) -> None:
    settings = BertConfig(
        vocab_size=300,
        hidden_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=64,
        hidden_act=activation,
    )
    encoder = BertModel(settings, add_pooling_layer=False)
    model = ClickModel(encoder, num_segments=2, dropout=0.1).eval()
    graph, half = tmp_path / "fp32.onnx", tmp_path / "fp16.onnx"

    export_graph(model, graph, max_tokens=32)
    halve_weights(graph, half)

    check_graph(graph)
    check_graph(half)
    expected = predict_probabilities(model, rows)
    found = run_graph(open_graph(half, num_threads=1), rows.inputs)
    np.testing.assert_allclose(found, expected, atol=1e-2)
