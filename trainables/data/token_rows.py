"""Tokenized rows as flat arrays, each text once, and padded batches cut from them."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

import numpy as np

if TYPE_CHECKING:
    from tokenizers import Tokenizer

PADDING_ID = 0
"""What fills a batch's short rows; the attention mask hides it, so its meaning doesn't matter."""

LIST_SEPARATOR = "; "
"""What a list of texts, such as the products that a user saw last, is joined with."""

BLOCK_ROWS = 20_000
"""Texts that are tokenized at a time: the tokenizer's own objects take kilobytes each."""


def as_text(value: object) -> object:
    """Write a list of texts as one text, as it is in training; return anything else as it is."""
    if isinstance(value, list | tuple | np.ndarray):
        texts = [text for text in value if text is not None]
        if all(isinstance(text, str) for text in texts):
            return LIST_SEPARATOR.join(texts)
    return value


@dataclass(frozen=True, kw_only=True, slots=True)
class TokenRows:
    """Token ids of n rows of unequal length, without padding; rows of equal text share them."""

    ids: np.ndarray
    """int32 (total,): the ids of all texts, one after the other, special tokens included."""
    offsets: np.ndarray
    """int64 (texts + 1,): text t is ``ids[offsets[t]:offsets[t + 1]]``; begins with 0."""
    second_starts: np.ndarray
    """int32 (texts,): position inside the text where segment B starts; its length without one."""
    text_numbers: np.ndarray
    """int32 (n,): which text each row has, numbered by first occurrence among the rows that were
    tokenized."""

    @classmethod
    def of_texts(cls, ids: np.ndarray, offsets: np.ndarray, second_starts: np.ndarray) -> Self:
        """Return rows that each have a text of their own, in the order of the texts."""
        return cls(
            ids=ids,
            offsets=offsets,
            second_starts=second_starts,
            text_numbers=np.arange(len(second_starts), dtype=np.int32),
        )

    def __len__(self) -> int:
        return len(self.text_numbers)

    @property
    def lengths(self) -> np.ndarray:
        """int32 (n,): number of tokens of each row; computed anew, so ask once."""
        lengths: np.ndarray = self.text_lengths[self.text_numbers]
        return lengths

    @property
    def text_lengths(self) -> np.ndarray:
        """int32 (texts,): number of tokens of each text; computed anew, so ask once."""
        lengths = np.empty(len(self.second_starts), dtype=np.int32)
        np.subtract(self.offsets[1:], self.offsets[:-1], out=lengths, casting="unsafe")
        return lengths

    def texts(self) -> Self:
        """Return each text once, in the order of the numbers, up to the highest of these rows.

        Of the first rows that were tokenized these are their texts and no others, because texts
        are numbered by first occurrence.
        """
        num_texts = int(self.text_numbers.max(initial=-1)) + 1
        return self.of_texts(
            self.ids, self.offsets[: num_texts + 1], self.second_starts[:num_texts]
        )

    def batch(self, indices: np.ndarray) -> dict[str, np.ndarray]:
        """Pad some rows to the longest among them.

        Args:
            indices: (b,) row numbers, at least one.

        Returns:
            ``input_ids``, ``attention_mask`` and ``token_type_ids``, each int64 (b, longest).
        """
        positions, inside = self.positions(indices)
        columns = np.arange(inside.shape[1])
        second_starts = np.asarray(self.second_starts[self.text_numbers[indices]])
        second = inside & (columns >= second_starts[:, None])
        return {
            "input_ids": np.where(inside, self.ids[positions], PADDING_ID).astype(np.int64),
            "attention_mask": inside.astype(np.int64),
            "token_type_ids": second.astype(np.int64),
        }

    def positions(self, indices: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Find where some rows' tokens are, for a batch padded to the longest row.

        Returns:
            int64 (b, longest): positions in ``ids``, beyond a row's end that of its first token;
            bool (b, longest): whether there is a token.
        """
        starts, ends = self._bounds(indices)
        columns = np.arange((ends - starts).max())
        inside = columns < (ends - starts)[:, None]
        return np.where(inside, starts[:, None] + columns, starts[:, None]), inside

    def second_segments(self, indices: np.ndarray) -> list[np.ndarray]:
        """Return the token ids of some rows' segment B, int32 (its tokens,) for each of them."""
        starts, ends = self._bounds(indices)
        starts = starts + self.second_starts[self.text_numbers[indices]]
        return [self.ids[start:end] for start, end in zip(starts, ends, strict=True)]

    def take(self, indices: np.ndarray) -> "TokenRows":
        """Return some rows, in the given order; texts aren't copied."""
        return dataclasses.replace(self, text_numbers=np.asarray(self.text_numbers)[indices])

    def used_ids(self) -> np.ndarray:
        """Return the distinct ids of these rows' texts, rising; other texts may be there too."""
        is_used = np.zeros(len(self.second_starts), dtype=bool)
        is_used[np.asarray(self.text_numbers)] = True
        ids = np.asarray(self.ids)[: int(self.offsets[-1])]
        used: np.ndarray = np.unique(ids[np.repeat(is_used, self.text_lengths)])
        return used

    def _bounds(self, indices: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return where some rows' texts start and end in ``ids``, each int64 (b,)."""
        numbers = np.asarray(self.text_numbers[indices])
        return np.asarray(self.offsets[numbers]), np.asarray(self.offsets[numbers + 1])


def concatenate(parts: Sequence[TokenRows]) -> TokenRows:
    """Put the rows of several parts one after the other, and so their texts."""
    lengths = np.concatenate([part.text_lengths for part in parts])
    firsts = np.cumsum([0, *(len(part.second_starts) for part in parts)])
    numbers = [part.text_numbers + first for part, first in zip(parts, firsts, strict=False)]
    return TokenRows(
        ids=np.concatenate([part.ids[: part.offsets[-1]] for part in parts]).astype(np.int32),
        offsets=np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
        second_starts=np.concatenate([part.second_starts for part in parts]).astype(np.int32),
        text_numbers=np.concatenate(numbers).astype(np.int32),
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class TextLayout:
    """How the text columns of a row become what BERT reads: one segment, or two."""

    num_columns: int = 1
    """Text columns; 0 where a row has fields alone."""
    num_first: int = 1
    """How many of them make segment A; the others make segment B."""
    markers: tuple[str, ...] | None = None
    """What stands before each column's text; None: nothing."""
    optional: tuple[int, ...] = ()
    """Places of the columns whose text may be missing; it is blank then."""

    @property
    def num_segments(self) -> int:
        """0 without text, else 1 or 2."""
        return min(self.num_columns, 1) + (self.num_columns > self.num_first)

    @classmethod
    def of(cls, num_columns: int) -> Self:
        """Return the usual layout: the first column is segment A, the others segment B."""
        return cls(num_columns=num_columns, num_first=min(num_columns, 1))

    def segments(self, texts: Sequence[Sequence[str]]) -> Sequence[str | tuple[str, str]]:
        """Join each row's texts by spaces.

        Args:
            texts: One list of n strings for each text column; one list of blanks without text.

        Returns:
            n strings for one segment, else n pairs.
        """
        if self.num_columns == 0:
            return list(texts[0])
        first = self._joined(texts, 0, self.num_first)
        if self.num_segments == 1:
            return first
        return list(zip(first, self._joined(texts, self.num_first, self.num_columns), strict=True))

    def _joined(self, texts: Sequence[Sequence[str]], start: int, stop: int) -> list[str]:
        columns = [self._marked(texts[place], place) for place in range(start, stop)]
        if len(columns) == 1:
            return list(columns[0])
        return [" ".join(filter(str.strip, parts)) for parts in zip(*columns, strict=True)]

    def _marked(self, texts: Sequence[str], place: int) -> Sequence[str]:
        if self.markers is None:
            return texts
        marker = self.markers[place]
        return [f"{marker}: {text}" if text.strip() else "" for text in texts]


def tokenize(
    texts: Sequence[Sequence[str]], tokenizer: "Tokenizer", layout: TextLayout | None = None
) -> TokenRows:
    """Turn texts into token ids, each distinct row of texts once.

    Args:
        texts: One list of n strings for each text column.
        tokenizer: Set to truncate, not to pad: see :func:`trainables.encoder.load_tokenizer`.
        layout: How they are joined; None: as :meth:`TextLayout.of` says.
    """
    layout = TextLayout.of(len(texts)) if layout is None else layout
    # A log of single impressions repeats its texts many times over.
    numbers: dict[str | tuple[str, str], int] = {}
    rows = layout.segments(texts)
    codes = np.array([numbers.setdefault(row, len(numbers)) for row in rows], np.int32)
    distinct = list(numbers)
    parts = [
        _tokenize_distinct(distinct[start : start + BLOCK_ROWS], tokenizer)
        for start in range(0, max(len(distinct), 1), BLOCK_ROWS)
    ]
    return concatenate(parts).take(codes)


def _tokenize_distinct(rows: Sequence[str | tuple[str, str]], tokenizer: "Tokenizer") -> TokenRows:
    encodings = tokenizer.encode_batch_fast(rows)
    num_rows = len(encodings)
    lengths = np.fromiter((len(encoding) for encoding in encodings), np.int64, num_rows)
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    ids = np.empty(offsets[-1], dtype=np.int32)
    in_second = np.zeros(num_rows, dtype=np.int32)
    for row, encoding in enumerate(encodings):
        ids[offsets[row] : offsets[row + 1]] = encoding.ids
        if isinstance(rows[row], tuple):
            in_second[row] = sum(encoding.type_ids)
    return TokenRows.of_texts(ids, offsets, (lengths - in_second).astype(np.int32))
