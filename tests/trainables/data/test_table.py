"""Tables are checked, merged, split and fingerprinted."""

import os
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from trainables.data.config import Columns, DataConfig, SplitConfig
from trainables.data.table import ClickTable, load_clicks
from trainables.task import TaskConfig

COUNTS = Columns(text=("title",), clicks="clicks", impressions="impressions", group="shop")
LABEL = Columns(text=("title",), label="label")
HEADLINES = Path(__file__).parents[4] / "shared" / "data" / "upworthy_headlines.parquet"


def counts(num_rows: int = 60) -> pd.DataFrame:
    number = np.arange(num_rows)
    return pd.DataFrame(
        {
            "title": [f"product {row}" for row in number],
            "clicks": number % 3 + 1,
            "impressions": number % 3 + 8,
            "shop": [f"shop {row % 20}" for row in number],
            "day": pd.Timestamp("2026-03-01") + pd.to_timedelta(number // 2, unit="D"),
            "weight": 1.0,
        }
    )


def labels(num_rows: int = 60) -> pd.DataFrame:
    number = np.arange(num_rows)
    return pd.DataFrame({"title": [f"product {row}" for row in number], "label": number % 2})


def load(
    frame: pd.DataFrame,
    folder: Path,
    columns: Columns,
    *,
    name: str = "log.csv",
    **settings: object,
) -> ClickTable:
    file = folder / name
    if name.endswith(".parquet"):
        frame.to_parquet(file)
    else:
        frame.to_csv(file, index=False)
    return load_clicks(DataConfig(path=str(file), columns=columns, **settings), TaskConfig())


@pytest.mark.parametrize("by", ["random", "group", "time"])
def test_every_format_gives_the_same_table(tmp_path: Path, by: str) -> None:
    columns = Columns(
        text=("title",), clicks="clicks", impressions="impressions", group="shop", timestamp="day"
    )
    first, *others = (
        load(counts(), tmp_path, columns, name=name, split=SplitConfig(by=by))
        for name in ("log.csv", "log.csv.gz", "log.parquet")
    )

    for other in others:
        assert other.fingerprint == first.fingerprint
        assert [*map(list, other.texts)] == [*map(list, first.texts)]
        assert other.split.tolist() == first.split.tolist()


def test_identical_rows_are_added_up(tmp_path: Path) -> None:
    frame = pd.concat([counts(), counts()[:30]], ignore_index=True)

    table = load(frame, tmp_path, COUNTS)

    assert len(table) == 60
    assert table.num_source_rows == 90
    assert table.clicks[:3].tolist() == [2, 4, 6]
    assert table.clicks[30:33].tolist() == [1, 2, 3]
    assert table.row_ids.tolist() == list(range(60))


def test_rows_that_differ_in_group_are_not_merged(tmp_path: Path) -> None:
    table = load(counts().assign(title="the same"), tmp_path, COUNTS)

    assert len(table) == 20


def test_merging_can_be_turned_off(tmp_path: Path) -> None:
    frame = pd.concat([counts(), counts()], ignore_index=True)

    assert len(load(frame, tmp_path, COUNTS, merge_identical=False)) == 120


def test_identical_labelled_rows_stay_apart(tmp_path: Path) -> None:
    table = load(labels().assign(title="the same"), tmp_path, LABEL)

    assert len(table) == 60
    assert table.impressions.tolist() == [1] * 60


def test_weight_multiplies_clicks_and_impressions(tmp_path: Path) -> None:
    columns = Columns(text=("title",), clicks="clicks", impressions="impressions", weight="weight")

    table = load(counts().assign(weight=0.5), tmp_path, columns)

    assert table.clicks[:3].tolist() == [0.5, 1.0, 1.5]
    assert table.impressions[:3].tolist() == [4.0, 4.5, 5.0]


@pytest.mark.parametrize("written", [[True, False], ["True", "False"], [1.0, 0.0], ["1", "0"]])
@pytest.mark.parametrize("name", ["log.csv", "log.parquet"])
def test_labels_may_be_written_in_several_ways(
    tmp_path: Path, written: list[Any], name: str
) -> None:
    frame = labels().assign(label=written * 30)

    assert load(frame, tmp_path, LABEL, name=name).clicks.tolist() == [1, 0] * 30


def test_groups_are_codes_of_the_group_column(tmp_path: Path) -> None:
    table = load(counts(), tmp_path, COUNTS)

    assert table.groups.tolist() == [row % 20 for row in range(60)]


def test_without_a_group_column_each_row_is_its_own_group(tmp_path: Path) -> None:
    assert len(set(load(labels(), tmp_path, LABEL).groups)) == 60


def test_several_text_columns_stay_apart(tmp_path: Path) -> None:
    columns = Columns(text=("query", "title"), label="label")

    table = load(labels().assign(query="sofa"), tmp_path, columns)

    assert list(table.texts[0]) == ["sofa"] * 60
    assert table.texts[1][0] == "product 0"


@pytest.mark.parametrize(
    "changed",
    [
        {"title": [f"product {row}" for row in range(59)] + ["other"]},
        {"clicks": [0] + [row % 3 + 1 for row in range(1, 60)]},
        {"shop": ["other"] + [f"shop {row % 20}" for row in range(1, 60)]},
    ],
)
def test_a_changed_value_changes_the_fingerprint(
    tmp_path: Path, changed: dict[str, list[Any]]
) -> None:
    original = load(counts(), tmp_path, COUNTS)

    assert load(counts().assign(**changed), tmp_path, COUNTS).fingerprint != original.fingerprint


@pytest.mark.parametrize(
    ("by", "fingerprint"),
    [
        ("random", "05abebf6a4a60639"),
        ("group", "af279aecc19d1092"),
        ("time", "3f07884ffe3509b0"),
    ],
)
def test_a_tables_fingerprint_is_the_same_in_every_version(
    tmp_path: Path, by: str, fingerprint: str
) -> None:
    # It covers the split, and a study can be resumed only on a table of its fingerprint.
    columns = Columns(
        text=("title",), clicks="clicks", impressions="impressions", group="shop",
        timestamp="day", weight="weight",
    )  # fmt: skip

    table = load(counts(), tmp_path, columns, split=SplitConfig(by=by, seed=3))  # type: ignore[arg-type]

    assert table.fingerprint == fingerprint


def test_moving_a_letter_between_rows_changes_the_fingerprint(tmp_path: Path) -> None:
    tables = [
        load(labels().assign(title=[*pair] * 30), tmp_path, LABEL)
        for pair in (("ab", "c"), ("a", "bc"))
    ]

    assert tables[0].fingerprint != tables[1].fingerprint


def test_another_split_has_another_fingerprint(tmp_path: Path) -> None:
    first, second = (
        load(counts(), tmp_path, COUNTS, split=SplitConfig(seed=seed)) for seed in (0, 1)
    )

    assert first.fingerprint != second.fingerprint


def test_numeric_and_written_timestamps_order_rows(tmp_path: Path) -> None:
    columns = Columns(text=("title",), label="label", timestamp="when")
    number = np.arange(60)
    as_text = [f"2026-01-01 00:00:{row:02d} UTC" for row in number]

    for when in (number, number * 0.5, as_text):
        table = load(labels().assign(when=when), tmp_path, columns, split=SplitConfig(by="time"))
        assert table.split.tolist() == [0] * 42 + [1] * 9 + [2] * 9


def message_of(frame: pd.DataFrame, folder: Path, columns: Columns, **settings: object) -> str:
    with pytest.raises(ValueError, match=r".+") as raised:
        load(frame, folder, columns, **settings)
    return str(raised.value)


def with_value(frame: pd.DataFrame, column: str, row: int, value: object) -> pd.DataFrame:
    frame = frame.astype({column: object})
    frame.loc[row, column] = value
    return frame


@pytest.mark.parametrize(
    ("column", "value", "expected"),
    [
        ("clicks", -1, "column 'clicks', row 5 (line 7): '-1' is negative"),
        ("clicks", 99, "column 'clicks', row 5 (line 7): '99' is more clicks than impressions"),
        ("clicks", 1.5, "column 'clicks', row 5 (line 7): '1.5' is not a whole number"),
        ("clicks", "many", "column 'clicks', row 5 (line 7): 'many' is not a finite number"),
        ("clicks", "inf", "column 'clicks', row 5 (line 7): 'inf' is not a finite number"),
        ("clicks", None, "column 'clicks', row 5 (line 7): '' is missing"),
        ("impressions", 0, "column 'impressions', row 5 (line 7): '0' leaves no impression"),
        ("title", "", "column 'title', row 5 (line 7): '' is blank"),
        ("title", " \t\u00a0", "column 'title', row 5 (line 7): ' \\t\\xa0' is blank"),
        ("shop", None, "column 'shop', row 5 (line 7): '' is missing: every row needs a group"),
    ],
)
def test_a_wrong_value_is_named_with_column_row_and_line(
    tmp_path: Path, column: str, value: object, expected: str
) -> None:
    message = message_of(with_value(counts(), column, 5, value), tmp_path, COUNTS)

    assert expected in message
    assert message.count("\n") == 1


@pytest.mark.parametrize(
    ("column", "value", "expected"),
    [
        ("label", 2.0, "column 'label', row 5: 2.0 is not a label"),
        ("label", np.nan, "column 'label', row 5: nan is missing"),
        ("title", None, "column 'title', row 5: nan is not text"),
    ],
)
def test_a_wrong_value_in_parquet_is_named_with_its_row(
    tmp_path: Path, column: str, value: object, expected: str
) -> None:
    frame = labels().astype({"label": float})
    frame.loc[5, column] = value

    assert expected in message_of(frame, tmp_path, LABEL, name="log.parquet")


def test_a_text_column_of_numbers_is_named(tmp_path: Path) -> None:
    message = message_of(labels().assign(title=7), tmp_path, LABEL, name="log.parquet")

    assert "column 'title': holds int64 values such as 7; expected text" in message


def test_dates_instead_of_counts_are_named(tmp_path: Path) -> None:
    columns = Columns(text=("title",), clicks="day", impressions="impressions")

    assert "expected numbers" in message_of(counts(), tmp_path, columns, name="log.parquet")


def test_timestamps_that_can_not_be_read_are_named(tmp_path: Path) -> None:
    columns = Columns(text=("title",), label="label", timestamp="when")
    frame = labels().assign(when=["2026-01-01"] * 59 + ["last Tuesday"])

    message = message_of(frame, tmp_path, columns, split=SplitConfig(by="time"))

    assert "column 'when', row 59 (line 61): 'last Tuesday' is not a timestamp" in message


def test_a_weight_of_zero_is_refused(tmp_path: Path) -> None:
    columns = Columns(text=("title",), clicks="clicks", impressions="impressions", weight="weight")

    message = message_of(with_value(counts(), "weight", 5, 0), tmp_path, columns)

    assert "column 'weight', row 5 (line 7): '0' is not a weight" in message


def test_problems_are_listed_together_up_to_ten(tmp_path: Path) -> None:
    frame = counts().assign(title="", clicks=-1, impressions=0, shop="")

    message = message_of(frame, tmp_path, COUNTS)

    lines = message.splitlines()
    assert len(lines) == 12
    assert "57 more rows where the value is blank" in message
    assert "column 'clicks'" in message
    assert lines[-1].strip().startswith("... and ")


@pytest.mark.parametrize("column", ["label", "weight"])
def test_a_huge_value_beside_a_weight_is_named(tmp_path: Path, column: str) -> None:
    columns = Columns(text=("title",), label="label", weight="weight")
    frame = with_value(labels().assign(weight=2.0), column, 5, 1.7e308)

    assert f"column '{column}', row 5 (line 7): '1.7e+308' is not a" in message_of(
        frame, tmp_path, columns
    )


def test_long_values_are_shortened_in_messages(tmp_path: Path) -> None:
    message = message_of(with_value(labels(), "label", 5, "x" * 5_000), tmp_path, LABEL)

    assert len(message) < 300


@pytest.mark.parametrize(("label", "expected"), [(0, "no click"), (1, "nothing but clicks")])
def test_a_table_with_one_outcome_is_refused(tmp_path: Path, label: int, expected: str) -> None:
    message = message_of(labels().assign(label=label), tmp_path, LABEL)

    assert f"column 'label': has {expected} in 60 rows; a model needs both outcomes" in message


def test_too_few_rows_are_refused(tmp_path: Path) -> None:
    message = message_of(labels(10), tmp_path, LABEL)

    assert "10 rows (identical ones count once) are too few; at least 20 needed" in message


def test_a_table_without_rows_is_refused(tmp_path: Path) -> None:
    assert "has no rows below its header" in message_of(labels(0), tmp_path, LABEL)


def test_a_part_without_clicks_is_refused(tmp_path: Path) -> None:
    columns = Columns(text=("title",), label="label", timestamp="when")
    frame = labels().assign(when=np.arange(60), label=[1, 0] * 20 + [0] * 20)

    message = message_of(frame, tmp_path, columns, split=SplitConfig(by="time"))

    assert "the test split has no click in 9 rows; it needs both outcomes" in message
    assert "change data.split" in message


def test_a_part_without_rows_is_refused(tmp_path: Path) -> None:
    frame = counts().assign(shop="the only one")

    message = message_of(frame, tmp_path, COUNTS, split=SplitConfig(by="group"))

    assert "the validation split has 0 rows; at least 2 needed" in message


@pytest.mark.skipif(
    not HEADLINES.exists(), reason="the headlines table is not beside the repository"
)
def test_the_headlines_merge_to_their_distinct_texts_without_leaks() -> None:
    columns = Columns(
        text=("headline",), clicks="clicks", impressions="impressions", group="test_id"
    )
    config = DataConfig(
        path=os.fspath(HEADLINES), columns=columns, split=SplitConfig(by="group", seed=0)
    )

    table = load_clicks(config, TaskConfig())

    assert len(table) == 13_386
    assert np.bincount(table.split) / 13_386 == pytest.approx([0.70, 0.15, 0.15], abs=0.001)
    for part in range(3):
        inside = set(table.groups[table.split == part])
        assert inside.isdisjoint(table.groups[table.split != part])


@pytest.mark.parametrize("written", [np.array(["3000-01-01"], "datetime64[s]"), ["3000-01-01"]])
def test_a_time_beyond_nanoseconds_is_named(tmp_path: Path, written: Any) -> None:  # noqa: ANN401
    columns = Columns(text=("title",), label="label", timestamp="when")
    when = pd.Series(written).repeat(60).reset_index(drop=True)

    message = message_of(labels().assign(when=when), tmp_path, columns, name="log.parquet")

    assert "column 'when', row 0: 3000-01-01" in message.replace("'3000", "3000")
    assert "is too far away: write times between the years 1679 and 2261" in message


@pytest.mark.parametrize("name", ["log.csv", "log.parquet"])
def test_an_infinite_timestamp_is_named(tmp_path: Path, name: str) -> None:
    columns = Columns(text=("title",), label="label", timestamp="when")
    frame = labels().assign(when=[np.inf, *range(59)])

    assert "inf is not a finite number" in message_of(frame, tmp_path, columns, name=name).replace(
        "'", ""
    )


@pytest.mark.parametrize(
    ("column", "value", "expected"),
    [
        ("impressions", 1e13, "is too many: counts are up to 1e+12"),
        ("impressions", -1.7e308, "is negative: counts are 0 or more"),
        ("weight", -1.7e308, "is not a weight: use numbers above 0"),
        ("weight", 1e-300, "is not a usable weight: use 1e-09 to 1e+09"),
        ("weight", 1.7e308, "is not a usable weight: use 1e-09 to 1e+09"),
    ],
)
def test_numbers_that_32_bits_can_not_hold_are_named(
    tmp_path: Path, column: str, value: float, expected: str
) -> None:
    columns = Columns(text=("title",), clicks="clicks", impressions="impressions", weight="weight")

    assert expected in message_of(with_value(counts(), column, 5, value), tmp_path, columns)


@pytest.mark.parametrize(
    ("values", "kind"),
    [([[1, 2]], "list<"), ([b"a"], "binary"), ([pd.Timedelta(days=1)], "duration[")],
)
def test_a_column_of_a_kind_that_has_no_meaning_is_named(
    tmp_path: Path, values: list[Any], kind: str
) -> None:
    columns = Columns(text=("title",), label="label", group="shop")

    message = message_of(labels().assign(shop=values * 60), tmp_path, columns, name="log.parquet")

    assert f"column 'shop' holds {kind}" in message
    assert "expected text, numbers, booleans or times" in message


def test_rows_of_equal_text_but_other_given_parts_are_not_merged(tmp_path: Path) -> None:
    parts = np.repeat(["train", "valid", "test"], 20)
    frame = counts().assign(title=[f"product {row % 20}" for row in range(60)], part=parts)
    columns = Columns(text=("title",), clicks="clicks", impressions="impressions")

    table = load(frame, tmp_path, columns, split=SplitConfig(by="column", column="part"))

    assert len(table) == 60
    assert np.bincount(table.split).tolist() == [20, 20, 20]


@pytest.mark.parametrize("label", [[0, 1], [False, True], ["0", "1"], ["False", "True"]])
def test_labels_of_a_categorical_column_are_read(tmp_path: Path, label: list[Any]) -> None:
    frame = labels().assign(label=pd.Categorical(label * 30, categories=label))

    assert load(frame, tmp_path, LABEL, name="log.parquet").clicks.tolist() == [0, 1] * 30
