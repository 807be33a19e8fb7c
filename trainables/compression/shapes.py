"""How many heads and feed-forward units each layer of an encoder has."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

if TYPE_CHECKING:
    from transformers import BertModel


@dataclass(frozen=True, kw_only=True, slots=True)
class EncoderShapes:
    """What pruning left of each layer; enough to rebuild the modules before weights are loaded."""

    heads: tuple[int, ...]
    """Attention heads, by layer."""
    widths: tuple[int, ...]
    """Feed-forward units, by layer."""

    def __post_init__(self) -> None:
        counts = (*self.heads, *self.widths)
        whole = all(isinstance(n, int) and not isinstance(n, bool) and n >= 1 for n in counts)
        if not whole or len(self.heads) != len(self.widths):
            raise ValueError(
                "shapes need a number of heads and of feed-forward units, at least 1, for each "
                f"layer, got heads {list(self.heads)} and widths {list(self.widths)}"
            )

    def to_dict(self) -> dict[str, list[int]]:
        """Return the shapes as JSON values."""
        return {"heads": list(self.heads), "widths": list(self.widths)}

    @classmethod
    def from_dict(cls, raw: Mapping[str, Any]) -> "EncoderShapes":
        """Read what :meth:`to_dict` wrote.

        Raises:
            ValueError: if something is missing, unknown or no list of counts.
        """
        if set(raw) != {"heads", "widths"} or not all(isinstance(v, list) for v in raw.values()):
            raise ValueError(f"shapes must list heads and widths by layer, got {dict(raw)!r:.80}")
        return cls(heads=tuple(raw["heads"]), widths=tuple(raw["widths"]))


def shapes_of(encoder: "BertModel") -> EncoderShapes:
    """Read the shapes of an encoder's layers."""
    layers = encoder.encoder.layer
    return EncoderShapes(
        heads=tuple(layer.attention.self.num_attention_heads for layer in layers),
        widths=tuple(layer.intermediate.dense.out_features for layer in layers),
    )


def apply_shapes(encoder: "BertModel", shapes: EncoderShapes) -> None:
    """Cut an encoder to given shapes, so that pruned weights fit; what stays is arbitrary.

    Raises:
        ValueError: if a layer would have to grow, or layers are missing.
    """
    present = shapes_of(encoder)
    head_pairs = zip(shapes.heads, present.heads, strict=False)
    width_pairs = zip(shapes.widths, present.widths, strict=False)
    grows = any(want > have for want, have in (*head_pairs, *width_pairs))
    if len(present.heads) < len(shapes.heads) or grows:
        raise ValueError(
            f"shapes {shapes.to_dict()} don't fit an encoder with {present.to_dict()}; "
            "they were made from another encoder"
        )
    encoder.encoder.layer = encoder.encoder.layer[: len(shapes.heads)]
    encoder.config.num_hidden_layers = len(shapes.heads)
    for layer, heads, width in zip(encoder.encoder.layer, shapes.heads, shapes.widths, strict=True):
        keep_heads(layer, range(heads))
        keep_units(layer, range(width))


def keep_heads(layer: nn.Module, heads: Sequence[int]) -> None:
    """Remove all attention heads of a layer but the given ones, in place.

    Query, key and value lose output columns, the projection behind them the matching inputs.
    """
    attention: Any = layer.attention
    size = attention.self.attention_head_size
    columns = torch.tensor([head * size + i for head in heads for i in range(size)])
    for name in ("query", "key", "value"):
        setattr(attention.self, name, _take_outputs(getattr(attention.self, name), columns))
    attention.output.dense = _take_inputs(attention.output.dense, columns)
    attention.self.num_attention_heads = len(heads)
    attention.self.all_head_size = len(heads) * size


def keep_units(layer: nn.Module, units: Sequence[int]) -> None:
    """Remove all feed-forward units of a layer but the given ones, in place."""
    kept = torch.tensor(list(units))
    modules: Any = layer
    modules.intermediate.dense = _take_outputs(modules.intermediate.dense, kept)
    modules.output.dense = _take_inputs(modules.output.dense, kept)


def _take_outputs(layer: nn.Linear, kept: torch.Tensor) -> nn.Linear:
    smaller = nn.Linear(layer.in_features, len(kept), bias=layer.bias is not None)
    with torch.no_grad():
        smaller.weight.copy_(layer.weight[kept])
        if layer.bias is not None:
            smaller.bias.copy_(layer.bias[kept])
    return smaller


def _take_inputs(layer: nn.Linear, kept: torch.Tensor) -> nn.Linear:
    smaller = nn.Linear(len(kept), layer.out_features, bias=layer.bias is not None)
    with torch.no_grad():
        smaller.weight.copy_(layer.weight[:, kept])
        if layer.bias is not None:
            smaller.bias.copy_(layer.bias)
    return smaller
