"""Hide categories, so that a model learns to do without each of them."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from trainables.augmentation.record import EncodedFields
from trainables.data.comparison import NOTHING
from trainables.data.fields import MISSING, Fields


@dataclass(frozen=True, slots=True)
class CategoryDropout:
    """Makes categories look missing; a :class:`trainables.augmentation.record.RecordOperation`."""

    rate: float
    """Probability of hiding a category."""
    compared: tuple[tuple[slice, ...], ...]
    """For each categorical column, which of a row's numbers compare it with another one."""

    def __call__(self, fields: EncodedFields, rng: np.random.Generator) -> EncodedFields:
        """Hide each category with probability ``rate``."""
        if (codes := fields.get("codes")) is None:
            return fields
        hidden = rng.random(codes.shape) < self.rate
        varied = {**fields, "codes": np.where(hidden, MISSING, codes)}
        if any(self.compared):
            # Or it could be told from what it shares with the other.
            varied["numbers"] = numbers = np.array(fields["numbers"])
            for column, spans in enumerate(self.compared):
                for span in spans:
                    numbers[hidden[:, column], span] = NOTHING
        return varied


def build_category_dropout(
    columns: Fields, rate: float, placement: Sequence[str]
) -> CategoryDropout:
    """Build it; every categorical column is treated alike."""
    compared = tuple(
        tuple(span for pair, span in columns.places_of_comparisons() if field.name in pair.names)
        for field in columns.categorical
    )
    return CategoryDropout(rate, compared)
