"""The fields of a table's rows before they are encoded: categories as text, numbers, times."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from trainables.data.comparison import COMPARE, Comparison
from trainables.data.fields import (
    CategoricalField,
    Fields,
    NumericField,
    TimeField,
    TimePart,
    as_category,
    stack_codes,
    stack_numbers,
)
from trainables.data.row_blocks import hash_numbers, row_blocks, take_rows
from trainables.data.text_column import TextColumn, number_rows


@dataclass(frozen=True, kw_only=True, slots=True)
class RawComparison:
    """Two columns of n rows that are compared: texts and categories, or numbers."""

    meaning: Comparison
    """Which columns they are."""
    columns: tuple[TextColumn, TextColumn] | tuple[np.ndarray, np.ndarray]
    """Their values, the very arrays of the rows' texts and fields."""

    def take(self, rows: np.ndarray) -> "RawComparison":
        """Return some rows, in the given order."""
        first, second = self.columns
        if isinstance(first, TextColumn):
            assert isinstance(second, TextColumn)
            taken = RawComparison(
                meaning=self.meaning, columns=(first.take(rows), second.take(rows))
            )
        else:
            assert not isinstance(second, TextColumn)
            taken = RawComparison(
                meaning=self.meaning, columns=(take_rows(first, rows), take_rows(second, rows))
            )
        return taken

    def encode(self) -> np.ndarray:
        """Compare, float32 (n, width); each two texts once."""
        compare = COMPARE[self.meaning.kind]
        first, second = self.columns
        if not isinstance(first, TextColumn):
            return compare(first, second).astype(np.float32)
        assert isinstance(second, TextColumn)
        # A missing category has code -1.
        numbers, rows = number_rows([first.codes + 1, second.codes + 1])
        encoded = np.empty((len(rows), self.meaning.width), np.float32)
        for block in row_blocks(len(rows)):
            texts = (
                [text or "" for text in column.take(rows[block]).arrow().to_pylist()]
                for column in (first, second)
            )
            encoded[block] = compare(*texts)
        of_rows: np.ndarray = encoded[numbers]
        return of_rows


@dataclass(frozen=True, kw_only=True, slots=True)
class RawFields:
    """Fields of n rows."""

    names: tuple[str, ...] = ()
    """The categorical columns, then the numeric ones."""
    categories: tuple[TextColumn, ...] = ()
    """n categories for each categorical column; code -1 where one is missing."""
    numbers: tuple[np.ndarray, ...] = ()
    """float64 (n,) for each numeric column; NaN where one is missing."""
    time_name: str = ""
    """The timestamp column, where the model sees it."""
    time_parts: tuple[TimePart, ...] = ()
    """What the model sees of it."""
    seconds: np.ndarray | None = None
    """float64 (n,): seconds since 1970; None where the model doesn't see them."""
    comparisons: tuple[RawComparison, ...] = ()
    """Columns that are compared. As they are those of other fields and texts, two rows that agree
    on these agree on them."""

    def take(self, rows: np.ndarray) -> "RawFields":
        """Return some rows, in the given order."""
        return RawFields(
            names=self.names,
            categories=tuple(column.take(rows) for column in self.categories),
            numbers=tuple(take_rows(column, rows) for column in self.numbers),
            time_name=self.time_name,
            time_parts=self.time_parts,
            seconds=None if self.seconds is None else take_rows(self.seconds, rows),
            comparisons=tuple(pair.take(rows) for pair in self.comparisons),
        )

    def values(self) -> dict[str, TextColumn | np.ndarray]:
        """Return the columns by name."""
        columns: dict[str, TextColumn | np.ndarray] = dict(
            zip(self.names, (*self.categories, *self.numbers), strict=True)
        )
        if self.seconds is not None:
            columns[self.time_name] = self.seconds
        return columns

    def codes(self) -> Iterator[np.ndarray]:
        """Number the distinct values of each column, from 0; a missing value is one of them."""
        for column in self.categories:
            yield column.codes + 1
        for numbers in self._all_numbers():
            yield pd.factorize(numbers, use_na_sentinel=False)[0]

    def hashes(self) -> Iterator[np.ndarray]:
        """Hash each column's values, uint64 (n,)."""
        for column in self.categories:
            present = column.codes >= 0
            hashes = np.zeros(len(column), dtype=np.uint64)
            hashes[present] = column.take(present).hashes()
            yield hashes
        for numbers in self._all_numbers():
            yield hash_numbers(numbers)

    def content(self) -> Iterator[memoryview | bytes]:
        """Return bytes that are equal for equal fields."""
        for column in self.categories:
            present = column.codes >= 0
            yield present.data
            yield from column.take(present).content()
        for numbers in self._all_numbers():
            for block in row_blocks(len(numbers)):
                part = numbers[block]
                # One NaN has many bit patterns.
                yield np.where(np.isnan(part), np.nan, part).data

    def _all_numbers(self) -> Iterator[np.ndarray]:
        yield from self.numbers
        if self.seconds is not None:
            yield self.seconds

    def fit(self, rows: np.ndarray, impressions: np.ndarray | None = None) -> Fields:
        """Fit how fields are encoded on some rows: those of the training split.

        Args:
            rows: Their numbers.
            impressions: (n,) of all rows, for how often a category occurs; None: rows count.
        """
        counts = None if impressions is None else impressions[rows]
        num_categories = len(self.categories)
        return Fields(
            categorical=tuple(
                CategoricalField.fit(name, column.distinct.to_pylist(), column.codes[rows], counts)
                for name, column in zip(self.names, self.categories, strict=False)
            ),
            numeric=tuple(
                NumericField.fit(name, numbers[rows])
                for name, numbers in zip(self.names[num_categories:], self.numbers, strict=True)
            ),
            time=None
            if self.seconds is None
            else TimeField.fit(self.time_name, self.time_parts, self.seconds[rows]),
            comparisons=tuple(pair.meaning for pair in self.comparisons),
        )

    def encode(self, fields: Fields, num_rows: int) -> tuple[np.ndarray, np.ndarray]:
        """Encode all rows, as :meth:`Fields.encode` does; each distinct category once.

        Returns:
            int32 (n, categorical columns); float32 (n, numbers).
        """
        codes = []
        for field, column in zip(fields.categorical, self.categories, strict=True):
            # A last entry for the code of a missing category, -1.
            of_distinct = field.encode([*column.distinct.to_pylist(), None])
            codes.append(of_distinct[column.codes])
        numbers = [
            field.encode(values) for field, values in zip(fields.numeric, self.numbers, strict=True)
        ]
        if fields.time is not None:
            assert self.seconds is not None
            numbers.append(fields.time.encode(self.seconds))
        numbers += [pair.encode() for pair in self.comparisons]
        return stack_codes(codes, num_rows), stack_numbers(numbers, num_rows)


def category_column(values: pd.Series) -> TextColumn:
    """Write a column's categories as text, each distinct one once.

    Raises:
        TypeError: if a value is neither text, a number, a boolean nor missing.
    """
    codes, distinct = pd.factorize(values)
    names = [as_category(value) for value in distinct]
    return _renumbered(codes, names)


def renamed_categories(texts: TextColumn) -> TextColumn:
    """Write categories that are text alike wherever they come from; code -1 where one is missing.

    Args:
        texts: The distinct ones are in the order of their first occurrence.
    """
    return _renumbered(texts.codes, [as_category(text) for text in texts.distinct.to_pylist()])


def _renumbered(codes: np.ndarray, names: Sequence[str | None]) -> TextColumn:
    """Give equal names one number, and blank ones none."""
    numbers: dict[str, int] = {}
    places = np.empty(len(names) + 1, dtype=np.int32)
    for place, name in enumerate(names):
        places[place] = numbers.setdefault(name, len(numbers)) if name else -1
    places[-1] = -1
    return TextColumn(
        distinct=TextColumn.of(list(numbers)).distinct, codes=take_rows(places, codes)
    )
