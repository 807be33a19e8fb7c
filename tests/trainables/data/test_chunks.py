"""Whatever chunks a table is read and worked on in, it is the same table, or refused alike."""

import dataclasses
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow
import pyarrow.parquet
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.trainables.data.odd_tables import configs, csv_frame, fuzz, parquet_columns, write_csv
from tests.trainables.data.tables import ENCODER
from trainables.data import column_builder, row_blocks, table_files, text_column
from trainables.data.config import Columns, DataConfig
from trainables.data.prepared import prepare
from trainables.data.read import read_table
from trainables.data.table import load_clicks
from trainables.task import TaskConfig


@contextmanager
def chunks_of(num_rows: int) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(table_files, "CHUNK_ROWS", num_rows)
        patch.setattr(row_blocks, "BLOCK_ROWS", num_rows)
        patch.setattr(text_column, "BLOCK_ROWS", num_rows)
        patch.setattr(column_builder, "MIN_MERGED", num_rows)
        yield


def outcome(config: DataConfig) -> dict[str, Any] | str:
    """Return all that a table holds as text and lists, or what an error says."""
    try:
        table = load_clicks(config, TaskConfig())
    except ValueError as error:
        return str(error)
    columns = {
        name: values.tolist() if isinstance(values, np.ndarray) else as_lists(values)
        for name, values in table.fields.values().items()
    }
    return {
        "texts": [as_lists(column) for column in table.texts],
        "arrays": [
            np.nan_to_num(array).tolist()
            for array in (table.clicks, table.impressions, table.groups, table.split, table.row_ids)
        ],
        # As text, where a missing number equals itself.
        "fields": repr(columns),
        "bad_rows": None if table.bad_rows is None else table.bad_rows.table.to_csv(),
        "num_source_rows": table.num_source_rows,
        "fingerprint": table.fingerprint,
    }


def as_lists(column: text_column.TextColumn) -> tuple[list[str], list[int]]:
    return column.distinct.to_pylist(), column.codes.tolist()


def assert_same_in_chunks(config: DataConfig, num_rows: int) -> None:
    whole = outcome(config)
    with chunks_of(num_rows):
        assert outcome(config) == whole


chunk_rows = st.sampled_from([1, 7, 31])


@fuzz
@given(data=st.data(), num_rows=chunk_rows)
def test_a_folder_of_odd_parquet_files_is_the_same_table_in_chunks(
    tmp_path: Path, data: st.DataObject, num_rows: int
) -> None:
    folder = tmp_path / "log"
    folder.mkdir(exist_ok=True)
    for place in range(2):
        columns = data.draw(parquet_columns(30))
        pyarrow.parquet.write_table(
            pyarrow.table(columns), folder / f"{place}.parquet", row_group_size=11
        )

    assert_same_in_chunks(data.draw(configs(folder)), num_rows)


@fuzz
@given(data=st.data(), num_rows=chunk_rows)
def test_an_odd_csv_file_is_the_same_table_in_chunks(
    tmp_path: Path, data: st.DataObject, num_rows: int
) -> None:
    write_csv(data.draw(csv_frame(60)), tmp_path / "log.csv")

    assert_same_in_chunks(data.draw(configs(tmp_path / "log.csv")), num_rows)


LABEL = Columns(text=("text",), label="label")


def write_parts(folder: Path, *parts: dict[str, Any]) -> DataConfig:
    folder.mkdir()
    for place, part in enumerate(parts):
        size = len(next(iter(part.values())))
        usual = {
            "text": [f"product {row}" for row in range(size)],
            "label": [row % 2 for row in range(size)],
        }
        pyarrow.parquet.write_table(pyarrow.table({**usual, **part}), folder / f"{place}.parquet")
    return DataConfig(path=str(folder), columns=LABEL)


def test_a_gap_in_the_last_chunk_says_what_the_whole_column_is(tmp_path: Path) -> None:
    # With a gap, pandas holds whole numbers as objects, each of which might be a text.
    whole = write_parts(tmp_path / "whole", {"text": list(range(40))})
    gap = write_parts(tmp_path / "gap", {"text": [*range(39), None]})

    with chunks_of(7):
        assert "holds int64 values such as 0; expected text" in str(outcome(whole))
        assert "row 0: 0 is not text" in str(outcome(gap))
        assert "37 more rows where the value is not text" in str(outcome(gap))


def test_files_that_differ_in_type_are_one_column(tmp_path: Path) -> None:
    as_numbers = {"label": pyarrow.array([0, 1] * 20, pyarrow.int8())}
    as_texts = {"label": ["1", "0"] * 20}
    as_booleans = {"label": [True, False] * 20}

    config = write_parts(tmp_path / "log", as_numbers, as_texts, as_booleans)
    with chunks_of(7):
        table = load_clicks(config, TaskConfig())

    assert table.clicks.tolist() == [0, 1] * 20 + [1, 0] * 40


def test_texts_of_many_chunks_are_numbered_by_their_first_occurrence(tmp_path: Path) -> None:
    texts = [f"product {row * 7 % 11}" for row in range(50)]
    config = write_parts(tmp_path / "log", {"text": texts})

    with chunks_of(3):
        column = read_table(config.path, ["text"]).columns["text"].texts

    assert column is not None
    assert column.distinct.to_pylist() == list(dict.fromkeys(texts))
    assert list(column) == texts


def test_whole_numbers_take_as_few_bytes_as_they_fit_in_and_stay_what_they_are(
    tmp_path: Path,
) -> None:
    narrow, wide = [5] * 10, [2**63 - 1, -(2**63), *range(8)]
    config = write_parts(tmp_path / "log", {"label": narrow}, {"label": wide})

    small = read_table(str(tmp_path / "log" / "0.parquet"), ["label"]).columns["label"]
    column = read_table(config.path, ["label"]).columns["label"]

    assert small.others.dtype == np.int8
    assert small.series().dtype == column.series().dtype == np.int64
    assert column.series().tolist() == narrow + wide


def test_prepared_files_are_the_same_in_blocks(tmp_path: Path) -> None:
    rows = np.arange(60)
    frame = pd.DataFrame(
        {
            "text": [f"product {row % 37}" for row in rows],
            "shop": [f"shop {row % 9}" for row in rows],
            "price": rows * 0.5,
            "label": rows % 2,
        }
    )
    frame.to_parquet(tmp_path / "log.parquet")
    columns = dataclasses.replace(LABEL, group="shop", categorical=("shop",), numeric=("price",))
    config = DataConfig(path=str(tmp_path / "log.parquet"), columns=columns)

    whole = prepare(load_clicks(config, TaskConfig()), ENCODER, tmp_path / "whole")
    with chunks_of(7):
        parts = prepare(load_clicks(config, TaskConfig()), ENCODER, tmp_path / "parts")

    assert parts.fingerprint == whole.fingerprint
    assert parts.arrays.keys() == whole.arrays.keys()
    for name, array in whole.arrays.items():
        assert parts.arrays[name].dtype == array.dtype
        assert np.array_equal(parts.arrays[name], array)
    assert parts.rows("test").texts() == whole.rows("test").texts()
