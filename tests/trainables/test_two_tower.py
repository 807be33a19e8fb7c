"""A segment's vector depends on that segment alone; towers learn from the batch's other items."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from spaces.trial_config import Loss, TrialConfig
from trainables.bundle.graph_check import check_graph
from trainables.bundle.predictor import open_graph, run_batches, run_graph
from trainables.checkpoint import load_model
from trainables.compression.graph import VECTORS, export_graph
from trainables.compression.quantization import quantize_graph
from trainables.data.config import Columns, DataConfig, SplitConfig
from trainables.data.fields import FieldShapes
from trainables.data.prepared import PreparedData, prepare
from trainables.data.row_inputs import RowInputs
from trainables.data.table import load_clicks
from trainables.data.token_rows import tokenize
from trainables.deepspeed_config import DeepSpeedConfig
from trainables.encoder import EncoderConfig, encoder_fingerprint, load_tokenizer
from trainables.fine_tune import fine_tune, predict_probabilities
from trainables.model import build_model
from trainables.task import TaskConfig
from trainables.trial_setup import TrialSetup, Worker
from trainables.two_tower import TwoTowerModel

TRIAL = TrialConfig(
    architecture="two_tower", method="full", learning_rate=3e-3, batch_size=16, epochs=4
)
WORDS = ("red", "soft", "new", "old", "cheap", "blue")


@pytest.fixture
def model(tiny_encoder: Path) -> TwoTowerModel:
    built = build_model(tiny_encoder, TRIAL, num_segments=2, base_rate=0.2).eval()
    assert isinstance(built, TwoTowerModel)
    return built


def rows_of(encoder: Path, first: list[str], second: list[str]) -> RowInputs:
    return RowInputs.of_text(tokenize([first, second], load_tokenizer(encoder, max_tokens=16)))


def embed(model: TwoTowerModel, rows: RowInputs) -> tuple[torch.Tensor, torch.Tensor]:
    batch = rows.tokens.batch(np.arange(len(rows)))
    with torch.no_grad():
        return model.embed(**{name: torch.from_numpy(value) for name, value in batch.items()})


def test_a_segments_vector_ignores_the_other_segment(
    model: TwoTowerModel, tiny_encoder: Path
) -> None:
    pairs = embed(model, rows_of(tiny_encoder, ["a red b", "soft"], ["new c d e", "old"]))
    firsts, _ = embed(model, rows_of(tiny_encoder, ["a red b", "soft"], ["", ""]))
    _, seconds = embed(model, rows_of(tiny_encoder, ["", ""], ["new c d e", "old"]))

    torch.testing.assert_close(pairs[0], firsts, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(pairs[1], seconds, atol=1e-5, rtol=1e-5)
    assert torch.linalg.norm(pairs[1], dim=-1).tolist() == pytest.approx([1, 1], abs=1e-5)


def test_the_batchs_pairs_hold_each_rows_own_on_the_diagonal(
    model: TwoTowerModel, tiny_encoder: Path
) -> None:
    rows = rows_of(tiny_encoder, ["a red b", "soft", "c"], ["new", "old d", "cheap"])
    batch = {k: torch.from_numpy(v) for k, v in rows.tokens.batch(np.arange(3)).items()}

    with torch.no_grad():
        logits, pairs = model(**batch), model(**batch, in_batch=True)

    assert pairs.shape == (3, 3)
    torch.testing.assert_close(pairs.diagonal(), logits, atol=1e-5, rtol=1e-5)


@pytest.fixture(scope="module")
def setup(tiny_encoder: Path, tmp_path_factory: pytest.TempPathFactory) -> TrialSetup:
    """Queries of a word; among six titles the one with the same word is clicked."""
    rng = np.random.default_rng(0)
    fillers = ["a", "b", "c", "d", "e"]
    rows = [
        (f"{rng.choice(fillers)} {word}", f"{other} {rng.choice(fillers)}", query, word == other)
        for query, word in enumerate(rng.choice(WORDS, size=60))
        for other in WORDS
    ]
    path = tmp_path_factory.mktemp("pairs") / "pairs.parquet"
    frame = pd.DataFrame(rows, columns=["query", "title", "group", "label"])
    frame.astype({"label": int}).to_parquet(path)
    config = DataConfig(
        path=str(path),
        columns=Columns(text=("query", "title"), label="label", group="group"),
        split=SplitConfig(by="group"),
    )
    encoder = EncoderConfig(name=str(tiny_encoder), max_tokens=16)
    task = TaskConfig(kind="recommendation")
    data = prepare(load_clicks(config, task), encoder, tmp_path_factory.mktemp("prepared"))
    return TrialSetup(
        data_folder=str(data.folder),
        data_fingerprint=data.fingerprint,
        encoder_fingerprint=encoder_fingerprint(tiny_encoder),
        task=task,
        encoder=encoder,
        deepspeed=DeepSpeedConfig(precision="fp32"),
    )


@pytest.mark.parametrize("loss", ["pointwise", "listwise", "in_batch"])
def test_towers_learn_which_title_answers_a_query(
    setup: TrialSetup, tmp_path: Path, loss: Loss
) -> None:
    trial = dataclasses.replace(TRIAL, loss=loss)

    *_, last = fine_tune(trial, setup, Worker(), checkpoints=tmp_path)

    # A random order of one in six has an NDCG of 0.55.
    assert last.metrics["ndcg@10"] > 0.9
    assert last.checkpoint is not None
    rows = PreparedData.open(Path(setup.data_folder)).rows("validation")
    loaded = load_model(Path(last.checkpoint.path))
    assert len(predict_probabilities(loaded, rows)) == len(rows)


def test_the_exported_graph_gives_log_odds_and_vectors(
    model: TwoTowerModel, tiny_encoder: Path, tmp_path: Path
) -> None:
    rows = rows_of(tiny_encoder, ["a red b", "soft", "c"], ["new e f g", "old d", "cheap"])
    graph, smaller = tmp_path / "graph.onnx", tmp_path / "int8.onnx"
    export_graph(model, graph, max_tokens=16)
    quantize_graph(graph, smaller)
    expected = embed(model, rows)
    with torch.no_grad():
        logits = model(
            **{k: torch.from_numpy(v) for k, v in rows.tokens.batch(np.arange(3)).items()}
        )

    for path, near in ((graph, 1e-4), (smaller, 0.1)):
        check_graph(path)
        session = open_graph(path, num_threads=1)
        assert run_graph(session, rows) == pytest.approx(torch.sigmoid(logits).numpy(), abs=near)
        for name, vectors in zip(VECTORS, expected, strict=True):
            assert run_batches(session, rows, name) == pytest.approx(vectors.numpy(), abs=near)


@pytest.mark.parametrize(
    ("settings", "segments", "fields", "message"),
    [
        ({}, 1, None, "two_tower, which compares two segments, but rows have 1"),
        ({}, 2, FieldShapes(num_numbers=2), "reads text alone, but rows have fields"),
        ({"tuned_layers": 1}, 2, None, "trains all layers, but tuned_layers is 1"),
    ],
)
def test_what_towers_cannot_do_is_refused(
    tiny_encoder: Path,
    settings: dict[str, Any],
    segments: int,
    fields: FieldShapes | None,
    message: str,
) -> None:
    trial = dataclasses.replace(TRIAL, **settings)

    with pytest.raises(ValueError, match=message):
        build_model(tiny_encoder, trial, num_segments=segments, fields=fields)
