"""Layers: what is missed least goes first, and what stays answers as it did among the others."""

import copy

import numpy as np
import pytest
import torch

from tests.trainables.compression.conftest import logits_of
from trainables.compression.layers import choose_layers, keep_layers
from trainables.compression.recovery import Teaching, ask_teacher
from trainables.compression.shapes import EncoderShapes, apply_shapes, shapes_of
from trainables.data.prepared import Rows
from trainables.model import ClickModel


def silence(model: ClickModel, place: int) -> None:
    """Make a layer pass on what it gets: both of its branches add nothing."""
    layer = model.encoder.encoder.layer[place]
    for part in (layer.attention.output, layer.output):
        torch.nn.init.zeros_(part.dense.weight)
        torch.nn.init.zeros_(part.dense.bias)
        torch.nn.init.ones_(part.LayerNorm.weight)
        torch.nn.init.zeros_(part.LayerNorm.bias)


@pytest.fixture
def teaching(model: ClickModel, rows: Rows) -> Teaching:
    return ask_teacher(model, rows, np.arange(40))


@pytest.mark.parametrize("idle", [0, 1, 2])
def test_a_layer_that_does_nothing_is_the_first_to_go(
    model: ClickModel, rows: Rows, idle: int
) -> None:
    silence(model, idle)
    teaching = ask_teacher(model, rows, np.arange(40))

    kept = choose_layers(model, rows, teaching, 2)

    assert kept == tuple(place for place in range(3) if place != idle)


def test_choosing_leaves_the_model_as_it_was(
    model: ClickModel, rows: Rows, teaching: Teaching
) -> None:
    before = logits_of(model, rows)

    choose_layers(model, rows, teaching, 1)

    assert model.num_layers == model.encoder.config.num_hidden_layers == 3
    assert torch.equal(logits_of(model, rows), before)


def test_a_model_without_an_idle_layer_answers_as_before(model: ClickModel, rows: Rows) -> None:
    silence(model, 1)
    # Twice normalized is once normalized, where the layer before ends with a plain norm.
    norm = model.encoder.encoder.layer[0].output.LayerNorm
    torch.nn.init.ones_(norm.weight)
    torch.nn.init.zeros_(norm.bias)
    before = logits_of(model, rows)

    keep_layers(model, (0, 2))

    assert model.num_layers == model.encoder.config.num_hidden_layers == 2
    torch.testing.assert_close(logits_of(model, rows), before, rtol=1e-4, atol=1e-5)


def test_weights_of_fewer_layers_load_into_their_shapes(model: ClickModel, rows: Rows) -> None:
    smaller = copy.deepcopy(model)
    keep_layers(smaller, (0, 2))
    shapes = EncoderShapes.from_dict(shapes_of(smaller.encoder).to_dict())

    apply_shapes(model.encoder, shapes)
    model.load_state_dict(smaller.state_dict())

    assert shapes == EncoderShapes(heads=(4, 4), widths=(64, 64))
    assert torch.equal(logits_of(model, rows), logits_of(smaller, rows))


@pytest.mark.parametrize("wanted", [0, 4])
def test_a_number_of_layers_that_it_does_not_have_is_refused(
    model: ClickModel, rows: Rows, teaching: Teaching, wanted: int
) -> None:
    with pytest.raises(ValueError, match=f"{wanted} of 3 layers can't be kept; keep 1 to 3"):
        choose_layers(model, rows, teaching, wanted)
