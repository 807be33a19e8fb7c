"""A column of texts: the distinct ones, and which of them each row has.

A log of impressions repeats its texts thousands of times. Checking, hashing and counting the
distinct ones, and keeping a number for each row, takes a fraction of the time and memory.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Self, overload

import numpy as np
import pandas as pd
import pyarrow
import pyarrow.compute

from trainables.data.row_blocks import narrow_numbers, row_blocks, take_rows

BLOCK_ROWS = 100_000
"""Rows whose texts are copied at a time."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class TextColumn(Sequence[str]):
    """The texts of n rows; reads like a list of them."""

    distinct: Any
    """Arrow array (large_string) of distinct texts; some of them may belong to no row."""
    codes: np.ndarray
    """int32 (n,): the place of each row's text in ``distinct``; -1 where the text is missing."""

    @classmethod
    def of(cls, texts: "Iterable[str] | pd.Series | TextColumn") -> Self:
        """Number the distinct texts in the order of their first occurrence.

        Args:
            texts: The texts; pandas' and Arrow's columns may lack some.
        """
        if isinstance(texts, cls):
            return texts
        if isinstance(texts, pd.Series):
            whole = pyarrow.chunked_array(texts.astype("str"))
        elif isinstance(texts, pyarrow.ChunkedArray):
            whole = texts
        else:
            whole = pyarrow.chunked_array([pyarrow.array(list(texts), pyarrow.large_string())])
        encoded = whole.cast(pyarrow.large_string()).dictionary_encode()
        codes = np.empty(len(encoded), dtype=np.int32)
        start = 0
        for chunk in encoded.chunks:
            codes[start : start + len(chunk)] = chunk.indices.fill_null(-1)
            start += len(chunk)
        # Arrow gives all chunks of a column the same dictionary.
        distinct = encoded.chunk(0).dictionary if encoded.num_chunks else _no_texts()
        return cls(distinct=distinct, codes=codes)

    @classmethod
    def blank(cls, num_rows: int) -> Self:
        """Return a column of empty texts."""
        return cls(distinct=cls.of([""]).distinct, codes=np.zeros(num_rows, dtype=np.int32))

    def __len__(self) -> int:
        return len(self.codes)

    @overload
    def __getitem__(self, place: int) -> str: ...
    @overload
    def __getitem__(self, place: slice) -> "TextColumn": ...
    def __getitem__(self, place: int | slice) -> "str | TextColumn":
        if isinstance(place, slice):
            return TextColumn(distinct=self.distinct, codes=self.codes[place])
        text: str = self.distinct[int(self.codes[place])].as_py()
        return text

    def __iter__(self) -> Iterator[str]:
        for block in self.blocks():
            yield from block.to_pylist()

    def blocks(self) -> Iterator[Any]:
        """Return the rows' texts as Arrow arrays of up to :data:`BLOCK_ROWS` rows."""
        for start in range(0, len(self), BLOCK_ROWS):
            yield self[start : start + BLOCK_ROWS].arrow()

    def arrow(self) -> Any:  # noqa: ANN401 - untyped Arrow
        """Return the rows' texts as one Arrow array, null where one is missing."""
        return self.distinct.take(pyarrow.array(self.codes, mask=self.codes < 0))

    def take(self, rows: np.ndarray) -> "TextColumn":
        """Return some rows: those of given numbers, in their order, or those that are True."""
        return TextColumn(distinct=self.distinct, codes=take_rows(self.codes, rows))

    def filled(self) -> "TextColumn":
        """Return the column with an empty text where one is missing."""
        missing = self.codes < 0
        if not missing.any():
            return self
        distinct = pyarrow.concat_arrays(
            [self.distinct, pyarrow.array([""], pyarrow.large_string())]
        )
        empty = np.int32(pyarrow.compute.index(distinct, "").as_py())
        codes, places = pd.factorize(np.where(missing, empty, self.codes))
        return TextColumn(
            distinct=distinct.take(pyarrow.array(places)), codes=codes.astype(np.int32)
        )

    def texts(self, rows: np.ndarray) -> list[str]:
        """Return some rows' texts, in the given order."""
        found: list[str] = self.distinct.take(pyarrow.array(self.codes[rows])).to_pylist()
        return found

    def are_blank(self) -> np.ndarray:
        """Return which rows have nothing but white space, bool (n,); a missing text isn't blank."""
        lengths = pyarrow.compute.binary_length(self.distinct).to_numpy()
        space = pyarrow.compute.utf8_is_space(self.distinct).to_numpy(zero_copy_only=False)
        # A last entry for the code of a missing text, -1.
        blank: np.ndarray = take_rows(
            np.append(space.astype(bool) | (lengths == 0), values=False), self.codes
        )
        return blank

    def ranks(self) -> np.ndarray:
        """Number the rows by the alphabetical place of their text, int32 (n,)."""
        order = pyarrow.compute.array_sort_indices(self.distinct).to_numpy()
        ranks = np.empty(len(order), dtype=np.int32)
        ranks[order] = np.arange(len(order), dtype=np.int32)
        return take_rows(ranks, self.codes)

    def num_characters(self) -> np.ndarray:
        """Count each row's characters, int64 (n,)."""
        return take_rows(self._lengths(), self.codes)

    def _lengths(self) -> np.ndarray:
        lengths: np.ndarray = pyarrow.compute.utf8_length(self.distinct).to_numpy()
        return lengths.astype(np.int64)

    def hashes(self) -> np.ndarray:
        """Hash each row's text, uint64 (n,); the same in every process."""
        hashes = np.empty(len(self.distinct), dtype=np.uint64)
        for start in range(0, len(hashes), BLOCK_ROWS):
            block = self.distinct[start : start + BLOCK_ROWS].to_numpy(zero_copy_only=False)
            hashes[start : start + BLOCK_ROWS] = pd.util.hash_array(block, categorize=False)
        return take_rows(hashes, self.codes)

    def content(self) -> Iterator[memoryview]:
        """Return what a hash of the column covers: the texts' lengths, then the texts.

        The lengths stand beside the texts, so that moving a boundary between rows changes the hash.
        """
        lengths = self._lengths()
        for rows in row_blocks(len(self)):
            yield memoryview(lengths[self.codes[rows]].data)
        for block in self.blocks():
            _, ends, texts = block.buffers()
            if texts is not None:
                bounds = np.frombuffer(ends, np.int64, len(block) + 1, block.offset * 8)
                yield memoryview(texts)[bounds[0] : bounds[-1]]

    def has_same_texts(self, other: "TextColumn") -> bool:
        """Return whether another column has the same texts in the same order."""
        return len(self) == len(other) and all(
            mine.equals(theirs) for mine, theirs in zip(self.blocks(), other.blocks(), strict=True)
        )


def _no_texts() -> Any:  # noqa: ANN401
    return pyarrow.array([], pyarrow.large_string())


def number_rows(columns: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Number the distinct rows of a table in the order of their first occurrence.

    Args:
        columns: For each column int (n,): from 0, equal values have equal numbers.

    Returns:
        int32 (n,), int64 beyond 2^31 rows: each row's number; int64 (distinct,): where each number
        occurs first.
    """
    num_rows = len(columns[0])
    numbers = np.zeros(num_rows, dtype=narrow_numbers(num_rows))
    for column in columns:
        # Renumbered after each column, so that the product stays far below the 64-bit limit.
        _renumber(numbers, column)
    first = []
    highest = -1
    for block in row_blocks(num_rows):
        seen = np.maximum.accumulate(numbers[block])
        new = np.flatnonzero(np.diff(np.maximum(seen, highest), prepend=highest))
        first.append(new + block.start)
        highest = max(highest, int(seen[-1]))
    return numbers, np.concatenate([*first, np.empty(0, np.int64)]).astype(np.int64, copy=False)


def _renumber(numbers: np.ndarray, column: np.ndarray) -> None:
    """Number the distinct pairs of a number and a column's value in place."""
    size = int(column.max(initial=0)) + 1
    pairs = []
    for block in row_blocks(len(numbers)):
        codes, distinct = pd.factorize(numbers[block].astype(np.int64) * size + column[block])
        numbers[block] = codes
        pairs.append(distinct)
    if len(pairs) <= 1:
        return
    # A block's pairs are numbered from 0; the same one in another block may have another number.
    places = pd.factorize(np.concatenate(pairs))[0].astype(numbers.dtype)
    start = 0
    for block, distinct in zip(row_blocks(len(numbers)), pairs, strict=True):
        stop = start + len(distinct)
        numbers[block] = places[start:stop][numbers[block]]
        start = stop
