"""A model with enough heads and units to prune, and rows to measure it on."""

from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import BertConfig, BertModel

from trainables.data.prepared import Rows
from trainables.data.row_inputs import RowInputs
from trainables.data.token_rows import TokenRows
from trainables.model import ClickModel

VOCABULARY = 300


@pytest.fixture
def model() -> ClickModel:
    """A random BERT of 3 layers, 4 heads and 64 units, with random biases too."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        settings = BertConfig(
            vocab_size=VOCABULARY,
            hidden_size=32,
            num_hidden_layers=3,
            num_attention_heads=4,
            intermediate_size=64,
            max_position_embeddings=64,
        )
        encoder = BertModel(settings, add_pooling_layer=False)
        model = ClickModel(encoder, num_segments=1, dropout=0.1)
        for parameter in model.parameters():
            parameter.data += 0.2 * torch.randn_like(parameter)
    return model.eval()


@pytest.fixture(scope="session")
def rows() -> Rows:
    """90 rows of random tokens, clicked often where token 7 occurs."""
    rng = np.random.default_rng(0)
    lengths = rng.integers(3, 14, size=90)
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    ids = rng.integers(8, VOCABULARY, size=offsets[-1]).astype(np.int32)
    liked = np.arange(90) % 2 == 0
    ids[offsets[:-1][liked] + 1] = 7
    impressions = rng.integers(20, 60, size=90).astype(np.float32)
    clicks = rng.binomial(impressions.astype(int), np.where(liked, 0.6, 0.1)).astype(np.float32)
    return Rows(
        inputs=RowInputs.of_text(TokenRows.of_texts(ids, offsets, lengths.astype(np.int32))),
        clicks=clicks,
        impressions=impressions,
        groups=np.arange(90),
        propensities=None,
        texts_file=Path("unused"),
        first_row=0,
    )


def logits_of(model: ClickModel, rows: Rows) -> torch.Tensor:
    """Return the model's logits, (n,), for all rows in one batch."""
    batch = rows.tokens.batch(np.arange(len(rows)))
    with torch.no_grad():
        logits: torch.Tensor = model(**{k: torch.from_numpy(v) for k, v in batch.items()})
    return logits
