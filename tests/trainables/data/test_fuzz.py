"""Whatever a file holds, loading it ends in a sound table or in a clear error."""

import codecs
import decimal
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow
import pyarrow.parquet
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from search.cli import run
from tests.trainables.data.odd_tables import (
    CONFIGS,
    NAMES,
    configs,
    csv_frame,
    fuzz,
    parquet_columns,
    usual,
    write_csv,
)
from trainables.data.checks import check_table, describe_suspicions
from trainables.data.column_facts import describe_columns
from trainables.data.config import Columns, DataConfig
from trainables.data.table import ClickTable, load_clicks
from trainables.task import TaskConfig


def assert_sound(table: ClickTable, columns: Columns) -> None:
    size = len(table)
    arrays = (table.clicks, table.impressions, table.groups, table.split, table.row_ids)
    assert {len(array) for array in arrays} == {size}
    assert all(len(column) == size for column in table.texts)
    assert all(isinstance(text, str) for column in table.texts for text in column)
    if not set(columns.text) <= set(columns.optional_text):
        assert all(text.strip() for text in table.texts[0])
    assert np.isfinite(table.clicks).all()
    assert np.isfinite(table.impressions).all()
    assert (table.clicks >= 0).all()
    assert (table.clicks <= table.impressions).all()
    assert (table.impressions > 0).all()
    assert set(table.split.tolist()) == {0, 1, 2}
    assert len(np.unique(table.row_ids)) == size
    assert table.row_ids.min() >= 0
    assert table.row_ids.max() < table.num_source_rows
    fields = table.fields.fit(np.flatnonzero(table.split == 0))
    codes, numbers = table.fields.encode(fields, table.texts, size)
    assert codes.shape == (size, len(columns.categorical))
    assert (codes >= 0).all()
    assert np.isfinite(numbers).all()


def load_or_refuse(config: DataConfig) -> ClickTable | None:
    """Load a table, and do with it what a study does before training."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        try:
            table = load_clicks(config, TaskConfig())
        except ValueError as error:
            refusal: ValueError | None = error
        else:
            refusal = None
        if refusal is not None:
            # Our own words, with the file's name in them, not a library's.
            assert type(refusal) is ValueError, repr(refusal)
            assert Path(config.path).name in str(refusal)
            assert len(str(refusal)) < 4_000
            return None
        assert_sound(table, config.columns)
        describe_columns(table, config.columns)
        describe_suspicions(check_table(table, config.columns), config)
    return table


@fuzz
@given(data=st.data())
def test_any_parquet_table_is_loaded_or_refused(tmp_path: Path, data: st.DataObject) -> None:
    num_rows = data.draw(st.sampled_from([0, 1, 30, 60]))
    arrays = data.draw(parquet_columns(num_rows))
    pyarrow.parquet.write_table(pyarrow.table(arrays), tmp_path / "log.parquet")

    load_or_refuse(data.draw(configs(tmp_path / "log.parquet")))


@fuzz
@given(data=st.data())
def test_any_values_in_a_csv_file_are_loaded_or_refused(
    tmp_path: Path, data: st.DataObject
) -> None:
    num_rows = data.draw(st.sampled_from([1, 30, 60]))
    write_csv(data.draw(csv_frame(num_rows)), tmp_path / "log.csv")

    load_or_refuse(data.draw(configs(tmp_path / "log.csv")))


ROWS = b"".join(b"product %d,%d\n" % (row, row % 2) for row in range(60))


@fuzz
@given(
    header=st.sampled_from(
        [
            b"text,label\n",
            b"\xef\xbb\xbftext,label\n",
            b"text,label,\n",
            b"text,text,label\n",
            b"text;label\n",
            b"text,label",
            b"",
            b"\n\ntext,label\r\n",
            b'"text","label"\n',
            "テext,label\n".encode(),
            b"\x00text,label\n",
            "text,label\n".encode("utf-16"),
        ]
    ),
    noise=st.lists(
        st.one_of(
            st.binary(max_size=20),
            st.sampled_from(
                [
                    b"a,1,2\n",
                    b"a\n",
                    b"\n",
                    b",\n",
                    b'"a,1\n',
                    b'a"b,1\n',
                    b"\x00,1\n",
                    b"a,1\x00\n",
                    b"\xe9t\xe9,1\n",
                    b"a,1\r",
                    b'"a\nb",1\n',
                    b"a,b,c,d\n",
                    b"\xff\xfe",
                    b" , \n",
                ]
            ),
        ),
        max_size=3,
    ),
    at_the_end=st.booleans(),
    skip=st.booleans(),
)
@example(header=b"text,label\n", noise=[b"x" * 200_000 + b",2\n"], at_the_end=False, skip=True)
def test_any_bytes_in_a_csv_file_are_loaded_or_refused(
    tmp_path: Path, header: bytes, noise: list[bytes], *, at_the_end: bool, skip: bool
) -> None:
    parts = [ROWS, *noise] if at_the_end else [*noise, ROWS]
    (tmp_path / "log.csv").write_bytes(header + b"".join(parts))
    on_bad_row = "skip" if skip else "fail"

    load_or_refuse(
        DataConfig(path=str(tmp_path / "log.csv"), columns=CONFIGS[0], on_bad_row=on_bad_row)  # type: ignore[arg-type]
    )


@fuzz
@given(
    content=st.binary(max_size=60),
    name=st.sampled_from(["a.csv", "a.csv.gz", "a.parquet"]),
    start=st.sampled_from([b"", b"PAR1", b"\x1f\x8b\x08", codecs.BOM_UTF16_LE, b"text,label\n"]),
)
def test_any_bytes_in_a_file_are_loaded_or_refused(
    tmp_path: Path, content: bytes, name: str, start: bytes
) -> None:
    (tmp_path / name).write_bytes(start + content)

    load_or_refuse(DataConfig(path=str(tmp_path / name), columns=CONFIGS[0]))


@pytest.mark.parametrize("names", [["text"], ["", " "], ["Text", "LABEL"], ["text.1", "label"]])
def test_odd_or_missing_names_are_refused(tmp_path: Path, names: list[str]) -> None:
    pd.DataFrame({name: usual("text", 60) for name in names}).to_csv(
        tmp_path / "log.csv", index=False
    )

    assert load_or_refuse(DataConfig(path=str(tmp_path / "log.csv"), columns=CONFIGS[0])) is None


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("log.csv", "has 20,002 columns, and a CSV file may have up to 10,000"),
        ("log.parquet", "has nothing but clicks in 1 rows"),
    ],
)
def test_one_row_of_very_many_columns_is_refused_soon(
    tmp_path: Path, name: str, message: str
) -> None:
    count = 20_000 if name == "log.csv" else 5_000
    names = ["text", "label", *(f"c{number}" for number in range(count))]
    if name == "log.csv":
        line = ",".join(["sofa", "1", *["0"] * count])
        (tmp_path / name).write_text(f"{','.join(names)}\n{line}\n", encoding="utf-8")
    else:
        columns = [["sofa"], [1], *[[0]] * count]
        table = pyarrow.table(dict(zip(names, columns, strict=True)))
        pyarrow.parquet.write_table(table, tmp_path / name)

    with pytest.raises(ValueError, match=message):
        load_clicks(DataConfig(path=str(tmp_path / name), columns=CONFIGS[0]), TaskConfig())


def test_a_refused_table_is_no_traceback_on_the_command_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    study = tmp_path / "study.yaml"
    study.write_text(
        f"name: fuzz\ndata: {{path: {tmp_path}/log.csv, columns: {{text: [text], label: label}}}}\n"
        "space: {dropout: {uniform: [0.0, 0.1]}}\n"
    )
    for content in (b"", b"\x00\xff", b"text,label\n", b"text,label\n\xe9,1\n", b"a,b,c\n1\n"):
        (tmp_path / "log.csv").write_bytes(content)
        assert run(["data", "validate", str(study)]) == 2
        captured = capsys.readouterr()
        assert "log.csv" in captured.err
        assert "Traceback" not in captured.err


def test_decimals_are_numbers(tmp_path: Path) -> None:
    prices = [decimal.Decimal(row) / 4 for row in range(60)]
    frame = pd.DataFrame({name: usual(name, 60) for name in NAMES}).assign(price=prices)
    frame.to_parquet(tmp_path / "log.parquet")

    table = load_or_refuse(DataConfig(path=str(tmp_path / "log.parquet"), columns=CONFIGS[1]))

    assert table is not None
    assert table.fields.numbers[0][:3].tolist() == [0, 0.25, 0.5]
