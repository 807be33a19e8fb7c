"""Read a table's columns as texts, numbers, times, groups and categories; note what is wrong."""

import numpy as np
import pandas as pd

from trainables.data.problems import Problems, shown
from trainables.data.raw_fields import category_column
from trainables.data.text_column import TextColumn

PART_NAMES = {"train": 0, "training": 0, "valid": 1, "validation": 1, "val": 1, "test": 2}
"""How a table may name the parts of its split."""
TOO_FAR = "is too far away: write times between the years 1679 and 2261"
FAR_SECONDS = 9.2e9
"""From 1970, either way: beyond it nanoseconds don't fit into 64 bits."""


def read_categories(problems: Problems, name: str) -> TextColumn:
    """Read a column's categories; code -1 where one is missing."""
    try:
        return category_column(_column(problems, name))
    except TypeError as error:
        problems.add(name, f"can't be read as categories: {error}")
        return TextColumn.of([])


def read_parts(problems: Problems, name: str) -> np.ndarray:
    """Read the split's part of each row, int8 (n,)."""
    column = _as_texts(_column(problems, name))
    numbers = [PART_NAMES.get(text.strip().lower(), -1) for text in column.distinct.to_pylist()]
    parts = np.array([*numbers, -1], dtype=np.int8)[column.codes]
    problems.add_rows(name, parts < 0, "is no part of a split: use train, validation or test")
    known: np.ndarray = np.maximum(parts, 0)
    return known


def _column(problems: Problems, name: str) -> pd.Series:
    series = problems.source.frame[name]
    if isinstance(series.dtype, pd.CategoricalDtype):
        return series.astype(series.cat.categories.dtype)
    return series


def read_texts(problems: Problems, name: str, *, may_be_blank: bool) -> TextColumn:
    """Read a column's texts; none is missing, and none blank unless it may be."""
    series = _column(problems, name)
    if may_be_blank:
        series = series.where(series.notna().to_numpy(), "")
    if not pd.api.types.is_string_dtype(series.dtype) and series.dtype != object:
        problems.add(
            name, f"holds {series.dtype} values such as {shown(series.iloc[0])}; expected text"
        )
        return TextColumn.of([])
    if series.dtype == object:
        not_text = ~series.map(lambda value: isinstance(value, str)).to_numpy(dtype=bool)
        series = series.where(~not_text, "-")
    else:
        not_text = series.isna().to_numpy()
    problems.add_rows(name, not_text, "is not text: drop the row or fill in its text")
    column = TextColumn.of(series)
    if not may_be_blank:
        problems.add_rows(name, column.are_blank(), "is blank: drop the row or fill in its text")
    return column


def read_numbers(problems: Problems, name: str, *, may_be_missing: bool = False) -> np.ndarray:
    """Read a column's numbers, float64 (n,); NaN where one is missing or wrong."""
    series = _column(problems, name)
    missing = series.isna().to_numpy()
    if pd.api.types.is_datetime64_any_dtype(series.dtype):
        problems.add(name, f"holds {series.dtype} values; expected numbers")
        return np.full(len(series), np.nan)
    if pd.api.types.is_string_dtype(series.dtype) or series.dtype == object:
        column = TextColumn.of(series)
        texts = _stripped(column)
        # A last entry for the code of a missing value, -1.
        empty = np.append((texts == "") | (texts.str.lower() == "nan"), values=True)
        # A CSV file writes booleans as words.
        texts = texts.replace({"True": "1", "False": "0", "true": "1", "false": "0"})
        values = pd.to_numeric(texts, errors="coerce").to_numpy(np.float64, na_value=np.nan)
        missing = missing | empty[column.codes]
        numbers = np.append(values, np.nan)[column.codes]
    else:
        numbers = pd.to_numeric(series, errors="coerce").to_numpy(np.float64, na_value=np.nan)
    if not may_be_missing:
        problems.add_rows(name, missing, "is missing: drop the row or fill in a number")
    finite = np.isfinite(numbers)
    problems.add_rows(name, ~missing & ~finite, "is not a finite number")
    # NaN compares false with everything, so that one wrong value isn't reported several times.
    return np.where(finite, numbers, np.nan)


def _stripped(column: TextColumn) -> pd.Series:
    """Return a column's distinct texts without the white space around them."""
    return pd.Series(column.distinct.to_pandas(), dtype="str").str.strip()


def read_groups(problems: Problems, name: str) -> TextColumn:
    """Read a column's group names as text."""
    series = _column(problems, name)
    groups = _as_texts(series)
    missing = series.isna().to_numpy() | groups.are_blank()
    problems.add_rows(name, missing, "is missing: every row needs a group")
    return groups


def _as_texts(series: pd.Series) -> TextColumn:
    """Write a column's values as text, each distinct one once."""
    if series.dtype == object or pd.api.types.is_string_dtype(series.dtype):
        return TextColumn.of(series)
    values, distinct = pd.factorize(series)
    written = TextColumn.of(pd.Series(distinct).astype("str"))
    codes = np.append(written.codes, np.int32(-1))[values]
    return TextColumn(distinct=written.distinct, codes=codes)


def read_times(problems: Problems, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Read a column's times.

    Returns:
        (n,) numbers that grow with time, exactly as given; float64 (n,) seconds since 1970, which
        numbers are taken for.
    """
    series = _column(problems, name)
    missing = series.isna().to_numpy()
    problems.add_rows(name, missing, "is missing: every row needs a timestamp")
    if pd.api.types.is_datetime64_any_dtype(series.dtype):
        nanoseconds, far = _as_nanoseconds(series)
        problems.add_rows(name, far, TOO_FAR)
        return nanoseconds, nanoseconds / 1e9
    if pd.api.types.is_numeric_dtype(series.dtype):
        numbers = series.to_numpy(np.float64, na_value=0.0) if missing.any() else series.to_numpy()
        return _finite_times(problems, name, numbers)
    column = _as_texts(series)
    text = _stripped(column)
    as_numbers = pd.to_numeric(text, errors="coerce")
    if bool(as_numbers.notna().all()) and not missing.any():
        return _finite_times(problems, name, np.asarray(as_numbers)[column.codes])
    parsed = pd.to_datetime(
        text.str.removesuffix(" UTC"), utc=True, format="ISO8601", errors="coerce"
    )
    problems.add_rows(
        name,
        np.append(parsed.isna(), values=False)[column.codes] & ~missing,
        "is not a timestamp: write ISO 8601 (2026-03-01T09:30:00), or numbers that grow with time",
    )
    of_distinct, far = _as_nanoseconds(parsed)
    problems.add_rows(name, np.append(far, values=False)[column.codes], TOO_FAR)
    nanoseconds = np.append(of_distinct, 0)[column.codes]
    return nanoseconds, nanoseconds / 1e9


def _as_nanoseconds(moments: pd.Series) -> tuple[np.ndarray, np.ndarray]:
    """Return int64 nanoseconds since 1970, and which moments are too far away for that."""
    per_second = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}[moments.dt.unit]
    seconds = np.asarray(moments.astype(np.int64)) / per_second
    far = moments.notna().to_numpy() & (np.abs(seconds) > FAR_SECONDS)
    near = moments.mask(far) if far.any() else moments
    return np.asarray(near.dt.as_unit("ns").astype(np.int64)), far


def _finite_times(
    problems: Problems, name: str, numbers: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    seconds = numbers.astype(np.float64)
    problems.add_rows(name, ~np.isfinite(seconds), "is not a finite number")
    return numbers, seconds
