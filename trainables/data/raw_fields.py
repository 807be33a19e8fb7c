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
    comparisons: tuple[Comparison, ...] = ()
    """What is compared: columns of these, or of the rows' texts."""
    text_names: tuple[str, ...] = ()
    """Names of the rows' text columns, in order."""

    def take(self, rows: np.ndarray) -> "RawFields":
        """Return some rows, in the given order."""
        return RawFields(
            names=self.names,
            categories=tuple(column.take(rows) for column in self.categories),
            numbers=tuple(take_rows(column, rows) for column in self.numbers),
            time_name=self.time_name,
            time_parts=self.time_parts,
            seconds=None if self.seconds is None else take_rows(self.seconds, rows),
            comparisons=self.comparisons,
            text_names=self.text_names,
        )

    def values(self) -> dict[str, TextColumn | np.ndarray]:
        """Return the columns by name."""
        columns = self._by_name()
        if self.seconds is not None:
            columns[self.time_name] = self.seconds
        return columns

    def _by_name(self) -> dict[str, TextColumn | np.ndarray]:
        """Return the categories and numbers by name."""
        return dict(zip(self.names, (*self.categories, *self.numbers), strict=True))

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
            comparisons=self.comparisons,
        )

    def encode(
        self, fields: Fields, texts: Sequence[TextColumn], num_rows: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """Encode all rows, as :meth:`Fields.encode` does; each distinct category once.

        Args:
            fields: What :meth:`fit` gave.
            texts: The rows' text columns.
            num_rows: How many rows there are.

        Returns:
            int32 (n, categorical columns); float32 (n, numbers).
        """
        codes = []
        for field, column in zip(fields.categorical, self.categories, strict=True):
            # A last entry for the code of a missing category, -1.
            of_distinct = field.encode([*column.distinct.to_pylist(), None])
            codes.append(of_distinct[column.codes])
        # A block at a time and as narrow as it is kept: wide tables of many rows have many numbers.
        numbers = np.empty((num_rows, fields.shapes.num_numbers), np.float32)
        for block in row_blocks(num_rows):
            parts = self._number_parts(fields, block)
            numbers[block, : fields.first_compared] = stack_numbers(parts, block.stop - block.start)
        for pair, places in fields.places_of_comparisons():
            self._compare(pair, texts, numbers[:, places])
        return stack_codes(codes, num_rows), numbers

    def _number_parts(self, fields: Fields, block: slice) -> list[np.ndarray]:
        parts = [
            field.encode(values[block])
            for field, values in zip(fields.numeric, self.numbers, strict=True)
        ]
        if fields.time is not None:
            assert self.seconds is not None
            parts.append(fields.time.encode(self.seconds[block]))
        return parts

    def _compare(self, pair: Comparison, texts: Sequence[TextColumn], target: np.ndarray) -> None:
        """Write what two columns share into (n, width); each two texts are compared once."""
        compare = COMPARE[pair.kind]
        # Without text columns the rows have a column of blanks, which has no name.
        columns = dict(zip(self.text_names, texts, strict=False)) | self._by_name()
        first, second = (columns[name] for name in pair.names)
        if not (isinstance(first, TextColumn) and isinstance(second, TextColumn)):
            for block in row_blocks(len(target)):
                target[block] = compare(first[block], second[block])
            return
        # A missing category has code -1.
        places, rows = number_rows([first.codes + 1, second.codes + 1])
        compared = np.empty((len(rows), pair.width), np.float32)
        for block in row_blocks(len(rows)):
            sides = (column.take(rows[block]).arrow().to_pylist() for column in (first, second))
            compared[block] = compare(*sides)
        for block in row_blocks(len(target)):
            target[block] = compared[places[block]]


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
