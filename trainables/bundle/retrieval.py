"""Find the items of a whole catalogue that fit a query best; needs what a predictor needs."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

if TYPE_CHECKING:
    from trainables.bundle.predictor import Predictor

QUERIES_AT_ONCE = 256
"""Queries that are compared with the catalogue together: bounds the memory for any number."""

Side = Literal["first", "second"]
"""Which of a row's two segments a text is: a query's, or an item's."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Catalogue:
    """Items and their vectors, to search among.

    >>> predictor = Predictor("runs/shop/best")
    >>> catalogue = Catalogue.of(predictor, ["red sofa", "black boot"])
    >>> places, cosines = catalogue.search(predictor, ["couch"], most=1)
    """

    vectors: np.ndarray
    """float32 (items, size), each of length 1."""

    @classmethod
    def of(cls, predictor: "Predictor", items: Sequence[str]) -> "Catalogue":
        """Embed items as the second segment; errors as for :meth:`Predictor.embed`."""
        return cls(vectors=predictor.embed(items, "second"))

    def search(
        self, predictor: "Predictor", queries: Sequence[str], *, most: int = 10
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return the items whose vectors are nearest to each query's.

        Args:
            predictor: The one that embedded the items.
            queries: First segments.
            most: Items a query; fewer where the catalogue has fewer.

        Returns:
            int64 and float32 (queries, most): the items' places, best first, and their cosines.

        Raises:
            ValueError: if ``most`` is below 1, or the bundle isn't of two towers.
        """
        if most < 1:
            raise ValueError(f"most must be at least 1, got {most}")
        most = min(most, len(self.vectors))
        vectors = predictor.embed(queries, "first")
        found = [
            nearest(vectors[start : start + QUERIES_AT_ONCE], self.vectors, most)
            for start in range(0, len(vectors), QUERIES_AT_ONCE)
        ]
        if not found:
            return np.zeros((0, most), np.int64), np.zeros((0, most), np.float32)
        places, cosines = zip(*found, strict=True)
        return np.concatenate(places), np.concatenate(cosines)


def nearest(queries: np.ndarray, items: np.ndarray, most: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the places and cosines, (queries, most), of the items nearest to each query."""
    cosines = queries @ items.T
    if most < cosines.shape[1]:
        places = np.argpartition(-cosines, most - 1, axis=1)[:, :most]
    else:
        places = np.broadcast_to(np.arange(cosines.shape[1]), cosines.shape)
    picked = np.take_along_axis(cosines, places, axis=1)
    # By place among equals, so that the answer doesn't depend on how they were partitioned.
    order = np.lexsort((places, -picked), axis=1)
    return np.take_along_axis(places, order, axis=1), np.take_along_axis(picked, order, axis=1)
