"""Pruning: it finds what matters least, and removing it equals silencing it."""

import copy
import dataclasses
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.trainables.compression.conftest import logits_of
from trainables.compression.pruning import (
    WIDTH_STEP,
    Importance,
    Kept,
    choose_kept,
    measure_importance,
    prune,
)
from trainables.compression.shapes import shapes_of
from trainables.data.prepared import Rows
from trainables.model import ClickModel

HEAD_SIZE = 8


def _silence(model: ClickModel, kept: Kept) -> None:
    """Zero the paths out of every head and unit that isn't kept; the shapes stay."""
    layers: Any = model.encoder.encoder.layer
    with torch.no_grad():
        for layer, heads, units in zip(layers, kept.heads, kept.units, strict=True):
            for head in set(range(4)) - set(heads):
                columns = slice(head * HEAD_SIZE, (head + 1) * HEAD_SIZE)
                layer.attention.output.dense.weight[:, columns] = 0
            for unit in set(range(64)) - set(units):
                layer.output.dense.weight[:, unit] = 0


@pytest.mark.parametrize("keep_fraction", [0.75, 0.5, 0.1])
def test_a_pruned_model_equals_a_masked_one(
    model: ClickModel, rows: Rows, keep_fraction: float
) -> None:
    importance = measure_importance(model, rows, np.arange(len(rows)))
    kept = choose_kept(importance, keep_fraction)
    masked, pruned = copy.deepcopy(model), copy.deepcopy(model)
    _silence(masked, kept)

    prune(pruned, kept)

    torch.testing.assert_close(logits_of(pruned, rows), logits_of(masked, rows))
    assert not torch.allclose(logits_of(pruned, rows), logits_of(model, rows), atol=1e-3)
    sizes = [sum(p.numel() for p in m.parameters()) for m in (pruned, model)]
    assert sizes[0] < sizes[1]


def test_a_pruned_model_can_be_pruned_again(model: ClickModel, rows: Rows) -> None:
    for keep_fraction in (0.75, 0.6):
        importance = measure_importance(model, rows, np.arange(len(rows)))
        prune(model, choose_kept(importance, keep_fraction))

    assert sum(shapes_of(model.encoder).heads) == round(0.6 * round(0.75 * 12))
    assert torch.isfinite(logits_of(model, rows)).all()


def test_keeping_everything_changes_nothing(model: ClickModel, rows: Rows) -> None:
    before = logits_of(model, rows)
    shapes = shapes_of(model.encoder)

    prune(model, choose_kept(measure_importance(model, rows, np.arange(30)), 1.0))

    assert shapes_of(model.encoder) == shapes
    assert torch.equal(logits_of(model, rows), before)


def test_importance_is_the_gradient_of_a_gate(model: ClickModel, rows: Rows) -> None:
    """Against the loss's own change when one head of one row is turned down a little."""
    row = np.array([4])
    importance = measure_importance(model, rows, row)
    layer: Any = model.encoder.encoder.layer
    batch = {k: torch.from_numpy(v) for k, v in rows.tokens.batch(row).items()}

    def loss_with_head_at(gate: float) -> float:
        columns = slice(2 * HEAD_SIZE, 3 * HEAD_SIZE)
        changed = copy.deepcopy(model).double()
        layer: Any = changed.encoder.encoder.layer
        with torch.no_grad():
            layer[1].attention.output.dense.weight[:, columns] *= gate
            logits = changed(**batch).double()
            clicks, impressions = (
                torch.from_numpy(values[row]).double() for values in (rows.clicks, rows.impressions)
            )
            return float(
                (impressions * torch.nn.functional.softplus(logits) - clicks * logits).sum()
            )

    slope = (loss_with_head_at(1 + 1e-4) - loss_with_head_at(1 - 1e-4)) / 2e-4
    assert importance.heads[1][2] == pytest.approx(abs(slope), rel=1e-2, abs=1e-4)
    assert len(importance.units[0]) == layer[0].intermediate.dense.out_features


def test_a_head_without_effect_has_no_importance(model: ClickModel, rows: Rows) -> None:
    layer: Any = model.encoder.encoder.layer
    with torch.no_grad():
        layer[0].attention.output.dense.weight[:, :HEAD_SIZE] = 0
        layer[2].output.dense.weight[:, 5] = 0

    importance = measure_importance(model, rows, np.arange(len(rows)))

    assert importance.heads[0][0] == 0
    assert importance.units[2][5] == 0
    assert (importance.heads[0][1:] > 0).all()
    assert 0 not in choose_kept(importance, 0.9).heads[0]


def test_measuring_leaves_the_model_as_it_was(model: ClickModel, rows: Rows) -> None:
    before = logits_of(model, rows)
    model.encoder.embeddings.requires_grad_(requires_grad=False)
    needed = [p.requires_grad for p in model.parameters()]

    measure_importance(model, rows, np.arange(50))

    assert [p.requires_grad for p in model.parameters()] == needed
    assert all(p.grad is None for p in model.parameters())
    assert torch.equal(logits_of(model, rows), before)


def test_batches_do_not_change_importance(
    model: ClickModel, rows: Rows, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = measure_importance(model, rows, np.arange(len(rows)))
    monkeypatch.setattr("trainables.compression.pruning.BATCH_SIZE", 7)

    parts = measure_importance(model, rows, np.arange(len(rows)))

    for a, b in zip((*whole.heads, *whole.units), (*parts.heads, *parts.units), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-5)


@given(data=st.data(), keep_fraction=st.floats(0.001, 1), num_layers=st.integers(1, 5))
def test_every_layer_keeps_enough_and_the_whole_about_the_share(
    data: st.DataObject, keep_fraction: float, num_layers: int
) -> None:
    seed = data.draw(st.integers(0, 2**31))
    rng = np.random.default_rng(seed)
    widths = [int(rng.choice([8, 40, 64, 200])) for _ in range(num_layers)]
    importance = Importance(
        heads=tuple(rng.random(4) ** 4 for _ in range(num_layers)),
        units=tuple(rng.random(width) ** 4 for width in widths),
    )

    kept = choose_kept(importance, keep_fraction)

    for heads in kept.heads:
        assert 1 <= len(heads) <= 4
        assert list(heads) == sorted(set(heads))
    total = sum(len(heads) for heads in kept.heads)
    assert keep_fraction * 4 * num_layers - 1 <= total
    assert total <= max(1, keep_fraction * 4 * num_layers + 1) + num_layers
    for units, width, scores in zip(kept.units, widths, importance.units, strict=True):
        assert len(units) % WIDTH_STEP == 0 or len(units) == width
        assert min(width, WIDTH_STEP) <= len(units) <= width
        left_out = np.delete(scores, units)
        assert not len(left_out) or scores[list(units)].min() >= left_out.max()


@pytest.mark.parametrize("keep_fraction", [0, -0.5, 1.5, float("nan")])
def test_a_share_out_of_range_is_refused(keep_fraction: float) -> None:
    importance = Importance(heads=(np.ones(2),), units=(np.ones(16),))

    with pytest.raises(ValueError, match=r"keep_fraction must be in \(0, 1\]"):
        choose_kept(importance, keep_fraction)


def test_rows_of_more_impressions_matter_more_as_in_training(model: ClickModel, rows: Rows) -> None:
    doubled = dataclasses.replace(rows, clicks=rows.clicks * 2, impressions=rows.impressions * 2)

    once = measure_importance(model, rows, np.arange(20))
    twice = measure_importance(model, doubled, np.arange(20))

    np.testing.assert_allclose(twice.heads[0], 2 * once.heads[0], rtol=1e-3)
