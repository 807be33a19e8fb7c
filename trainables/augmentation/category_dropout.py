"""Hide categories, so that a model learns to do without each of them."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from trainables.augmentation.record import EncodedFields
from trainables.data.fields import MISSING, Fields


@dataclass(frozen=True, slots=True)
class CategoryDropout:
    """Makes categories look missing; a :class:`trainables.augmentation.record.RecordOperation`."""

    rate: float
    """Probability of hiding a category."""

    def __call__(self, fields: EncodedFields, rng: np.random.Generator) -> EncodedFields:
        """Hide each category with probability ``rate``."""
        if (codes := fields.get("codes")) is None:
            return fields
        return {**fields, "codes": np.where(rng.random(codes.shape) < self.rate, MISSING, codes)}


def build_category_dropout(
    columns: Fields, rate: float, placement: Sequence[str]
) -> CategoryDropout:
    """Build it; every categorical column is treated alike."""
    return CategoryDropout(rate)
