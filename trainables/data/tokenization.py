"""Tokenize whole columns a block of rows at a time, each distinct row once."""

import contextlib
import os
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from trainables.data.text_column import TextColumn
from trainables.data.token_rows import BLOCK_ROWS, TextLayout, TokenRows, tokenize

if TYPE_CHECKING:
    from tokenizers import Tokenizer

PARALLELISM = "TOKENIZERS_PARALLELISM"
"""The variable that the tokenizer asks, at each call, whether it may use several threads."""


def token_blocks(
    columns: Sequence[TextColumn],
    rows: np.ndarray,
    tokenizer: "Tokenizer",
    layout: TextLayout | None = None,
) -> Iterator[TokenRows]:
    """Tokenize some rows with all cores, up to :data:`BLOCK_ROWS` at a time.

    Args:
        columns: The text columns.
        rows: (n,) row numbers.
        tokenizer: See :func:`trainables.data.token_rows.tokenize`.
        layout: The same.
    """
    for start in range(0, len(rows), BLOCK_ROWS):
        block = rows[start : start + BLOCK_ROWS]
        texts = [column.texts(block) for column in columns]
        with _all_cores():
            tokens = tokenize(texts, tokenizer, layout)
        yield tokens


@contextlib.contextmanager
def _all_cores() -> Iterator[None]:
    # Switched off for trials, which share the cores; nothing else runs while a table is tokenized.
    before = os.environ.get(PARALLELISM)
    os.environ[PARALLELISM] = "true"
    try:
        yield
    finally:
        if before is None:
            del os.environ[PARALLELISM]
        else:
            os.environ[PARALLELISM] = before
