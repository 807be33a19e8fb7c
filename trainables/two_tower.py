"""Each segment of a row as a vector of its own, compared by cosine: retrieval over a catalogue."""

from typing import TYPE_CHECKING

import torch
from torch import nn

from trainables.model import ClickModel, full_precision, masked_mean

if TYPE_CHECKING:
    from transformers import BertModel

SCALE = 10.0
"""Log-odds that a cosine of 1 is worth before training."""
USUAL_COSINE = 0.3
"""About that of a query and a title before training: where the log-odds are the base rate's."""


class TwoTowerModel(ClickModel):
    """BERT that reads the two segments of a row apart; their cosine, scaled, gives the log-odds.

    Both segments lie in one row of tokens, but no token attends to the other segment, and positions
    begin anew in segment B. So a segment's vector is the same whatever stands in the other one, and
    those of a whole catalogue can be computed once (Huang et al. 2013; Reimers and Gurevych 2019).
    """

    def __init__(self, encoder: "BertModel", *, dropout: float) -> None:
        """Put a scale and an offset on an encoder.

        Args:
            encoder: Used as it is.
            dropout: Unused by the head, which sees a single number.
        """
        super().__init__(encoder, num_segments=2, dropout=dropout)
        self.head = nn.Linear(1, 1)
        nn.init.constant_(self.head.weight, SCALE)
        nn.init.zeros_(self.head.bias)

    def set_base_rate(self, rate: float) -> None:
        """Start at the log-odds of the base rate where two segments are as like as usual."""
        super().set_base_rate(rate)
        with torch.no_grad():
            self.head.bias.sub_(SCALE * USUAL_COSINE)

    def embed(
        self, input_ids: torch.Tensor, attention_mask: torch.Tensor, token_type_ids: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return both segments' vectors, each (batch, hidden_size), of length 1.

        Args:
            input_ids: int64 (batch, tokens).
            attention_mask: int64 (batch, tokens), 1 where there is a token.
            token_type_ids: int64 (batch, tokens), 1 in segment B.
        """
        columns = torch.arange(input_ids.shape[1], device=input_ids.device)
        # As if [CLS] stood before segment B too.
        positions = torch.where(
            token_type_ids == 1, token_type_ids.cumsum(1), columns.expand_as(token_type_ids)
        )
        hidden: torch.Tensor = self.encoder.embeddings(
            input_ids=input_ids, token_type_ids=token_type_ids, position_ids=positions
        )
        mask = segment_mask(attention_mask, token_type_ids)
        for layer in self.encoder.encoder.layer:
            hidden = layer(hidden, mask)
        first = masked_mean(hidden, attention_mask * (1 - token_type_ids))
        second = masked_mean(hidden, attention_mask * token_type_ids)
        normalize = nn.functional.normalize
        return normalize(first, dim=-1), normalize(second, dim=-1)

    def forward(
        self,
        input_ids: torch.Tensor | None,
        attention_mask: torch.Tensor,
        token_type_ids: torch.Tensor,
        *_others: torch.Tensor | float | None,
        in_batch: bool = False,
        **_named: torch.Tensor | float | None,
    ) -> torch.Tensor:
        """Compute the log-odds of a click.

        Args:
            input_ids: int64 (batch, tokens).
            attention_mask: int64 (batch, tokens), 1 where there is a token.
            token_type_ids: int64 (batch, tokens), 1 in segment B.
            in_batch: Of each first segment with each second one of the batch.

        Returns:
            (batch,) log-odds, or (batch, batch): those of row i's first segment with row j's
            second.
        """
        assert input_ids is not None, "two towers have no frozen layers"
        first, second = self.embed(input_ids, attention_mask, token_type_ids)
        with full_precision(first.device):
            cosines = first @ second.T if in_batch else (first * second).sum(-1)
            logits: torch.Tensor = self.head(cosines[..., None])[..., 0]
        return logits


def segment_mask(attention_mask: torch.Tensor, token_type_ids: torch.Tensor) -> torch.Tensor:
    """Let tokens attend to those of their own segment alone.

    Args:
        attention_mask: int64 (batch, tokens), 1 where there is a token.
        token_type_ids: int64 (batch, tokens), 1 in segment B.

    Returns:
        bool (batch, 1, tokens, tokens), True where the former token may see the latter. What lies
        beyond a row's end sees segment A, which is never empty.
    """
    same = token_type_ids[:, :, None] == token_type_ids[:, None, :]
    return (same & (attention_mask[:, None, :] == 1))[:, None]


class TwoTowerGraph(nn.Module):
    """A two-tower model as it is exported: log-odds, and the vectors that they were computed of."""

    def __init__(self, model: TwoTowerModel) -> None:
        super().__init__()
        self.model = model

    def forward(
        self, input_ids: torch.Tensor, attention_mask: torch.Tensor, token_type_ids: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return the log-odds, (batch,), and both segments' vectors, each (batch, hidden_size)."""
        first, second = self.model.embed(input_ids, attention_mask, token_type_ids)
        logits = self.model.head((first * second).sum(-1, keepdim=True))[:, 0]
        return logits, first, second
