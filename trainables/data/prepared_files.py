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
from trainables.data.raw_fields import RawFields
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
    order = np.argsort(table.split, kind="stable")
    texts = [TextColumn.of(column).take(order) for column in table.texts]
    tokenizer = load_tokenizer(encoder_folder, max_tokens=max_tokens)
    fields = table.fields.fit(np.flatnonzero(table.split == 0), table.impressions)
    arrays = {
        **_write_tokens(texts, tokenizer, table.layout, folder),
        "clicks": table.clicks[order],
        "impressions": table.impressions[order],
        "groups": table.groups[order],
    }
    if table.propensities is not None:
        arrays[PROPENSITIES] = table.propensities[order]
    encoded = table.fields.take(order).encode(fields, len(order))
    arrays.update(
        {name: a.ravel() for name, a in zip(FIELD_ARRAYS, encoded, strict=True) if a.size}
    )
    for name, array in arrays.items():
        # Not np.save, which says of a full disk only how many numbers were written.
        with ArrayFile(folder / f"{name}.npy", array.dtype) as file:
            file.append(array)
    _write_rows(texts, table.fields.take(order), folder / TEXTS_FILE)
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


def _write_tokens(
    texts: Sequence[TextColumn], tokenizer: "Tokenizer", layout: TextLayout, folder: Path
) -> dict[str, np.ndarray]:
    """Write ``ids.npy``, each distinct row of texts once; return the other arrays of the tokens.

    Returns:
        ``offsets``, ``second_starts`` and ``text_numbers``, as
        :class:`trainables.data.token_rows.TokenRows` has them.
    """
    codes, first = number_rows([column.codes for column in texts])
    # Rows that differ may still read the same where several columns are joined to one segment.
    numbers = np.empty(len(first), np.int32)
    lengths, second_starts = [], []
    done = num_texts = 0
    with ArrayFile(folder / "ids.npy", np.dtype(np.int32)) as file:
        for block in token_blocks(texts, first, tokenizer, layout):
            file.append(block.ids)
            lengths.append(block.text_lengths)
            second_starts.append(block.second_starts)
            numbers[done : done + len(block)] = num_texts + block.text_numbers
            done += len(block)
            num_texts += len(block.second_starts)
    offsets = np.zeros(num_texts + 1, dtype=np.int64)
    np.cumsum(np.concatenate(lengths), out=offsets[1:])
    return {
        "offsets": offsets,
        "second_starts": np.concatenate(second_starts),
        "text_numbers": numbers[codes],
    }


def _write_rows(texts: Sequence[TextColumn], fields: RawFields, path: Path) -> None:
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
        for start in range(0, len(texts[0]), TEXT_BLOCK_ROWS):
            part = slice(start, start + TEXT_BLOCK_ROWS)
            columns = [
                column[part].arrow() if isinstance(column, TextColumn) else column[part]
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
