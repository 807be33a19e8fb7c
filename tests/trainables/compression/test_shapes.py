"""Shapes: they describe a pruned encoder well enough to load its weights."""

import copy
import json

import pytest
import torch

from tests.trainables.compression.conftest import logits_of
from trainables.compression.pruning import Kept, prune
from trainables.compression.shapes import EncoderShapes, apply_shapes, shapes_of
from trainables.data.prepared import Rows
from trainables.model import ClickModel

KEPT = Kept(
    heads=((0, 3), (1,), (0, 1, 2, 3)),
    units=(tuple(range(0, 64, 2)), tuple(range(16)), tuple(range(64))),
)


def test_weights_of_a_pruned_model_load_into_the_shapes_it_had(
    model: ClickModel, rows: Rows
) -> None:
    pruned = copy.deepcopy(model)
    prune(pruned, KEPT)
    shapes = EncoderShapes.from_dict(json.loads(json.dumps(shapes_of(pruned.encoder).to_dict())))

    apply_shapes(model.encoder, shapes)
    model.load_state_dict(pruned.state_dict())

    assert shapes == EncoderShapes(heads=(2, 1, 4), widths=(32, 16, 64))
    assert torch.equal(logits_of(model, rows), logits_of(pruned, rows))


def test_shapes_cannot_make_a_layer_grow(model: ClickModel) -> None:
    with pytest.raises(ValueError, match="don't fit an encoder with"):
        apply_shapes(model.encoder, EncoderShapes(heads=(4, 4, 5), widths=(64, 64, 64)))
    with pytest.raises(ValueError, match="were made from another encoder"):
        apply_shapes(model.encoder, EncoderShapes(heads=(4,) * 4, widths=(64,) * 4))


@pytest.mark.parametrize(
    "raw",
    [{}, {"heads": [1]}, {"heads": 1, "widths": 1}, {"heads": [1], "widths": [1], "x": []}],
)
def test_a_description_that_lacks_something_is_refused(raw: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="shapes must list heads and widths by layer"):
        EncoderShapes.from_dict(raw)


@pytest.mark.parametrize("heads", [[0], [1.5], [True], ["2"], [1, 2], [-1]])
def test_a_count_that_is_none_is_refused(heads: list[object]) -> None:
    with pytest.raises(ValueError, match="at least 1, for each layer"):
        EncoderShapes.from_dict({"heads": heads, "widths": [16]})
