"""The frozen layers' output for all tokens of a study, computed once and shared by its trials."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from trainables.array_cache import VARIANT_PREFIX, ArrayCache, StoredArray
from trainables.augmentation.variants import Variants
from trainables.data.batching import batches_in_order
from trainables.data.prepared import PreparedData
from trainables.data.token_rows import TokenRows
from trainables.encoder import load_bert
from trainables.frozen_part import STATE_DTYPE, frozen_states
from trainables.trial_setup import evaluation_tokens

if TYPE_CHECKING:
    from transformers import BertModel

STORED = np.dtype("<f2")
"""A token's state on disk: ``STATE_DTYPE``, little-endian."""

FORMAT_VERSION = 1
"""Rises when a state's meaning changes; files of other versions are then no longer found."""

CHUNK_TOKENS = 40_960
"""Tokens that are computed before they are written: 30 MB of 384 numbers each."""


@dataclass(frozen=True, kw_only=True, slots=True)
class FrozenCache:
    """The states of many rows' tokens, read from disk as they are used."""

    states: np.ndarray
    """float16 (tokens, hidden_size), memory-mapped; a token has the place that its id has among the
    ids of the rows."""

    def gather(self, tokens: TokenRows, indices: np.ndarray) -> np.ndarray:
        """Copy the states of some rows, padded to the longest among them.

        Args:
            tokens: The rows whose states these are, or some of them.
            indices: (b,) row numbers.

        Returns:
            float16 (b, longest, hidden_size); arbitrary, but finite, where a row has no token.
        """
        positions, _ = tokens.positions(indices)
        return np.take(self.states, positions, axis=0)


@dataclass(frozen=True, kw_only=True, slots=True)
class FrozenLayers:
    """The layers below a cut, and where their output is kept."""

    encoder_folder: Path
    """Of the encoder that the data was prepared for."""
    num_frozen: int
    """Layers below the cut."""
    device: torch.device
    """Where to compute."""
    files: ArrayCache
    """Where the output is kept."""

    @property
    def _name(self) -> str:
        return f"below-layer-{self.num_frozen}-v{FORMAT_VERSION}.npy"

    def open_prepared(self, data: PreparedData) -> FrozenCache | None:
        """Map the states of all training and validation rows; compute them if nobody has.

        Returns:
            The states, each token's at the place of its id in the data; None where there is no
            room for them: see :meth:`ArrayCache.open`.
        """
        arrays, num_rows = data.arrays, sum(data.num_rows[:2])
        tokens = TokenRows(
            ids=arrays["ids"],
            offsets=arrays["offsets"][: num_rows + 1],
            second_starts=arrays["second_starts"][:num_rows],
        )
        return self._open(self._name, tokens)

    def open_variants(self, variants: Variants) -> FrozenCache | None:
        """Map the states of an epoch's variants; compute them if nobody has.

        Returns:
            The states, or None where there is no room for them.
        """
        return self._open(f"{VARIANT_PREFIX}{variants.digest}-{self._name}", variants.tokens)

    def _open(self, name: str, tokens: TokenRows) -> FrozenCache | None:
        shape = (int(tokens.offsets[-1]), _hidden_size(self.encoder_folder))
        arrays = self.files.open(
            name,
            lambda: [StoredArray(dtype=STORED, shape=shape, blocks=self._compute(tokens))],
            fits=lambda found: [(a.shape, a.dtype) for a in found] == [(shape, STORED)],
        )
        return None if arrays is None else FrozenCache(states=arrays[0])

    def _compute(self, tokens: TokenRows) -> Iterator[np.ndarray]:
        """Compute the rows' states, (tokens of some rows, hidden_size) at a time."""
        encoder = load_bert(self.encoder_folder, dropout=0.0, share_weights=True)
        encoder.eval().to(self.device)
        start = 0
        while start < len(tokens):
            end = int(tokens.offsets[start]) + CHUNK_TOKENS
            stop = int(np.searchsorted(tokens.offsets, end, side="right")) - 1
            stop = max(stop, start + 1)  # A single row may have more.
            yield self._states(encoder, tokens, start, stop)
            start = stop

    def _states(
        self, encoder: "BertModel", tokens: TokenRows, start_row: int, stop_row: int
    ) -> np.ndarray:
        offsets = np.asarray(tokens.offsets[start_row : stop_row + 1])
        first = offsets[0]
        states = np.empty((offsets[-1] - first, encoder.config.hidden_size), dtype=STORED)
        batch_tokens = evaluation_tokens(self.device.type)
        for batch_rows in batches_in_order(np.diff(offsets), batch_tokens=batch_tokens):
            indices = start_row + batch_rows
            batch = {
                name: torch.from_numpy(array).to(self.device)
                for name, array in tokens.batch(indices).items()
            }
            with torch.inference_mode():
                hidden = frozen_states(encoder, self.num_frozen, **batch).to("cpu", STATE_DTYPE)
            positions, inside = tokens.positions(indices)
            states[positions[inside] - first] = hidden.numpy()[inside]
        return states


def _hidden_size(encoder_folder: Path) -> int:
    from transformers import BertConfig

    size: int = BertConfig.from_pretrained(encoder_folder).hidden_size
    return size
