"""Flat token arrays hold what the tokenizer returned, and batches are cut from them exactly."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer

from trainables.data.token_rows import TextLayout, TokenRows, concatenate, tokenize
from trainables.encoder import EncoderConfig, find_encoder, load_tokenizer

TITLES = [
    "Red sofa",
    "",
    "沙发 😀 çay",
    "a much longer title, with 12 words and some punctuation !!",
]
QUERIES = ["couch", "tv", "红色", "x"]


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return load_tokenizer(find_encoder(EncoderConfig()), max_tokens=16)


def rows_of(lengths: list[int], seconds: list[int] | None = None) -> TokenRows:
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    return TokenRows.of_texts(
        np.arange(1, offsets[-1] + 1, dtype=np.int32),
        offsets,
        np.array(seconds or lengths, dtype=np.int32),
    )


@pytest.mark.parametrize("columns", [[TITLES], [QUERIES, TITLES], [QUERIES, TITLES, QUERIES]])
def test_batch_equals_the_tokenizers_own_padding(
    tokenizer: Tokenizer, columns: list[list[str]]
) -> None:
    rows = tokenize(columns, tokenizer)
    tokenizer.enable_padding()
    expected = tokenizer.encode_batch(TextLayout.of(len(columns)).segments(columns))
    tokenizer.no_padding()

    batch = rows.batch(np.arange(4))

    assert batch["input_ids"].tolist() == [row.ids for row in expected]
    assert batch["attention_mask"].tolist() == [row.attention_mask for row in expected]
    assert batch["token_type_ids"].tolist() == [row.type_ids for row in expected]
    assert all(array.dtype == np.int64 for array in batch.values())


def test_long_texts_are_cut_at_the_tokenizers_limit(tokenizer: Tokenizer) -> None:
    rows = tokenize([["word " * 50]], tokenizer)

    assert rows.lengths.tolist() == [16]


def test_repeated_texts_and_blocks_change_nothing(
    tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    repeated = [TITLES[number] for number in (0, 3, 0, 1, 2, 3)]
    monkeypatch.setattr("trainables.data.token_rows.BLOCK_ROWS", 3)

    rows = tokenize([repeated], tokenizer)

    for number, encoding in enumerate(tokenizer.encode_batch(repeated)):
        assert rows.batch(np.array([number]))["input_ids"][0].tolist() == encoding.ids
    assert rows.text_numbers.tolist() == [0, 1, 0, 2, 3, 1]
    assert len(rows.ids) == rows.text_lengths.sum()


def test_no_texts_give_no_rows(tokenizer: Tokenizer) -> None:
    assert len(tokenize([[]], tokenizer)) == 0


def test_third_and_later_columns_join_segment_b() -> None:
    assert TextLayout.of(3).segments([["q"], ["title"], ["brand"]]) == [("q", "title brand")]


lengths_and_picks = st.lists(st.integers(1, 9), min_size=1, max_size=20).flatmap(
    lambda lengths: st.tuples(
        st.just(lengths),
        st.lists(st.integers(0, len(lengths) - 1), min_size=1, max_size=30),
    )
)


@given(lengths_and_picks)
def test_batch_holds_each_row_followed_by_padding(case: tuple[list[int], list[int]]) -> None:
    lengths, picks = case
    rows = rows_of(lengths)

    batch = rows.batch(np.array(picks))

    assert batch["input_ids"].shape == (len(picks), max(lengths[pick] for pick in picks))
    for line, pick in enumerate(picks):
        row = rows.ids[rows.offsets[pick] : rows.offsets[pick + 1]].tolist()
        padding = batch["input_ids"].shape[1] - len(row)
        assert batch["input_ids"][line].tolist() == row + [0] * padding
        assert batch["attention_mask"][line].tolist() == [1] * len(row) + [0] * padding


@given(lengths_and_picks)
def test_rows_of_equal_text_share_its_tokens(case: tuple[list[int], list[int]]) -> None:
    lengths, picks = case
    rows = rows_of(lengths)

    taken = rows.take(np.array(picks))

    assert taken.ids is rows.ids
    assert len(taken) == len(picks)
    assert taken.lengths.tolist() == [lengths[pick] for pick in picks]
    assert taken.text_lengths.tolist() == lengths


def test_the_texts_of_the_first_rows_are_theirs_alone() -> None:
    rows = rows_of([2, 3, 1, 4]).take(np.array([0, 1, 0, 2, 1, 3]))

    texts = rows.take(np.arange(3)).texts()

    assert texts.lengths.tolist() == [2, 3]
    assert texts.batch(np.array([1]))["input_ids"].tolist() == [[3, 4, 5]]
    assert len(rows.take(np.arange(0)).texts()) == 0


def test_second_segments_are_cut_from_their_rows() -> None:
    rows = rows_of([2, 3, 1], [1, 3, 0]).take(np.array([2, 0, 1, 0]))

    segments = rows.second_segments(np.array([1, 2, 0, 3]))

    assert [segment.tolist() for segment in segments] == [[2], [], [6], [2]]


@given(lengths_and_picks)
def test_taken_rows_batch_like_the_originals(case: tuple[list[int], list[int]]) -> None:
    lengths, picks = case
    rows = rows_of(lengths, [1] * len(lengths))

    taken = rows.take(np.array(picks)).batch(np.arange(len(picks)))

    for name, array in rows.batch(np.array(picks)).items():
        assert taken[name].tolist() == array.tolist()


def test_concatenated_parts_keep_their_rows() -> None:
    first, second = rows_of([2, 3], [1, 3]), rows_of([1, 4], [1, 2])

    both = concatenate([first, second])

    assert both.lengths.tolist() == [2, 3, 1, 4]
    assert both.batch(np.array([3]))["input_ids"].tolist() == [[2, 3, 4, 5]]
    assert both.batch(np.array([3]))["token_type_ids"].tolist() == [[0, 0, 1, 1]]


def test_parts_whose_rows_share_texts_can_be_concatenated() -> None:
    part = rows_of([2, 3, 1]).take(np.array([2, 0, 2]))

    both = concatenate([part.texts(), part])

    assert both.lengths.tolist() == [2, 3, 1, 1, 2, 1]
    assert both.batch(np.array([3, 4]))["input_ids"].tolist() == [[6, 0], [1, 2]]
