"""Bad rows are left out where a study allows it, counted, named and listed."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from trainables.data.config import Columns, DataConfig, SplitConfig
from trainables.data.problems import BadRows
from trainables.data.table import ClickTable, load_clicks
from trainables.data.truth import true_probabilities
from trainables.task import TaskConfig

COLUMNS = Columns(text=("title",), clicks="clicks", impressions="impressions", group="shop")


def frame(num_rows: int = 100) -> pd.DataFrame:
    number = np.arange(num_rows)
    return pd.DataFrame(
        {
            "title": [f"product {row}" for row in number],
            "clicks": number % 3,
            "impressions": 8,
            "shop": [f"shop {row // 2}" for row in number],
        }
    )


def spoil(clean: pd.DataFrame, **bad: dict[int, object]) -> pd.DataFrame:
    spoiled = clean.astype(object)
    for column, values in bad.items():
        for row, value in values.items():
            spoiled.loc[row, column] = value
    return spoiled


def load(
    table: pd.DataFrame,
    folder: Path,
    name: str = "log.csv",
    split: SplitConfig = SplitConfig(),  # noqa: B008 - frozen
) -> ClickTable:
    table.to_csv(folder / name, index=False)
    config = DataConfig(
        path=str(folder / name),
        columns=COLUMNS,
        split=split,
        on_bad_row="skip",
        max_bad_share=0.2,
    )
    return load_clicks(config, TaskConfig())


def bad_rows_of(table: ClickTable) -> BadRows:
    assert table.bad_rows is not None
    return table.bad_rows


@pytest.mark.parametrize("by", ["random", "group"])
def test_a_table_without_its_bad_rows_is_as_if_it_never_had_them(tmp_path: Path, by: str) -> None:
    split = SplitConfig(by=by)  # type: ignore[arg-type]
    # Shop 0 has no good row.
    bad = spoil(frame(), clicks={0: "many", 1: -1, 40: 99}, title={40: " ", 77: ""})

    table = load(bad, tmp_path, split=split)
    clean = load(frame().drop(index=[0, 1, 40, 77]), tmp_path, "clean.csv", split=split)

    assert table.fingerprint == clean.fingerprint
    assert clean.bad_rows is None
    assert table.num_source_rows == 100
    assert table.row_ids.tolist() == [row for row in range(100) if row not in (0, 1, 40, 77)]


def test_bad_rows_are_counted_and_the_first_ten_named(tmp_path: Path) -> None:
    bad = spoil(frame(), clicks=dict.fromkeys(range(5, 17), -1), title={5: ""})

    lines = bad_rows_of(load(bad, tmp_path)).summary().splitlines()

    assert lines[0] == "12 of 100 rows were left out (12.00%):"
    assert len(lines) == 12
    assert [f"row {row} (line {row + 2})" in lines[row - 4] for row in range(5, 15)] == [True] * 10
    assert lines[-1] == "  ... and 2 more"


def test_all_bad_rows_are_written_with_place_value_and_problem(tmp_path: Path) -> None:
    bad = spoil(frame(), clicks=dict.fromkeys(range(5, 17), -1), title={5: ""})

    bad_rows_of(load(bad, tmp_path)).write(tmp_path / "bad-rows.csv")

    written = pd.read_csv(tmp_path / "bad-rows.csv", keep_default_na=False)
    assert list(written) == ["row", "place", "column", "value", "problem"]
    assert written["row"].tolist() == [5, *range(5, 17)]
    assert written["column"].tolist() == ["title", *["clicks"] * 12]
    assert written["place"][12] == "row 16 (line 18)"
    assert written["problem"][12].startswith("is negative")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bad-rows.csv", "log.csv"]


def test_more_bad_rows_than_the_share_are_refused(tmp_path: Path) -> None:
    bad = spoil(frame(), clicks=dict.fromkeys(range(21), -1))

    with pytest.raises(ValueError, match=r"21 of 100 rows are bad, 21\.0%, and .* allows 20\.0%"):
        load(bad, tmp_path)


def test_a_wrong_column_is_refused_however_many_rows_may_be_bad(tmp_path: Path) -> None:
    columns = Columns(text=("title",), label="clicks", numeric=("price",))
    table = frame().assign(clicks=lambda rows: rows["clicks"] % 2, price=pd.Timestamp("2026-01-01"))
    table.to_parquet(tmp_path / "log.parquet")
    config = DataConfig(
        path=str(tmp_path / "log.parquet"), columns=columns, on_bad_row="skip", max_bad_share=0.9
    )

    with pytest.raises(ValueError, match="column 'price': holds datetime64"):
        load_clicks(config, TaskConfig())


@pytest.mark.parametrize(("good", "missing"), [(0, "no click"), (8, "nothing but clicks")])
def test_what_is_left_needs_both_outcomes(tmp_path: Path, good: int, missing: str) -> None:
    bad = spoil(frame().assign(clicks=good), clicks={5: 1}, title={5: ""})

    with pytest.raises(ValueError, match=f"column 'clicks': has {missing} in 99 rows"):
        load(bad, tmp_path)


def test_the_truth_of_a_log_belongs_to_the_rows_that_are_left(tmp_path: Path) -> None:
    truth = pd.DataFrame({"row": range(100), "probability": np.arange(100) / 100})
    truth.to_csv(tmp_path / "truth.csv", index=False)
    bad = spoil(frame(), clicks={3: "?", 50: -1})

    table = load(bad, tmp_path)
    config = DataConfig(
        path=str(tmp_path / "log.csv"), columns=COLUMNS, truth=str(tmp_path / "truth.csv")
    )

    kept = [row for row in range(100) if row not in (3, 50)]
    assert (true_probabilities(config, table) * 100).round().tolist() == kept
