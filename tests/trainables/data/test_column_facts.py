"""Each column that a model sees is described as what it is."""

import dataclasses

import numpy as np
import pandas as pd
import pytest

from tests.trainables.data.tables import make_table
from trainables.data.column_facts import describe_columns, written_time
from trainables.data.config import Columns
from trainables.data.raw_fields import RawFields, category_column
from trainables.data.table import ClickTable

COLUMNS = Columns(
    text=("query", "title"), label="label", categorical=("brand",), numeric=("price",),
    timestamp="day", time_features=("age",),
)  # fmt: skip


def table() -> ClickTable:
    given = make_table(40, num_texts=10)
    brand = pd.Series(["acme"] * 20 + [None] * 10 + ["zenith"] * 10, dtype=object)
    brand[np.flatnonzero(given.split == 1)] = "new"
    price = np.arange(40.0)
    price[:4] = np.nan
    fields = RawFields(
        names=("brand", "price"),
        categories=(category_column(brand),),
        numbers=(price,),
        time_name="day",
        time_parts=("age",),
        seconds=np.arange(40) * 86_400.0,
    )
    return dataclasses.replace(given, fields=fields)


def test_columns_are_described_in_order_with_their_kinds() -> None:
    found = describe_columns(table(), COLUMNS)

    assert [(column.name, column.kind) for column in found] == [
        ("query", "text"),
        ("title", "text"),
        ("brand", "category"),
        ("price", "number"),
        ("day", "time"),
    ]


def test_a_text_has_distinct_values_and_the_most_frequent_first() -> None:
    query = describe_columns(table(), COLUMNS)[0]

    assert query.num_distinct == 10
    assert query.missing_share == 0
    assert query.frequent == tuple((f"query {number}", 0.1) for number in range(5))
    assert query.quartiles is None


def test_categories_that_training_lacks_are_counted() -> None:
    brand = describe_columns(table(), COLUMNS)[2]

    assert brand.num_distinct == 3
    assert brand.unseen == {"validation": 1.0, "test": 0.0}
    assert 0 < brand.missing_share < 0.25


def test_numbers_have_quartiles_of_those_that_are_there() -> None:
    price = describe_columns(table(), COLUMNS)[3]

    assert price.quartiles is not None
    assert (price.quartiles[0], price.quartiles[-1]) == (4, 39)
    assert price.missing_share == pytest.approx(0.1)
    assert price.unseen is None


def test_times_are_written_as_dates() -> None:
    day = describe_columns(table(), COLUMNS)[4]

    assert day.frequent[0] == ("1970-01-01 00:00:00", 1 / 40)
    assert written_time(1e30) == "1e+30"


def test_a_number_without_any_value_has_no_quartiles() -> None:
    given = table()
    fields = dataclasses.replace(given.fields, numbers=(np.full(40, np.nan),))

    price = describe_columns(dataclasses.replace(given, fields=fields), COLUMNS)[3]

    assert (price.num_distinct, price.missing_share, price.quartiles) == (0, 1.0, None)
    assert price.frequent == ()


def test_a_table_without_text_has_no_text_to_describe() -> None:
    columns = Columns(label="label", categorical=("brand",), numeric=("price",))

    assert [column.kind for column in describe_columns(table(), columns)][:1] == ["category"]
