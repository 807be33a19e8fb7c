"""The bound grows with what a trial trains, and agrees with the encoder's real sizes."""

from pathlib import Path

import pytest

from spaces.trial_config import TrialConfig
from trainables.memory_bound import EncoderShape, bound_memory, largest_batch
from trainables.model import build_text_model
from trainables.tuning import choose_trained


@pytest.mark.parametrize(
    "trial",
    [
        TrialConfig(method="full"),
        TrialConfig(method="lora", lora_rank=4),
        TrialConfig(method="full", tuned_layers=1),
        TrialConfig(method="lora", lora_rank=16, tuned_layers=2),
        TrialConfig(method="rslora", lora_rank=4),
        TrialConfig(method="dora", lora_rank=4, tuned_layers=1),
        TrialConfig(method="ia3"),
    ],
)
def test_weights_are_counted_as_the_model_has_them(tiny_encoder: Path, trial: TrialConfig) -> None:
    model = build_text_model(tiny_encoder, trial, num_segments=2)
    choose_trained(model, trial)
    shape = EncoderShape.read(tiny_encoder)
    trained = sum(weight.numel() for weight in model.parameters() if weight.requires_grad)

    plain = build_text_model(tiny_encoder, trial, num_segments=2).encoder
    assert shape.weights == sum(weight.numel() for weight in plain.parameters())
    assert shape.trained_weights(trial) == trained


def test_more_rows_more_tokens_and_more_layers_take_more(tiny_encoder: Path) -> None:
    shape = EncoderShape.read(tiny_encoder)
    top, whole = TrialConfig(method="full", tuned_layers=1), TrialConfig(method="full")

    small = bound_memory(shape, top, rows=8, num_tokens=16)

    assert bound_memory(shape, top, rows=9, num_tokens=16) > small
    assert bound_memory(shape, top, rows=8, num_tokens=17) > small
    assert bound_memory(shape, whole, rows=8, num_tokens=16) > small


def test_the_largest_batch_fits_and_one_row_more_does_not(tiny_encoder: Path) -> None:
    shape, trial = EncoderShape.read(tiny_encoder), TrialConfig(method="full")

    rows = largest_batch(shape, trial, available=50e6, num_tokens=64)

    fixed = shape.training_bytes(trial)
    assert fixed + rows * shape.row_bytes(trial, 64) <= 50e6
    assert fixed + (rows + 1) * shape.row_bytes(trial, 64) > 50e6
    assert largest_batch(shape, trial, available=1.0, num_tokens=64) == 0
