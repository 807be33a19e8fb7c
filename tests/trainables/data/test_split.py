"""Splits don't leak, follow their fractions, and don't depend on row order."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainables.data.config import SplitConfig
from trainables.data.split import split_rows


def split(config: SplitConfig, **columns: np.ndarray) -> np.ndarray:
    given_columns = {"keys": np.zeros(1, np.uint64), "groups": None, "times": None, **columns}
    return split_rows(config, **given_columns)  # type: ignore[arg-type]


@given(
    names=st.lists(st.sampled_from("abcdefghijklmnop"), min_size=1, max_size=200),
    seed=st.integers(0, 3),
)
def test_no_group_is_on_two_sides(names: list[str], seed: int) -> None:
    groups = np.array(names)

    parts = split(SplitConfig(by="group", seed=seed), groups=groups)

    for name in set(names):
        assert len(set(parts[groups == name])) == 1


@given(times=st.lists(st.integers(-5, 20), min_size=1, max_size=200))
def test_later_parts_are_strictly_later(times: list[int]) -> None:
    moments = np.array(times)

    parts = split(SplitConfig(by="time"), times=moments)

    for earlier, later in ((0, 1), (1, 2), (0, 2)):
        if (parts == earlier).any() and (parts == later).any():
            assert moments[parts == earlier].max() < moments[parts == later].min()


@pytest.mark.parametrize("by", ["random", "group", "time"])
def test_the_same_rows_in_another_order_are_divided_alike(by: str) -> None:
    rng = np.random.default_rng(0)
    columns = {
        "keys": rng.integers(2**63, size=500, dtype=np.uint64),
        "groups": rng.integers(60, size=500).astype(str),
        "times": rng.integers(90, size=500),
    }
    order = rng.permutation(500)
    config = SplitConfig(by=by)  # type: ignore[arg-type]

    shuffled = split(config, **{name: column[order] for name, column in columns.items()})

    assert shuffled.tolist() == split(config, **columns)[order].tolist()


@pytest.mark.parametrize("by", ["random", "group", "time"])
def test_parts_have_about_the_asked_sizes(by: str) -> None:
    rng = np.random.default_rng(0)
    config = SplitConfig(by=by, fractions=(0.5, 0.2, 0.3))  # type: ignore[arg-type]

    parts = split(
        config,
        keys=np.arange(2_000, dtype=np.uint64),
        groups=rng.integers(400, size=2_000).astype(str),
        times=rng.integers(400, size=2_000),
    )

    assert np.bincount(parts) / 2_000 == pytest.approx([0.5, 0.2, 0.3], abs=0.01)


def test_another_seed_divides_otherwise() -> None:
    keys = np.arange(100, dtype=np.uint64)

    first, second = (split(SplitConfig(seed=seed), keys=keys) for seed in (0, 1))

    assert first.tolist() != second.tolist()


def test_very_unequal_groups_stay_whole() -> None:
    groups = np.array(["giant"] * 90 + [f"small {number}" for number in range(10)])

    parts = split(SplitConfig(by="group"), groups=groups)

    assert len(set(parts[:90])) == 1
