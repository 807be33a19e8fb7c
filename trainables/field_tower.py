"""What a row's fields, and what they mean beside its text, add to the log-odds of a click."""

import itertools

import torch
from torch import nn

from trainables.data.fields import FieldShapes
from trainables.dropout import Dropout

EMBEDDING_SIZE = 16
"""Numbers that stand for a category."""

EMBEDDING_STD = 0.05
"""Spread of their first values."""


class FieldTower(nn.Module):
    """Embeds categories, and joins them with numbers and text in one hidden layer.

    The output sees the fields directly and through the hidden layer, as in wide and deep learning
    (Cheng et al. 2016, section 3, https://arxiv.org/abs/1606.07792): the former for what a field
    means by itself, the latter for what it means together with the text. It starts at zero, so that
    a model begins with what its encoder knows.
    """

    def __init__(
        self,
        shapes: FieldShapes,
        *,
        text_size: int,
        units: int,
        dropout: float,
    ) -> None:
        """Size the tower.

        Args:
            shapes: Codes and numbers of a row; not empty.
            text_size: Numbers that stand for a row's text; 0: none.
            units: Hidden units.
            dropout: Probability of dropping one.
        """
        super().__init__()
        self.starts: torch.Tensor
        num_columns = len(shapes.num_codes)
        width = num_columns * EMBEDDING_SIZE + shapes.num_numbers
        # All columns' codes in one table: the codes of a column start where those before end.
        self.embedding: nn.Embedding | None = None
        starts = list(itertools.accumulate(shapes.num_codes, initial=0))[:num_columns]
        self.register_buffer("starts", torch.tensor(starts, dtype=torch.int64), persistent=False)
        self.hidden = nn.Linear(width + text_size, units)
        self.dropout = Dropout(dropout)
        self.output = nn.Linear(width + units, 1)
        if num_columns:
            self.embedding = nn.Embedding(sum(shapes.num_codes), EMBEDDING_SIZE)
            nn.init.normal_(self.embedding.weight, std=EMBEDDING_STD)
        nn.init.zeros_(self.output.weight)
        nn.init.zeros_(self.output.bias)

    def embed(self, codes: torch.Tensor | None, numbers: torch.Tensor | None) -> torch.Tensor:
        """Put a row's fields side by side, (batch, width).

        Args:
            codes: int64 (batch, categorical columns); None where there are none.
            numbers: (batch, numbers); None where there are none.
        """
        seen: list[torch.Tensor] = []
        if self.embedding is not None:
            assert codes is not None, "the tower embeds categories, but the batch has none"
            seen.append(self.embedding(codes + self.starts).flatten(1))
        if numbers is not None:
            seen.append(numbers.to(self.output.weight.dtype))
        return torch.cat(seen, dim=-1)

    def forward(self, fields: torch.Tensor, text: torch.Tensor | None) -> torch.Tensor:
        """Compute what is added to the log-odds.

        Args:
            fields: (batch, width) from :meth:`embed`.
            text: (batch, text_size) pooled token vectors; None without text.

        Returns:
            (batch,).
        """
        known = fields if text is None else torch.cat([fields, text], dim=-1)
        hidden = nn.functional.gelu(self.hidden(known))
        added: torch.Tensor = self.output(torch.cat([fields, self.dropout(hidden)], dim=-1))
        return added[:, 0]
