"""A split's rows as batches of what the model takes: token ids, or the frozen layers' output."""

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, cast

import numpy as np
import torch

from trainables.augmentation.bank import AugmentationBank
from trainables.data.prepared import PreparedData, Rows
from trainables.data.token_rows import TokenRows
from trainables.frozen_cache import FrozenCache, open_frozen_cache

if TYPE_CHECKING:
    from trainables.engine import Engine
    from trainables.model import ClickModel
    from trainables.trial_setup import TrialSetup


@dataclass(frozen=True, kw_only=True, slots=True)
class CachedStates:
    """What is known of some rows' frozen part."""

    cache: FrozenCache
    """Holds the states of the rows as they were prepared."""
    originals: TokenRows
    """The rows as they were prepared."""
    varied: np.ndarray
    """bool (n,): rows whose text an augmentation changed, which the cache doesn't hold."""
    compute: Callable[..., torch.Tensor]
    """:meth:`trainables.model.ClickModel.frozen_states`, for those rows."""


@dataclass(frozen=True, kw_only=True, slots=True)
class BatchSource:
    """Rows, and how a batch of them reaches the model."""

    rows: Rows
    """The rows; an epoch's tokens may be varied."""
    device: torch.device
    """Where the model is."""
    cached: CachedStates | None = None
    """None: the model computes everything."""

    def batch(self, indices: np.ndarray) -> dict[str, torch.Tensor | None]:
        """Return the arguments of :meth:`trainables.model.ClickModel.forward` for some rows."""
        tokens = self.rows.tokens
        if self.cached is None:
            return {**to_device(tokens.batch(indices), self.device)}
        _, inside = tokens.positions(indices)
        masks = to_device(tokens.masks(indices, inside), self.device)
        states = self._states(self.cached, indices, longest=inside.shape[1])
        return {"input_ids": None, **masks, "states": states}

    def _states(self, cached: CachedStates, indices: np.ndarray, *, longest: int) -> torch.Tensor:
        varied = cached.varied[indices]
        if not varied.any():
            gathered = cached.cache.gather(cached.originals, indices)
            return torch.from_numpy(gathered).to(self.device, non_blocking=True)
        parts = []
        if not varied.all():
            gathered = cached.cache.gather(cached.originals, indices[~varied])
            parts.append((~varied, torch.from_numpy(gathered).to(self.device)))
        batch = to_device(self.rows.tokens.batch(indices[varied]), self.device)
        with torch.no_grad():
            parts.append((varied, cached.compute(**batch)))
        first = parts[0][1]
        states = first.new_zeros(len(indices), longest, first.shape[2])
        for chosen, part in parts:
            states[torch.from_numpy(chosen).to(self.device), : part.shape[1]] = part
        return states


class TrialSources:
    """Where a trial's batches come from; the frozen layers' output from the cache, if it has any.

    All workers must make one: they use the cache only if each of them can, since under ZeRO 3 a
    forward pass is a conversation.
    """

    def __init__(
        self,
        data: PreparedData,
        bank: AugmentationBank,
        engine: "Engine",
        setup: "TrialSetup",
        encoder_folder: Path,
    ) -> None:
        self._data = data
        self._bank = bank
        self._device = engine.device
        self._model = cast("ClickModel", engine.module)
        # Computing a varied row's frozen part apart from the others is no such conversation.
        self._vary_apart = setup.deepspeed.zero_stage < 3
        self._cache: FrozenCache | None = None
        # Below the first layer there is only a table to look up.
        if self._model.num_frozen and setup.encoder.cache_gb > 0:
            cache = open_frozen_cache(
                data,
                encoder_folder,
                num_frozen=self._model.num_frozen,
                budget_gb=setup.encoder.cache_gb,
                device=engine.device,
            )
            if engine.all_workers(cache is not None):
                self._cache = cache

    def train(self, epoch: int) -> BatchSource:
        """Return the training rows of an epoch."""
        rows, varied = self._data.rows("train"), self._bank.varied(epoch)
        varied_rows = dataclasses.replace(rows, tokens=self._bank.tokens(epoch))
        cached = self._cached(rows, varied) if self._vary_apart or not varied.any() else None
        return BatchSource(rows=varied_rows, device=self._device, cached=cached)

    def validation(self) -> BatchSource:
        """Return the validation rows."""
        rows = self._data.rows("validation")
        cached = self._cached(rows, np.zeros(len(rows), dtype=bool))
        return BatchSource(rows=rows, device=self._device, cached=cached)

    def _cached(self, rows: Rows, varied: np.ndarray) -> CachedStates | None:
        if self._cache is None:
            return None
        return CachedStates(
            cache=self._cache,
            originals=rows.tokens,
            varied=varied,
            compute=self._model.frozen_states,
        )


def to_device(batch: Mapping[str, np.ndarray], device: torch.device) -> dict[str, torch.Tensor]:
    """Copy a batch to where the model is."""
    return {
        name: torch.from_numpy(array).to(device, non_blocking=True) for name, array in batch.items()
    }
