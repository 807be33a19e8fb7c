"""Exchange categories between rows: the same product in another ad format, say."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from trainables.augmentation.record import EncodedFields
from trainables.data.fields import Fields


@dataclass(frozen=True, slots=True)
class CategorySwap:
    """Gives rows categories of others; a :class:`trainables.augmentation.record.RecordOperation`.

    A category comes from another row of the batch, so that the frequent ones stay frequent: the
    swap noise of denoising autoencoders for tables.
    """

    rate: float
    """Probability that a category is another row's."""
    swapped: tuple[bool, ...]
    """Which of the categorical columns it may be in."""

    def __call__(self, fields: EncodedFields, rng: np.random.Generator) -> EncodedFields:
        """Replace each category with probability ``rate`` by that of a row drawn for it."""
        if (codes := fields.get("codes")) is None:
            return fields
        rows = np.arange(len(codes))[:, None]
        others = rng.integers(len(codes), size=codes.shape)
        changes = (rng.random(codes.shape) < self.rate) & np.array(self.swapped)
        givers = np.where(changes, others, rows)
        return {**fields, "codes": np.take_along_axis(codes, givers, axis=0)}


def build_category_swap(columns: Fields, rate: float, placement: Sequence[str]) -> CategorySwap:
    """Build it.

    A placement is left alone, because its effect is what a policy chooses by, and so is a category
    that is compared with another column: what the two share would be the former one's.
    """
    compared = {name for pair in columns.comparisons for name in pair.names}
    kept = {*placement, *compared}
    return CategorySwap(rate, tuple(field.name not in kept for field in columns.categorical))
