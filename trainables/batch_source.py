"""A split's rows as batches of what the model takes: token ids, or the frozen layers' output."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, cast

import numpy as np
import torch

from trainables.array_cache import CACHE_FOLDER, ArrayCache
from trainables.augmentation.bank import AugmentationBank
from trainables.augmentation.noise import RecordNoise
from trainables.augmentation.record import EncodedFields
from trainables.augmentation.variants import EpochTokens, Variants, interleave
from trainables.data.prepared import PreparedData, Rows
from trainables.frozen_cache import FrozenCache, FrozenLayers
from trainables.mixup import Mixup

if TYPE_CHECKING:
    from trainables.engine import Engine
    from trainables.model import ClickModel
    from trainables.trial_setup import TrialSetup


@dataclass(frozen=True, kw_only=True, slots=True)
class CachedStates:
    """What is known of some rows' frozen part."""

    original: FrozenCache
    """States of the rows as they were prepared."""
    variants: FrozenCache | None
    """States of the epoch's variants; None: they are computed in each step."""
    compute: Callable[..., torch.Tensor]
    """:meth:`trainables.model.ClickModel.frozen_states`, for variants without states."""


@dataclass(frozen=True, kw_only=True, slots=True)
class BatchSource:
    """Rows, and how a batch of them reaches the model."""

    rows: Rows
    """The rows as they were prepared."""
    tokens: EpochTokens
    """Their tokens in this epoch: an augmentation may have varied some."""
    device: torch.device
    """Where the model is."""
    cached: CachedStates | None = None
    """None: the model computes everything."""
    mixup: Mixup | None = None
    """How rows are mixed in training; None: they aren't."""
    noise: RecordNoise | None = None
    """How their fields are varied in training; None: they aren't."""

    def batch(self, indices: np.ndarray) -> dict[str, torch.Tensor | None]:
        """Return the arguments of :meth:`trainables.model.ClickModel.forward` for some rows."""
        fields: EncodedFields = self.rows.inputs.fields(indices)
        if self.noise is not None:
            fields = self.noise(fields)
        batch = {**self.tokens.batch(indices), **fields}
        if self.cached is None:
            return {**to_device(batch, self.device)}
        del batch["input_ids"]
        states = torch.from_numpy(self._states(self.cached, indices))
        return {
            "input_ids": None,
            **to_device(batch, self.device),
            "states": states.to(self.device, non_blocking=True),
        }

    def _states(self, cached: CachedStates, indices: np.ndarray) -> np.ndarray:
        varied, places = self.tokens.find(indices)
        variants = self.tokens.variants
        if variants is None or not varied.any():
            return cached.original.gather(self.tokens.original, indices)
        of_variants = self._states_of_variants(cached, variants, places[varied])
        if varied.all():
            return of_variants
        original = cached.original.gather(self.tokens.original, indices[~varied])
        return interleave(varied, original, of_variants)

    def _states_of_variants(
        self, cached: CachedStates, variants: Variants, places: np.ndarray
    ) -> np.ndarray:
        if cached.variants is not None:
            return cached.variants.gather(variants.tokens, places)
        with torch.no_grad():
            states = cached.compute(**to_device(variants.tokens.batch(places), self.device))
        return states.cpu().numpy()


class TrialSources:
    """Where a trial's batches come from; the frozen layers' output from the cache, if it has any.

    All workers must make one, and ask it for the same epochs: they use cached states only if each
    of them has them, since under ZeRO 3 a forward pass is a conversation.
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
        self._engine = engine
        self._model = cast("ClickModel", engine.module)
        # Computing a varied row's frozen part apart from the others is no such conversation.
        self._vary_apart = setup.deepspeed.zero_stage < 3
        self._files: ArrayCache | None = None
        self._layers: FrozenLayers | None = None
        self._original: FrozenCache | None = None
        if setup.encoder.cache_gb > 0:
            self._files = ArrayCache(data.folder / CACHE_FOLDER, budget_gb=setup.encoder.cache_gb)
        # Below the first layer there is only a table to look up.
        if self._model.num_frozen and self._files is not None:
            self._layers = FrozenLayers(
                encoder_folder=encoder_folder,
                num_frozen=self._model.num_frozen,
                device=engine.device,
                files=self._files,
            )
            self._original = self._if_all_have(self._layers.open_prepared(data))

    def train(self, epoch: int) -> BatchSource:
        """Return the training rows of an epoch."""
        rows = self._data.rows("train")
        variants = self._bank.variants(epoch, self._files)
        return BatchSource(
            rows=rows,
            tokens=EpochTokens(original=rows.tokens, variants=variants),
            device=self._engine.device,
            cached=self._cached(variants),
        )

    def validation(self) -> BatchSource:
        """Return the validation rows."""
        rows = self._data.rows("validation")
        return BatchSource(
            rows=rows,
            tokens=EpochTokens(original=rows.tokens),
            device=self._engine.device,
            cached=self._cached(None),
        )

    def _cached(self, variants: Variants | None) -> CachedStates | None:
        if self._original is None or self._layers is None:
            return None
        of_variants = None
        if variants is not None:
            of_variants = self._if_all_have(self._layers.open_variants(variants))
            if of_variants is None and not self._vary_apart:
                return None
        return CachedStates(
            original=self._original, variants=of_variants, compute=self._model.frozen_states
        )

    def _if_all_have(self, states: FrozenCache | None) -> FrozenCache | None:
        return states if self._engine.all_workers(states is not None) else None


def to_device(batch: Mapping[str, np.ndarray], device: torch.device) -> dict[str, torch.Tensor]:
    """Copy a batch to where the model is."""
    return {
        name: torch.from_numpy(array).to(device, non_blocking=True) for name, array in batch.items()
    }
