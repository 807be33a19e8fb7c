"""An epoch's tokens: the rows as they were prepared, and variants in place of some of them."""

import hashlib
from dataclasses import dataclass
from typing import Self

import numpy as np

from trainables.array_cache import Arrays, StoredArray
from trainables.data.token_rows import TokenRows

DTYPES = ("<i8", "<i4", "<i8", "<i4", "<i4", "|u1")
"""Types of a variants file's arrays: rows, their text numbers; offsets, second starts and ids of
the texts; SHA-256 of those five."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Variants:
    """The rows that an epoch varies, and the tokens of their variants."""

    rows: np.ndarray
    """int64 (v,): numbers of the varied rows, rising."""
    tokens: TokenRows
    """Variant i stands for row ``rows[i]``."""
    digest: str
    """16 hexadecimal digits of SHA-256 over rows and tokens; names what is computed from them."""

    @classmethod
    def make(cls, rows: np.ndarray, tokens: TokenRows) -> Self:
        """Put rows and their variants' tokens together."""
        return cls(rows=rows, tokens=tokens, digest=_sha256(*_content(rows, tokens)).hex()[:16])

    def to_arrays(self) -> tuple[StoredArray, ...]:
        """Return what a file of these variants holds."""
        arrays = _content(self.rows, self.tokens)
        digest = np.frombuffer(_sha256(*arrays), dtype=np.uint8)
        return tuple(
            StoredArray(dtype=np.dtype(dtype), shape=array.shape, blocks=(array,))
            for dtype, array in zip(DTYPES, (*arrays, digest), strict=True)
        )

    @classmethod
    def from_arrays(cls, arrays: Arrays) -> Self:
        """Return the variants of a file."""
        rows, text_numbers, offsets, second_starts, ids, digest = arrays
        tokens = TokenRows(
            ids=ids, offsets=offsets, second_starts=second_starts, text_numbers=text_numbers
        )
        return cls(rows=rows, tokens=tokens, digest=digest.tobytes().hex()[:16])


def are_variants(arrays: Arrays, rows: np.ndarray) -> bool:
    """Tell whether arrays are undamaged variants, of none but some rows, (n,)."""
    if [array.dtype.str for array in arrays] != list(DTYPES):
        return False
    *content, digest = arrays
    return bool(np.isin(content[0], rows).all()) and _sha256(*content) == digest.tobytes()


def _content(rows: np.ndarray, tokens: TokenRows) -> Arrays:
    return rows, tokens.text_numbers, tokens.offsets, tokens.second_starts, tokens.ids


def _sha256(*arrays: np.ndarray) -> bytes:
    digest = hashlib.sha256()
    for dtype, array in zip(DTYPES, arrays, strict=False):
        digest.update(np.ascontiguousarray(array, dtype=dtype).data)
    return digest.digest()


@dataclass(frozen=True, kw_only=True, slots=True)
class EpochTokens:
    """The tokens of a split's rows in one epoch, read where they are: nothing is copied."""

    original: TokenRows
    """All rows as they were prepared."""
    variants: Variants | None = None
    """What stands for some of them; None: nothing is varied."""

    def __len__(self) -> int:
        return len(self.original)

    @property
    def lengths(self) -> np.ndarray:
        """int32 (n,): number of tokens of each row; computed anew, so ask once."""
        lengths = self.original.lengths
        if self.variants is not None:
            lengths[self.variants.rows] = self.variants.tokens.lengths
        return lengths

    def find(self, indices: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Find out which of some rows are varied.

        Args:
            indices: (b,) row numbers.

        Returns:
            bool (b,): whether a row is varied; int64 (b,): the number of its variant if it is.
        """
        if self.variants is None:
            return np.zeros(len(indices), dtype=bool), np.zeros(len(indices), dtype=np.int64)
        rows = self.variants.rows
        places = np.searchsorted(rows, indices)
        return rows[np.minimum(places, len(rows) - 1)] == indices, places

    def batch(self, indices: np.ndarray) -> dict[str, np.ndarray]:
        """Pad some rows to the longest among them.

        Args:
            indices: (b,) row numbers, at least one.

        Returns:
            ``input_ids``, ``attention_mask`` and ``token_type_ids``, each int64 (b, longest).
        """
        varied, places = self.find(indices)
        if self.variants is None or not varied.any():
            return self.original.batch(indices)
        variants = self.variants.tokens.batch(places[varied])
        if varied.all():
            return variants
        original = self.original.batch(indices[~varied])
        return {name: interleave(varied, original[name], variants[name]) for name in original}


def interleave(varied: np.ndarray, original: np.ndarray, variants: np.ndarray) -> np.ndarray:
    """Put the two kinds of a batch's rows in the batch's order.

    Args:
        varied: bool (b,), which rows are variants.
        original: (rows that aren't, tokens, ...).
        variants: (rows that are, tokens, ...).

    Returns:
        (b, larger number of tokens, ...); 0 beyond the tokens of a part.
    """
    longest = max(original.shape[1], variants.shape[1])
    merged = np.zeros((len(varied), longest, *original.shape[2:]), dtype=original.dtype)
    merged[~varied, : original.shape[1]] = original
    merged[varied, : variants.shape[1]] = variants
    return merged
