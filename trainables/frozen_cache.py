"""The frozen layers' output for all tokens of a study, computed once and shared by its trials."""

import contextlib
import errno
import fcntl
import logging
import os
import uuid
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING

import numpy as np
import torch

from trainables.data.prepared import PreparedData
from trainables.data.token_rows import TokenRows
from trainables.encoder import load_bert
from trainables.frozen_part import STATE_DTYPE, frozen_states

if TYPE_CHECKING:
    from transformers import BertModel

log = logging.getLogger(__name__)

CACHE_FOLDER = "frozen"
"""Inside the folder of the prepared data, whose fingerprint covers text, tokens and encoder."""

STORED = np.dtype("<f2")
"""A token's state on disk: ``STATE_DTYPE``, little-endian."""

CHUNK_ROWS = 2048
"""Rows that are computed before they are written: 30 MB at 20 tokens of 384 numbers."""

BATCH_ROWS = 128


@dataclass(frozen=True, kw_only=True, slots=True)
class FrozenCache:
    """The states of all training and validation tokens, read from disk as they are used."""

    states: np.ndarray
    """float16 (tokens, hidden_size), memory-mapped; a token has the place that its id has in the
    prepared data."""

    def gather(self, tokens: TokenRows, indices: np.ndarray) -> np.ndarray:
        """Copy the states of some rows, padded to the longest among them.

        Args:
            tokens: Rows of the prepared data.
            indices: (b,) row numbers.

        Returns:
            float16 (b, longest, hidden_size); arbitrary where a row has no token.
        """
        positions, _ = tokens.positions(indices)
        return np.take(self.states, positions, axis=0)


def open_frozen_cache(
    data: PreparedData,
    encoder_folder: Path,
    *,
    num_frozen: int,
    budget_gb: float,
    device: torch.device,
) -> FrozenCache | None:
    """Map the states below a cut; compute them if nobody has, or wait for whoever is at it.

    A file lock lets one process compute. The kernel frees it if that process is killed, and the
    file gets its name when it is complete, so a part of it is never read.

    Args:
        data: The prepared data.
        encoder_folder: Of the encoder that it was prepared for.
        num_frozen: Layers below the cut.
        budget_gb: Disk space for the states of all cuts together.
        device: Where to compute.

    Returns:
        The cache, or None with a warning where there is no room for it.
    """
    folder = data.folder / CACHE_FOLDER
    path = folder / f"below-layer-{num_frozen}.npy"
    num_tokens = int(data.arrays["offsets"][sum(data.num_rows[:2])])
    try:
        folder.mkdir(exist_ok=True)
        with _locked(folder / f"below-layer-{num_frozen}.lock"):
            states = _read(path, num_tokens)
            if states is None:
                _Builder(data, encoder_folder, num_frozen, device).build(path, budget_gb)
                states = _read(path, num_tokens)
    except OSError as error:
        warnings.warn(
            f"the frozen layers' output can't be kept in {folder} ({error}); every trial computes "
            "it, which is slower and changes no result",
            RuntimeWarning,
            stacklevel=2,
        )
        return None
    return None if states is None else FrozenCache(states=states)


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _read(path: Path, num_tokens: int) -> np.ndarray | None:
    """Map a file of states; None if it isn't there or isn't whole."""
    try:
        states = np.asarray(np.load(path, mmap_mode="r", allow_pickle=False))
    except (FileNotFoundError, ValueError):
        return None
    fits = states.ndim == 2 and len(states) == num_tokens and states.dtype == STORED
    return states if fits else None


class _Builder:
    """Computes one file of states, under its lock."""

    def __init__(
        self, data: PreparedData, encoder_folder: Path, num_frozen: int, device: torch.device
    ) -> None:
        self._data = data
        self._encoder_folder = encoder_folder
        self._num_frozen = num_frozen
        self._device = device

    def build(self, path: Path, budget_gb: float) -> None:
        """Compute all states and give the file its name.

        Raises:
            OSError: if there is no room.
        """
        # Where a shared file system ignores locks, two compute the same file and don't meet.
        partial = path.with_name(f".{path.stem}-{uuid.uuid4().hex[:8]}")
        for left in (path, *path.parent.glob(f".{path.stem}-*")):
            left.unlink(missing_ok=True)
        try:
            with partial.open("xb") as file:
                self._write(file, partial, budget_gb)
                file.flush()
                os.fsync(file.fileno())
            partial.rename(path)
        finally:
            partial.unlink(missing_ok=True)
        log.info("computed the output of %d frozen layers for %s", self._num_frozen, path)

    def _write(self, file: IO[bytes], partial: Path, budget_gb: float) -> None:
        tokens = self._tokens()
        num_tokens, hidden_size = int(tokens.offsets[-1]), _hidden_size(self._encoder_folder)
        header = {
            "descr": np.lib.format.dtype_to_descr(STORED),
            "fortran_order": False,
            "shape": (num_tokens, hidden_size),
        }
        np.lib.format.write_array_header_1_0(file, header)
        num_bytes = file.tell() + num_tokens * hidden_size * STORED.itemsize
        _reserve(file, partial, num_bytes, budget_gb)
        encoder = load_bert(self._encoder_folder, dropout=0.0).eval().to(self._device)
        with torch.inference_mode():
            for start in range(0, len(tokens), CHUNK_ROWS):
                rows = np.arange(start, min(start + CHUNK_ROWS, len(tokens)))
                file.write(self._states(encoder, tokens, rows).data)

    def _tokens(self) -> TokenRows:
        arrays, num_rows = self._data.arrays, sum(self._data.num_rows[:2])
        return TokenRows(
            ids=arrays["ids"],
            offsets=arrays["offsets"][: num_rows + 1],
            second_starts=arrays["second_starts"][:num_rows],
        )

    def _states(self, encoder: "BertModel", tokens: TokenRows, rows: np.ndarray) -> np.ndarray:
        """Compute the states of rows that follow each other, (tokens, hidden_size)."""
        first = tokens.offsets[rows[0]]
        states = np.empty(
            (tokens.offsets[rows[-1] + 1] - first, encoder.config.hidden_size), dtype=STORED
        )
        ordered = rows[np.argsort(tokens.lengths_of(rows), kind="stable")]
        for start in range(0, len(ordered), BATCH_ROWS):
            indices = ordered[start : start + BATCH_ROWS]
            batch = {
                name: torch.from_numpy(array).to(self._device)
                for name, array in tokens.batch(indices).items()
            }
            hidden = frozen_states(encoder, self._num_frozen, **batch).to("cpu", STATE_DTYPE)
            positions, inside = tokens.positions(indices)
            states[positions[inside] - first] = hidden.numpy()[inside]
        return states


def _hidden_size(encoder_folder: Path) -> int:
    from transformers import BertConfig

    size: int = BertConfig.from_pretrained(encoder_folder).hidden_size
    return size


def _reserve(file: IO[bytes], partial: Path, num_bytes: int, budget_gb: float) -> None:
    """Give a file its final size at once, so that a full disk is found before any work is done."""
    budget = int(budget_gb * 1e9)
    # One process at a time, so that two cuts don't take the same room.
    with _locked(partial.parent / "budget.lock"):
        used = sum(_num_bytes(other) for other in partial.parent.iterdir())
        if used + num_bytes > budget:
            raise OSError(
                errno.EDQUOT,
                f"it needs {num_bytes / 1e9:.3g} GB and {used / 1e9:.3g} GB are used, but "
                f"encoder.cache_gb allows {budget_gb:g}",
            )
        os.posix_fallocate(file.fileno(), 0, num_bytes)


def _num_bytes(path: Path) -> int:
    # A file may get its name, and lose the one that was listed, at any time.
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0
