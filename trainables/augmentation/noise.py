"""What a trial does to the fields of its training rows."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np

from spaces.trial_config import TrialConfig
from trainables.augmentation import RECORD_OPERATIONS
from trainables.augmentation.record import EncodedFields, RecordOperation
from trainables.data.fields import Fields

STREAM = 3
"""Tells its random numbers from the others of a trial and an epoch."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RecordNoise:
    """Operations on the batches of an epoch, one after the other."""

    operations: tuple[RecordOperation, ...]
    """In order."""
    rng: np.random.Generator
    """Of the trial, the epoch and the worker."""

    @classmethod
    def of(
        cls,
        trial: TrialConfig,
        columns: Fields,
        *,
        epoch: int,
        rank: int,
        placement: Sequence[str] = (),
    ) -> Self | None:
        """Return what a trial does in an epoch; None for nothing.

        Args:
            trial: Says how much.
            columns: The table's fields.
            epoch: Number of the epoch.
            rank: Number of the worker.
            placement: Categorical columns that make a placement.
        """
        rates = {name: getattr(trial, name) for name in RECORD_OPERATIONS}
        built = [
            RECORD_OPERATIONS[name](columns, rate, placement)
            for name, rate in rates.items()
            if rate > 0
        ]
        operations = tuple(operation for operation in built if operation is not None)
        if not operations:
            return None
        rng = np.random.default_rng([trial.seed, epoch, STREAM, rank])
        return cls(operations=operations, rng=rng)

    def __call__(self, fields: EncodedFields) -> EncodedFields:
        """Vary the fields of a batch."""
        for operation in self.operations:
            fields = operation(fields, self.rng)
        return fields
