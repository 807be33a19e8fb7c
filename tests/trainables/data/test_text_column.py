"""A text column reads like the list that it was made of, and hashes like it."""

import hashlib

import numpy as np
import pandas as pd
import pyarrow
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainables.data import text_column
from trainables.data.text_column import TextColumn, number_rows

TEXTS = ["sofa", "沙发 😀", "sofa", "", " \u2003\t", "çay", "sofa", "z"]
texts_lists = st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=5), max_size=40)


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(text_column, "BLOCK_ROWS", 3)


@given(texts=texts_lists)
def test_it_reads_like_a_list(texts: list[str]) -> None:
    column = TextColumn.of(texts)

    assert list(column) == texts
    assert len(column) == len(texts)
    assert [column[place] for place in range(len(texts))] == texts
    assert list(column[1:3]) == texts[1:3]
    assert len(column.distinct) == len(set(texts))


@pytest.mark.parametrize(
    "given_texts",
    [
        TEXTS,
        iter(TEXTS),
        pd.Series(TEXTS),
        pd.Series(TEXTS, dtype=object),
        pyarrow.chunked_array([TEXTS[:3], TEXTS[3:]]),
        TextColumn.of(TEXTS),
    ],
)
def test_every_kind_of_column_is_taken(given_texts: object) -> None:
    column = TextColumn.of(given_texts)  # type: ignore[arg-type]

    assert list(column) == TEXTS
    assert column.codes.tolist() == [0, 1, 0, 2, 3, 4, 0, 5]


def test_a_missing_text_has_no_place_and_is_not_blank() -> None:
    column = TextColumn.of(pd.Series(["a", None, " ", "a"]))

    assert column.codes.tolist() == [0, -1, 1, 0]
    assert column.are_blank().tolist() == [False, False, True, False]


def test_white_space_of_any_alphabet_is_blank() -> None:
    assert TextColumn.of(TEXTS).are_blank().tolist() == [False] * 3 + [True] * 2 + [False] * 3


def test_rows_are_taken_in_the_given_order() -> None:
    column = TextColumn.of(TEXTS)
    rows = np.array([5, 0, 5])

    assert list(column.take(rows)) == column.texts(rows) == ["çay", "sofa", "çay"]


@given(texts=texts_lists)
def test_ranks_order_like_the_texts(texts: list[str]) -> None:
    ranks = TextColumn.of(texts).ranks()

    expected = {text: rank for rank, text in enumerate(sorted(set(texts)))}
    assert ranks.tolist() == [expected[text] for text in texts]


@given(texts=texts_lists)
def test_hashes_are_those_of_pandas(texts: list[str]) -> None:
    hashes = TextColumn.of(texts).hashes()

    assert hashes.tolist() == pd.util.hash_array(np.array(texts, dtype=object)).tolist()


@given(texts=texts_lists)
def test_content_is_all_lengths_and_then_all_texts(texts: list[str]) -> None:
    column = TextColumn.of([*texts, "more"])[: len(texts)]
    assert isinstance(column, TextColumn)
    digest = hashlib.sha256()
    for part in column.content():
        digest.update(part)

    lengths = np.array([len(text) for text in texts], np.int64).tobytes()
    assert digest.digest() == hashlib.sha256(lengths + "".join(texts).encode()).digest()


def test_columns_are_compared_by_their_texts() -> None:
    column = TextColumn.of(TEXTS)
    reordered = TextColumn.of(TEXTS[::-1]).take(np.arange(len(TEXTS))[::-1])

    assert column.codes.tolist() != reordered.codes.tolist()
    assert column.has_same_texts(reordered)
    assert not column.has_same_texts(TextColumn.of([*TEXTS[:-1], "y"]))
    assert not column.has_same_texts(TextColumn.of(TEXTS[:-1]))


@given(rows=st.lists(st.tuples(st.integers(0, 3), st.integers(0, 5)), max_size=60))
def test_equal_rows_have_one_number_and_a_first_occurrence(rows: list[tuple[int, int]]) -> None:
    columns = [np.array([row[place] for row in rows], dtype=np.int32) for place in range(2)]

    numbers, first = number_rows(columns)

    distinct = list(dict.fromkeys(rows))
    assert numbers.tolist() == [distinct.index(row) for row in rows]
    assert first.tolist() == [rows.index(row) for row in distinct]
