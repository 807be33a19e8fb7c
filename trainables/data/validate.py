"""Check a table's values, and turn them into texts and numbers."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from trainables.data.config import Columns
from trainables.data.read import SourceTable

MIN_ROWS = 20
"""Fewest rows of a table."""
MIN_PART_ROWS = 2
"""Fewest rows of a split's part."""
PARTS = ("training", "validation", "test")
MAX_PROBLEMS = 10
"""Problems that one error lists."""
MAX_EXAMPLES = 3
"""Rows that are named for one kind of problem, so that it doesn't hide the other kinds."""


@dataclass(frozen=True, kw_only=True, slots=True)
class CheckedRows:
    """A source table's rows after the checks, before merging and splitting."""

    texts: tuple[pd.Series, ...]
    """One series of n non-blank strings for each text column."""
    clicks: np.ndarray
    """float64 (n,): clicks times weight; a label is 0 or 1 click."""
    impressions: np.ndarray
    """float64 (n,): impressions times weight; a labelled row is one impression."""
    groups: pd.Series | None
    """n group names as text, or None without a group column."""
    times: np.ndarray | None
    """int64 or float64 (n,): what orders the rows in time, or None without a timestamp column."""


@dataclass(slots=True)
class Problems:
    """What is wrong with a table, collected so that one error can list it all."""

    source: SourceTable
    """The table."""
    lines: list[str] = field(default_factory=list)
    """One sentence for each problem."""

    def add(self, column: str, advice: str) -> None:
        """Note a problem of a whole column."""
        self.lines.append(f"column {column!r}: {advice}")

    def add_rows(self, column: str, wrong: np.ndarray | pd.Series, advice: str) -> None:
        """Note a problem of some rows.

        Args:
            column: Name of the column.
            wrong: (n,) booleans, True where a row's value is wrong.
            advice: What is expected instead.
        """
        rows = np.flatnonzero(np.asarray(wrong, dtype=bool))
        examples = [int(row) for row in rows[:MAX_EXAMPLES]]
        places = self.source.locate(examples)
        for row, place in zip(examples, places, strict=True):
            value = self.source.frame[column].iloc[row]
            self.lines.append(f"column {column!r}, {place}: {_shown(value)} {advice}")
        if len(rows) > MAX_EXAMPLES:
            hidden = len(rows) - MAX_EXAMPLES
            self.lines.append(f"column {column!r}: {hidden:,} more rows where the value {advice}")

    def raise_any(self) -> None:
        """Raise if there are problems.

        Raises:
            ValueError: naming the first problems, each on a line of its own.
        """
        if not self.lines:
            return
        shown = "".join(f"\n  {line}" for line in self.lines[:MAX_PROBLEMS])
        hidden = len(self.lines) - MAX_PROBLEMS
        more = f"\n  ... and {hidden} more" if hidden > 0 else ""
        raise ValueError(f"{self.source.path} can't be used:{shown}{more}")


def _shown(value: object) -> str:
    text = repr(value) if isinstance(value, str) else str(value)
    return text if len(text) <= 60 else text[:57] + "..."


def check_rows(source: SourceTable, columns: Columns) -> CheckedRows:
    """Check every value that the columns name.

    Raises:
        ValueError: listing up to ten problems, each with column, row (and line of a CSV file) and
            value.
    """
    problems = Problems(source)
    if source.frame.empty:
        raise ValueError(f"{source.path} has no rows below its header")
    texts = tuple(_check_text(problems, name) for name in columns.text)
    clicks, impressions = _check_outcome(problems, columns)
    if columns.weight is not None:
        weight = _numbers(problems, columns.weight)
        problems.add_rows(columns.weight, weight <= 0, "is not a weight: use numbers above 0")
        clicks, impressions = clicks * weight, impressions * weight
    groups = _check_group(problems, columns.group) if columns.group else None
    times = _check_time(problems, columns.timestamp) if columns.timestamp else None
    if not problems.lines:
        _check_both_classes(problems, columns, clicks, impressions)
    problems.raise_any()
    return CheckedRows(
        texts=texts, clicks=clicks, impressions=impressions, groups=groups, times=times
    )


def _column(problems: Problems, name: str) -> pd.Series:
    series = problems.source.frame[name]
    if isinstance(series.dtype, pd.CategoricalDtype):
        return series.astype(series.cat.categories.dtype)
    return series


def _check_text(problems: Problems, name: str) -> pd.Series:
    series = _column(problems, name)
    if not pd.api.types.is_string_dtype(series.dtype) and series.dtype != object:
        problems.add(
            name, f"holds {series.dtype} values such as {_shown(series.iloc[0])}; expected text"
        )
        return series
    if series.dtype == object:
        not_text = ~series.map(lambda value: isinstance(value, str)).to_numpy(dtype=bool)
    else:
        not_text = series.isna().to_numpy()
    problems.add_rows(name, not_text, "is not text: drop the row or fill in its text")
    blank = series.where(~not_text, "-").astype(str).str.strip() == ""
    problems.add_rows(name, blank, "is blank: drop the row or fill in its text")
    return series


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
    return counts


def _numbers(problems: Problems, name: str) -> np.ndarray:
    series = _column(problems, name)
    missing = series.isna().to_numpy()
    if pd.api.types.is_datetime64_any_dtype(series.dtype):
        problems.add(name, f"holds {series.dtype} values; expected numbers")
        return np.full(len(series), np.nan)
    if pd.api.types.is_string_dtype(series.dtype) or series.dtype == object:
        stripped = series.astype(str).str.strip()
        missing = missing | (stripped == "").to_numpy() | (stripped.str.lower() == "nan").to_numpy()
        # A CSV file writes booleans as words.
        series = stripped.replace({"True": "1", "False": "0", "true": "1", "false": "0"})
    numbers = pd.to_numeric(series, errors="coerce").to_numpy(dtype=np.float64, na_value=np.nan)
    problems.add_rows(name, missing, "is missing: drop the row or fill in a number")
    finite = np.isfinite(numbers)
    problems.add_rows(name, ~missing & ~finite, "is not a finite number")
    # NaN compares false with everything, so that one wrong value isn't reported several times.
    return np.where(finite, numbers, np.nan)


def _check_group(problems: Problems, name: str) -> pd.Series:
    series = _column(problems, name)
    missing = series.isna().to_numpy()
    groups = series.astype(str)
    missing = missing | (groups.str.strip() == "").to_numpy()
    problems.add_rows(name, missing, "is missing: every row needs a group")
    return groups


def _check_time(problems: Problems, name: str) -> np.ndarray:
    series = _column(problems, name)
    missing = series.isna().to_numpy()
    problems.add_rows(name, missing, "is missing: every row needs a timestamp")
    if pd.api.types.is_numeric_dtype(series.dtype) and not missing.any():
        return series.to_numpy()
    text = series.astype(str).str.strip()
    numbers = pd.to_numeric(text, errors="coerce")
    if bool(numbers.notna().all()):
        return numbers.to_numpy()
    parsed = pd.to_datetime(
        text.str.removesuffix(" UTC"), utc=True, format="ISO8601", errors="coerce"
    )
    problems.add_rows(
        name,
        parsed.isna().to_numpy() & ~missing,
        "is not a timestamp: write ISO 8601 (2026-03-01T09:30:00), or numbers that grow with time",
    )
    return parsed.dt.as_unit("ns").astype(np.int64).to_numpy()


def _check_both_classes(
    problems: Problems, columns: Columns, clicks: np.ndarray, impressions: np.ndarray
) -> None:
    name = columns.label or columns.clicks
    assert name is not None
    for share, what in ((clicks, "no click"), (impressions - clicks, "nothing but clicks")):
        if not share.any():
            problems.add(name, f"has {what} in {len(clicks):,} rows; a model needs both outcomes")


def check_size(
    source: SourceTable, split: np.ndarray, clicks: np.ndarray, impressions: np.ndarray
) -> None:
    """Check that every part of the table can be trained on or scored.

    Args:
        source: The table, for the message.
        split: int8 (n,): 0 training, 1 validation, 2 test, after merging.
        clicks: (n,) clicks.
        impressions: (n,) impressions.

    Raises:
        ValueError: if there are too few rows in all or in a part, or a part lacks an outcome.
    """
    problems = Problems(source)
    if len(split) < MIN_ROWS:
        problems.lines.append(
            f"{len(split)} rows (identical ones count once) are too few; at least {MIN_ROWS} needed"
        )
    for part, lines in enumerate(_part_problems(split, clicks, impressions)):
        problems.lines += [f"the {PARTS[part]} split {line}" for line in lines]
    if problems.lines:
        problems.lines.append("add rows, or change data.split (its by, fractions or seed)")
    problems.raise_any()


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
