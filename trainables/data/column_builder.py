"""Put a column together from the chunks that a table is read in.

What a column is, and with it what may be wrong with a value, depends on all of its chunks: whole
numbers of which one is missing aren't whole numbers to pandas, and a folder's files may differ. So
chunks are kept as they are, each distinct text once, and judged together.
"""

from typing import Any, Protocol

import numpy as np
import pandas as pd
import pyarrow

from trainables.data.row_blocks import take_rows
from trainables.data.source_column import SourceColumn
from trainables.data.text_column import TextColumn

MIN_MERGED = 100_000
"""Distinct texts of chunks from which they are compared with each other."""


class ColumnBuilder:
    """A column that grows by chunks."""

    def __init__(self) -> None:
        """Start with no rows."""
        self._parts: dict[str, _Part] = {}
        self._runs: list[tuple[str, int]] = []

    def add(self, chunk: Any) -> None:  # noqa: ANN401 - untyped Arrow
        """Add the rows of an Arrow array below those that are there."""
        if not len(chunk):
            return
        if pyarrow.types.is_dictionary(chunk.type):
            chunk = chunk.dictionary_decode()
        if is_text(chunk.type):
            chunk = chunk.cast(pyarrow.large_string())
        name = str(chunk.type)
        if name not in self._parts:
            self._parts[name] = _part(chunk.type)
        self._parts[name].add(chunk)
        self._runs.append((name, len(chunk)))

    def finish(self) -> SourceColumn:
        """Return the column; the builder is then empty."""
        columns = {name: self._parts.pop(name).finish() for name in list(self._parts)}
        if not columns:
            return SourceColumn(kind="object", values=pd.Series([], dtype=object))
        if len(columns) == 1:
            return columns.popitem()[1]
        return _join(columns, self._runs)


class _Part(Protocol):
    """The chunks of one type."""

    def add(self, chunk: Any) -> None: ...  # noqa: ANN401

    def finish(self) -> SourceColumn: ...


def _part(kind: Any) -> _Part:  # noqa: ANN401
    types = pyarrow.types
    if is_text(kind):
        return _Texts()
    if types.is_integer(kind) or types.is_boolean(kind):
        return _WholeNumbers()
    if types.is_floating(kind) or types.is_timestamp(kind):
        return _Numbers()
    return _Objects()


def is_text(kind: Any) -> bool:  # noqa: ANN401
    """Tell whether an Arrow type is one of text."""
    types = pyarrow.types
    return bool(types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind))


def _as_pandas(chunk: Any) -> pd.Series:  # noqa: ANN401
    # A float64 would round a number of 17 digits, such as an id.
    series: pd.Series = chunk.to_pandas(integer_object_nulls=True)
    return series


class _Texts:
    """Texts: the distinct ones of all chunks, and numbers."""

    def __init__(self) -> None:
        self._distinct = pyarrow.array([], pyarrow.large_string())
        self._codes: list[np.ndarray] = []
        # Of the latest chunks, not compared with each other yet.
        self._new: list[Any] = []

    def add(self, chunk: Any) -> None:  # noqa: ANN401
        encoded = chunk.dictionary_encode()
        self._codes.append(_codes(encoded))
        self._new.append(encoded.dictionary)
        # As many as are known: each is then compared a few times at most.
        if sum(map(len, self._new)) > max(MIN_MERGED, len(self._distinct)):
            self._merge()

    def _merge(self) -> None:
        dictionaries = [self._distinct, *self._new]
        merged = pyarrow.chunked_array(
            [
                pyarrow.DictionaryArray.from_arrays(np.arange(len(texts), dtype=np.int32), texts)
                for texts in dictionaries
            ]
        ).unify_dictionaries()
        self._distinct = merged.chunk(0).dictionary
        first = len(self._codes) - len(self._new)
        for place in range(len(self._new)):
            # A last entry for the code of a missing text, -1.
            codes = np.append(merged.chunk(1 + place).indices.to_numpy(), np.int32(-1))
            self._codes[first + place] = take_rows(codes, self._codes[first + place])
        self._new = []

    def finish(self) -> SourceColumn:
        if self._new:
            self._merge()
        return SourceColumn(
            kind="str", texts=TextColumn(distinct=self._distinct, codes=_concatenate(self._codes))
        )


class _WholeNumbers:
    """Integers or booleans, in as few bytes as each chunk's fit in."""

    def __init__(self) -> None:
        self._kind = ""
        self._numbers: list[np.ndarray] = []
        self._missing: list[np.ndarray] = []

    def add(self, chunk: Any) -> None:  # noqa: ANN401
        self._missing.append(chunk.is_null().to_numpy(zero_copy_only=False))
        gap = False if pyarrow.types.is_boolean(chunk.type) else 0
        numbers = chunk.fill_null(gap).to_numpy(zero_copy_only=False)
        self._kind = str(numbers.dtype)
        self._numbers.append(_narrow(numbers))

    def finish(self) -> SourceColumn:
        missing = _concatenate(self._missing)
        numbers = _concatenate(self._numbers)
        if not missing.any():
            return SourceColumn(kind=self._kind, values=pd.Series(numbers))
        # pandas has no room for a gap among them, so that they are objects.
        codes, distinct = pd.factorize(numbers)
        codes = codes.astype(np.int32)
        codes[missing] = len(distinct)
        values = pd.Series([*distinct.tolist(), None], dtype=object)
        return _by_first_occurrence(SourceColumn(kind="object", values=values, codes=codes))


class _Numbers:
    """Floats or timestamps, which have a mark of their own for a missing one."""

    def __init__(self) -> None:
        self._chunks: list[pd.Series] = []

    def add(self, chunk: Any) -> None:  # noqa: ANN401
        self._chunks.append(_as_pandas(chunk))

    def finish(self) -> SourceColumn:
        values = pd.concat(self._chunks, ignore_index=True)
        self._chunks = []
        return SourceColumn(kind=str(values.dtype), values=values)


class _Objects:
    """What pandas holds as objects: dates, times of a day, decimals, and nothing at all."""

    def __init__(self) -> None:
        self._places: dict[tuple[type, str], int] = {}
        self._values: list[object] = []
        self._codes: list[np.ndarray] = []

    def add(self, chunk: Any) -> None:  # noqa: ANN401
        if pyarrow.types.is_decimal(chunk.type) and chunk.type.bit_width < 128:
            # Arrow can't number the narrow ones.
            chunk = chunk.cast(pyarrow.decimal128(chunk.type.precision, chunk.type.scale))
        encoded = chunk.dictionary_encode()
        values = _as_pandas(encoded.dictionary)
        places = np.array([self._place(value) for value in values], dtype=np.int32)
        codes = _codes(encoded)
        if (codes < 0).any():
            places = np.append(places, np.int32(self._place(None)))
        self._codes.append(take_rows(places, codes))

    def _place(self, value: object) -> int:
        # By how it is written, because 1.0 and 1.00 are equal as decimals.
        key = (type(value), str(value))
        if key not in self._places:
            self._places[key] = len(self._values)
            self._values.append(value)
        return self._places[key]

    def finish(self) -> SourceColumn:
        column = SourceColumn(
            kind="object",
            values=pd.Series(self._values, dtype=object),
            codes=_concatenate(self._codes),
        )
        return _by_first_occurrence(column)


def _codes(encoded: Any) -> np.ndarray:  # noqa: ANN401
    codes: np.ndarray = encoded.indices.fill_null(-1).to_numpy().astype(np.int32, copy=False)
    return codes


def _narrow(numbers: np.ndarray) -> np.ndarray:
    if numbers.dtype == bool:
        return numbers
    low, high = int(numbers.min()), int(numbers.max())
    for num_bytes in (1, 2, 4):
        # Signed ones stay signed: together with unsigned ones they would become floats.
        limits = np.iinfo(f"{numbers.dtype.kind}{num_bytes}")
        if limits.min <= low and high <= limits.max:
            return numbers.astype(limits.dtype)
    return numbers


def _concatenate(chunks: list[np.ndarray]) -> np.ndarray:
    """Join arrays, and free each as soon as it is copied."""
    joined = np.empty(sum(map(len, chunks)), np.result_type(*{chunk.dtype for chunk in chunks}))
    stop = len(joined)
    while chunks:
        chunk = chunks.pop()
        joined[stop - len(chunk) : stop] = chunk
        stop -= len(chunk)
    return joined


def _join(columns: dict[str, SourceColumn], runs: list[tuple[str, int]]) -> SourceColumn:
    """Join columns of several types, as pandas would; ``runs`` says which the next rows are of."""
    parts = {}
    values = []
    start = 0
    for name, column in columns.items():
        part, codes = _values_and_codes(column)
        parts[name] = codes + start
        values.append(part)
        start += len(part)
    codes = np.empty(sum(size for _, size in runs), dtype=np.int32)
    done = dict.fromkeys(columns, 0)
    row = 0
    for name, size in runs:
        codes[row : row + size] = parts[name][done[name] : done[name] + size]
        done[name] += size
        row += size
    joined = pd.concat(values, ignore_index=True)
    return _by_first_occurrence(SourceColumn(kind=str(joined.dtype), values=joined, codes=codes))


def _values_and_codes(column: SourceColumn) -> tuple[pd.Series, np.ndarray]:
    if column.texts is not None:
        texts, codes = column.texts.distinct.to_pandas().astype("str"), column.texts.codes
        if (codes >= 0).all():
            return texts, codes
        missing = np.where(codes < 0, np.int32(len(texts)), codes)
        return pd.concat([texts, pd.Series([np.nan], dtype="str")], ignore_index=True), missing
    if column.codes is not None:
        return column.others, column.codes
    return column.widened(), np.arange(len(column), dtype=np.int32)


def _by_first_occurrence(column: SourceColumn) -> SourceColumn:
    assert column.codes is not None
    codes, order = pd.factorize(column.codes)
    return SourceColumn(
        kind=column.kind,
        values=column.others.take(order).reset_index(drop=True),
        codes=codes.astype(np.int32),
    )
