"""A small checked table, without a file behind it."""

import numpy as np

from trainables.data.raw_fields import RawFields
from trainables.data.table import ClickTable
from trainables.data.text_column import TextColumn
from trainables.data.token_rows import TextLayout
from trainables.encoder import EncoderConfig

ENCODER = EncoderConfig(max_tokens=16)


def make_table(num_rows: int = 40, *, num_texts: int | None = None) -> ClickTable:
    """Make a table of distinct texts, or of as many as are asked for."""
    rng = np.random.default_rng(0)
    numbers = np.arange(num_rows) % (num_texts or num_rows)
    return ClickTable(
        texts=(
            TextColumn.of(f"query {number}" for number in numbers),
            TextColumn.of(f"title {number} 沙发" for number in numbers),
        ),
        clicks=rng.integers(0, 3, num_rows).astype(np.float32),
        impressions=rng.integers(3, 9, num_rows).astype(np.float32),
        groups=np.arange(num_rows) // 2,
        split=rng.permutation(np.repeat([0, 1, 2], [num_rows - 20, 10, 10])).astype(np.int8),
        row_ids=np.arange(num_rows),
        num_source_rows=num_rows,
        fields=RawFields(),
        layout=TextLayout.of(2),
        fingerprint="0123456789abcdef",
    )
