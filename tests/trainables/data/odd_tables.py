"""Tables of odd values, as hypothesis draws them."""

import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from trainables.data.config import Columns, DataConfig, SplitConfig

fuzz = settings(
    max_examples=80,
    deadline=None,
    # Each example writes its own file over the last one's.
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)

NAMES = [
    "text", "label", "clicks", "impressions", "weight", "group", "time", "brand", "price", "part",
]  # fmt: skip
CONFIGS = [
    Columns(text=("text",), label="label"),
    Columns(
        text=("text",), label="label", categorical=("brand",), numeric=("price", "weight"),
        compare=(("text", "brand"), ("price", "weight")),
    ),
    Columns(label="label", categorical=("brand",), numeric=("price",), weight="weight"),
    Columns(
        text=("text",), optional_text=("text",), clicks="clicks", impressions="impressions",
        weight="weight", group="group", categorical=("brand",), numeric=("price",),
        timestamp="time", time_features=("hour", "weekday", "age"),
    ),
]  # fmt: skip
SPLITS = [
    SplitConfig(),
    SplitConfig(by="group"),
    SplitConfig(by="time"),
    SplitConfig(by="column", column="part"),
]

odd_text = st.one_of(
    st.text(max_size=12),
    st.sampled_from(
        [
            "",
            " ",
            "\u200b",
            "NaN",
            "nan",
            "None",
            "inf",
            "-1e999",
            "1_000",
            "0x1f",
            "1,5",
            "٣",
            "½",
            "train",
            "test",
            "valid",
            "2026-03-01",
            "9999-12-31",
            "0001-01-01",
            "12:30",
            "1e400",
            "沙发 😀",
            "<b>&amp;</b>",
            "=1+1",
            'a"b',
            "a\nb",
            "a\r\nb",
            "a\x00b",
            "9" * 400,
            "x" * 3_000,
        ]
    ),
)
numbers = st.one_of(
    st.integers(-3, 9),
    st.integers(-(2**63), 2**63 - 1),
    st.floats(allow_nan=True, allow_infinity=True),
    st.sampled_from([1e308, -1e308, 5e-324, -0.0, 2.0**53, 1e-300]),
)
moments = st.datetimes(
    datetime.datetime(1, 1, 1),
    datetime.datetime(9999, 12, 31),
)


def usual(name: str, num_rows: int) -> list[Any]:
    """A column's values in a table with nothing wrong."""
    rows = range(num_rows)
    return {
        "text": [f"product {row % 37}" for row in rows],
        "label": [row % 2 for row in rows],
        "clicks": [row % 3 for row in rows],
        "impressions": [row % 3 + 4 for row in rows],
        "weight": [1.0 + row % 2 for row in rows],
        "group": [f"shop {row % 20}" for row in rows],
        "time": [f"2026-03-{row % 28 + 1:02d}T0{row % 10}:00:00" for row in rows],
        "brand": [["sony", "lg", "bosch", "dyson", "braun"][row // 2 % 5] for row in rows],
        "price": [row * 1.5 for row in rows],
        "part": [["train", "valid", "test"][row // 2 % 3] for row in rows],
    }[name]


@st.composite
def arrow_column(draw: st.DrawFn, num_rows: int) -> Any:  # noqa: ANN401 - untyped Arrow
    """A Parquet column of any type, with or without gaps."""
    kinds: list[tuple[Any, st.SearchStrategy[Any]]] = [
        (pyarrow.int8(), st.integers(-128, 127)),
        (pyarrow.uint64(), st.integers(0, 2**64 - 1)),
        (pyarrow.int64(), st.integers(-(2**63), 2**63 - 1)),
        (pyarrow.float64(), st.floats()),
        (pyarrow.float32(), st.floats(width=32)),
        (pyarrow.float16(), st.floats(width=16).map(np.float16)),
        (pyarrow.bool_(), st.booleans()),
        (pyarrow.string(), st.text(max_size=6)),
        (pyarrow.large_string(), st.sampled_from(["0", "1", "a", ""])),
        (pyarrow.dictionary(pyarrow.int32(), pyarrow.string()), st.sampled_from(["a", "b", " "])),
        (pyarrow.binary(), st.binary(max_size=4)),
        (pyarrow.date32(), moments.map(datetime.datetime.date)),
        (pyarrow.timestamp("s"), moments),
        (pyarrow.timestamp("us", tz="UTC"), moments),
        (pyarrow.timestamp("ns"), st.datetimes(datetime.datetime(1700, 1, 1), datetime.datetime(2200, 1, 1))),  # noqa: E501
        (pyarrow.time64("us"), st.times()),
        (pyarrow.duration("ms"), st.timedeltas(datetime.timedelta(-9), datetime.timedelta(9))),
        (pyarrow.decimal128(20, 3), st.decimals(-9, 9, places=3)),
        (pyarrow.list_(pyarrow.int64()), st.lists(st.integers(0, 3), max_size=2)),
        (pyarrow.struct([("a", pyarrow.int64())]), st.fixed_dictionaries({"a": st.integers(0, 3)})),
        (pyarrow.null(), st.none()),
    ]  # fmt: skip
    kind, values = draw(st.sampled_from(kinds))
    pool = draw(st.lists(values, min_size=1, max_size=4))
    if draw(st.booleans()):
        pool.append(None)
    rows = [pool[row % len(pool)] for row in range(num_rows)]
    return pyarrow.array(rows, kind)


@st.composite
def configs(draw: st.DrawFn, path: Path) -> DataConfig:
    columns = draw(st.sampled_from(CONFIGS))
    possible = [
        split
        for split in SPLITS
        if (columns.group or split.by != "group") and (columns.timestamp or split.by != "time")
    ]
    return DataConfig(
        path=str(path),
        columns=columns,
        split=draw(st.sampled_from(possible)),
        merge_identical=draw(st.booleans()),
        on_bad_row=draw(st.sampled_from(["fail", "skip"])),
        max_bad_share=0.5,
    )


@st.composite
def parquet_columns(draw: st.DrawFn, num_rows: int) -> dict[str, Any]:
    """A table's columns, some of them of odd types; some may be missing."""
    odd = draw(st.sets(st.sampled_from(NAMES), max_size=3))
    missing = draw(st.sets(st.sampled_from(NAMES), max_size=1)) if len(odd) > 2 else set()
    return {
        name: draw(arrow_column(num_rows)) if name in odd else pyarrow.array(usual(name, num_rows))
        for name in NAMES
        if name not in missing
    }


@st.composite
def csv_frame(draw: st.DrawFn, num_rows: int) -> pd.DataFrame:
    """A table with some odd values."""
    frame = pd.DataFrame({name: usual(name, num_rows) for name in NAMES}).astype(object)
    for _ in range(draw(st.integers(0, 6))):
        row, column = draw(st.integers(0, num_rows - 1)), draw(st.sampled_from(NAMES))
        frame.loc[row, column] = draw(st.one_of(odd_text, numbers, moments, st.none()))
    return frame


def write_csv(frame: pd.DataFrame, file: Path) -> None:
    """Write a table of odd values, whatever they are."""
    frame.to_csv(file, index=False, encoding="utf-8", errors="replace")
