"""Tokenized data on disk that all trials of a study share, memory-mapped."""

import hashlib
import json
import os
import shutil
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from trainables.data.config import SPLIT_NAMES, SplitName
from trainables.data.table import ClickTable
from trainables.data.token_rows import TokenRows, tokenize
from trainables.encoder import EncoderConfig, encoder_fingerprint, find_encoder, load_tokenizer

FORMAT_VERSION = 1
"""Rises when the files' meaning changes; older folders are then made anew."""
ARRAYS = ("ids", "offsets", "second_starts", "clicks", "impressions", "groups")
DESCRIPTION_FILE = "prepared.json"
TEXTS_FILE = "texts.parquet"


@dataclass(frozen=True, kw_only=True, slots=True)
class Rows:
    """The rows of one split, in the order of the table."""

    tokens: TokenRows
    """Their texts, tokenized."""
    clicks: np.ndarray
    """float32 (n,): clicks."""
    impressions: np.ndarray
    """float32 (n,): impressions."""
    groups: np.ndarray
    """int64 (n,): rows of equal code belong together."""
    texts_file: Path
    """Parquet file with the texts of all splits."""
    first_row: int
    """Number of the first of these rows in that file."""

    def __len__(self) -> int:
        return len(self.clicks)

    def texts(self) -> list[tuple[str, ...]]:
        """Read the rows' texts, one tuple of text columns a row."""
        frame = pd.read_parquet(self.texts_file)
        frame = frame.iloc[self.first_row : self.first_row + len(self)]
        columns = [frame[name].tolist() for name in frame.columns]
        return list(zip(*columns, strict=True))


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
    num_segments: int
    """1 for one text column, 2 for several."""
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
            arrays = {
                name: np.asarray(np.load(folder / f"{name}.npy", mmap_mode="r", allow_pickle=False))
                for name in ARRAYS
            }
        except (OSError, ValueError) as error:
            raise ValueError(f"{folder}: {error}; delete the folder, it is made anew") from error
        return cls(
            folder=folder,
            fingerprint=description["fingerprint"],
            num_rows=tuple(description["num_rows"]),
            base_rate=description["base_rate"],
            mean_impressions=description["mean_impressions"],
            num_segments=description["num_segments"],
            arrays=arrays,
        )

    def rows(self, split: SplitName) -> Rows:
        """Return one split's rows, as views into the mapped files."""
        part = SPLIT_NAMES.index(split)
        start = sum(self.num_rows[:part])
        stop = start + self.num_rows[part]
        arrays = self.arrays
        return Rows(
            tokens=TokenRows(
                ids=arrays["ids"],
                offsets=arrays["offsets"][start : stop + 1],
                second_starts=arrays["second_starts"][start:stop],
            ),
            clicks=arrays["clicks"][start:stop],
            impressions=arrays["impressions"][start:stop],
            groups=arrays["groups"][start:stop],
            texts_file=self.folder / TEXTS_FILE,
            first_row=start,
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


def prepare(table: ClickTable, encoder: EncoderConfig, root: Path) -> PreparedData:
    """Tokenize a table, once for all trials.

    Safe against other processes that prepare the same table at the same time, and against a kill:
    the folder gets its name when it is complete.

    Args:
        table: The checked table.
        encoder: Whose tokenizer is used.
        root: Folder that holds one folder for each fingerprint.

    Raises:
        ValueError: if the encoder can't be found, or a damaged folder is in the way.
    """
    encoder_folder = find_encoder(encoder)
    identity = (table.fingerprint, encoder_fingerprint(encoder_folder), str(encoder.max_tokens))
    fingerprint = hashlib.sha256("/".join((*identity, str(FORMAT_VERSION))).encode()).hexdigest()[
        :16
    ]
    folder = root / fingerprint
    if folder.exists():
        return PreparedData.open(folder)
    unfinished = root / f".{fingerprint}-{uuid.uuid4().hex[:8]}"
    unfinished.mkdir(parents=True)
    try:
        _write(table, encoder_folder, encoder.max_tokens, unfinished, fingerprint)
        unfinished.rename(folder)
    except OSError:
        # A rename onto a folder with files fails: another process was first, and its data is equal.
        if not folder.exists():
            raise
    finally:
        # Also what a killed process left. Whoever is still writing there fails, finds this folder
        # and uses it.
        if folder.exists():
            for left in root.glob(f".{fingerprint}-*"):
                shutil.rmtree(left, ignore_errors=True)
        shutil.rmtree(unfinished, ignore_errors=True)
    return PreparedData.open(folder)


def _write(
    table: ClickTable, encoder_folder: Path, max_tokens: int, folder: Path, fingerprint: str
) -> None:
    order = np.argsort(table.split, kind="stable")
    texts = [[column[row] for row in order] for column in table.texts]
    tokens = tokenize(texts, load_tokenizer(encoder_folder, max_tokens=max_tokens))
    arrays = {
        "ids": tokens.ids,
        "offsets": tokens.offsets,
        "second_starts": tokens.second_starts,
        "clicks": table.clicks[order],
        "impressions": table.impressions[order],
        "groups": table.groups[order],
    }
    for name, array in arrays.items():
        np.save(folder / f"{name}.npy", array, allow_pickle=False)
    frame = pd.DataFrame({str(number): column for number, column in enumerate(texts)})
    frame.to_parquet(folder / TEXTS_FILE, index=False)
    training = table.split == 0
    impressions = table.impressions[training].sum(dtype=np.float64)
    description = {
        "format_version": FORMAT_VERSION,
        "fingerprint": fingerprint,
        "num_rows": [int((table.split == part).sum()) for part in range(len(SPLIT_NAMES))],
        "base_rate": float(table.clicks[training].sum(dtype=np.float64) / impressions),
        "mean_impressions": float(impressions / training.sum()),
        "num_segments": min(len(texts), 2),
        "num_bytes": {entry.name: entry.stat().st_size for entry in os.scandir(folder)},
    }
    (folder / DESCRIPTION_FILE).write_text(json.dumps(description, indent=2), encoding="utf-8")
