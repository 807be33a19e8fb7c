"""The files of prepared data: their names, and how a table becomes them, block by block."""

import dataclasses
import json
import os
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import pyarrow
import pyarrow.parquet

from trainables.data.config import SPLIT_NAMES
from trainables.data.fields import Fields
from trainables.data.raw_fields import RawFields
from trainables.data.row_blocks import narrow_numbers, row_blocks, take_rows
from trainables.data.text_column import BLOCK_ROWS as TEXT_BLOCK_ROWS
from trainables.data.text_column import TextColumn, number_rows
from trainables.data.token_rows import TextLayout
from trainables.data.tokenization import token_blocks
from trainables.encoder import load_tokenizer

if TYPE_CHECKING:
    from tokenizers import Tokenizer

    from trainables.data.table import ClickTable

FORMAT_VERSION = 3
"""Rises when the files' meaning changes; older folders are then made anew."""
ARRAYS = ("ids", "offsets", "second_starts", "text_numbers", "clicks", "impressions", "groups")
FIELD_ARRAYS = ("codes", "numbers")
"""Arrays of several numbers a row, one row after the other; only where rows have any."""
DESCRIPTION_FILE = "prepared.json"
TEXTS_FILE = "texts.parquet"
PROPENSITIES = "propensities"
"""The array of logging propensities; only where the table has them."""
FIELD_COLUMN = "field-"
"""How the names of that file's columns begin that hold fields, as the table had them."""


def write_prepared(
    table: "ClickTable", encoder_folder: Path, max_tokens: int, folder: Path, fingerprint: str
) -> None:
    """Tokenize a table into an empty folder; of its tokens one block is in memory at a time.

    Args:
        table: The checked table.
        encoder_folder: Whose tokenizer is used.
        max_tokens: Longest row, special tokens included.
        folder: Where the files go; they are on disk when this returns.
        fingerprint: What the description says of itself.

    Raises:
        OSError: if there is no room.
    """
    order = _by_split(table.split)
    tokenizer = load_tokenizer(encoder_folder, max_tokens=max_tokens)
    _write_tokens(table.texts, order, tokenizer, table.layout, folder)
    arrays = {"clicks": table.clicks, "impressions": table.impressions, "groups": table.groups}
    if table.propensities is not None:
        arrays[PROPENSITIES] = table.propensities
    for name, array in arrays.items():
        # Groups are kept as wide as in every version.
        dtype = np.dtype(np.int64) if name == "groups" else array.dtype
        # Not np.save, which says of a full disk only how many numbers were written.
        with ArrayFile(folder / f"{name}.npy", dtype) as file:
            for block in row_blocks(len(order)):
                file.append(array[order[block]])
    fields = table.fields.fit(np.flatnonzero(table.split == 0), table.impressions)
    _write_fields(table, order, fields, folder)
    _write_rows(table.texts, table.fields, order, folder / TEXTS_FILE)
    training = table.split == 0
    impressions = table.impressions[training].sum(dtype=np.float64)
    description = {
        "format_version": FORMAT_VERSION,
        "fingerprint": fingerprint,
        "num_rows": [int((table.split == part).sum()) for part in range(len(SPLIT_NAMES))],
        "base_rate": float(table.clicks[training].sum(dtype=np.float64) / impressions),
        "mean_impressions": float(impressions / training.sum()),
        "layout": dataclasses.asdict(table.layout),
        "fields": fields.to_dict(),
        "has_propensities": table.propensities is not None,
        "num_bytes": {entry.name: entry.stat().st_size for entry in os.scandir(folder)},
    }
    (folder / DESCRIPTION_FILE).write_text(json.dumps(description, indent=2), encoding="utf-8")
    for path in folder.iterdir():
        # Before the folder gets its name: a machine that loses power must not leave empty files.
        with path.open("rb") as file:
            os.fsync(file.fileno())


def _by_split(split: np.ndarray) -> np.ndarray:
    """Order rows by split, and within one as they are."""
    parts = (np.flatnonzero(split == part) for part in range(len(SPLIT_NAMES)))
    order = np.empty(len(split), dtype=narrow_numbers(len(split)))
    start = 0
    for rows in parts:
        order[start : start + len(rows)] = rows
        start += len(rows)
    return order


def _write_tokens(
    texts: Sequence[TextColumn],
    order: np.ndarray,
    tokenizer: "Tokenizer",
    layout: TextLayout,
    folder: Path,
) -> None:
    """Write the arrays of :class:`trainables.data.token_rows.TokenRows`, of the rows in an order.

    Each distinct row of texts is tokenized and written once.
    """
    codes = take_rows(number_rows([column.codes for column in texts])[0], order)
    # Numbered anew, by the first occurrence in that order.
    codes, first = number_rows([codes])
    # Rows that differ may still read the same where several columns are joined to one segment.
    numbers = np.empty(len(first), np.int32)
    lengths, second_starts = [], []
    done = num_texts = 0
    with ArrayFile(folder / "ids.npy", np.dtype(np.int32)) as file:
        for block in token_blocks(texts, order[first], tokenizer, layout):
            file.append(block.ids)
            lengths.append(block.text_lengths)
            second_starts.append(block.second_starts)
            numbers[done : done + len(block)] = num_texts + block.text_numbers
            done += len(block)
            num_texts += len(block.second_starts)
    with ArrayFile(folder / "text_numbers.npy", np.dtype(np.int32)) as file:
        for part in row_blocks(len(codes)):
            file.append(numbers[codes[part]])
    with ArrayFile(folder / "second_starts.npy", np.dtype(np.int32)) as file:
        for starts in second_starts:
            file.append(starts)
    with ArrayFile(folder / "offsets.npy", np.dtype(np.int64)) as file:
        total = np.zeros(1, np.int64)
        file.append(total)
        for part_lengths in lengths:
            offsets = total + np.cumsum(part_lengths, dtype=np.int64)
            file.append(offsets)
            total = offsets[-1:]


def _write_fields(table: "ClickTable", order: np.ndarray, fields: Fields, folder: Path) -> None:
    """Write the rows' codes and numbers, those that there are."""
    encoded = table.fields.encode(fields, table.texts, len(order))
    for name, array in zip(FIELD_ARRAYS, encoded, strict=True):
        if array.size:
            with ArrayFile(folder / f"{name}.npy", array.dtype) as file:
                for block in row_blocks(len(order)):
                    file.append(array[order[block]].ravel())


def _write_rows(
    texts: Sequence[TextColumn], fields: RawFields, order: np.ndarray, path: Path
) -> None:
    """Write what rows held before they became numbers: texts, categories, numbers and times."""
    values = fields.values()
    text = pyarrow.large_string()
    schema = pyarrow.schema(
        [
            *((str(number), text) for number in range(len(texts))),
            *(
                (f"{FIELD_COLUMN}{name}", text if isinstance(column, TextColumn) else "float64")
                for name, column in values.items()
            ),
        ]
    )
    with pyarrow.parquet.ParquetWriter(path, schema) as writer:
        for start in range(0, len(order), TEXT_BLOCK_ROWS):
            rows = order[start : start + TEXT_BLOCK_ROWS]
            columns = [
                column.take(rows).arrow() if isinstance(column, TextColumn) else column[rows]
                for column in (*texts, *values.values())
            ]
            writer.write_table(pyarrow.table(columns, schema=schema))


class ArrayFile:
    """A ``.npy`` file of one dimension that grows, for an array that doesn't fit into memory."""

    def __init__(self, path: Path, dtype: np.dtype[Any]) -> None:
        """Create the file.

        Args:
            path: Must not exist.
            dtype: Of its numbers.
        """
        self._file = path.open("xb")
        self._dtype = dtype
        self._size = 0
        self._write_header()

    def append(self, numbers: np.ndarray) -> None:
        """Add (n,) numbers at the end."""
        self._file.write(np.ascontiguousarray(numbers, dtype=self._dtype).data)
        self._size += len(numbers)

    def _write_header(self) -> None:
        # NumPy leaves room in a header for the first dimension to grow.
        description = np.lib.format.dtype_to_descr(self._dtype)
        header = {"descr": description, "fortran_order": False, "shape": (self._size,)}
        np.lib.format.write_array_header_1_0(self._file, header)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with self._file:
            if error is None:
                self._file.seek(0)
                self._write_header()
