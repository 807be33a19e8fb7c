"""Read a CSV or Parquet table, or a folder of them, local or behind an fsspec URL."""

import collections
import contextlib
import csv
import difflib
import gzip
import io
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import fsspec
import numpy as np
import pandas as pd
import pyarrow
import pyarrow.parquet

CSV_SUFFIXES = (".csv", ".csv.gz")
SUFFIXES = (*CSV_SUFFIXES, ".parquet")
"""The kinds of file that can be read."""
CSV_CHUNK_ROWS = 100_000
"""Rows of a CSV file that are parsed at a time."""
MAX_CSV_COLUMNS = 10_000
"""Columns of a CSV file. They are all parsed, and each costs time even if there is but one row."""
MAX_LISTED = 100
"""Columns that an error lists, and looks for like names among."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SourceTable:
    """The named columns of all files of a table, and where each row came from."""

    frame: pd.DataFrame
    """The rows, numbered from 0 over all files. A CSV file's values are all text, as written."""
    path: str
    """What was read."""
    files: tuple[str, ...]
    """Its files, in the order of the rows."""
    first_rows: tuple[int, ...]
    """Number of each file's first row."""

    def locate(self, rows: Sequence[int]) -> list[str]:
        """Say where rows are: their number and, for CSV, the line in the file."""
        places = []
        lines: dict[str, list[int]] = {}
        for row in rows:
            part = int(np.searchsorted(self.first_rows, row, side="right")) - 1
            file = self.files[part]
            inside = row - self.first_rows[part]
            place = f"row {row}" if len(self.files) == 1 else f"row {inside} of {file}"
            if file.lower().endswith(CSV_SUFFIXES):
                if file not in lines:
                    lines[file] = _record_lines(self.path, file)
                if inside < len(lines[file]):
                    place += f" (line {lines[file][inside]})"
            places.append(place)
        return places


def read_table(path: str, columns: Sequence[str]) -> SourceTable:
    """Read some columns of a table.

    Args:
        path: A ``.csv``, ``.csv.gz`` or ``.parquet`` file, or a folder of them (with subfolders, in
            the order of their names); local, or a URL such as ``s3://bucket/log``.
        columns: Which columns to read; the others are never loaded.

    Raises:
        ValueError: if there is nothing at the path, nothing that can be read, or a column is
            missing.
    """
    try:
        filesystem, files = _find_files(path)
    except OSError as error:
        raise ValueError(f"can't open {path}: {error}") from error
    frames = [_read_file(filesystem, file, columns) for file in files]
    sizes = [len(frame) for frame in frames]
    return SourceTable(
        frame=pd.concat(frames, ignore_index=True) if len(frames) > 1 else frames[0],
        path=path,
        files=tuple(files),
        first_rows=tuple(int(start) for start in np.cumsum([0, *sizes[:-1]])),
    )


def _filesystem(path: str) -> tuple[Any, str]:
    try:
        return fsspec.core.url_to_fs(path)  # type: ignore[no-any-return]
    except ImportError as error:
        raise ValueError(f"can't open {path}: {error}") from error
    except ValueError as error:
        raise ValueError(
            f"can't open {path}: {error}; use a local path or an fsspec URL"
        ) from error


def _find_files(path: str) -> tuple[Any, list[str]]:
    filesystem, root = _filesystem(path)
    if filesystem.isfile(root):
        if not root.lower().endswith(SUFFIXES):
            raise ValueError(f"can't read {path}: expected a name that ends in {_suffix_list()}")
        return filesystem, [root]
    if not filesystem.exists(root):
        raise ValueError(
            f"data path {path} does not exist; check data.path "
            f"(a relative one starts at the current folder, {Path.cwd()})"
        )
    files = [file for file in sorted(filesystem.find(root)) if _is_table(file, root)]
    if not files:
        raise ValueError(f"folder {path} holds no file that ends in {_suffix_list()}")
    return filesystem, files


def _suffix_list() -> str:
    return f"{', '.join(SUFFIXES[:-1])} or {SUFFIXES[-1]}"


def _is_table(file: str, root: str) -> bool:
    # Writers such as Spark leave markers and checksums whose names start with _ or a dot.
    hidden = any(part.startswith(("_", ".")) for part in file.removeprefix(root).split("/"))
    return not hidden and file.lower().endswith(SUFFIXES)


def _read_file(filesystem: Any, file: str, columns: Sequence[str]) -> pd.DataFrame:  # noqa: ANN401
    is_csv = file.lower().endswith(CSV_SUFFIXES)
    try:
        return (_read_csv if is_csv else _read_parquet)(filesystem, file, columns)
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


def _compression(file: str) -> Literal["gzip"] | None:
    return "gzip" if file.lower().endswith(".gz") else None


def _read_csv(filesystem: Any, file: str, columns: Sequence[str]) -> pd.DataFrame:  # noqa: ANN401
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
            chunksize=CSV_CHUNK_ROWS,
        )
        frames = []
        with chunks:
            for chunk in chunks:
                if not isinstance(chunk.index, pd.RangeIndex):
                    # Where the first row has too many, pandas makes the surplus an index.
                    raise ValueError(
                        f"{file}, line 2: more fields than the header's {len(names)}; "
                        "put texts that hold a comma in quotes"
                    )
                frames.append(chunk[list(columns)])
    return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame(columns=list(columns))


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


def _read_parquet(filesystem: Any, file: str, columns: Sequence[str]) -> pd.DataFrame:  # noqa: ANN401
    with filesystem.open(file, "rb") as raw:
        if filesystem.size(file) == 0:
            raise ValueError(f"{file} is empty; expected a Parquet table")
        schema = pyarrow.parquet.read_schema(raw)
        _check_columns(file, schema.names, columns)
        for name in columns:
            kind = schema.field(name).type
            if _is_unusable(kind):
                raise ValueError(
                    f"{file}: column {name!r} holds {kind} values; expected text, numbers, "
                    "booleans or times"
                )
        raw.seek(0)
        # Without pandas' own metadata, a column that pandas wrote as its index is an ordinary one.
        table = pyarrow.parquet.read_table(raw, columns=list(columns))
        # Each column is freed as soon as pandas has it.
        frame: pd.DataFrame = table.to_pandas(
            ignore_metadata=True,
            # A float64 would round a number of 17 digits, such as an id.
            integer_object_nulls=True,
            split_blocks=True,
            self_destruct=True,
        )
        return frame


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


def _record_lines(path: str, file: str) -> list[int]:
    """Line on which each record of a CSV file starts: a quoted text may span several."""
    filesystem, _ = _filesystem(path)
    lines = []
    with (
        filesystem.open(file, "rb", compression=_compression(file)) as raw,
        # Rows beyond one that Python's reader can't take, for its length, say, have no line.
        contextlib.suppress(csv.Error),
    ):
        reader = csv.reader(io.TextIOWrapper(raw, encoding="utf-8-sig", newline=""))
        before = 0
        for record in reader:
            if record:
                lines.append(before + 1)
            before = reader.line_num
    return lines[1:]
