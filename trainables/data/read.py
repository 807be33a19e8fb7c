"""Read a CSV or Parquet table, or a folder of them, local or behind an fsspec URL."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pandas as pd

from trainables.data.column_builder import ColumnBuilder
from trainables.data.source_column import SourceColumn
from trainables.data.table_files import SUFFIXES, is_csv, read_chunks, record_lines


@dataclass(frozen=True, kw_only=True, slots=True)
class SourceTable:
    """The named columns of all files of a table, and where each row came from."""

    columns: Mapping[str, SourceColumn]
    """The named columns, with the rows of all files. A CSV file's values are all text, as
    written."""
    num_rows: int
    """Rows, numbered from 0 over all files."""
    path: str
    """What was read."""
    files: tuple[str, ...]
    """Its files, in the order of the rows."""
    first_rows: tuple[int, ...]
    """Number of each file's first row."""

    @property
    def frame(self) -> pd.DataFrame:
        """Return the columns as pandas holds them: many times the memory."""
        return pd.DataFrame({name: column.series() for name, column in self.columns.items()})

    def locate(self, rows: Sequence[int]) -> list[str]:
        """Say where rows are: their number and, for CSV, the line in the file."""
        parts = np.searchsorted(self.first_rows, rows, side="right") - 1
        inside = [row - self.first_rows[part] for row, part in zip(rows, parts, strict=True)]
        lines = {}
        for part in set(parts.tolist()):
            if is_csv(self.files[part]):
                filesystem, _ = _filesystem(self.path)
                here = [row for row, other in zip(inside, parts, strict=True) if other == part]
                lines[part] = record_lines(filesystem, self.files[part], here)
        places = []
        for row, number, part in zip(rows, inside, parts.tolist(), strict=True):
            place = f"row {row}" if len(self.files) == 1 else f"row {number} of {self.files[part]}"
            line = lines.get(part, {}).get(number)
            places.append(place if line is None else f"{place} (line {line})")
        return places


def read_table(path: str, columns: Sequence[str], *, lists: Collection[str] = ()) -> SourceTable:
    """Read some columns of a table, chunk by chunk.

    Args:
        path: A ``.csv``, ``.csv.gz`` or ``.parquet`` file, or a folder of them (with subfolders, in
            the order of their names); local, or a URL such as ``s3://bucket/log``.
        columns: Which columns to read; the others are never loaded.
        lists: Those that may hold lists of texts, each of which is joined to one.

    Raises:
        ValueError: if there is nothing at the path, nothing that can be read, or a column is
            missing.
    """
    try:
        filesystem, files = _find_files(path)
    except OSError as error:
        raise ValueError(f"can't open {path}: {error}") from error
    builders = {name: ColumnBuilder() for name in columns}
    num_rows = 0
    first_rows = []
    for file in files:
        first_rows.append(num_rows)
        for arrays in read_chunks(filesystem, file, columns, lists):
            for builder, array in zip(builders.values(), arrays, strict=True):
                builder.add(array)
            num_rows += len(arrays[0])
    return SourceTable(
        columns={name: builder.finish() for name, builder in builders.items()},
        num_rows=num_rows,
        path=path,
        files=tuple(files),
        first_rows=tuple(first_rows),
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
