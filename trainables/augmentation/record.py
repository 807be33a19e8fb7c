"""What an operation on the fields of a batch's rows is."""

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

import numpy as np

from trainables.data.fields import Fields

EncodedFields = Mapping[str, np.ndarray]
"""What a model sees of b rows' fields: ``codes``, int64 (b, categorical columns), and ``numbers``,
float32 (b, numbers); a kind that rows don't have is left out."""


class RecordOperation(Protocol):
    """Varies fields so that whether a row is clicked would hardly change; anew in every epoch."""

    def __call__(self, fields: EncodedFields, rng: np.random.Generator) -> EncodedFields:
        """Return the fields of the same rows, varied; the given ones stay as they are."""
        ...


RecordBuilder = Callable[[Fields, float, Sequence[str]], RecordOperation | None]
"""Builds an operation from a table's fields, the trial's setting of its name, above 0, and the
columns whose effect is to be learned: those of a placement."""
