"""Read, validate, merge and split a table of clicks."""

import dataclasses
import hashlib
import itertools
import json
from dataclasses import dataclass

import numpy as np
import pandas as pd

from trainables.data.config import Columns, DataConfig
from trainables.data.problems import BadRows
from trainables.data.raw_fields import RawFields
from trainables.data.read import read_table
from trainables.data.row_blocks import hash_numbers, narrow_numbers, row_blocks, take_rows
from trainables.data.split import split_rows
from trainables.data.text_column import TextColumn, number_rows
from trainables.data.token_rows import TextLayout
from trainables.data.validate import CheckedRows, check_rows, check_size
from trainables.task import TaskConfig


@dataclass(frozen=True, kw_only=True, slots=True)
class ClickTable:
    """A checked and divided table; identical rows are merged."""

    texts: tuple[TextColumn, ...]
    """n texts for each text column; a column of blanks where there is none."""
    clicks: np.ndarray
    """float32 (n,): clicks, times weight."""
    impressions: np.ndarray
    """float32 (n,): impressions, times weight."""
    groups: np.ndarray
    """int32 (n,), int64 beyond 2^31 rows: rows of equal code belong together; each row its
    own without a group column."""
    split: np.ndarray
    """int8 (n,): 0 training, 1 validation, 2 test."""
    row_ids: np.ndarray
    """As wide (n,): number of each row in the source table; of merged rows, the first one's."""
    num_source_rows: int
    """Rows of the source table."""
    fields: RawFields
    """n rows' fields: what a model sees beside text."""
    layout: TextLayout
    """How the text columns become what BERT reads."""
    fingerprint: str
    """16 hexadecimal digits of SHA-256 over content, split and the columns' meaning; the same for a
    CSV and a Parquet file with the same rows."""
    propensities: np.ndarray | None = None
    """float32 (n,): probability of the row's placement under the logging policy; None: unknown."""
    bad_rows: BadRows | None = None
    """Rows of the source table that were left out."""

    def __len__(self) -> int:
        return len(self.clicks)

    def take(self, rows: np.ndarray, fingerprint: str) -> "ClickTable":
        """Return some rows, in the given order.

        Args:
            rows: int64 (m,): their numbers.
            fingerprint: What identifies them from now on.
        """
        return dataclasses.replace(
            self,
            texts=tuple(column.take(rows) for column in self.texts),
            clicks=self.clicks[rows],
            impressions=self.impressions[rows],
            groups=self.groups[rows],
            split=self.split[rows],
            row_ids=self.row_ids[rows],
            fields=self.fields.take(rows),
            propensities=None if self.propensities is None else self.propensities[rows],
            fingerprint=fingerprint,
        )


def load_clicks(config: DataConfig, task: TaskConfig) -> ClickTable:
    """Read a table, check it, merge its identical rows and divide it.

    Raises:
        ValueError: if it can't be read, or naming what is wrong with its columns, rows and values.
    """
    source = read_table(config.path, config.named(), lists=config.columns.text)
    num_source_rows = source.num_rows
    rows, bad_rows = check_rows(source, config)
    # The rows hold all that is needed of it, in a fraction of the memory.
    del source
    row_ids = np.arange(num_source_rows, dtype=narrow_numbers(num_source_rows))
    if bad_rows is not None:
        row_ids = np.delete(row_ids, bad_rows.rows)
    if config.merge_identical and config.columns.label is None:
        rows, first = _merge(rows, by_time=config.split.by == "time")
        row_ids = take_rows(row_ids, first)
    split = split_rows(
        config.split,
        keys=_content_keys(rows) if config.split.by == "random" else None,
        groups=None if rows.groups is None else rows.groups.ranks(),
        times=rows.times,
        parts=rows.parts,
    )
    check_size(config.path, split, rows.clicks, rows.impressions)
    # Names are numbered by their first occurrence, which merging keeps, and leaving out does not.
    groups = (
        np.arange(len(split), dtype=narrow_numbers(len(split)))
        if rows.groups is None
        else number_rows([rows.groups.codes])[0]
    )
    # The wide ones are freed one by one.
    rows = dataclasses.replace(rows, clicks=rows.clicks.astype(np.float32))
    rows = dataclasses.replace(rows, impressions=rows.impressions.astype(np.float32))
    propensities = None if rows.propensities is None else rows.propensities.astype(np.float32)
    return ClickTable(
        texts=rows.texts,
        clicks=rows.clicks,
        impressions=rows.impressions,
        groups=groups,
        split=split,
        row_ids=row_ids,
        num_source_rows=num_source_rows,
        fields=rows.fields,
        layout=config.columns.layout,
        propensities=propensities,
        bad_rows=bad_rows,
        fingerprint=_fingerprint(config.columns, task, rows, groups, split, propensities),
    )


def _merge(rows: CheckedRows, *, by_time: bool) -> tuple[CheckedRows, np.ndarray]:
    """Add up rows that agree on text, fields, group, given part and, by time, timestamp.

    Returns:
        The merged rows in the order of their first occurrence, and those occurrences' numbers.
    """
    columns = [*(column.codes for column in rows.texts), *rows.fields.codes()]
    if rows.parts is not None:
        columns.append(rows.parts)
    if rows.groups is not None:
        columns.append(rows.groups.codes)
    if by_time and rows.times is not None:
        columns.append(pd.factorize(rows.times)[0])
    numbers, first = number_rows(columns)
    if len(first) == len(numbers):
        return rows, first
    merged = dataclasses.replace(
        rows.take(first),
        clicks=np.bincount(numbers, weights=rows.clicks),
        impressions=np.bincount(numbers, weights=rows.impressions),
    )
    return merged, first


def _content_keys(rows: CheckedRows) -> np.ndarray:
    keys = np.zeros(len(rows.clicks), dtype=np.uint64)
    hashes = [
        *(column.hashes for column in rows.texts),
        lambda: hash_numbers(rows.clicks),
        lambda: hash_numbers(rows.impressions),
        *([] if rows.groups is None else [rows.groups.hashes]),
    ]
    for hashed in itertools.chain((hashed() for hashed in hashes), rows.fields.hashes()):
        keys *= np.uint64(1_000_003)
        keys += hashed
    return keys


def _fingerprint(
    columns: Columns,
    task: TaskConfig,
    rows: CheckedRows,
    groups: np.ndarray,
    split: np.ndarray,
    propensities: np.ndarray | None,
) -> str:
    meaning = {"columns": columns.meaning(), "task": task.meaning()}
    digest = hashlib.sha256(json.dumps(meaning, sort_keys=True).encode())
    for column in rows.texts:
        for text in column.content():
            digest.update(text)
    for field in rows.fields.content():
        digest.update(field)
    digest.update(rows.clicks.data)
    digest.update(rows.impressions.data)
    for block in row_blocks(len(groups)):
        # As wide as in every version.
        digest.update(groups[block].astype(np.int64).data)
    digest.update(np.ascontiguousarray(split).data)
    if propensities is not None:
        digest.update(propensities.data)
    return digest.hexdigest()[:16]
