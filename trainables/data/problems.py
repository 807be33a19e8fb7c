"""What is wrong with a table's rows, collected so that one error, or one file, can list it all."""

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd

from trainables.data.read import SourceTable

BAD_ROWS_FILE = "bad-rows.csv"
"""Where a study's folder lists the rows that were left out."""
MAX_PROBLEMS = 10
"""Problems that one error lists."""
MAX_EXAMPLES = 3
"""Rows that are named for one kind of problem, so that it doesn't hide the other kinds."""


@dataclass(frozen=True, kw_only=True, slots=True)
class BadRows:
    """Rows that were left out because a value can't be used."""

    table: pd.DataFrame
    """One line for each wrong value: ``row`` (from 0, over all files), ``place`` in words,
    ``column``, ``value`` and ``problem``."""
    num_rows: int
    """Rows that were left out."""
    num_source_rows: int
    """Rows of the table, with them."""

    @property
    def rows(self) -> np.ndarray:
        """Return their numbers in ascending order, int64 (num_rows,)."""
        return np.unique(self.table["row"].to_numpy())

    def examples(self, most: int = MAX_PROBLEMS) -> list[str]:
        """Describe what is wrong with the first few rows, a line for each row."""
        first = self.table.drop_duplicates("row").head(most)
        return [
            f"column {line.column!r}, {line.place}: {line.value} {line.problem}"
            for line in first.itertuples()
        ]

    def summary(self) -> str:
        """Say how many rows were left out, and name the first few, each on a line of its own."""
        share = self.num_rows / self.num_source_rows
        head = f"{self.num_rows:,} of {self.num_source_rows:,} rows were left out ({share:.2%}):"
        listed = [head, *self.examples()]
        hidden = self.num_rows - len(listed) + 1
        return "\n  ".join([*listed, f"... and {hidden:,} more"] if hidden else listed)

    def write(self, path: Path) -> None:
        """Write all of them to a CSV file, whole or not at all.

        Raises:
            OSError: if the file can't be written.
        """
        unfinished = path.with_name(f".{path.name}-{os.getpid()}")
        try:
            self.table.to_csv(unfinished, index=False)
            unfinished.replace(path)
        finally:
            unfinished.unlink(missing_ok=True)


@dataclass(slots=True)
class Problems:
    """What is wrong with a table."""

    source: SourceTable
    """The table."""
    lines: list[str] = field(default_factory=list)
    """What is wrong with whole columns, a sentence each."""
    found: list[tuple[str, np.ndarray, str]] = field(default_factory=list)
    """Column, rows and advice of each kind of wrong value."""

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
        if len(rows):
            self.found.append((column, rows, advice))

    def __bool__(self) -> bool:
        return bool(self.lines or self.found)

    def raise_any(self) -> None:
        """Raise if there are problems.

        Raises:
            ValueError: naming the first problems, each on a line of its own.
        """
        if self:
            raise unusable(self.source.path, [*self.lines, *self._examples()])

    def _examples(self) -> list[str]:
        lines = []
        for column, rows, advice in self.found:
            shown = rows[:MAX_EXAMPLES]
            places = self.source.locate([int(row) for row in shown])
            lines += [
                f"column {column!r}, {place}: {self._value(column, row)} {advice}"
                for row, place in zip(shown, places, strict=True)
            ]
            if hidden := len(rows) - len(shown):
                lines.append(f"column {column!r}: {hidden:,} more rows where the value {advice}")
        return lines

    def skip(self, max_share: float) -> BadRows | None:
        """List the bad rows, so that they can be left out.

        Args:
            max_share: Largest share of the rows that may be bad.

        Returns:
            The bad rows; None if there are none.

        Raises:
            ValueError: if a whole column is wrong, or more rows are bad than may be.
        """
        if self.lines:
            self.raise_any()
        if not self.found:
            return None
        bad = np.unique(np.concatenate([rows for _, rows, _ in self.found]))
        num_rows = self.source.num_rows
        if len(bad) > max_share * num_rows:
            raise unusable(
                self.source.path,
                [
                    f"{len(bad):,} of {num_rows:,} rows are bad, {len(bad) / num_rows:.1%}, and "
                    f"data.max_bad_share allows {max_share:.1%}",
                    *self._examples(),
                ],
            )
        parts = [
            pd.DataFrame(
                {
                    "row": rows,
                    "column": column,
                    "value": [self._value(column, row) for row in rows],
                    "problem": advice,
                }
            )
            for column, rows, advice in self.found
        ]
        table = pd.concat(parts).sort_values("row", kind="stable", ignore_index=True)
        distinct = table["row"].drop_duplicates().tolist()
        places = dict(zip(distinct, self.source.locate(distinct), strict=True))
        table.insert(1, "place", [places[row] for row in table["row"]])
        return BadRows(table=table, num_rows=len(bad), num_source_rows=num_rows)

    def _value(self, column: str, row: int) -> str:
        return shown(self.source.columns[column].value(row))


def unusable(path: str, lines: Sequence[str]) -> ValueError:
    """Return the error for a table with some problems."""
    listed = "".join(f"\n  {line}" for line in lines[:MAX_PROBLEMS])
    hidden = len(lines) - MAX_PROBLEMS
    more = f"\n  ... and {hidden} more" if hidden > 0 else ""
    return ValueError(f"{path} can't be used:{listed}{more}")


def shown(value: object) -> str:
    """Write a value as an error shows it."""
    text = repr(value) if isinstance(value, str) else str(value)
    return text if len(text) <= 60 else text[:57] + "..."
