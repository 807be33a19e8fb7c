"""Dropout whose random numbers cost little on a CPU."""

import math
from typing import Any

import torch
from torch import nn

STEPS = 2**16
"""A mask compares 16 random bits with the probability: it is met to 1 / 65,536."""


def keep_mask(
    shape: tuple[int, ...], probability: float, dtype: torch.dtype = torch.float32
) -> torch.Tensor:
    """Draw which numbers stay, each by itself, from torch's generator.

    torch's own dropout draws a float for each number, one after the other: on a CPU a quarter of
    a training step goes there (docs/measurements.md). Four 16-bit lanes of one 64-bit draw decide
    as well.

    Args:
        shape: Of the mask.
        probability: Of a number being dropped, in [0, 1).
        dtype: What the mask is multiplied with: a product with a bool would convert it each time,
            forward and backward.

    Returns:
        0 with the given probability, else 1; on the CPU.
    """
    size = math.prod(shape)
    # From -2**63 up, because without bounds the sign bit, and so every fourth lane's, is always 0.
    bits = torch.empty(-(-size // 4), dtype=torch.int64).random_(-(2**63), None)
    lanes = bits.view(torch.int16)[:size].view(shape)
    kept = torch.empty(shape, dtype=dtype)
    return torch.ge(lanes, round(probability * STEPS) - STEPS // 2, out=kept)


def drop(values: torch.Tensor, probability: float) -> torch.Tensor:
    """Set numbers to 0 with a probability, and scale the others so that the expectation stays.

    Args:
        values: Of any shape.
        probability: In [0, 1).

    Returns:
        As torch's own dropout in training (Srivastava et al. 2014), which does it on a GPU.
    """
    if values.device.type != "cpu":
        return nn.functional.dropout(values, probability)
    kept, scale = keep_mask(tuple(values.shape), probability, values.dtype), 1 / (1 - probability)
    if values.dtype == torch.float32:
        # In the mask the scale costs one pass less forward, and one less backward.
        return values * kept.mul_(scale)
    return values * kept * scale  # A mask of few bits would round the scale, and always one way.


class Dropout(nn.Dropout):
    """torch's Dropout with :func:`drop` inside."""

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        """Drop numbers in training, do nothing otherwise."""
        return drop(values, self.p) if self.training and self.p else values


def replace_dropout(model: nn.Module) -> None:
    """Put this module's Dropout in the place of torch's, in all of a model."""
    for module in list(model.modules()):
        for name, child in module.named_children():
            if type(child) is nn.Dropout:
                setattr(module, name, Dropout(child.p))


def attention(
    module: nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    **settings: Any,  # noqa: ANN401 - what transformers passes on
) -> tuple[torch.Tensor, None]:
    """Attend as transformers' sdpa does, with :func:`drop` in training on a CPU.

    There torch has no fused kernel with dropout, and its fallback draws random numbers one by one.

    Args:
        module: The attention layer.
        query: (batch, heads, tokens, head_size).
        key: The same.
        value: The same.
        attention_mask: bool, broadcast to (batch, heads, tokens, tokens), True where a token may be
            seen; None: everywhere.
        dropout: Probability of dropping an attention weight.
        scaling: Of the scores; None: 1 / sqrt(head_size).
        settings: Passed on.

    Returns:
        (batch, tokens, heads, head_size), and None for the weights.
    """
    from transformers.integrations.sdpa_attention import sdpa_attention_forward

    if not dropout or query.device.type != "cpu":
        output: tuple[torch.Tensor, None] = sdpa_attention_forward(
            module, query, key, value, attention_mask, dropout=dropout, scaling=scaling, **settings
        )
        return output
    scores = query @ key.transpose(2, 3) * (query.shape[-1] ** -0.5 if scaling is None else scaling)
    if attention_mask is not None:
        scores = scores.masked_fill(~attention_mask, float("-inf"))
    weights = drop(torch.softmax(scores, dim=-1), dropout)
    return (weights @ value).transpose(1, 2).contiguous(), None


def register_attention() -> str:
    """Make :func:`attention` known to transformers and return the name to ask for it by."""
    from transformers import AttentionInterface, AttentionMaskInterface
    from transformers.masking_utils import sdpa_mask

    name = "clicktune"
    AttentionInterface.register(name, attention)
    AttentionMaskInterface.register(name, sdpa_mask)
    return name
