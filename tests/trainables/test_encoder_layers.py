"""A model of fewer layers: trained, cached, reloaded, exported and measured like any other."""

import dataclasses
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
import torch

from spaces.trial_config import Method, TrialConfig
from trainables.bundle.predictor import open_graph, run_graph
from trainables.checkpoint import load_model
from trainables.compression.graph import export_graph
from trainables.compression.untrained import measure_shapes
from trainables.data.prepared import PreparedData
from trainables.fine_tune import fine_tune, predict_probabilities, score
from trainables.model import ClickModel, build_text_model
from trainables.trial_setup import TrialSetup, Worker

TRIAL = TrialConfig(encoder_layers=1, method="full", learning_rate=3e-3, batch_size=16, epochs=1)


def test_the_lowest_layers_are_kept(tiny_encoder: Path) -> None:
    whole = build_text_model(tiny_encoder, TrialConfig(), num_segments=1).eval()
    cut = build_text_model(tiny_encoder, TRIAL, num_segments=1).eval()

    assert whole.num_layers > 1
    assert cut.num_layers == 1
    assert cut.encoder.config.num_hidden_layers == 1
    assert whole.encoder.config.num_hidden_layers > 1
    states, mask = torch.tensor([[2, 9, 3]]), torch.ones(1, 3, dtype=torch.int64)
    outputs = whole.encoder(input_ids=states, attention_mask=mask, output_hidden_states=True)
    found = cut.encoder(input_ids=states, attention_mask=mask).last_hidden_state
    assert torch.allclose(found, outputs.hidden_states[1], atol=1e-6)


def test_more_layers_than_there_are_are_refused(tiny_encoder: Path) -> None:
    with pytest.raises(ValueError, match="encoder_layers is 99, but the encoder has"):
        build_text_model(tiny_encoder, TrialConfig(encoder_layers=99), num_segments=1)


@pytest.mark.parametrize("method", get_args(Method))
@pytest.mark.parametrize("tuned_layers", [None, 1, 2])
def test_a_checkpoint_predicts_what_was_evaluated(
    tiny_setup: TrialSetup, tmp_path: Path, method: str, tuned_layers: int | None
) -> None:
    trial = dataclasses.replace(TRIAL, method=method, tuned_layers=tuned_layers)  # type: ignore[arg-type]

    (progress,) = fine_tune(trial, tiny_setup, Worker(), checkpoints=tmp_path)

    assert progress.checkpoint is not None
    model = load_model(Path(progress.checkpoint.path))
    assert isinstance(model, ClickModel)
    assert model.num_layers == 1
    rows = PreparedData.open(Path(tiny_setup.data_folder)).rows("validation")
    again = score(predict_probabilities(model, rows), rows, tiny_setup)
    assert again["log_loss"] == pytest.approx(progress.metrics["log_loss"], abs=1e-3)


def test_tuning_more_layers_than_there_are_tunes_all(tiny_encoder: Path) -> None:
    two, one = (dataclasses.replace(TRIAL, tuned_layers=layers).effective() for layers in (2, 1))

    assert two == one


@pytest.mark.slow
def test_a_graph_of_fewer_layers_gives_the_same_and_costs_less(
    tiny_setup: TrialSetup, tiny_encoder: Path, tmp_path: Path
) -> None:
    data = PreparedData.open(Path(tiny_setup.data_folder))
    rows = data.rows("validation")
    model = build_text_model(tiny_encoder, TRIAL, num_segments=1)
    export_graph(model, tmp_path / "cut.onnx", max_tokens=tiny_setup.encoder.max_tokens)

    found = run_graph(open_graph(tmp_path / "cut.onnx", num_threads=1), rows.inputs)

    np.testing.assert_allclose(found, predict_probabilities(model, rows), atol=1e-5)
    whole = dataclasses.replace(TRIAL, encoder_layers=None)
    cut_cost, whole_cost = measure_shapes([TRIAL, whole], data, tiny_setup.encoder)
    assert 0 < cut_cost.latency_ms < whole_cost.latency_ms
    assert 0 < cut_cost.size_mb < whole_cost.size_mb
