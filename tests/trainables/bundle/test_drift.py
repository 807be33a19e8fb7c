"""Drift: rows like those of the validation pass silently, others are named with what changed."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainables.bundle.drift import (
    MIN_ROWS,
    DriftBaseline,
    DriftCheck,
    read_baseline,
    say_drift,
)
from trainables.bundle.features import Features
from trainables.data.fields import CategoricalField, Fields, NumericField
from trainables.data.row_inputs import RowInputs
from trainables.data.token_rows import TextLayout, TokenRows

FIELDS = Fields(
    categorical=(CategoricalField(name="shop", values=("north", "south")),),
    numeric=(NumericField(name="price", center=20.0, scale=5.0),),
)
FEATURES = Features(text=("title",), max_tokens=32, layout=TextLayout.of(1), fields=FIELDS)


def draw(
    rng: np.random.Generator,
    num_rows: int,
    *,
    words: float = 8,
    rarest: int = 1_000,
    shops: tuple[float, ...] = (0.05, 0.05, 0.6, 0.3),
    price: float = 20,
    click: float = 0.1,
) -> tuple[RowInputs, np.ndarray]:
    """Draw rows and scores: words a text, their highest id, shares of shops, prices, click rate."""
    lengths = 2 + rng.poisson(words, num_rows)
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    ids = rng.integers(5, rarest, offsets[-1]).astype(np.int32)
    tokens = TokenRows.of_texts(ids, offsets, lengths.astype(np.int32))
    prices = rng.normal(price, 5, num_rows)
    prices[rng.random(num_rows) < 0.05] = np.nan
    codes = rng.choice(len(shops), num_rows, p=shops).astype(np.int32)[:, None]
    numbers = FIELDS.numeric[0].encode(prices).astype(np.float32)
    scores = rng.beta(10 * click, 10 * (1 - click), num_rows)
    return RowInputs(tokens=tokens, codes=codes, numbers=numbers), scores


def check(rows: tuple[RowInputs, np.ndarray], *, parts: int = 1) -> list[str]:
    """Compare rows with a baseline of 2,000, and return what is said."""
    baseline = DriftBaseline.of(*draw(np.random.default_rng(0), 2_000), FEATURES)
    checked = DriftCheck(baseline, FEATURES)
    inputs, scores = rows
    for places in np.array_split(np.arange(len(inputs)), parts):
        checked.add(inputs.take(places), scores[places])
    return [say_drift(drift, FEATURES) for drift in checked.drifts()]


@pytest.mark.parametrize("num_rows", [MIN_ROWS, 1_000, 20_000])
def test_rows_alike_are_no_drift(num_rows: int) -> None:
    assert check(draw(np.random.default_rng(1), num_rows)) == []


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"words": 16}, r"the number of tokens .* of the rows are from \d+, \d+% at export"),
        ({"rarest": 30_000}, r"the rarity of words .* are from"),
        ({"shops": (0.05, 0.75, 0.1, 0.1)}, r"'shop' .*7\d% .* have a value that training didn't"),
        ({"shops": (0.8, 0.05, 0.1, 0.05)}, r"column 'shop' .* of the rows lack it, \d% at export"),
        (
            {"shops": (0.05, 0.05, 0.1, 0.8)},
            r"column 'shop' .* (80|79|81)% .* have 'south', (29|3\d)%",
        ),
        ({"price": 30}, r"column 'price' .* are from 2\d"),
        ({"click": 0.4}, r"the predicted probability .* are from 0\.\d"),
    ],
)
def test_what_has_changed_is_named_and_nothing_else(
    change: dict[str, float], sentence: str
) -> None:
    (said,) = check(draw(np.random.default_rng(2), 1_000, **change))  # type: ignore[arg-type]

    import re

    assert re.search(sentence, said), said
    assert "has another distribution than on the validation rows (PSI" in said


def test_the_largest_change_comes_first() -> None:
    said = check(draw(np.random.default_rng(3), 1_000, price=40, words=11))

    assert len(said) == 2
    assert "'price'" in said[0]


def test_parts_count_as_the_whole_does() -> None:
    rows = draw(np.random.default_rng(4), 1_000, price=28)

    assert check(rows, parts=7) == check(rows) != []


def test_few_rows_say_nothing() -> None:
    assert check(draw(np.random.default_rng(5), MIN_ROWS - 1, price=90)) == []


def test_a_baseline_survives_json(tmp_path: Path) -> None:
    baseline = DriftBaseline.of(*draw(np.random.default_rng(0), 300), FEATURES)
    path = tmp_path / "drift.json"
    path.write_text(baseline.to_json())

    assert read_baseline(path, FEATURES) == baseline
    for distribution in baseline.distributions:
        assert sum(distribution.shares) == pytest.approx(1)


@pytest.mark.parametrize(
    ("place", "change", "problem"),
    [
        (0, {"kind": "weather"}, "it is about 'weather'"),
        (0, {"edges": [3, 2]}, "edges must rise"),
        (0, {"edges": [float("inf")]}, "expected a list of finite numbers"),
        (0, {"shares": [1.0]}, "1 shares don't fit"),
        (2, {"column": "brand"}, "but the bundle reads"),
        (2, {"edges": [0, 1, 1, 2]}, "each once"),
        (3, {"shares": [2.0] * 11}, r"shares must be in \[0, 1\]"),
    ],
)
def test_a_baseline_that_does_not_fit_is_refused(
    tmp_path: Path, place: int, change: dict[str, object], problem: str
) -> None:
    baseline = DriftBaseline.of(*draw(np.random.default_rng(0), 300), FEATURES)
    raw = json.loads(baseline.to_json())
    raw["distributions"][place].update(change)
    path = tmp_path / "drift.json"
    path.write_text(json.dumps(raw))

    with pytest.raises(ValueError, match=problem):
        read_baseline(path, FEATURES)


def test_a_column_that_is_missing_everywhere_has_a_baseline_all_the_same(tmp_path: Path) -> None:
    inputs, scores = draw(np.random.default_rng(0), 300)
    inputs.numbers[:] = (0.0, 1.0)
    path = tmp_path / "drift.json"

    path.write_text(DriftBaseline.of(inputs, scores, FEATURES).to_json())
    checked = DriftCheck(read_baseline(path, FEATURES), FEATURES)
    checked.add(*draw(np.random.default_rng(1), 300))

    (drift,) = checked.drifts()
    assert "'price' has another distribution" in say_drift(drift, FEATURES)


def test_what_rises_above_a_frequent_value_is_seen() -> None:
    """A count that is 0 in nearly all rows."""
    from trainables.bundle.drift import _measure

    known = _measure("number", "returns", np.array([0.0] * 95 + [1.0] * 5))

    now = known.count(np.array([0.0] * 20 + [1.0] * 80))

    assert now[int(np.argmax(known.shares))] == 20
    assert max(now) == 80


def test_rows_of_few_groups_differ_by_chance() -> None:
    baseline_rows = draw(np.random.default_rng(0), 1_500)
    other = draw(np.random.default_rng(1), 1_000, price=23)

    said = []
    for num_groups in (1_500, 10):
        baseline = DriftBaseline.of(*baseline_rows, FEATURES, num_groups=num_groups)
        checked = DriftCheck(baseline, FEATURES)
        checked.add(*other)
        said.append(len(checked.drifts()))

    assert said == [1, 0]


@given(
    values=st.lists(st.floats(-1e30, 1e30) | st.just(float("nan")), min_size=1, max_size=30),
    more=st.lists(st.floats(allow_nan=True, allow_infinity=True), max_size=30),
)
def test_every_number_falls_into_a_bin(values: list[float], more: list[float]) -> None:
    from trainables.bundle.drift import _measure

    known = _measure("number", "price", np.array(values))

    assert sum(known.shares) == pytest.approx(1)
    assert known.count(np.array(more, dtype=np.float64)).sum() == len(more)
    assert len(known.count(np.array(more, dtype=np.float64))) == len(known.shares)


def test_numbers_are_decoded_to_what_they_were() -> None:
    numbers = np.array([-3.0, 0.0, 20.0, 31.5, 1e6])
    field = FIELDS.numeric[0]

    scaled = field.encode(numbers)[:, 0]

    np.testing.assert_allclose(
        field.decode(scaled.astype(np.float32)), numbers, rtol=1e-4, atol=1e-5
    )
