"""An epoch's tokens are the variants where there are some, and the originals elsewhere."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainables.augmentation.variants import EpochTokens, Variants, are_variants, interleave
from trainables.data.token_rows import TokenRows, concatenate


def rows_of(lengths: list[int], *, first_id: int = 1) -> TokenRows:
    """Rows whose ids all differ; each row's last token is its segment B."""
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    return TokenRows.of_texts(
        np.arange(first_id, first_id + offsets[-1], dtype=np.int32),
        offsets,
        np.array(lengths, dtype=np.int32) - 1,
    )


lengths = st.lists(st.integers(1, 9), min_size=1, max_size=20)


@st.composite
def epochs(draw: st.DrawFn) -> tuple[EpochTokens, TokenRows, np.ndarray]:
    """An epoch's tokens, the same rows as a copy, and a batch of them."""
    original = rows_of(draw(lengths))
    varied = np.array([draw(st.booleans()) for _ in range(len(original))])
    rows = np.flatnonzero(varied)
    batch = np.array(draw(st.lists(st.integers(0, len(original) - 1), min_size=1, max_size=12)))
    if not len(rows):
        return EpochTokens(original=original), original, batch
    tokens = rows_of([draw(st.integers(1, 9)) for _ in rows], first_id=1000)
    places = np.arange(len(original))
    places[rows] = len(original) + np.arange(len(rows))
    copied = concatenate([original, tokens]).take(places)
    return EpochTokens(original=original, variants=Variants.make(rows, tokens)), copied, batch


@given(epochs())
def test_an_epochs_tokens_are_those_of_a_copy(
    case: tuple[EpochTokens, TokenRows, np.ndarray],
) -> None:
    tokens, copied, indices = case

    assert len(tokens) == len(copied)
    assert tokens.lengths.tolist() == copied.lengths.tolist()
    found = tokens.batch(indices)
    for name, array in copied.batch(indices).items():
        assert found[name].tolist() == array.tolist()
        assert found[name].dtype == array.dtype


def test_the_rows_that_are_varied_are_found() -> None:
    variants = Variants.make(np.array([1, 4]), rows_of([2, 3]))
    tokens = EpochTokens(original=rows_of([1] * 6), variants=variants)

    varied, places = tokens.find(np.array([4, 0, 5, 1, 4]))

    assert varied.tolist() == [True, False, False, True, True]
    assert places[varied].tolist() == [1, 0, 1]


def test_parts_of_a_batch_are_padded_with_zeros() -> None:
    merged = interleave(
        np.array([True, False, True]), np.full((1, 3, 2), 5.0), np.full((2, 1, 2), 7.0)
    )

    assert merged[:, :, 0].tolist() == [[7, 0, 0], [5, 5, 5], [7, 0, 0]]


def arrays_of(variants: Variants) -> tuple[np.ndarray, ...]:
    return tuple(
        np.concatenate([np.asarray(block) for block in array.blocks]).astype(array.dtype)
        for array in variants.to_arrays()
    )


def test_stored_variants_come_back() -> None:
    rows = np.array([1, 4, 5])
    variants = Variants.make(rows, rows_of([2, 3]).take(np.array([0, 1, 0])))

    arrays = arrays_of(variants)

    assert are_variants(arrays, rows)
    stored = Variants.from_arrays(arrays)
    assert stored.digest == variants.digest
    batch = stored.tokens.batch(np.arange(3))["input_ids"]
    assert batch.tolist() == [[1, 2, 0], [3, 4, 5], [1, 2, 0]]


@pytest.mark.parametrize("changed", range(6))
def test_a_changed_number_is_noticed(changed: int) -> None:
    rows = np.array([1, 4])
    arrays = list(arrays_of(Variants.make(rows, rows_of([2, 3]))))
    arrays[changed] = arrays[changed].copy()
    arrays[changed][0] += 1

    assert not are_variants(tuple(arrays), rows)


def test_other_arrays_and_the_variants_of_other_rows_are_noticed() -> None:
    arrays = arrays_of(Variants.make(np.array([1, 4]), rows_of([2, 3])))

    assert not are_variants(arrays, np.array([1, 5]))
    assert not are_variants(arrays[:-1], np.array([1, 4]))
