"""A basket is predicted from earlier orders alone, and its rows say what these held."""

import dataclasses
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trainables.data.config import Columns, DataConfig, SplitConfig
from trainables.data.next_basket import NextBasketConfig, load_next_baskets, next_baskets
from trainables.data.table import load_clicks
from trainables.task import TaskConfig

CONFIG = NextBasketConfig(history=3, candidates=5, popular=2)
ORDERS = {
    1: (["milk", "bread"], ["milk", "tea"], ["milk", "rice"], ["tea", "milk"], ["bread"]),
    2: (["rice"], ["tea"], ["rice", "jam"]),
    3: (["milk"], ["milk"]),
}
Orders = dict[int, tuple[list[str], ...]]


def as_lines(orders: Orders) -> pd.DataFrame:
    return pd.DataFrame(
        [
            {
                "user_id": user,
                "order_number": number,
                "product_name": product,
                "aisle": f"aisle of {product}",
                "department": "food",
                "order_dow": number % 7,
                "order_hour_of_day": 8 + number,
                "days_since_prior_order": None if number == 1 else 2.0 * number,
            }
            for user, baskets in orders.items()
            for number, basket in enumerate(baskets, start=1)
            for product in basket
        ]
    )


def rows_of(table: pd.DataFrame, basket: str) -> pd.DataFrame:
    return table[table["basket"] == basket].set_index("product")


def test_a_row_says_what_earlier_orders_held() -> None:
    table = next_baskets(as_lines(ORDERS), CONFIG)

    rows = rows_of(table, "1-4")
    # Milk was in all orders; of the others, each bought once, the latest comes first.
    assert list(rows.index[:4]) == ["milk", "rice", "tea", "bread"]
    assert rows["label"].to_dict() == {"milk": 1, "rice": 0, "tea": 1, "bread": 0}
    assert set(rows["history"]) == {"milk, rice, tea"}
    assert rows["times_bought"].tolist() == [3, 1, 1, 1]
    assert rows["orders_since"].tolist() == [1, 1, 2, 3]
    assert rows["order_share"].tolist() == pytest.approx([1, 1 / 3, 1 / 3, 1 / 3])
    # Orders 2, 3 and 4 came 4, 6 and 8 days after the one before.
    assert rows["days_since"].tolist() == [8, 8, 14, 18]
    assert set(rows["days_since_prior"]) == {8}
    assert set(rows["orders_before"]) == {3}
    assert (set(rows["weekday"]), set(rows["hour"])) == ({4}, {12})
    assert rows.loc["tea", "aisle"] == "aisle of tea"


def test_popular_products_that_a_user_never_had_are_candidates_too() -> None:
    rows = rows_of(next_baskets(as_lines(ORDERS), CONFIG), "2-3")

    # In the first two orders two users had milk, two tea; bread and rice one each.
    assert list(rows.index) == ["tea", "rice", "milk", "bread"]
    assert rows.loc["milk", ["times_bought", "order_share"]].tolist() == [0, 0]
    assert np.isnan(rows.loc["milk", "orders_since"])
    assert np.isnan(rows.loc["milk", "days_since"])


def test_the_last_orders_of_each_user_are_held_out() -> None:
    table = next_baskets(as_lines(ORDERS), CONFIG)

    parts = table.drop_duplicates("basket").set_index("basket")["split"].to_dict()
    assert parts == {"1-3": "train", "1-4": "validation", "1-5": "test", "2-3": "test"}


BASKETS = st.lists(st.sampled_from(["milk", "tea", "rice", "jam", "bread", "figs"]), min_size=1)


@settings(max_examples=15, deadline=None)
@given(
    orders=st.lists(BASKETS, min_size=3, max_size=6),
    others=st.lists(BASKETS, min_size=3, max_size=6),
    place=st.integers(2, 5),
)
def test_features_know_nothing_of_the_order_or_later_ones(
    orders: list[list[str]], others: list[list[str]], place: int
) -> None:
    place = min(place, len(orders) - 1)
    changed = [*orders[:place], *others[place:]][: len(orders)]
    changed += orders[len(changed) :]
    first, second = (
        next_baskets(as_lines({1: tuple(kept), 2: (["jam"], ["figs"], ["jam"])}), CONFIG)
        for kept in (orders, changed)
    )

    for number in range(3, place + 2):
        ours, theirs = (rows_of(table, f"1-{number}") for table in (first, second))
        pd.testing.assert_frame_equal(ours.drop(columns="label"), theirs.drop(columns="label"))
        if number <= place:
            assert ours["label"].tolist() == theirs["label"].tolist()


def test_the_order_of_lines_between_orders_does_not_matter() -> None:
    lines = as_lines(ORDERS)
    shuffled = pd.concat([part for _, part in reversed([*lines.groupby("order_number")])])

    pd.testing.assert_frame_equal(next_baskets(lines, CONFIG), next_baskets(shuffled, CONFIG))


def test_limits_bound_a_basket() -> None:
    many = {1: tuple([f"product {number}" for number in range(40)] for _ in range(4))}
    config = NextBasketConfig(history=4, candidates=7, popular=0)

    table = next_baskets(as_lines(many), config)

    assert table.groupby("basket").size().tolist() == [7, 7]
    assert len(table["history"].iloc[0].split(", ")) == 4


def test_columns_that_are_not_there_are_left_out() -> None:
    lines = as_lines(ORDERS)[["user_id", "order_number", "product_name"]]
    config = dataclasses.replace(
        CONFIG, categories=(), weekday=None, hour=None, days_since_prior=None
    )

    table = next_baskets(lines, config)

    assert {"weekday", "hour", "days_since_prior", "aisle"}.isdisjoint(table.columns)
    assert table["days_since"].isna().all()


def test_times_order_as_numbers_do(tmp_path: Path) -> None:
    lines = as_lines(ORDERS)
    days = pd.to_datetime("2026-03-01") + pd.to_timedelta(lines["order_number"], unit="D")
    path = tmp_path / "orders.csv"
    lines.assign(order_number=days.dt.strftime("%Y-%m-%dT09:30:00")).to_csv(path, index=False)

    table = load_next_baskets(str(path), CONFIG)

    expected = next_baskets(lines, CONFIG)
    assert table["label"].tolist() == expected["label"].tolist()
    assert table["days_since"].tolist() == pytest.approx(expected["days_since"], nan_ok=True)


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        ("product_name", None, "column product_name: row 2 is missing"),
        ("product_name", " ", "column product_name: row 2 is blank"),
        ("order_number", "soon", "column order_number: row 2 is 'soon'; expected the order's"),
        ("order_hour_of_day", "noon", "column order_hour_of_day: row 2 is 'noon', no number"),
    ],
)
def test_values_that_cannot_be_used_are_named(column: str, value: object, message: str) -> None:
    lines = as_lines(ORDERS).astype({column: object})
    lines.loc[2, column] = value

    with pytest.raises(ValueError, match=message):
        next_baskets(lines, CONFIG)


def test_users_without_a_third_order_are_not_enough() -> None:
    with pytest.raises(ValueError, match="no user has 3 orders"):
        next_baskets(as_lines({1: (["milk"], ["tea"])}), CONFIG)


def test_the_table_is_one_that_a_ranking_study_reads(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    many = {
        user: tuple(
            list(rng.choice(["milk", "tea", "rice", "jam", "bread"], 2, replace=False))
            for _ in range(6)
        )
        for user in range(12)
    }
    path = tmp_path / "baskets.parquet"
    next_baskets(as_lines(many), CONFIG).to_parquet(path)
    columns = Columns(
        text=("history", "product"),
        label="label",
        group="basket",
        categorical=("aisle", "weekday"),
        numeric=("times_bought", "orders_since", "days_since"),
    )
    split = SplitConfig(by="column", column="split")

    table = load_clicks(
        DataConfig(path=str(path), columns=columns, split=split),
        TaskConfig(kind="recommendation"),
    )

    assert len(np.unique(table.groups[table.split == 2])) == 12
