"""Repeated rows and columns that hold the label are found; honest tables raise no suspicion."""

import dataclasses

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainables.data.checks import (
    LEAK_AUC,
    check_table,
    describe_suspicions,
    find_duplicates,
)
from trainables.data.config import Columns, DataConfig, SplitConfig
from trainables.data.raw_fields import RawFields, category_column
from trainables.data.table import ClickTable
from trainables.data.text_column import TextColumn
from trainables.data.token_rows import TextLayout

COLUMNS = Columns(text=("title",), label="label", categorical=("brand",), numeric=("price",))
CONFIG = DataConfig(path="log.csv", columns=COLUMNS)


def table(num_rows: int = 600, *, seed: int = 0) -> ClickTable:
    """Rows whose columns know nothing of the label."""
    rng = np.random.default_rng(seed)
    return ClickTable(
        texts=(TextColumn.of(f"product {row}" for row in range(num_rows)),),
        clicks=rng.integers(0, 2, num_rows).astype(np.float32),
        impressions=np.ones(num_rows, np.float32),
        groups=np.arange(num_rows),
        split=rng.permutation(np.arange(num_rows) % 3).astype(np.int8),
        row_ids=np.arange(num_rows),
        num_source_rows=num_rows,
        fields=RawFields(
            names=("brand", "price"),
            categories=(category_column(pd.Series(rng.integers(0, 9, num_rows).astype(str))),),
            numbers=(rng.normal(size=num_rows),),
        ),
        layout=TextLayout.of(1),
        fingerprint="0123456789abcdef",
    )


def with_column(given: ClickTable, name: str, values: np.ndarray) -> ClickTable:
    fields = given.fields
    if name == "brand":
        column = category_column(pd.Series(values, dtype=object))
        fields = dataclasses.replace(fields, categories=(column,))
    elif name == "price":
        fields = dataclasses.replace(fields, numbers=(values.astype(float),))
    else:
        return dataclasses.replace(given, texts=(TextColumn.of(map(str, values)),))
    return dataclasses.replace(given, fields=fields)


def test_an_honest_table_raises_no_suspicion() -> None:
    checks = check_table(table(), COLUMNS)

    assert list(checks.alone) == ["title", "brand", "price"]
    # Each text occurs once, so none says anything.
    assert checks.alone["title"] == 0.5
    assert all(0.3 < (value or 0) < 0.7 for value in checks.alone.values())
    assert [found.num_rows for found in checks.duplicates] == [0, 0]
    assert describe_suspicions(checks, CONFIG) == ()


@pytest.mark.parametrize("name", ["title", "brand", "price"])
def test_a_column_that_holds_the_label_is_suspected(name: str) -> None:
    honest = table()
    # One row in fifty is wrong, and says nothing else.
    leak = np.where(np.arange(600) % 50 == 0, 0, honest.clicks)

    checks = check_table(with_column(honest, name, leak), COLUMNS)

    assert list(checks.leaks) == [name]
    assert LEAK_AUC <= checks.leaks[name] < 1
    (sentence,) = describe_suspicions(checks, CONFIG)
    assert f"column {name!r} alone predicts the label: ROC-AUC 0.9" in sentence


def test_a_number_that_is_missing_where_nothing_was_clicked_is_suspected() -> None:
    honest = table()
    paid = np.where(honest.clicks > 0, np.random.default_rng(1).normal(size=600), np.nan)

    assert check_table(with_column(honest, "price", paid), COLUMNS).leaks == {"price": 1.0}


def test_numbers_of_very_many_values_are_judged_in_bins() -> None:
    honest = table(9_000)
    price = np.random.default_rng(1).normal(size=9_000) + 5 * honest.clicks

    found = check_table(with_column(honest, "price", price), COLUMNS)

    assert found.leaks["price"] > 0.99


def test_a_rare_number_is_not_lost_in_a_bin_of_another() -> None:
    honest = table(9_000)
    clicks = (np.arange(9_000) % 200 == 0).astype(np.float32)
    given = with_column(dataclasses.replace(honest, clicks=clicks), "price", clicks)

    assert check_table(given, COLUMNS).leaks == {"price": 1.0}


def test_counts_are_judged_by_impressions() -> None:
    honest = table()
    counts = dataclasses.replace(
        honest, clicks=3 * honest.clicks, impressions=np.full(600, 3, np.float32)
    )

    checks = check_table(with_column(counts, "brand", honest.clicks.astype(str)), COLUMNS)

    assert checks.leaks == {"brand": 1.0}


def test_too_few_rows_are_not_judged() -> None:
    checks = check_table(with_column(table(30), "brand", table(30).clicks.astype(str)), COLUMNS)

    assert checks.alone == {"title": None, "brand": None, "price": None}
    assert checks.leaks == {}


def test_repeated_rows_are_counted_and_shown() -> None:
    honest = table()
    training, validation = np.flatnonzero(honest.split == 0), np.flatnonzero(honest.split == 1)
    rows = np.arange(600)
    rows[validation[:10]] = training[:5].repeat(2)
    repeated = dataclasses.replace(
        honest,
        texts=tuple(column.take(rows) for column in honest.texts),
        fields=honest.fields.take(rows),
    )

    checks = check_table(repeated, COLUMNS)

    validated, tested = checks.duplicates
    assert (validated.num_rows, validated.share, tested.num_rows) == (10, 0.05, 0)
    assert len(validated.examples) == 3
    first = validated.examples[0]
    assert (first.row, first.training_row) == (validation[0], training[0])
    assert first.content.startswith(f"product {training[0]} | brand: ")
    (sentence,) = describe_suspicions(checks, CONFIG)
    assert (
        f"5.0% of the validation rows repeat a training row's texts and fields (row {first.row} "
        in (sentence)
    )


@pytest.mark.parametrize(
    ("split", "group", "advice"),
    [
        (SplitConfig(), None, "name the column of what is shown or searched, data.columns.group"),
        (SplitConfig(), "shop", "data.split={by: group} keeps the rows of a 'shop' together"),
        (SplitConfig(by="group"), "shop", "'shop' puts them into several groups; use a coarser"),
        (SplitConfig(by="column", column="part"), None, "the table says so itself, in 'part'"),
    ],
)
def test_what_to_do_about_repeated_rows_depends_on_the_split(
    split: SplitConfig, group: str | None, advice: str
) -> None:
    same = with_column(table(), "title", np.zeros(600))
    same = with_column(with_column(same, "brand", np.zeros(600)), "price", np.full(600, np.nan))
    columns = dataclasses.replace(COLUMNS, group=group)

    (sentence,) = describe_suspicions(
        check_table(same, columns), DataConfig(path="log.csv", columns=columns, split=split)
    )

    assert sentence.startswith("100.0% of the validation rows and 100.0% of the test rows repeat")
    assert advice in sentence


def test_repeats_of_what_came_before_are_what_a_split_by_time_measures() -> None:
    same = with_column(table(), "title", np.zeros(600))
    same = with_column(with_column(same, "brand", np.zeros(600)), "price", np.zeros(600))
    columns = dataclasses.replace(COLUMNS, timestamp="day")
    config = DataConfig(path="log.csv", columns=columns, split=SplitConfig(by="time"))

    checks = check_table(same, columns)

    assert checks.duplicates[0].share == 1
    assert describe_suspicions(checks, config) == ()


@given(
    titles=st.lists(st.integers(0, 3), min_size=6, max_size=40),
    brands=st.lists(st.sampled_from(["a", "b", None]), min_size=40, max_size=40),
)
def test_exactly_the_rows_that_equal_a_training_row_are_repeated(
    titles: list[int], brands: list[str | None]
) -> None:
    size = len(titles)
    given = with_column(table(size), "title", np.array(titles))
    given = with_column(given, "brand", np.array(brands[:size], dtype=object))
    given = with_column(given, "price", np.array(titles) % 2)
    contents = list(zip(titles, brands, strict=False))
    training = {contents[row] for row in np.flatnonzero(given.split == 0)}

    found = find_duplicates(given)

    for part, duplicates in enumerate(found, start=1):
        rows = np.flatnonzero(given.split == part)
        assert duplicates.num_rows == sum(contents[row] in training for row in rows)
