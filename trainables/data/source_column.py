"""A column of a table with the values that its files hold, each text once."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from trainables.data.row_blocks import take_rows
from trainables.data.text_column import TextColumn


@dataclass(frozen=True, kw_only=True, slots=True)
class SourceColumn:
    """The values of n rows as pandas would hold them, in less memory."""

    kind: str
    """Name of the type that the whole column has in pandas, such as ``str`` or ``int64``."""
    texts: TextColumn | None = None
    """The values where all are text or missing; None for any other column."""
    values: pd.Series | None = None
    """The values of a column that isn't text: each row's own or, with ``codes``, those that occur,
    in the order of their first occurrence. Integers may be narrower than ``kind`` says."""
    codes: np.ndarray | None = None
    """int32 (n,): the place of each row's value in ``values``."""

    def __len__(self) -> int:
        if self.texts is not None:
            return len(self.texts)
        return len(self.others) if self.codes is None else len(self.codes)

    @property
    def others(self) -> pd.Series:
        """Return the values of a column that isn't text."""
        assert self.values is not None
        return self.values

    def value(self, row: int) -> object:
        """Return a row's value, as it would be in pandas."""
        if self.texts is not None:
            # pandas' mark for a missing text.
            return self.texts[row] if self.texts.codes[row] >= 0 else np.nan
        return self.others.iloc[row if self.codes is None else self.codes[row]]

    def of_rows(self, of_values: np.ndarray) -> np.ndarray:
        """Give each row what was found for its value.

        Args:
            of_values: One entry for each of the values; of texts, one for each distinct one and a
                last one for a missing text.

        Returns:
            (n,), which may be the given array itself.
        """
        codes = self.codes if self.texts is None else self.texts.codes
        return of_values if codes is None else take_rows(of_values, codes)

    def coded(self) -> "SourceColumn":
        """Return the same column with each of its values once."""
        if self.texts is not None or self.codes is not None:
            return self
        codes, values = pd.factorize(self.others, use_na_sentinel=False)
        return SourceColumn(
            kind=self.kind, values=pd.Series(values), codes=codes.astype(np.int32, copy=False)
        )

    def series(self) -> pd.Series:
        """Return all values in pandas, as if nothing had been saved."""
        if self.texts is not None:
            return pd.Series(self.texts.arrow().to_pandas(), dtype="str")
        if self.codes is not None:
            return self.others.take(self.codes).reset_index(drop=True)
        return self.widened()

    def widened(self) -> pd.Series:
        """Return the values that are no texts as wide as ``kind`` says."""
        widened: pd.Series = self.others.astype(pd.api.types.pandas_dtype(self.kind))
        return widened
