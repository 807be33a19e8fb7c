"""Batches cover every row once, waste little padding, and differ from epoch to epoch."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainables.data.batching import batches_in_order, group_batches, like_length_batches


@given(
    lengths=st.lists(st.integers(1, 60), max_size=300),
    batch_size=st.integers(1, 40),
    seed=st.integers(0, 5),
)
def test_every_row_is_in_exactly_one_batch(lengths: list[int], batch_size: int, seed: int) -> None:
    batches = like_length_batches(np.array(lengths), batch_size, np.random.default_rng(seed))

    assert sorted(row for batch in batches for row in batch) == list(range(len(lengths)))
    assert len(batches) == -(-len(lengths) // batch_size)
    assert all(0 < len(batch) <= batch_size for batch in batches)


def test_batches_of_ten_thousand_rows_are_less_than_three_percent_padding() -> None:
    lengths = np.random.default_rng(0).poisson(20, 10_000) + 3

    batches = like_length_batches(lengths, 32, np.random.default_rng(0))

    padded = sum(len(batch) * lengths[batch].max() for batch in batches)
    assert padded < 1.03 * lengths.sum()


def test_order_and_members_follow_the_generator() -> None:
    lengths = np.random.default_rng(0).poisson(20, 1_000)
    first, again, other = (
        like_length_batches(lengths, 32, np.random.default_rng(seed)) for seed in (0, 0, 1)
    )

    assert [batch.tolist() for batch in first] == [batch.tolist() for batch in again]
    members = {frozenset(batch.tolist()) for batch in first}
    # The very longest rows may meet again.
    assert sum(frozenset(batch.tolist()) in members for batch in other) <= 1
    # Not from short to long: a model would forget the short ones.
    means = [lengths[batch].mean() for batch in first]
    assert abs(np.corrcoef(means, np.arange(len(means)))[0, 1]) < 0.5


def test_a_plan_reads_like_a_list_of_batches() -> None:
    batches = like_length_batches(np.arange(50), 8, np.random.default_rng(0))

    assert [batch.tolist() for batch in batches[1:3]] == [batches[1].tolist(), batches[2].tolist()]
    assert batches[-1].tolist() == batches[len(batches) - 1].tolist()
    with pytest.raises(IndexError, match="out of bounds"):
        batches[len(batches)]


@given(
    lengths=st.lists(st.integers(1, 60), max_size=300),
    batch_tokens=st.integers(1, 400),
    seed=st.integers(0, 5),
)
def test_a_token_budget_holds_for_all_but_single_long_rows(
    lengths: list[int], batch_tokens: int, seed: int
) -> None:
    rows = np.array(lengths, dtype=np.int32)
    rng = np.random.default_rng(seed)

    batches = like_length_batches(rows, None, rng, batch_tokens=batch_tokens)

    assert sorted(row for batch in batches for row in batch) == list(range(len(lengths)))
    for batch in batches:
        assert len(batch) == 1 or len(batch) * rows[batch].max() <= batch_tokens


def test_a_token_budget_is_used_well() -> None:
    lengths = np.random.default_rng(0).poisson(20, 10_000) + 3

    batches = like_length_batches(lengths, None, np.random.default_rng(0), batch_tokens=640)

    used = [len(batch) * lengths[batch].max() for batch in batches]
    assert np.median(used) > 0.95 * 640
    assert lengths.sum() > 0.93 * sum(used)


@given(
    lengths=st.lists(st.integers(0, 50), max_size=200),
    batch_tokens=st.integers(1, 300),
    most_rows=st.none() | st.integers(1, 20),
)
def test_batches_in_order_hold_each_row_once_and_stay_within_limits(
    lengths: list[int], batch_tokens: int, most_rows: int | None
) -> None:
    rows = np.array(lengths, dtype=np.int64)

    batches = batches_in_order(rows, batch_tokens=batch_tokens, most_rows=most_rows)

    assert sorted(row for batch in batches for row in batch) == list(range(len(lengths)))
    for batch in batches:
        assert len(batch) == 1 or len(batch) * rows[batch].max() <= batch_tokens
        assert most_rows is None or len(batch) <= most_rows
    longest = [rows[batch].max() for batch in batches]
    assert longest == sorted(longest)


@pytest.mark.parametrize("sizes", [(0, None), (None, 0)])
def test_a_size_below_one_is_refused(sizes: tuple[int | None, int | None]) -> None:
    with pytest.raises(ValueError, match="must be at least 1, got 0"):
        like_length_batches(np.ones(3), sizes[0], np.random.default_rng(0), batch_tokens=sizes[1])


@pytest.mark.parametrize("sizes", [(8, 8), (None, None)])
def test_rows_and_tokens_are_alternatives(sizes: tuple[int | None, int | None]) -> None:
    with pytest.raises(ValueError, match="give batch_size or batch_tokens, not both"):
        like_length_batches(np.ones(3), sizes[0], np.random.default_rng(0), batch_tokens=sizes[1])


GROUPS = st.lists(st.lists(st.integers(1, 40), min_size=1, max_size=12), min_size=0, max_size=40)


@given(groups=GROUPS, batch_size=st.integers(1, 30), seed=st.integers(0, 5))
def test_batches_of_groups_hold_each_row_once_and_tear_only_what_is_too_large(
    groups: list[list[int]], batch_size: int, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    codes = np.repeat(np.arange(len(groups)) * 7 % 41, [len(group) for group in groups])
    order = rng.permutation(len(codes))
    lengths = np.array([length for group in groups for length in group], dtype=np.int64)

    batches = group_batches(lengths[order], codes[order], batch_size, rng)

    assert sorted(row for batch in batches for row in batch) == list(range(len(codes)))
    assert all(0 < len(batch) <= batch_size for batch in batches)
    places: dict[int, set[int]] = {}
    for place, batch in enumerate(batches):
        for row in batch:
            places.setdefault(int(codes[order][row]), set()).add(place)
    sizes = np.bincount(codes, minlength=1)
    for code, inside in places.items():
        assert len(inside) <= -(-sizes[code] // batch_size)


@given(groups=GROUPS, batch_tokens=st.integers(1, 400), seed=st.integers(0, 5))
def test_a_token_budget_holds_for_groups_too(
    groups: list[list[int]], batch_tokens: int, seed: int
) -> None:
    codes = np.repeat(np.arange(len(groups)), [len(group) for group in groups])
    lengths = np.array([length for group in groups for length in group], dtype=np.int64)
    rng = np.random.default_rng(seed)

    batches = group_batches(lengths, codes, None, rng, batch_tokens=batch_tokens)

    assert sorted(row for batch in batches for row in batch) == list(range(len(codes)))
    for batch in batches:
        assert len(batch) == 1 or len(batch) * lengths[batch].max() <= batch_tokens


def test_batches_of_groups_follow_the_generator_and_waste_little() -> None:
    rng = np.random.default_rng(0)
    codes = np.repeat(np.arange(2_000), rng.integers(1, 9, 2_000))
    lengths = rng.poisson(20, 2_000)[codes] + 3
    first, again, other = (
        group_batches(lengths, codes, 32, np.random.default_rng(seed)) for seed in (0, 0, 1)
    )

    assert [batch.tolist() for batch in first] == [batch.tolist() for batch in again]
    members = {frozenset(batch.tolist()) for batch in first}
    assert sum(frozenset(batch.tolist()) in members for batch in other) <= 1
    assert np.mean([len(batch) for batch in first]) > 0.85 * 32
    padded = sum(len(batch) * lengths[batch].max() for batch in first)
    assert padded < 1.04 * lengths.sum()


def test_a_large_group_is_divided_anew_in_each_epoch() -> None:
    codes, lengths = np.zeros(50, dtype=np.int64), np.ones(50, dtype=np.int64)
    first, other = (
        group_batches(lengths, codes, 20, np.random.default_rng(seed)) for seed in (0, 1)
    )

    assert sorted(len(batch) for batch in first) == [16, 17, 17]
    assert {frozenset(batch.tolist()) for batch in first}.isdisjoint(
        frozenset(batch.tolist()) for batch in other
    )
