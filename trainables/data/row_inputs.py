"""What a model sees of some rows: tokens, codes of categories and numbers."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from trainables.data.token_rows import TokenRows


@dataclass(frozen=True, kw_only=True, slots=True)
class RowInputs:
    """The inputs of n rows."""

    tokens: TokenRows
    """Their texts, tokenized."""
    codes: np.ndarray
    """int32 (n, categorical columns): codes of their categories."""
    numbers: np.ndarray
    """float32 (n, numbers): their numbers and times."""

    @classmethod
    def of_text(cls, tokens: TokenRows) -> "RowInputs":
        """Return rows that have text alone."""
        return cls(
            tokens=tokens,
            codes=np.zeros((len(tokens), 0), np.int32),
            numbers=np.zeros((len(tokens), 0), np.float32),
        )

    def __len__(self) -> int:
        return len(self.tokens)

    def batch(self, indices: np.ndarray) -> dict[str, np.ndarray]:
        """Return some rows as the arguments of a model, texts padded to the longest among them.

        Args:
            indices: (b,) row numbers, at least one.

        Returns:
            See :meth:`TokenRows.batch` and :meth:`fields`.
        """
        return {**self.tokens.batch(indices), **self.fields(indices)}

    def fields(self, indices: np.ndarray) -> dict[str, np.ndarray]:
        """Return some rows' fields: ``codes``, int64 (b, categorical columns), and ``numbers``.

        A kind of field that rows don't have is left out.
        """
        found = {}
        if self.codes.shape[1]:
            found["codes"] = self.codes[indices].astype(np.int64)
        if self.numbers.shape[1]:
            found["numbers"] = np.asarray(self.numbers[indices])
        return found

    def with_codes(self, places: Sequence[int], codes: np.ndarray) -> "RowInputs":
        """Return the rows with other categories in some columns, the same ones in every row.

        Args:
            places: Places of the columns among the categorical ones.
            codes: (columns,) their codes.
        """
        changed = np.array(self.codes)
        changed[:, list(places)] = codes
        return RowInputs(tokens=self.tokens, codes=changed, numbers=self.numbers)

    def take(self, indices: np.ndarray) -> "RowInputs":
        """Copy some rows, in the given order."""
        return RowInputs(
            tokens=self.tokens.take(indices),
            codes=np.asarray(self.codes)[indices],
            numbers=np.asarray(self.numbers)[indices],
        )
