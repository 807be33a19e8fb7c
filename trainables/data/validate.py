"""Check a table's values, and turn them into texts and numbers."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from trainables.data.column_values import (
    read_categories,
    read_groups,
    read_numbers,
    read_parts,
    read_texts,
    read_times,
)
from trainables.data.config import Columns, DataConfig
from trainables.data.problems import BadRows, Problems, unusable
from trainables.data.raw_fields import RawFields
from trainables.data.read import SourceTable
from trainables.data.row_blocks import take_rows
from trainables.data.text_column import TextColumn

MIN_ROWS = 20
"""Fewest rows of a table."""
MIN_PART_ROWS = 2
"""Fewest rows of a split's part."""
PARTS = ("training", "validation", "test")
MAX_COUNT, MAX_WEIGHT = 1e12, 1e9
"""Largest clicks and impressions of a row, and its largest weight; 1 / MAX_WEIGHT is the smallest.
Their products and sums then fit into 32-bit numbers."""


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
    propensities: np.ndarray | None = None
    """float64 (n,): probability of the row's placement under the logging policy; None: unknown."""
    parts: np.ndarray | None = None
    """int8 (n,): the split's part that the table gives each row; None where it gives none."""

    def take(self, rows: np.ndarray) -> "CheckedRows":
        """Return some rows: those of given numbers, in their order, or those that are True."""
        return CheckedRows(
            texts=tuple(column.take(rows) for column in self.texts),
            clicks=take_rows(self.clicks, rows),
            impressions=take_rows(self.impressions, rows),
            groups=None if self.groups is None else self.groups.take(rows),
            times=None if self.times is None else take_rows(self.times, rows),
            fields=self.fields.take(rows),
            propensities=None if self.propensities is None else take_rows(self.propensities, rows),
            parts=None if self.parts is None else take_rows(self.parts, rows),
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
    if not source.num_rows:
        raise ValueError(f"{source.path} has no rows below its header")
    rows = _check_values(problems, config)
    bad = problems.skip(config.max_bad_share) if config.on_bad_row == "skip" else None
    if bad is not None:
        good = np.full(source.num_rows, fill_value=True)
        good[bad.rows] = False
        rows = rows.take(good)
        # What is left is fine, or not, by itself.
        problems = Problems(source)
    if not problems:
        _check_both_classes(problems, config.columns, rows.clicks, rows.impressions)
    problems.raise_any()
    return rows, bad


def _check_values(problems: Problems, config: DataConfig) -> CheckedRows:
    columns = config.columns
    texts = tuple(
        read_texts(problems, name, may_be_blank=name in columns.optional_text)
        for name in columns.text
    )
    if not texts:
        texts = (TextColumn.blank(problems.source.num_rows),)
    clicks, impressions = _check_outcome(problems, columns)
    if columns.weight is not None:
        weight = read_numbers(problems, columns.weight)
        problems.add_rows(columns.weight, weight <= 0, "is not a weight: use numbers above 0")
        extreme = (weight > 0) & ((weight > MAX_WEIGHT) | (weight < 1 / MAX_WEIGHT))
        advice = f"is not a usable weight: use {1 / MAX_WEIGHT:g} to {MAX_WEIGHT:g}"
        problems.add_rows(columns.weight, extreme, advice)
        weight = np.where(extreme | (weight <= 0), np.nan, weight)
        clicks, impressions = clicks * weight, impressions * weight
    groups = read_groups(problems, columns.group) if columns.group else None
    times, seconds = read_times(problems, columns.timestamp) if columns.timestamp else (None, None)
    split = config.split.column
    fields = RawFields(
        names=columns.fields,
        categories=tuple(read_categories(problems, name) for name in columns.categorical),
        numbers=tuple(
            read_numbers(problems, name, may_be_missing=True) for name in columns.numeric
        ),
        time_name=(columns.timestamp or "") if columns.time_features else "",
        time_parts=columns.time_features,
        seconds=seconds if columns.time_features else None,
        comparisons=columns.comparisons,
        text_names=columns.text,
    )
    return CheckedRows(
        texts=texts,
        clicks=clicks,
        impressions=impressions,
        groups=groups,
        times=times,
        fields=fields,
        propensities=None
        if columns.propensity is None
        else _check_propensities(problems, columns.propensity),
        parts=None if split is None else read_parts(problems, split),
    )


def _check_propensities(problems: Problems, name: str) -> np.ndarray:
    propensities = read_numbers(problems, name)
    with np.errstate(invalid="ignore"):
        wrong = (propensities <= 0) | (propensities > 1)
    problems.add_rows(name, wrong, "is no propensity: use a probability above 0 and up to 1")
    return propensities


def _check_outcome(problems: Problems, columns: Columns) -> tuple[np.ndarray, np.ndarray]:
    if columns.label is not None:
        label = read_numbers(problems, columns.label)
        wrong = ~np.isin(label, (0, 1)) & np.isfinite(label)
        problems.add_rows(columns.label, wrong, "is not a label: use 1 for a click and 0 for none")
        if wrong.any():
            # NaN, so that no product with a weight overflows.
            label = np.where(wrong, np.nan, label)
        # One number for all rows, which takes no memory.
        return label, np.broadcast_to(1.0, len(label))
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
    counts = read_numbers(problems, name)
    problems.add_rows(name, counts < 0, "is negative: counts are 0 or more")
    with np.errstate(invalid="ignore"):
        fractional = np.isfinite(counts) & (counts != np.floor(counts))
    problems.add_rows(name, fractional, "is not a whole number: use weight for fractions")
    problems.add_rows(name, counts > MAX_COUNT, f"is too many: counts are up to {MAX_COUNT:g}")
    # NaN, so that no product with a weight overflows; a number below 0 may be as far away.
    far = np.abs(counts) > MAX_COUNT
    return np.where(far, np.nan, counts) if far.any() else counts


def _check_both_classes(
    problems: Problems, columns: Columns, clicks: np.ndarray, impressions: np.ndarray
) -> None:
    name = columns.label or columns.clicks
    assert name is not None
    for found, what in ((clicks != 0, "no click"), (impressions != clicks, "nothing but clicks")):
        if not found.any():
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
        num_rows = int(inside.sum())
        lines = []
        if num_rows < MIN_PART_ROWS:
            lines.append(f"has {num_rows} rows; at least {MIN_PART_ROWS} needed")
        elif not (inside & (clicks != 0)).any():
            lines.append(f"has no click in {num_rows:,} rows; it needs both outcomes")
        elif not (inside & (impressions != clicks)).any():
            lines.append(f"has nothing but clicks in {num_rows:,} rows; it needs both outcomes")
        found.append(lines)
    return found
