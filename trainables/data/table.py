"""Read, validate, merge and split a table of clicks."""

import dataclasses
import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import pandas as pd

from trainables.data.config import Columns, DataConfig
from trainables.data.read import read_table
from trainables.data.split import split_rows
from trainables.data.validate import CheckedRows, check_rows, check_size
from trainables.task import TaskConfig


@dataclass(frozen=True, kw_only=True, slots=True)
class ClickTable:
    """A checked and divided table; identical rows are merged."""

    texts: tuple[list[str], ...]
    """One list of n strings for each text column."""
    clicks: np.ndarray
    """float32 (n,): clicks, times weight."""
    impressions: np.ndarray
    """float32 (n,): impressions, times weight."""
    groups: np.ndarray
    """int64 (n,): rows of equal code belong together; each row its own without a group column."""
    split: np.ndarray
    """int8 (n,): 0 training, 1 validation, 2 test."""
    row_ids: np.ndarray
    """int64 (n,): number of each row in the source table; of merged rows, the first one's."""
    num_source_rows: int
    """Rows of the source table."""
    fingerprint: str
    """16 hexadecimal digits of SHA-256 over content, split and the columns' meaning; the same for a
    CSV and a Parquet file with the same rows."""

    def __len__(self) -> int:
        return len(self.clicks)


def load_clicks(config: DataConfig, task: TaskConfig) -> ClickTable:
    """Read a table, check it, merge its identical rows and divide it.

    Raises:
        ValueError: if it can't be read, or naming what is wrong with its columns, rows and values.
    """
    source = read_table(config.path, config.columns.named())
    rows = check_rows(source, config.columns)
    row_ids = np.arange(len(rows.clicks))
    if config.merge_identical and config.columns.label is None:
        rows, row_ids = _merge(rows, by_time=config.split.by == "time")
    split = split_rows(
        config.split,
        keys=_content_keys(rows),
        groups=None if rows.groups is None else rows.groups.to_numpy(dtype=str),
        times=rows.times,
    )
    check_size(source, split, rows.clicks, rows.impressions)
    codes = row_ids if rows.groups is None else pd.factorize(rows.groups)[0]
    groups = np.unique(codes, return_inverse=True)[1].astype(np.int64)
    clicks, impressions = rows.clicks.astype(np.float32), rows.impressions.astype(np.float32)
    texts = tuple(series.tolist() for series in rows.texts)
    return ClickTable(
        texts=texts,
        clicks=clicks,
        impressions=impressions,
        groups=groups,
        split=split,
        row_ids=row_ids,
        num_source_rows=len(source.frame),
        fingerprint=_fingerprint(config.columns, task, texts, (clicks, impressions, groups, split)),
    )


def _merge(rows: CheckedRows, *, by_time: bool) -> tuple[CheckedRows, np.ndarray]:
    """Add up rows that agree on text, group and, for a split by time, timestamp.

    Returns:
        The merged rows in the order of their first occurrence, and those occurrences' numbers.
    """
    codes = np.zeros(len(rows.clicks), dtype=np.int64)
    columns: list[pd.Series] = [*rows.texts]
    if rows.groups is not None:
        columns.append(rows.groups)
    if by_time and rows.times is not None:
        columns.append(pd.Series(rows.times))
    for column in columns:
        values, distinct = pd.factorize(column)
        # Renumbered after each column, so that the product stays far below the 64-bit limit.
        codes = pd.factorize(codes * len(distinct) + values)[0]
    first = np.unique(codes, return_index=True)[1]
    merged = CheckedRows(
        texts=tuple(series.iloc[first] for series in rows.texts),
        clicks=np.bincount(codes, weights=rows.clicks),
        impressions=np.bincount(codes, weights=rows.impressions),
        groups=None if rows.groups is None else rows.groups.iloc[first],
        times=None if rows.times is None else rows.times[first],
    )
    return merged, first


def _content_keys(rows: CheckedRows) -> np.ndarray:
    columns = [*rows.texts, pd.Series(rows.clicks), pd.Series(rows.impressions)]
    if rows.groups is not None:
        columns.append(rows.groups)
    keys = np.zeros(len(rows.clicks), dtype=np.uint64)
    for column in columns:
        values = column.to_numpy()
        hashed = pd.util.hash_array(
            values.astype(object) if values.dtype.kind not in "fi" else values
        )
        keys = keys * np.uint64(1_000_003) + hashed
    return keys


def _fingerprint(
    columns: Columns,
    task: TaskConfig,
    texts: Iterable[list[str]],
    arrays: Iterable[np.ndarray],
) -> str:
    meaning = {"columns": dataclasses.asdict(columns), "task": dataclasses.asdict(task)}
    digest = hashlib.sha256(json.dumps(meaning, sort_keys=True).encode())
    for column in texts:
        # Lengths beside the text, so that moving a boundary between rows changes the hash.
        digest.update(np.fromiter(map(len, column), np.int64, len(column)).tobytes())
        digest.update("".join(column).encode())
    for array in arrays:
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()[:16]
