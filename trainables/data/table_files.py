"""Read one CSV or Parquet file of a table chunk by chunk, or say why it can't be read."""

import collections
import contextlib
import csv
import difflib
import gzip
import io
import zlib
from collections.abc import Collection, Iterator, Sequence
from typing import Any, Literal

import numpy as np
import pandas as pd
import pyarrow
import pyarrow.compute
import pyarrow.parquet

from trainables.data.column_builder import is_text
from trainables.data.token_rows import LIST_SEPARATOR

CSV_SUFFIXES = (".csv", ".csv.gz")
SUFFIXES = (*CSV_SUFFIXES, ".parquet")
"""The kinds of file that can be read."""
CHUNK_ROWS = 100_000
"""Rows that are read at a time."""
READ_BYTES = 2**20
"""Bytes of each column of a Parquet file that are read at a time."""
MAX_CSV_COLUMNS = 10_000
"""Columns of a CSV file. They are all parsed, and each costs time even if there is but one row."""
MAX_LISTED = 100
"""Columns that an error lists, and looks for like names among."""


def is_csv(file: str) -> bool:
    """Return whether a file is a CSV file, by its name."""
    return file.lower().endswith(CSV_SUFFIXES)


def read_chunks(
    filesystem: Any,  # noqa: ANN401 - untyped fsspec
    file: str,
    columns: Sequence[str],
    lists: Collection[str] = (),
) -> Iterator[list[Any]]:
    """Read some columns of a file.

    Args:
        filesystem: Where it is, from fsspec.
        file: Its path there.
        columns: Which columns.
        lists: Those that may hold lists of texts, each of which is joined to one.

    Yields:
        For each chunk of up to :data:`CHUNK_ROWS` rows one Arrow array a column, in the order of
        ``columns``. A CSV file's values are all text, as written.

    Raises:
        ValueError: if the file can't be read, or a column is missing, there twice, or of a type
            that has no meaning.
    """
    try:
        if is_csv(file):
            yield from _csv_chunks(filesystem, file, columns)
        else:
            yield from _parquet_chunks(filesystem, file, columns, lists)
    except pd.errors.EmptyDataError as error:
        raise ValueError(f"{file} is empty; expected a header line and rows") from error
    except UnicodeDecodeError as error:
        raise ValueError(f"{file} is not UTF-8 text ({error}); save it as UTF-8") from error
    except pd.errors.ParserError as error:
        raise ValueError(
            f"{file} is not a well-formed CSV table: {str(error).strip()}; "
            "put texts that hold a comma in quotes"
        ) from error
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise ValueError(f"{file} is not a complete gzip file: {error}") from error
    except (pyarrow.ArrowException, OSError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ValueError(f"can't read {file}: {reason}") from error


def record_lines(filesystem: Any, file: str, rows: Sequence[int]) -> dict[int, int]:  # noqa: ANN401
    """Find the lines on which records of a CSV file start: a quoted text may span several.

    Args:
        filesystem: Where the file is, from fsspec.
        file: Its path there.
        rows: Numbers of the records, from 0.

    Returns:
        Row to line, from 1. A row beyond one that Python's reader can't take, for its length, say,
        is not in it.
    """
    wanted = set(rows)
    last = max(wanted)
    lines: dict[int, int] = {}
    with (
        filesystem.open(file, "rb", compression=_compression(file)) as raw,
        contextlib.suppress(csv.Error),
    ):
        reader = csv.reader(io.TextIOWrapper(raw, encoding="utf-8-sig", newline=""))
        # The header isn't counted.
        row, before = -1, 0
        for record in reader:
            if record:
                if row in wanted:
                    lines[row] = before + 1
                if row == last:
                    break
                row += 1
            before = reader.line_num
    return lines


def _compression(file: str) -> Literal["gzip"] | None:
    return "gzip" if file.lower().endswith(".gz") else None


def _csv_chunks(
    filesystem: Any,  # noqa: ANN401
    file: str,
    columns: Sequence[str],
) -> Iterator[list[Any]]:
    compression = _compression(file)
    with filesystem.open(file, "rb") as raw:
        names = _csv_header(raw, compression)
        _check_columns(file, names, columns)
        if len(names) > MAX_CSV_COLUMNS:
            raise ValueError(
                f"{file} has {len(names):,} columns, and a CSV file may have up to "
                f"{MAX_CSV_COLUMNS:,}; leave out those that the study doesn't name, or save it as "
                "Parquet, of which only the others are read"
            )
        raw.seek(0)
        # Text as written: pandas would otherwise read a product called "NA" as missing, and 007 as
        # 7. All columns are read: with usecols pandas drops a row's surplus fields without a word.
        # In chunks, because its parser holds every value as an object of its own.
        chunks = pd.read_csv(
            raw,
            dtype=str,
            keep_default_na=False,
            compression=compression,
            chunksize=CHUNK_ROWS,
        )
        with chunks:
            for chunk in chunks:
                if not isinstance(chunk.index, pd.RangeIndex):
                    # Where the first row has too many, pandas makes the surplus an index.
                    raise ValueError(
                        f"{file}, line 2: more fields than the header's {len(names)}; "
                        "put texts that hold a comma in quotes"
                    )
                yield [
                    pyarrow.chunked_array(chunk[name].astype("str")).combine_chunks()
                    for name in columns
                ]


def _csv_header(raw: Any, compression: str | None) -> list[str]:  # noqa: ANN401
    """Read a file's names as they are: of those that occur twice pandas would change the second."""
    unpacked = gzip.GzipFile(fileobj=raw) if compression else raw
    text = io.TextIOWrapper(unpacked, encoding="utf-8-sig", newline="")
    try:
        names = next((row for row in csv.reader(text) if row), None)
    except csv.Error as error:
        raise pd.errors.ParserError(str(error)) from error
    finally:
        # Closing it would close the file.
        text.detach()
    if names is None:
        raise pd.errors.EmptyDataError
    return names


def _parquet_chunks(
    filesystem: Any,  # noqa: ANN401
    file: str,
    columns: Sequence[str],
    lists: Collection[str],
) -> Iterator[list[Any]]:
    with filesystem.open(file, "rb") as raw:
        if filesystem.size(file) == 0:
            raise ValueError(f"{file} is empty; expected a Parquet table")
        schema = pyarrow.parquet.read_schema(raw)
        _check_columns(file, schema.names, columns)
        for name in columns:
            kind = schema.field(name).type
            if _is_unusable(kind) and not (name in lists and _is_list_of_texts(kind)):
                raise ValueError(
                    f"{file}: column {name!r} holds {kind} values; expected text, numbers, "
                    "booleans or times"
                )
        raw.seek(0)
        with pyarrow.parquet.ParquetFile(raw, buffer_size=READ_BYTES) as table:
            for batch in table.iter_batches(CHUNK_ROWS, columns=list(columns)):
                # By name: those of a column `a.b` come with a column `a`.
                values = [batch.column(batch.schema.get_field_index(name)) for name in columns]
                yield [
                    _joined(column) if _is_list_of_texts(column.type) else column
                    for column in values
                ]


def _is_unusable(kind: Any) -> bool:  # noqa: ANN401 - untyped Arrow
    types = pyarrow.types
    if types.is_dictionary(kind):
        kind = kind.value_type
    if types.is_nested(kind) or types.is_duration(kind):
        # A duration would become a number of nanoseconds.
        return True
    return bool(
        types.is_binary(kind) or types.is_large_binary(kind) or types.is_fixed_size_binary(kind)
    )


def _is_list_of_texts(kind: Any) -> bool:  # noqa: ANN401
    types = pyarrow.types
    return (types.is_list(kind) or types.is_large_list(kind)) and is_text(kind.value_type)


def _joined(lists: Any) -> Any:  # noqa: ANN401
    """Write each list as one text; a missing text in it is left out."""
    texts = lists.flatten()
    kept = texts.is_valid()
    parents = pyarrow.compute.list_parent_indices(lists)
    sizes = np.bincount(parents.filter(kept).to_numpy(), minlength=len(lists))
    offsets = pyarrow.array(np.concatenate([[0], np.cumsum(sizes)]), pyarrow.int64())
    whole = pyarrow.LargeListArray.from_arrays(
        offsets, texts.filter(kept).cast(pyarrow.large_string()), mask=lists.is_null()
    )
    separator = pyarrow.scalar(LIST_SEPARATOR, pyarrow.large_string())
    return pyarrow.compute.binary_join(whole, separator)


def _check_columns(file: str, found: Sequence[str], wanted: Sequence[str]) -> None:
    counts = collections.Counter(found)
    # A table of very many columns would take minutes to compare, and a screen to list.
    shown = list(counts)[:MAX_LISTED]
    problems = []
    for name in wanted:
        if name not in counts:
            close = difflib.get_close_matches(name, shown, n=1)
            problems.append(
                f"column {name!r}" + (f" (did you mean {close[0]!r}?)" if close else "")
            )
    if problems:
        more = f" and {len(counts) - len(shown):,} more" if len(counts) > len(shown) else ""
        raise ValueError(
            f"{file} has no {', no '.join(problems)}; it has {', '.join(map(repr, shown))}{more}"
        )
    for name in wanted:
        if counts[name] > 1:
            raise ValueError(
                f"{file} has {counts[name]} columns named {name!r}; give each a name of its own"
            )
