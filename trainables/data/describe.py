"""What is in a table: click rates, split sizes, columns, token lengths, and what is suspicious."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from trainables.data.checks import DataChecks, check_table
from trainables.data.column_facts import ColumnDescription, describe_columns
from trainables.data.config import SPLIT_NAMES, Columns, SplitName
from trainables.data.problems import BadRows
from trainables.data.table import ClickTable
from trainables.data.text_column import TextColumn, number_rows
from trainables.data.tokenization import token_blocks
from trainables.encoder import EncoderConfig, find_encoder, load_tokenizer

if TYPE_CHECKING:
    from tokenizers import Tokenizer


@dataclass(frozen=True, kw_only=True, slots=True)
class PartDescription:
    """The whole table, or one part of its split."""

    name: SplitName | None
    """The part's name; None for the whole table."""
    num_rows: int
    """Rows, identical ones merged."""
    num_groups: int
    """Distinct groups; rows, where no column names a group."""
    clicks: float
    """Clicks, times weight."""
    impressions: float
    """Impressions, times weight."""

    @property
    def click_rate(self) -> float:
        """Clicks per impression."""
        return self.clicks / self.impressions


@dataclass(frozen=True, kw_only=True, slots=True)
class TableDescription:
    """A checked table in numbers."""

    fingerprint: str
    """The table's fingerprint."""
    num_source_rows: int
    """Rows before merging."""
    bad_rows: BadRows | None
    """Rows that were left out."""
    whole: PartDescription
    """All rows together."""
    parts: tuple[PartDescription, ...]
    """Training, validation and test."""
    columns: tuple[ColumnDescription, ...]
    """What a model sees of a row."""
    checks: DataChecks
    """Repeated rows, and columns that may hold the label."""
    token_counts: dict[int, int]
    """Number of tokens of a row, special tokens included and nothing cut off, to how many rows have
    it; in ascending order."""
    token_percentiles: dict[int, int]
    """Percentile to number of tokens of a row, special tokens included, nothing cut off."""
    truncated_share: float
    """Share of the rows that lose their end at the encoder's ``max_tokens``."""


def describe(table: ClickTable, columns: Columns, encoder: EncoderConfig) -> TableDescription:
    """Count what is in a table.

    Args:
        table: The checked table.
        columns: What its columns are called.
        encoder: Whose tokenizer counts tokens.

    Raises:
        ValueError: if the encoder, whose tokenizer counts tokens, can't be found.
    """
    tokenizer = load_tokenizer(find_encoder(encoder), max_tokens=encoder.max_tokens)
    tokenizer.no_truncation()
    lengths = _lengths(table, tokenizer)
    counted = np.unique(lengths, return_counts=True)
    percentiles = (0, 50, 95, 99, 100)
    values = np.percentile(lengths, percentiles, method="higher")
    return TableDescription(
        fingerprint=table.fingerprint,
        num_source_rows=table.num_source_rows,
        bad_rows=table.bad_rows,
        columns=describe_columns(table, columns),
        checks=check_table(table, columns),
        whole=_part(table, None),
        parts=tuple(_part(table, name) for name in SPLIT_NAMES),
        token_counts=dict(zip(*(each.tolist() for each in counted), strict=True)),
        token_percentiles={
            percentile: int(value) for percentile, value in zip(percentiles, values, strict=True)
        },
        truncated_share=float(np.mean(lengths > encoder.max_tokens)),
    )


def _lengths(table: ClickTable, tokenizer: "Tokenizer") -> np.ndarray:
    columns = [TextColumn.of(column) for column in table.texts]
    numbers, first = number_rows([column.codes for column in columns])
    blocks = [block.lengths for block in token_blocks(columns, first, tokenizer, table.layout)]
    lengths: np.ndarray = np.concatenate(blocks)[numbers]
    return lengths


def _part(table: ClickTable, name: SplitName | None) -> PartDescription:
    inside = np.full(len(table), True) if name is None else table.split == SPLIT_NAMES.index(name)
    return PartDescription(
        name=name,
        num_rows=int(inside.sum()),
        num_groups=len(np.unique(table.groups[inside])),
        clicks=float(table.clicks[inside].sum(dtype=np.float64)),
        impressions=float(table.impressions[inside].sum(dtype=np.float64)),
    )
