"""What is suspicious in a table: rows that repeat training rows, columns that hold the label."""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd

from trainables.data.config import SPLIT_NAMES, Columns, DataConfig, SplitName
from trainables.data.row_blocks import hash_numbers, map_rows, narrow_numbers
from trainables.data.table import ClickTable
from trainables.metrics import METRICS
from trainables.scored_rows import ScoredRows

DUPLICATE_SHARE = 0.01
"""Share of a part's rows from which repeated training rows are worth a warning: with fewer, a score
changes by less than its confidence interval."""
LEAK_AUC = 0.95
"""ROC-AUC from which a single column is suspected to hold the label. Click models reach 0.6 to 0.85
with everything that is known, and a column that is known before the click less."""
MIN_OUTCOMES = 10
"""Clicks, and impressions without one, that the validation rows need for a column to be judged;
with fewer, one of several columns may reach 0.95 by chance."""
PRIOR_IMPRESSIONS = 1.0
"""Impressions at the base rate that each value of a column has beside its own, so that a value that
was shown once doesn't stand for certainty."""
MAX_POINTS = 1_000
"""Most distinct numbers of a column that are judged one by one; more fall into bins."""
NUM_BINS = 100
"""Bins of equally many training rows."""
MAX_EXAMPLES = 3
"""Repeated rows that are shown."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RepeatedRow:
    """A row that says what a training row says."""

    row: int
    """Its number in the source table."""
    training_row: int
    """The number of the first training row that agrees with it."""
    content: str
    """Their texts, and their fields by name."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Duplicates:
    """Rows of one part whose texts and fields equal a training row's; times don't count."""

    part: SplitName
    """validation or test."""
    num_rows: int
    """How many there are."""
    share: float
    """Share of the part's rows."""
    examples: tuple[RepeatedRow, ...]
    """The first few that differ from each other."""


@dataclass(frozen=True, kw_only=True, slots=True)
class DataChecks:
    """What the checks found."""

    duplicates: tuple[Duplicates, ...]
    """Of validation and test."""
    alone: dict[str, float | None]
    """Column to the ROC-AUC of its click rates by value, fitted on the training rows and scored on
    the validation rows; None where these have too few clicks or impressions without one."""

    @property
    def leaks(self) -> dict[str, float]:
        """Return the columns that predict the label almost alone, with their ROC-AUC."""
        return {
            name: value
            for name, value in self.alone.items()
            if value is not None and value >= LEAK_AUC
        }


def check_table(table: ClickTable, columns: Columns) -> DataChecks:
    """Look for repeated rows and for columns that give the label away.

    Args:
        table: The checked table.
        columns: What its columns are called.
    """
    return DataChecks(
        duplicates=find_duplicates(table),
        alone={name: _score_alone(codes, table) for name, codes in _column_codes(table, columns)},
    )


def find_duplicates(table: ClickTable) -> tuple[Duplicates, ...]:
    """Find the validation and test rows that agree with a training row on all texts and fields."""
    numbers = _number_contents(table)
    training = np.flatnonzero(table.split == 0)
    first = np.full(int(numbers.max(initial=-1)) + 1, -1)
    # Backwards, so that of several the first stays.
    first[numbers[training[::-1]]] = training[::-1]
    found = []
    for part, name in enumerate(SPLIT_NAMES[1:], start=1):
        inside = np.flatnonzero(table.split == part)
        repeated = inside[first[numbers[inside]] >= 0]
        _, distinct = np.unique(numbers[repeated], return_index=True)
        shown = repeated[np.sort(distinct)[:MAX_EXAMPLES]]
        found.append(
            Duplicates(
                part=name,
                num_rows=len(repeated),
                share=len(repeated) / max(len(inside), 1),
                examples=tuple(
                    RepeatedRow(
                        row=int(table.row_ids[row]),
                        training_row=int(table.row_ids[first[numbers[row]]]),
                        content=_content(table, int(row)),
                    )
                    for row in shown
                ),
            )
        )
    return tuple(found)


def _number_contents(table: ClickTable) -> np.ndarray:
    """Number the rows so that those of equal texts and fields have equal numbers, from 0.

    By their hashes, which takes half the time of comparing; that two of 50 million rows differ and
    have the same one has a chance of 1 in 10,000.
    """
    keys = np.zeros(len(table), dtype=np.uint64)
    texts = (hash_numbers(column.codes) for column in table.texts)
    fields = itertools.islice(table.fields.hashes(), len(table.fields.names))
    for hashed in itertools.chain(texts, fields):
        keys *= np.uint64(1_000_003)
        keys += hashed
    numbers: np.ndarray = pd.factorize(keys)[0].astype(narrow_numbers(len(keys)))
    return numbers


def _content(table: ClickTable, row: int) -> str:
    texts = [column[row] for column in table.texts]
    values = table.fields.take(np.array([row])).values()
    fields = []
    for name in table.fields.names:
        value = values[name]
        if not isinstance(value, np.ndarray):
            fields.append(f"{name}: {value[0] if value.codes[0] >= 0 else 'missing'}")
        else:
            fields.append(f"{name}: {'missing' if np.isnan(value[0]) else f'{value[0]:g}'}")
    return " | ".join([*filter(None, texts), *fields])


def _column_codes(table: ClickTable, columns: Columns) -> Iterator[tuple[str, np.ndarray]]:
    """Number the values of each column that a model sees, from 0; a missing one is a value too."""
    for name, text in zip(columns.text, table.texts, strict=False):
        yield name, text.codes
    for name, values in table.fields.values().items():
        if isinstance(values, np.ndarray):
            yield name, _binned(values, table.split == 0)
        else:
            yield name, values.codes + 1


def _binned(numbers: np.ndarray, training: np.ndarray) -> np.ndarray:
    missing = np.isnan(numbers)
    known = np.sort(numbers[training & ~missing])
    edges = known[np.flatnonzero(np.diff(known, prepend=np.nan))]
    if len(edges) > MAX_POINTS:
        edges = np.unique(known[np.arange(1, NUM_BINS) * len(known) // NUM_BINS])
    return map_rows(
        lambda block: np.where(
            missing[block], 0, 1 + np.searchsorted(edges, numbers[block], side="right")
        ),
        len(numbers),
        np.int32,
    )


def _score_alone(codes: np.ndarray, table: ClickTable) -> float | None:
    training, validation = table.split == 0, table.split == 1
    clicked, shown = (
        float(counts[validation].sum(dtype=np.float64))
        for counts in (table.clicks, table.impressions)
    )
    if min(clicked, shown - clicked) < MIN_OUTCOMES:
        return None
    size = int(codes.max()) + 1
    fitted, scored = (
        [
            np.bincount(codes[inside], weights=counts[inside], minlength=size)
            for counts in (table.clicks, table.impressions)
        ]
        for inside in (training, validation)
    )
    base_rate = fitted[0].sum() / fitted[1].sum()
    rates = (fitted[0] + PRIOR_IMPRESSIONS * base_rate) / (fitted[1] + PRIOR_IMPRESSIONS)
    # Rows of one value have one rate, so that they count as one row with all their impressions.
    rows = ScoredRows.of(np.clip(rates, 0, 1), scored[0], scored[1], np.zeros(size))
    return METRICS["roc_auc"].measure(rows)


def describe_suspicions(checks: DataChecks, config: DataConfig) -> tuple[str, ...]:
    """Say in a sentence each what is suspicious, and what to do about it."""
    sentences = [
        f"column {name!r} alone predicts the label: ROC-AUC {value:.4f} on the validation rows, "
        f"and {LEAK_AUC} or more is suspicious; if its value isn't known before the click, leave "
        "it out of data.columns"
        for name, value in checks.leaks.items()
    ]
    many = [found for found in checks.duplicates if found.share >= DUPLICATE_SHARE]
    # What comes later repeats what came before; a split by time is there to measure just that.
    if many and config.split.by != "time":
        shares = " and ".join(f"{found.share:.1%} of the {found.part} rows" for found in many)
        example = many[0].examples[0]
        sentences.append(
            f"{shares} repeat a training row's texts and fields (row {example.row} repeats row "
            f"{example.training_row}), so they say little of how a model does on new ones; "
            f"{_advice(config)}"
        )
    return tuple(sentences)


def _advice(config: DataConfig) -> str:
    if config.split.by == "column":
        return f"the table says so itself, in {config.split.column!r}"
    if config.split.by == "group":
        return f"{config.columns.group!r} puts them into several groups; use a coarser one"
    if config.columns.group is not None:
        return f"data.split={{by: group}} keeps the rows of a {config.columns.group!r} together"
    return (
        "name the column of what is shown or searched, data.columns.group, and split by it, "
        "data.split={by: group}"
    )
