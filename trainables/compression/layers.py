"""Which layers of an encoder a model can do without, and their removal."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import nn

from trainables.compression.recovery import Teaching, distance_to

if TYPE_CHECKING:
    from trainables.data.prepared import Rows
    from trainables.model import ClickModel


def keep_layers(model: "ClickModel", kept: Sequence[int]) -> None:
    """Remove all layers of a model's encoder but the given ones, in place."""
    encoder: Any = model.encoder
    encoder.encoder.layer = nn.ModuleList(encoder.encoder.layer[place] for place in kept)
    encoder.config.num_hidden_layers = len(kept)


def choose_layers(
    model: "ClickModel", rows: "Rows", teaching: Teaching, num_layers: int
) -> tuple[int, ...]:
    """Choose the layers to keep, leaving out one after the other that is missed least.

    What is missed is measured, not assumed: by how far the head's inputs move from the teacher's on
    training rows. Rules such as leaving out the top layers (Sajjad et al. 2020,
    https://arxiv.org/abs/2004.03844) are about right for most tasks, and need no rows.

    Args:
        model: Its layers are taken out for a moment, and put back.
        rows: Training rows.
        teaching: What the uncompressed model says about some of them.
        num_layers: How many stay.

    Returns:
        Their places, rising.

    Raises:
        ValueError: if there are fewer, or none would stay.
    """
    present = model.num_layers
    if not 1 <= num_layers <= present:
        raise ValueError(f"{num_layers} of {present} layers can't be kept; keep 1 to {present}")
    encoder: Any = model.encoder
    whole = encoder.encoder.layer
    kept = list(range(present))
    try:
        while len(kept) > num_layers:
            without = {
                place: _distance_of(model, whole, [k for k in kept if k != place], rows, teaching)
                for place in kept
            }
            kept.remove(min(without, key=lambda place: without[place]))
    finally:
        encoder.encoder.layer = whole
        encoder.config.num_hidden_layers = present
    return tuple(kept)


def _distance_of(
    model: "ClickModel",
    whole: nn.ModuleList,
    kept: Sequence[int],
    rows: "Rows",
    teaching: Teaching,
) -> float:
    model.encoder.encoder.layer = whole
    keep_layers(model, kept)
    distance = distance_to(model, rows, teaching)
    # A model that overflows is the worst choice, and not an unordered one.
    return distance if np.isfinite(distance) else np.inf
