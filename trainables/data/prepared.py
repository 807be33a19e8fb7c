"""Tokenized data on disk that all trials of a study share, memory-mapped."""

import contextlib
import dataclasses
import errno
import fcntl
import hashlib
import json
import shutil
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import pyarrow.parquet

from trainables.data.config import SPLIT_NAMES, SplitName
from trainables.data.fields import Fields
from trainables.data.prepared_files import (
    ARRAYS,
    DESCRIPTION_FILE,
    FIELD_ARRAYS,
    FIELD_COLUMN,
    FORMAT_VERSION,
    PROPENSITIES,
    TEXTS_FILE,
    write_prepared,
)
from trainables.data.row_inputs import RowInputs
from trainables.data.table import ClickTable
from trainables.data.text_column import TextColumn
from trainables.data.token_rows import TextLayout, TokenRows, tokenize
from trainables.encoder import EncoderConfig, encoder_fingerprint, find_encoder
from trainables.linked_files import link_or_copy

if TYPE_CHECKING:
    from tokenizers import Tokenizer

NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@dataclass(frozen=True, kw_only=True, slots=True)
class Rows:
    """The rows of one split, in the order of the table."""

    inputs: RowInputs
    """What the model sees of them."""
    clicks: np.ndarray
    """float32 (n,): clicks."""
    impressions: np.ndarray
    """float32 (n,): impressions."""
    groups: np.ndarray
    """int64 (n,): rows of equal code belong together."""
    propensities: np.ndarray | None
    """float32 (n,): probability of the row's placement under the logging policy; None: unknown."""
    texts_file: Path
    """Parquet file with the texts and fields of all splits."""
    first_row: int
    """Number of the first of these rows in that file."""

    def __len__(self) -> int:
        return len(self.clicks)

    @property
    def tokens(self) -> TokenRows:
        """Their texts, tokenized."""
        return self.inputs.tokens

    def text_columns(self) -> tuple[TextColumn, ...]:
        """Read the rows' texts, column by column."""
        table = self._read()
        names = [name for name in table.column_names if not name.startswith(FIELD_COLUMN)]
        return tuple(TextColumn.of(table.column(name)) for name in names)

    def texts(self, indices: np.ndarray | None = None) -> list[tuple[str, ...]]:
        """Read the rows' texts, one tuple of text columns a row.

        Args:
            indices: Which rows; None: all.
        """
        rows = np.arange(len(self)) if indices is None else indices
        return list(zip(*(column.texts(rows) for column in self.text_columns()), strict=True))

    def retokenized(self, tokenizer: "Tokenizer", layout: TextLayout) -> Self:
        """Return the rows with the tokens that another tokenizer gives.

        Args:
            tokenizer: Set to truncate, not to pad.
            layout: How the text columns are joined.
        """
        texts = [column.texts(np.arange(len(self))) for column in self.text_columns()]
        tokens = tokenize(texts, tokenizer, layout)
        return dataclasses.replace(self, inputs=dataclasses.replace(self.inputs, tokens=tokens))

    def raw_fields(self, indices: np.ndarray) -> dict[str, list[str | float | None]]:
        """Read some rows' fields as the table had them: values by column.

        Categories are text, numbers numbers, times seconds since 1970; a missing one is None.
        """
        table = self._read().take(indices)
        return {
            name.removeprefix(FIELD_COLUMN): [
                None if value != value else value for value in table.column(name).to_pylist()
            ]
            for name in table.column_names
            if name.startswith(FIELD_COLUMN)
        }

    def _read(self) -> Any:  # noqa: ANN401 - untyped Arrow
        """Read what these rows held before they became numbers, as an Arrow table."""
        with pyarrow.parquet.ParquetFile(self.texts_file) as file:
            sizes = [file.metadata.row_group(i).num_rows for i in range(file.num_row_groups)]
            starts = np.cumsum([0, *sizes])
            stop = self.first_row + len(self)
            wanted = np.flatnonzero((starts[:-1] < stop) & (starts[1:] > self.first_row))
            table = file.read_row_groups(wanted.tolist())
        before = self.first_row - int(starts[wanted[0]]) if len(wanted) else 0
        return table.slice(before, len(self))


@dataclass(frozen=True, kw_only=True, slots=True)
class PreparedData:
    """A folder of tokenized data; its arrays are read from disk as they are used."""

    folder: Path
    """Where the files are."""
    fingerprint: str
    """Hash of the table, the encoder's files and ``max_tokens``; the folder's name."""
    num_rows: tuple[int, int, int]
    """Rows of training, validation and test; they follow each other in the arrays."""
    base_rate: float
    """Clicks per impression of the training rows."""
    mean_impressions: float
    """Mean impressions of a training row."""
    layout: TextLayout
    """How the text columns became tokens."""
    fields: Fields
    """How the fields became codes and numbers."""
    arrays: dict[str, np.ndarray]
    """The memory-mapped arrays by name."""

    @classmethod
    def open(cls, folder: Path) -> "PreparedData":
        """Map a prepared folder into memory.

        Raises:
            ValueError: if it isn't one, or its files are incomplete.
        """
        description = _read_description(folder)
        try:
            # What was prepared before columns were compared doesn't say so.
            fields = Fields.from_dict({"comparisons": [], **description["fields"]})
            layout = _layout(description["layout"])
            arrays = {name: _map_array(folder, name) for name in ARRAYS}
            if description["has_propensities"]:
                arrays[PROPENSITIES] = _map_array(folder, PROPENSITIES)
            num_rows = sum(description["num_rows"])
            shapes = fields.shapes
            for name, width in zip(
                FIELD_ARRAYS, (len(shapes.num_codes), shapes.num_numbers), strict=True
            ):
                dtype = np.int32 if name == "codes" else np.float32
                arrays[name] = (
                    _map_array(folder, name).reshape(num_rows, width)
                    if width
                    else np.zeros((num_rows, 0), dtype)
                )
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ValueError(f"{folder}: {error}; delete the folder, it is made anew") from error
        return cls(
            folder=folder,
            fingerprint=description["fingerprint"],
            num_rows=tuple(description["num_rows"]),
            base_rate=description["base_rate"],
            mean_impressions=description["mean_impressions"],
            layout=layout,
            fields=fields,
            arrays=arrays,
        )

    def rows(self, split: SplitName) -> Rows:
        """Return one split's rows, as views into the mapped files."""
        part = SPLIT_NAMES.index(split)
        start = sum(self.num_rows[:part])
        stop = start + self.num_rows[part]
        arrays = self.arrays
        return Rows(
            inputs=RowInputs(
                tokens=self._tokens(start, stop),
                codes=arrays["codes"][start:stop],
                numbers=arrays["numbers"][start:stop],
            ),
            clicks=arrays["clicks"][start:stop],
            impressions=arrays["impressions"][start:stop],
            groups=arrays["groups"][start:stop],
            propensities=arrays[PROPENSITIES][start:stop] if PROPENSITIES in arrays else None,
            texts_file=self.folder / TEXTS_FILE,
            first_row=start,
        )

    def first_tokens(self, num_rows: int) -> TokenRows:
        """Return the tokens of the first rows: of training, then validation, then test."""
        return self._tokens(0, num_rows)

    def _tokens(self, start: int, stop: int) -> TokenRows:
        # All splits share the texts, so that one which occurs in several is stored once.
        return TokenRows(
            ids=self.arrays["ids"],
            offsets=self.arrays["offsets"],
            second_starts=self.arrays["second_starts"],
            text_numbers=self.arrays["text_numbers"][start:stop],
        )


def _map_array(folder: Path, name: str) -> np.ndarray:
    return np.asarray(np.load(folder / f"{name}.npy", mmap_mode="r", allow_pickle=False))


def _layout(raw: Mapping[str, Any]) -> TextLayout:
    markers = raw["markers"]
    return TextLayout(
        **{
            **raw,
            "markers": None if markers is None else tuple(markers),
            "optional": tuple(raw["optional"]),
        }
    )


def _read_description(folder: Path) -> dict[str, Any]:
    try:
        text = (folder / DESCRIPTION_FILE).read_text(encoding="utf-8")
        description: dict[str, Any] = json.loads(text)
        version, sizes = description["format_version"], description["num_bytes"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f"{folder} holds no prepared data ({type(error).__name__}: {error}); "
            "prepare the table again"
        ) from error
    if version != FORMAT_VERSION:
        raise ValueError(
            f"{folder} has data format {version}, but this version reads {FORMAT_VERSION}; "
            "prepare the table again"
        )
    for name, num_bytes in sizes.items():
        file = folder / name
        found = file.stat().st_size if file.is_file() else None
        if found != num_bytes:
            raise ValueError(
                f"{file} should have {num_bytes} bytes, found "
                f"{'no file' if found is None else found}; delete the folder, it is made anew"
            )
    return description


def data_fingerprint(table: ClickTable, encoder: EncoderConfig) -> str:
    """Hash what prepared data depends on: the table, the encoder's files and ``max_tokens``.

    Returns:
        16 hexadecimal digits of SHA-256.

    Raises:
        ValueError: if the encoder can't be found.
    """
    identity = (
        table.fingerprint,
        encoder_fingerprint(find_encoder(encoder)),
        str(encoder.max_tokens),
        str(FORMAT_VERSION),
    )
    return hashlib.sha256("/".join(identity).encode()).hexdigest()[:16]


def prepare(
    table: ClickTable, encoder: EncoderConfig, root: Path, *, spare: Path | None = None
) -> PreparedData:
    """Tokenize a table, once for all trials.

    Safe against other processes that prepare the same table at the same time, which wait for the
    first, and against a kill or a full disk: the folder gets its name when it is complete. A
    damaged folder is made anew.

    Args:
        table: The checked table.
        encoder: Whose tokenizer is used.
        root: Folder that holds one folder for each fingerprint.
        spare: Another place where the same data may be; then it is shared instead of made.

    Raises:
        ValueError: if the encoder can't be found.
        OSError: if there is no room, or ``root`` can't be written.
    """
    fingerprint = data_fingerprint(table, encoder)
    folder = root / fingerprint
    if is_whole(folder):
        return PreparedData.open(folder)
    root.mkdir(parents=True, exist_ok=True)
    with _locked(root / f".{fingerprint}.lock"):
        if is_whole(folder):
            # Another process was at it, and is done.
            return PreparedData.open(folder)
        if spare is not None and is_whole(spare):
            share(spare, folder)
        else:
            encoder_folder = find_encoder(encoder)
            _fill(
                folder,
                lambda new: write_prepared(
                    table, encoder_folder, encoder.max_tokens, new, fingerprint
                ),
            )
    return PreparedData.open(folder)


def is_whole(folder: Path) -> bool:
    """Return whether a folder holds prepared data with all its files."""
    try:
        PreparedData.open(folder)
    except ValueError:
        return False
    return True


def share(source: Path, target: Path) -> None:
    """Give prepared data a second place: hard links, so that it is on disk once, or copies.

    Args:
        source: A whole folder.
        target: The new place, with the same name; what is there is replaced.

    Raises:
        OSError: if there is no room for copies, or the folder above can't be written.
    """
    names = [*_read_description(source)["num_bytes"], DESCRIPTION_FILE]

    def link_all(unfinished: Path) -> None:
        for name in names:
            link_or_copy(source / name, unfinished / name)

    _fill(target, link_all)


def _fill(folder: Path, write: Callable[[Path], None]) -> None:
    """Write a folder under another name, and give it its own when it is complete."""
    unfinished = folder.with_name(f".{folder.name}-{uuid.uuid4().hex[:8]}")
    unfinished.mkdir(parents=True)
    try:
        write(unfinished)
        if folder.exists() and not is_whole(folder):
            # Moved away, not emptied: a process that has its files mapped keeps them.
            folder.rename(folder.with_name(f".{folder.name}-{uuid.uuid4().hex[:8]}"))
        unfinished.rename(folder)
    except OSError as error:
        # A rename onto a folder with files fails: another process was first, and its data is equal.
        if not is_whole(folder):
            if error.errno in NO_ROOM:
                raise OSError(
                    error.errno,
                    f"no room for the prepared data in {folder.parent} ({error.strerror}); free "
                    "some, or put the study on another disk",
                ) from error
            raise
    finally:
        # Also what a killed process left. Whoever is still writing there, where a file system
        # ignores locks, fails, finds this folder and uses it.
        if is_whole(folder):
            for left in folder.parent.glob(f".{folder.name}-*"):
                shutil.rmtree(left, ignore_errors=True)
        shutil.rmtree(unfinished, ignore_errors=True)


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Let one process at a time make a folder; the kernel frees the lock of a killed one."""
    with path.open("a") as file:
        # Without locks two make the same folder, and the first to be done counts.
        with contextlib.suppress(OSError):
            fcntl.flock(file, fcntl.LOCK_EX)
        yield
