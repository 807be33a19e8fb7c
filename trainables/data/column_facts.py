"""What is in each column that a model sees: distinct values, gaps, the usual and the unseen."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd

from trainables.data.config import SPLIT_NAMES, Columns, SplitName
from trainables.data.table import ClickTable
from trainables.data.text_column import TextColumn

ColumnKind = Literal["text", "category", "number", "time"]
"""What a column is to a model."""

NUM_FREQUENT = 5
"""Most frequent values that are listed."""
QUARTILES = (0.0, 0.25, 0.5, 0.75, 1.0)
"""Smallest, lower quartile, median, upper quartile, largest."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ColumnDescription:
    """One column in numbers; shares are of rows, identical ones merged."""

    name: str
    """The column."""
    kind: ColumnKind
    """What it is to a model."""
    num_distinct: int
    """Distinct values, without the missing one."""
    missing_share: float
    """Share of the rows without a value; of a text, blank ones."""
    frequent: tuple[tuple[str, float], ...]
    """The most frequent values with their shares, the most frequent first."""
    quartiles: tuple[float, ...] | None
    """Of numbers (of times in seconds since 1970): smallest, quartiles, largest; None for others,
    and where all are missing."""
    unseen: dict[SplitName, float] | None
    """Share of the validation and of the test rows whose text or category no training row has; None
    for numbers and times."""


def describe_columns(table: ClickTable, columns: Columns) -> tuple[ColumnDescription, ...]:
    """Describe the columns that a model sees: texts, categories, numbers, then times.

    Args:
        table: The checked table.
        columns: What its columns are called.
    """
    texts = [
        _describe_values(name, "text", column, column.are_blank(), table.split)
        for name, column in zip(columns.text, table.texts, strict=False)
    ]
    fields = [
        _describe_numbers(name, "time" if name == table.fields.time_name else "number", values)
        if isinstance(values, np.ndarray)
        else _describe_values(name, "category", values, values.codes < 0, table.split)
        for name, values in table.fields.values().items()
    ]
    return (*texts, *fields)


def _describe_values(
    name: str, kind: ColumnKind, column: TextColumn, missing: np.ndarray, split: np.ndarray
) -> ColumnDescription:
    known = column.codes[~missing]
    counts = np.bincount(known, minlength=len(column.distinct))
    # By their first occurrence among equally frequent ones.
    most = np.argsort(-counts, kind="stable")[:NUM_FREQUENT]
    most = most[counts[most] > 0]
    in_training = np.bincount(column.codes[~missing & (split == 0)], minlength=len(counts)) > 0
    unseen = {}
    for part, part_name in enumerate(SPLIT_NAMES[1:], start=1):
        inside = split == part
        new = ~in_training[column.codes[inside & ~missing]]
        unseen[part_name] = float(new.sum() / max(inside.sum(), 1))
    return ColumnDescription(
        name=name,
        kind=kind,
        num_distinct=int((counts > 0).sum()),
        missing_share=float(missing.mean()),
        frequent=tuple(
            (column.distinct[int(place)].as_py(), float(counts[place] / len(column)))
            for place in most
        ),
        quartiles=None,
        unseen=unseen,
    )


def _describe_numbers(name: str, kind: ColumnKind, numbers: np.ndarray) -> ColumnDescription:
    known = numbers[~np.isnan(numbers)]
    codes, distinct = pd.factorize(known)
    counts = np.bincount(codes, minlength=len(distinct))
    most = np.argsort(-counts, kind="stable")[:NUM_FREQUENT]
    quartiles = np.quantile(known, QUARTILES, method="nearest") if len(known) else None
    return ColumnDescription(
        name=name,
        kind=kind,
        num_distinct=len(distinct),
        missing_share=float(1 - len(known) / len(numbers)),
        frequent=tuple(
            (_written(distinct[place], kind), float(counts[place] / len(numbers))) for place in most
        ),
        quartiles=None if quartiles is None else tuple(float(value) for value in quartiles),
        unseen=None,
    )


def _written(number: float, kind: ColumnKind) -> str:
    return written_time(number) if kind == "time" else f"{number:,.6g}"


def written_time(seconds: float) -> str:
    """Write seconds since 1970 as a date and time; as a number where no date is so far."""
    try:
        return str(pd.Timestamp(seconds, unit="s").round("s"))
    except (ValueError, OverflowError):
        return f"{seconds:.6g}"
