"""Read a table's columns as texts, numbers, times, groups and categories; note what is wrong."""

import numpy as np
import pandas as pd

from trainables.data.problems import Problems, shown
from trainables.data.raw_fields import category_column, renamed_categories
from trainables.data.row_blocks import take_rows
from trainables.data.source_column import SourceColumn
from trainables.data.text_column import TextColumn

PART_NAMES = {"train": 0, "training": 0, "valid": 1, "validation": 1, "val": 1, "test": 2}
"""How a table may name the parts of its split."""
TOO_FAR = "is too far away: write times between the years 1679 and 2261"
NO_TEXT = "is not text: drop the row or fill in its text"
FAR_SECONDS = 9.2e9
"""From 1970, either way: beyond it nanoseconds don't fit into 64 bits."""


def read_categories(problems: Problems, name: str) -> TextColumn:
    """Read a column's categories; code -1 where one is missing."""
    column = problems.source.columns[name]
    try:
        if column.texts is not None:
            return renamed_categories(column.texts)
        return _of_rows(column, category_column(column.others))
    except TypeError as error:
        problems.add(name, f"can't be read as categories: {error}")
        return TextColumn.of([])


def read_parts(problems: Problems, name: str) -> np.ndarray:
    """Read the split's part of each row, int8 (n,)."""
    column = _as_texts(problems.source.columns[name])
    numbers = [PART_NAMES.get(text.strip().lower(), -1) for text in column.distinct.to_pylist()]
    parts = take_rows(np.array([*numbers, -1], dtype=np.int8), column.codes)
    problems.add_rows(name, parts < 0, "is no part of a split: use train, validation or test")
    known: np.ndarray = np.maximum(parts, 0)
    return known


def read_texts(problems: Problems, name: str, *, may_be_blank: bool) -> TextColumn:
    """Read a column's texts; none is missing, and none blank unless it may be."""
    column = problems.source.columns[name]
    if column.texts is None:
        texts = _texts_among_others(problems, name, may_be_blank=may_be_blank)
        if texts is None:
            return TextColumn.of([])
    elif may_be_blank:
        texts = column.texts.filled()
    else:
        texts = column.texts
        problems.add_rows(name, texts.codes < 0, NO_TEXT)
    if not may_be_blank:
        problems.add_rows(name, texts.are_blank(), "is blank: drop the row or fill in its text")
    return texts


def _texts_among_others(problems: Problems, name: str, *, may_be_blank: bool) -> TextColumn | None:
    """Read a column that isn't all text; None where none of it is."""
    column = problems.source.columns[name]
    moments = pd.api.types.is_datetime64_any_dtype(column.others.dtype)
    if may_be_blank and not moments and bool(column.others.isna().any()):
        # Objects: texts for what is missing, and numbers. Nobody means moments to be text.
        column = column.coded()
        series = column.others.astype(object).where(column.others.notna().to_numpy(), "")
    else:
        series = column.others
    if series.dtype != object:
        problems.add(
            name, f"holds {column.kind} values such as {shown(column.value(0))}; expected text"
        )
        return None
    not_text = ~series.map(lambda value: isinstance(value, str)).to_numpy(dtype=bool)
    problems.add_rows(name, column.of_rows(not_text), NO_TEXT)
    return _of_rows(column, TextColumn.of(series.where(~not_text, "-")))


def _of_rows(column: SourceColumn, of_values: TextColumn) -> TextColumn:
    """Give each row what its value is as text."""
    return TextColumn(distinct=of_values.distinct, codes=column.of_rows(of_values.codes))


def read_numbers(problems: Problems, name: str, *, may_be_missing: bool = False) -> np.ndarray:
    """Read a column's numbers, float64 (n,); NaN where one is missing or wrong."""
    column = problems.source.columns[name]
    if column.texts is None and pd.api.types.is_datetime64_any_dtype(column.others.dtype):
        problems.add(name, f"holds {column.kind} values; expected numbers")
        return np.full(len(column), np.nan)
    numbers, missing = _parsed(column)
    finite = np.isfinite(numbers)
    if not may_be_missing and missing.any():
        advice = "is missing: drop the row or fill in a number"
        problems.add_rows(name, column.of_rows(missing), advice)
    if (wrong := ~missing & ~finite).any():
        problems.add_rows(name, column.of_rows(wrong), "is not a finite number")
    # NaN compares false with everything, so that one wrong value isn't reported several times.
    return column.of_rows(numbers if finite.all() else np.where(finite, numbers, np.nan))


def _parsed(column: SourceColumn) -> tuple[np.ndarray, np.ndarray]:
    """Return the number of each of a column's values, and whether it is missing."""
    if column.texts is None and column.others.dtype != object:
        missing = column.others.isna().to_numpy()
        numbers = pd.to_numeric(column.others, errors="coerce").to_numpy(
            np.float64, na_value=np.nan
        )
        return numbers, missing
    written = _as_texts(column) if column.texts is not None else TextColumn.of(column.others)
    texts = _stripped(written)
    # A last entry for the code of a missing value, -1.
    missing = np.append((texts == "") | (texts.str.lower() == "nan"), values=True)
    # A CSV file writes booleans as words.
    texts = texts.replace({"True": "1", "False": "0", "true": "1", "false": "0"})
    values = pd.to_numeric(texts, errors="coerce").to_numpy(np.float64, na_value=np.nan)
    numbers = np.append(values, np.nan)
    if column.texts is not None:
        return numbers, missing
    missing = column.others.isna().to_numpy() | missing[written.codes]
    return numbers[written.codes], missing


def _stripped(column: TextColumn) -> pd.Series:
    """Return a column's distinct texts without the white space around them."""
    return pd.Series(column.distinct.to_pandas(), dtype="str").str.strip()


def read_groups(problems: Problems, name: str) -> TextColumn:
    """Read a column's group names as text."""
    column = problems.source.columns[name]
    groups = _as_texts(column)
    missing = groups.are_blank()
    missing |= _missing(column)
    problems.add_rows(name, missing, "is missing: every row needs a group")
    return groups


def _missing(column: SourceColumn) -> np.ndarray:
    """Return which rows have no value, bool (n,)."""
    if column.texts is not None:
        return column.texts.codes < 0
    return column.of_rows(column.others.isna().to_numpy())


def _as_texts(column: SourceColumn) -> TextColumn:
    """Write a column's values as text, each distinct one once."""
    if column.texts is not None:
        return column.texts
    if column.others.dtype == object:
        return _of_rows(column, TextColumn.of(column.others))
    values, distinct = pd.factorize(column.others)
    written = TextColumn.of(pd.Series(distinct).astype("str"))
    codes = take_rows(np.append(written.codes, np.int32(-1)), values)
    return _of_rows(column, TextColumn(distinct=written.distinct, codes=codes))


def read_times(problems: Problems, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Read a column's times.

    Returns:
        (n,) numbers that grow with time, exactly as given; float64 (n,) seconds since 1970, which
        numbers are taken for.
    """
    column = problems.source.columns[name]
    missing = _missing(column)
    problems.add_rows(name, missing, "is missing: every row needs a timestamp")
    if column.texts is None and pd.api.types.is_datetime64_any_dtype(column.others.dtype):
        nanoseconds, far = _as_nanoseconds(column.others)
        problems.add_rows(name, column.of_rows(far), TOO_FAR)
        times = column.of_rows(nanoseconds)
        return times, times / 1e9
    if column.texts is None and pd.api.types.is_numeric_dtype(column.others.dtype):
        values = column.widened()
        numbers = values.to_numpy(np.float64, na_value=0.0) if missing.any() else values.to_numpy()
        return _finite_times(problems, name, column.of_rows(numbers))
    written = _as_texts(column)
    text = _stripped(written)
    as_numbers = pd.to_numeric(text, errors="coerce")
    if bool(as_numbers.notna().all()) and not missing.any():
        numbers = take_rows(np.asarray(as_numbers), written.codes)
        return _finite_times(problems, name, numbers)
    parsed = pd.to_datetime(
        text.str.removesuffix(" UTC"), utc=True, format="ISO8601", errors="coerce"
    )
    problems.add_rows(
        name,
        take_rows(np.append(parsed.isna(), values=False), written.codes) & ~missing,
        "is not a timestamp: write ISO 8601 (2026-03-01T09:30:00), or numbers that grow with time",
    )
    of_distinct, far = _as_nanoseconds(parsed)
    problems.add_rows(name, take_rows(np.append(far, values=False), written.codes), TOO_FAR)
    nanoseconds = take_rows(np.append(of_distinct, 0), written.codes)
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
