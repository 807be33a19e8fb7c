"""The frozen layers' output for all texts of a study, computed once and shared by its trials."""

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
    """The states of many texts' tokens, read from disk as they are used."""

    states: np.ndarray
    """float16 (tokens, hidden_size), memory-mapped; a token has the place that its id has among the
    ids of the texts, so that rows of equal text share their states."""

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
        """Map the states of all training and validation rows' texts; compute them if nobody has.

        Returns:
            The states, each token's at the place of its id in the data; None where there is no
            room for them: see :meth:`ArrayCache.open`.
        """
        return self._open(self._name, data.first_tokens(sum(data.num_rows[:2])))

    def open_variants(self, variants: Variants) -> FrozenCache | None:
        """Map the states of an epoch's variants; compute them if nobody has.

        Returns:
            The states, or None where there is no room for them.
        """
        return self._open(f"{VARIANT_PREFIX}{variants.digest}-{self._name}", variants.tokens)

    def _open(self, name: str, tokens: TokenRows) -> FrozenCache | None:
        texts = tokens.texts()
        shape = (int(texts.offsets[-1]), _hidden_size(self.encoder_folder))
        arrays = self.files.open(
            name,
            lambda: [StoredArray(dtype=STORED, shape=shape, blocks=self._compute(texts))],
            fits=lambda found: [(a.shape, a.dtype) for a in found] == [(shape, STORED)],
        )
        return None if arrays is None else FrozenCache(states=arrays[0])

    def _compute(self, texts: TokenRows) -> Iterator[np.ndarray]:
        """Compute the states of texts, one row each: (tokens of some, hidden_size) at a time."""
        encoder = load_bert(self.encoder_folder, dropout=0.0, share_weights=True)
        encoder.eval().to(self.device)
        start = 0
        while start < len(texts):
            end = int(texts.offsets[start]) + CHUNK_TOKENS
            stop = int(np.searchsorted(texts.offsets, end, side="right")) - 1
            stop = max(stop, start + 1)  # A single text may have more.
            yield self._states(encoder, texts, start, stop)
            start = stop

    def _states(
        self, encoder: "BertModel", texts: TokenRows, start_text: int, stop_text: int
    ) -> np.ndarray:
        offsets = np.asarray(texts.offsets[start_text : stop_text + 1])
        first = offsets[0]
        states = np.empty((offsets[-1] - first, encoder.config.hidden_size), dtype=STORED)
        batch_tokens = evaluation_tokens(self.device.type)
        for batch_texts in batches_in_order(np.diff(offsets), batch_tokens=batch_tokens):
            indices = start_text + batch_texts
            batch = {
                name: torch.from_numpy(array).to(self.device)
                for name, array in texts.batch(indices).items()
            }
            with torch.inference_mode():
                hidden = frozen_states(encoder, self.num_frozen, **batch).to("cpu", STATE_DTYPE)
            positions, inside = texts.positions(indices)
            states[positions[inside] - first] = hidden.numpy()[inside]
        return states


def _hidden_size(encoder_folder: Path) -> int:
    from transformers import BertConfig

    size: int = BertConfig.from_pretrained(encoder_folder).hidden_size
    return size
