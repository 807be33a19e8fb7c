"""Which attention heads and feed-forward units a model can do without, and their removal."""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

from trainables.compression.shapes import keep_heads, keep_units
from trainables.losses import binomial_loss

if TYPE_CHECKING:
    from trainables.data.prepared import Rows
    from trainables.model import ClickModel

WIDTH_STEP = 16
"""Feed-forward widths are multiples of this: whole vector registers in fp32 and int8."""

BATCH_SIZE = 32


@dataclass(frozen=True, kw_only=True, slots=True)
class Importance:
    """How much the loss would change without each unit, to first order."""

    heads: tuple[np.ndarray, ...]
    """(heads,) for each layer."""
    units: tuple[np.ndarray, ...]
    """(feed-forward units,) for each layer."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Kept:
    """What stays, by layer, as increasing positions."""

    heads: tuple[tuple[int, ...], ...]
    """Attention heads."""
    units: tuple[tuple[int, ...], ...]
    """Feed-forward units."""


def measure_importance(model: "ClickModel", rows: "Rows", indices: np.ndarray) -> Importance:
    """Measure how much each attention head and feed-forward unit matters for the rows' loss.

    Each is thought of as multiplied by a gate of 1; its importance is the mean over rows of
    ``|d loss / d gate|``, the size of the loss's change if the gate closed, to first order (Michel,
    Levy and Neubig 2019, section 4.1, https://arxiv.org/abs/1905.10650; Molchanov et al. 2017).

    Args:
        model: On the CPU; its weights and gradients are left as they were.
        rows: Training rows.
        indices: The rows to measure on.
    """
    model.eval()
    required = [parameter.requires_grad for parameter in model.parameters()]
    model.requires_grad_(requires_grad=False)
    layers: Any = model.encoder.encoder.layer
    totals: list[list[torch.Tensor]] = [[], []]
    # Neighbours in length share a batch, so that little is padding.
    ordered = indices[np.argsort(rows.tokens.lengths[indices], kind="stable")]
    try:
        for start in range(0, len(ordered), BATCH_SIZE):
            chosen = ordered[start : start + BATCH_SIZE]
            with _gates(layers, len(chosen)) as gates:
                batch = rows.inputs.batch(chosen)
                logits = model(**{name: torch.from_numpy(array) for name, array in batch.items()})
                loss = binomial_loss(
                    logits,
                    clicks=torch.from_numpy(np.array(rows.clicks[chosen])),
                    impressions=torch.from_numpy(np.array(rows.impressions[chosen])),
                )
                gradients = torch.autograd.grad(loss, [*gates[0], *gates[1]])
            sums = [gradient.abs().sum(0) for gradient in gradients]
            for total, part in zip(totals, (sums[: len(layers)], sums[len(layers) :]), strict=True):
                total[:] = [a + b for a, b in zip(total, part, strict=True)] if total else part
    finally:
        for parameter, needed in zip(model.parameters(), required, strict=True):
            parameter.requires_grad = needed
    heads, units = ([(t / len(indices)).numpy() for t in total] for total in totals)
    return Importance(heads=tuple(heads), units=tuple(units))


@contextlib.contextmanager
def _gates(
    layers: nn.ModuleList, num_rows: int
) -> Iterator[tuple[list[torch.Tensor], list[torch.Tensor]]]:
    """Multiply every head and unit by a gate of 1 per row, inside the block."""
    heads: list[torch.Tensor] = []
    units: list[torch.Tensor] = []
    handles = []
    modules: Any
    for modules in layers:
        attention = modules.attention
        head = torch.ones(num_rows, attention.self.num_attention_heads, requires_grad=True)
        unit = torch.ones(num_rows, modules.intermediate.dense.out_features, requires_grad=True)
        heads.append(head)
        units.append(unit)
        size = attention.self.attention_head_size
        handles.append(attention.output.dense.register_forward_pre_hook(_multiplier(head, size)))
        handles.append(modules.output.dense.register_forward_pre_hook(_multiplier(unit, 1)))
    try:
        yield heads, units
    finally:
        for handle in handles:
            handle.remove()


def _multiplier(gate: torch.Tensor, size: int) -> Any:  # noqa: ANN401 - a hook, as torch types it
    def multiply(_module: nn.Module, inputs: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
        return (inputs[0] * gate.repeat_interleave(size, dim=1)[:, None], *inputs[1:])

    return multiply


def choose_kept(importance: Importance, keep_fraction: float) -> Kept:
    """Keep the most important share of all heads and of all feed-forward units.

    Layers compete with each other, after each layer's importances are divided by their norm, as
    gradients differ in size from layer to layer (Michel et al. 2019, section 4.1). Every layer
    keeps at least one head and ``WIDTH_STEP`` units, and widths are rounded to that step.

    Args:
        importance: Of every head and unit.
        keep_fraction: Share that stays, in (0, 1]; 1 keeps everything.

    Raises:
        ValueError: if the share is out of range.
    """
    if not 0 < keep_fraction <= 1:
        raise ValueError(f"keep_fraction must be in (0, 1], got {keep_fraction}")
    return Kept(
        heads=_best(importance.heads, keep_fraction, step=1),
        units=_best(importance.units, keep_fraction, step=WIDTH_STEP),
    )


def _best(
    scores: tuple[np.ndarray, ...], keep_fraction: float, *, step: int
) -> tuple[tuple[int, ...], ...]:
    if keep_fraction == 1:
        return tuple(tuple(range(len(layer))) for layer in scores)
    scaled = [layer / max(float(np.linalg.norm(layer)), 1e-30) for layer in scores]
    together = np.concatenate(scaled)
    owner = np.repeat(np.arange(len(scores)), [len(layer) for layer in scores])
    budget = max(1, round(keep_fraction * len(together)))
    chosen = owner[np.argsort(-together, kind="stable")[:budget]]
    kept = []
    for layer, values in enumerate(scaled):
        wanted = step * round(int((chosen == layer).sum()) / step)
        count = min(max(wanted, step), len(values))
        kept.append(tuple(sorted(np.argsort(-values, kind="stable")[:count].tolist())))
    return tuple(kept)


def prune(model: "ClickModel", kept: Kept) -> None:
    """Remove what isn't kept, in place: the model's matrices get smaller."""
    layers: Any = model.encoder.encoder.layer
    for layer, heads, units in zip(layers, kept.heads, kept.units, strict=True):
        keep_heads(layer, heads)
        keep_units(layer, units)
