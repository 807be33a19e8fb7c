"""Check a table's values, and turn them into texts and numbers."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from trainables.data.config import Columns, DataConfig
from trainables.data.problems import BadRows, Problems, shown, unusable
from trainables.data.raw_fields import RawFields, category_column
from trainables.data.read import SourceTable
from trainables.data.text_column import TextColumn

MIN_ROWS = 20
"""Fewest rows of a table."""
MIN_PART_ROWS = 2
"""Fewest rows of a split's part."""
PARTS = ("training", "validation", "test")
MAX_COUNT, MAX_WEIGHT = 1e12, 1e9
"""Largest clicks and impressions of a row, and its largest weight; 1 / MAX_WEIGHT is the smallest.
Their products and sums then fit into 32-bit numbers."""
FAR_SECONDS = 9.2e9
"""From 1970, either way: beyond it nanoseconds don't fit into 64 bits."""


@dataclass(frozen=True, kw_only=True, slots=True)
class CheckedRows:
    """A source table's rows after the checks, before merging and splitting."""

    texts: tuple[TextColumn, ...]
    """n non-blank texts for each text column."""
    clicks: np.ndarray
    """float64 (n,): clicks times weight; a label is 0 or 1 click."""
    impressions: np.ndarray
    """float64 (n,): impressions times weight; a labelled row is one impression."""
    groups: TextColumn | None
    """n group names as text, or None without a group column; the distinct ones are in the order of
    their first occurrence."""
    times: np.ndarray | None
    """int64 or float64 (n,): what orders the rows in time, or None without a timestamp column."""
    fields: RawFields = field(default_factory=RawFields)
    """What a model sees beside text."""
    parts: np.ndarray | None = None
    """int8 (n,): the split's part that the table gives each row; None where it gives none."""

    def take(self, rows: np.ndarray) -> "CheckedRows":
        """Return some rows, in the given order."""
        return CheckedRows(
            texts=tuple(column.take(rows) for column in self.texts),
            clicks=self.clicks[rows],
            impressions=self.impressions[rows],
            groups=None if self.groups is None else self.groups.take(rows),
            times=None if self.times is None else self.times[rows],
            fields=self.fields.take(rows),
            parts=None if self.parts is None else self.parts[rows],
        )


def check_rows(source: SourceTable, config: DataConfig) -> tuple[CheckedRows, BadRows | None]:
    """Check every value that the columns name.

    Returns:
        The rows, without those that ``on_bad_row`` lets skip; and what was skipped, if anything
        was. Row i of the former is the i-th that isn't bad.

    Raises:
        ValueError: listing up to ten problems, each with column, row (and line of a CSV file) and
            value.
    """
    problems = Problems(source)
    if source.frame.empty:
        raise ValueError(f"{source.path} has no rows below its header")
    rows = _check_values(problems, config)
    bad = problems.skip(config.max_bad_share) if config.on_bad_row == "skip" else None
    if bad is not None:
        rows = rows.take(np.setdiff1d(np.arange(len(source.frame)), bad.rows))
        # What is left is fine, or not, by itself.
        problems = Problems(source)
    if not problems:
        _check_both_classes(problems, config.columns, rows.clicks, rows.impressions)
    problems.raise_any()
    return rows, bad


def _check_values(problems: Problems, config: DataConfig) -> CheckedRows:
    columns = config.columns
    texts = tuple(
        _check_text(problems, name, may_be_blank=name in columns.optional_text)
        for name in columns.text
    )
    if not texts:
        texts = (TextColumn.blank(len(problems.source.frame)),)
    clicks, impressions = _check_outcome(problems, columns)
    if columns.weight is not None:
        weight = _numbers(problems, columns.weight)
        problems.add_rows(columns.weight, weight <= 0, "is not a weight: use numbers above 0")
        extreme = (weight > 0) & ((weight > MAX_WEIGHT) | (weight < 1 / MAX_WEIGHT))
        advice = f"is not a usable weight: use {1 / MAX_WEIGHT:g} to {MAX_WEIGHT:g}"
        problems.add_rows(columns.weight, extreme, advice)
        clicks, impressions = clicks * weight, impressions * weight
    groups = _check_group(problems, columns.group) if columns.group else None
    times, seconds = _check_time(problems, columns.timestamp) if columns.timestamp else (None, None)
    split = config.split.column
    return CheckedRows(
        texts=texts,
        clicks=clicks,
        impressions=impressions,
        groups=groups,
        times=times,
        fields=RawFields(
            names=columns.fields,
            categories=tuple(_check_category(problems, name) for name in columns.categorical),
            numbers=tuple(
                _numbers(problems, name, may_be_missing=True) for name in columns.numeric
            ),
            time_name=(columns.timestamp or "") if columns.time_features else "",
            time_parts=columns.time_features,
            seconds=seconds if columns.time_features else None,
        ),
        parts=None if split is None else _check_parts(problems, split),
    )


def _check_category(problems: Problems, name: str) -> TextColumn:
    try:
        return category_column(_column(problems, name))
    except TypeError as error:
        problems.add(name, f"can't be read as categories: {error}")
        return TextColumn.of([])


PART_NAMES = {"train": 0, "training": 0, "valid": 1, "validation": 1, "val": 1, "test": 2}
"""How a table may name the parts of its split."""


def _check_parts(problems: Problems, name: str) -> np.ndarray:
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


def _check_text(problems: Problems, name: str, *, may_be_blank: bool) -> TextColumn:
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


def _check_outcome(problems: Problems, columns: Columns) -> tuple[np.ndarray, np.ndarray]:
    if columns.label is not None:
        label = _numbers(problems, columns.label)
        wrong = ~np.isin(label, (0, 1)) & np.isfinite(label)
        problems.add_rows(columns.label, wrong, "is not a label: use 1 for a click and 0 for none")
        return label, np.ones(len(label))
    assert columns.clicks is not None
    assert columns.impressions is not None
    clicks = _check_counts(problems, columns.clicks)
    impressions = _check_counts(problems, columns.impressions)
    problems.add_rows(columns.impressions, impressions == 0, "leaves no impression: drop the row")
    many = clicks > impressions
    if many.any():
        row = int(np.argmax(many))
        excess = f"is more clicks than impressions (row {row} has {impressions[row]:g})"
        problems.add_rows(columns.clicks, many & (impressions > 0), excess)
    return clicks, impressions


def _check_counts(problems: Problems, name: str) -> np.ndarray:
    counts = _numbers(problems, name)
    problems.add_rows(name, counts < 0, "is negative: counts are 0 or more")
    with np.errstate(invalid="ignore"):
        fractional = np.isfinite(counts) & (counts != np.floor(counts))
    problems.add_rows(name, fractional, "is not a whole number: use weight for fractions")
    problems.add_rows(name, counts > MAX_COUNT, f"is too many: counts are up to {MAX_COUNT:g}")
    return counts


def _numbers(problems: Problems, name: str, *, may_be_missing: bool = False) -> np.ndarray:
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


def _check_group(problems: Problems, name: str) -> TextColumn:
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


def _check_time(problems: Problems, name: str) -> tuple[np.ndarray, np.ndarray]:
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


TOO_FAR = "is too far away: write times between the years 1679 and 2261"


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


def _check_both_classes(
    problems: Problems, columns: Columns, clicks: np.ndarray, impressions: np.ndarray
) -> None:
    name = columns.label or columns.clicks
    assert name is not None
    for share, what in ((clicks, "no click"), (impressions - clicks, "nothing but clicks")):
        if not share.any():
            problems.add(name, f"has {what} in {len(clicks):,} rows; a model needs both outcomes")


def check_size(path: str, split: np.ndarray, clicks: np.ndarray, impressions: np.ndarray) -> None:
    """Check that every part of the table can be trained on or scored.

    Args:
        path: Of the table, for the message.
        split: int8 (n,): 0 training, 1 validation, 2 test, after merging.
        clicks: (n,) clicks.
        impressions: (n,) impressions.

    Raises:
        ValueError: if there are too few rows in all or in a part, or a part lacks an outcome.
    """
    problems = []
    if len(split) < MIN_ROWS:
        problems.append(
            f"{len(split)} rows (identical ones count once) are too few; at least {MIN_ROWS} needed"
        )
    for part, lines in enumerate(_part_problems(split, clicks, impressions)):
        problems += [f"the {PARTS[part]} split {line}" for line in lines]
    if problems:
        raise unusable(
            path, [*problems, "add rows, or change data.split (its by, fractions or seed)"]
        )


def _part_problems(
    split: np.ndarray, clicks: np.ndarray, impressions: np.ndarray
) -> Sequence[list[str]]:
    found = []
    for part in range(len(PARTS)):
        inside = split == part
        lines = []
        if inside.sum() < MIN_PART_ROWS:
            lines.append(f"has {inside.sum()} rows; at least {MIN_PART_ROWS} needed")
        elif not clicks[inside].any():
            lines.append(f"has no click in {inside.sum():,} rows; it needs both outcomes")
        elif not (impressions - clicks)[inside].any():
            lines.append(f"has nothing but clicks in {inside.sum():,} rows; it needs both outcomes")
        found.append(lines)
    return found
