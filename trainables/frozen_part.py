"""The frozen lower part of an encoder: its output depends on the text alone."""

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from transformers import BertModel

STATE_DTYPE = torch.float16
"""Precision of the frozen part's output, computed or stored. A layer ends in a LayerNorm, whose
output stays below ``|gain| * sqrt(hidden_size) + |bias|``: far from float16's largest number."""


def frozen_states(
    encoder: "BertModel",
    num_frozen: int,
    input_ids: torch.Tensor,
    attention_mask: torch.Tensor,
    token_type_ids: torch.Tensor,
) -> torch.Tensor:
    """Run an encoder's embeddings and its lowest layers.

    Args:
        encoder: Its lower part must be in eval mode.
        num_frozen: How many layers.
        input_ids: int64 (batch, tokens).
        attention_mask: int64 (batch, tokens), 1 where there is a token.
        token_type_ids: int64 (batch, tokens), 1 in segment B.

    Returns:
        (batch, tokens, hidden_size), in the encoder's precision.
    """
    hidden: torch.Tensor = encoder.embeddings(input_ids=input_ids, token_type_ids=token_type_ids)
    mask = padding_mask(encoder, hidden, attention_mask)
    for layer in encoder.encoder.layer[:num_frozen]:
        hidden = layer(hidden, mask)
    return hidden


def padding_mask(
    encoder: "BertModel", hidden: torch.Tensor, attention_mask: torch.Tensor
) -> torch.Tensor | None:
    """Turn a mask of tokens into the one that the encoder's layers take."""
    from transformers.masking_utils import create_bidirectional_mask

    mask: torch.Tensor | None = create_bidirectional_mask(
        config=encoder.config, inputs_embeds=hidden, attention_mask=attention_mask
    )
    return mask
