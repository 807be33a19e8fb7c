"""Blocks of tokens are those of the whole, and the tokenizer's threads are left as they were."""

import os

import numpy as np
import pytest

from trainables.data import tokenization
from trainables.data.text_column import TextColumn
from trainables.data.token_rows import concatenate, tokenize
from trainables.data.tokenization import PARALLELISM, token_blocks
from trainables.encoder import EncoderConfig, find_encoder, load_tokenizer

COLUMNS = [["sofa", "tv", "sofa", "沙发", ""], ["Red sofa", "Lamp", "Red sofa", "mug", "cup"]]


def test_blocks_hold_the_asked_rows_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tokenization, "BLOCK_ROWS", 2)
    tokenizer = load_tokenizer(find_encoder(EncoderConfig()), max_tokens=16)
    rows = np.array([4, 0, 3, 3, 1])

    blocks = list(token_blocks([TextColumn.of(column) for column in COLUMNS], rows, tokenizer))

    assert [len(block) for block in blocks] == [2, 2, 1]
    expected = tokenize([[column[row] for row in rows] for column in COLUMNS], tokenizer)
    assert concatenate(blocks).ids.tolist() == expected.ids.tolist()
    assert concatenate(blocks).second_starts.tolist() == expected.second_starts.tolist()


@pytest.mark.parametrize("before", ["false", None])
def test_the_setting_of_threads_is_given_back(
    monkeypatch: pytest.MonkeyPatch, before: str | None
) -> None:
    tokenizer = load_tokenizer(find_encoder(EncoderConfig()), max_tokens=16)
    if before is None:
        monkeypatch.delenv(PARALLELISM, raising=False)
    else:
        monkeypatch.setenv(PARALLELISM, before)

    for _ in token_blocks([TextColumn.of(COLUMNS[0])], np.arange(5), tokenizer):
        assert os.environ.get(PARALLELISM) == before

    assert os.environ.get(PARALLELISM) == before
