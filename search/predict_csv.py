"""Add a bundle's probabilities to a CSV file, a block of rows at a time."""

import csv
import itertools
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from trainables.bundle import Predictor

PROBABILITY = "probability"
"""The column that is added."""
ROWS_AT_ONCE = 4_096
"""Rows in memory together; as many as the predictor itself takes at once, so that an int8 bundle
gives the same digits for a file as for a table in memory."""


def predict_csv(predictor: "Predictor", table: Path, output: Path) -> int:
    """Copy a CSV file with a column of click probabilities added.

    ``output`` appears when it is complete.

    Args:
        predictor: The bundle.
        table: UTF-8 CSV with a header that has the bundle's text columns; others are kept.
        output: The file to write.

    Returns:
        How many rows were predicted.

    Raises:
        ValueError: if the table lacks a column, has ``probability`` already, or a broken row.
        OSError: if a file can't be read or written.
    """
    unfinished = output.with_name(f".{output.name}.{os.getpid()}")
    try:
        with table.open(encoding="utf-8-sig", newline="") as source:
            reader = csv.DictReader(source, strict=True)
            columns = _check_header(reader, predictor, table)
            with unfinished.open("w", encoding="utf-8", newline="") as target:
                writer = csv.DictWriter(target, [*columns, PROBABILITY])
                writer.writeheader()
                num_rows = 0
                rows = _checked(reader, table)
                while block := list(itertools.islice(rows, ROWS_AT_ONCE)):
                    for row, probability in zip(block, predictor.predict(block), strict=True):
                        writer.writerow({**row, PROBABILITY: f"{probability:.6f}"})
                    num_rows += len(block)
        unfinished.replace(output)
    except UnicodeDecodeError as error:
        raise ValueError(f"{table} is not UTF-8 text: {error}; convert it first") from error
    except csv.Error as error:
        raise ValueError(f"{table} is not a CSV file: {error}") from error
    finally:
        unfinished.unlink(missing_ok=True)
    return num_rows


def _check_header(reader: "csv.DictReader[str]", predictor: "Predictor", table: Path) -> list[str]:
    columns = list(reader.fieldnames or ())
    missing = [name for name in predictor.features.text if name not in columns]
    if missing:
        raise ValueError(
            f"{table} has no column {missing[0]!r}, which the bundle reads; "
            f"it has {', '.join(map(repr, columns)) or 'none'}"
        )
    if PROBABILITY in columns:
        raise ValueError(f"{table} has a column {PROBABILITY!r} already; rename or remove it")
    return columns


def _checked(reader: "csv.DictReader[str]", table: Path) -> Iterator[dict[str, str]]:
    for row in reader:
        # DictReader files the surplus of a long row under None and fills a short one with it.
        if None in row or None in row.values():
            raise ValueError(
                f"{table}, line {reader.line_num}: the row has more or fewer values than the "
                f"header's {len(reader.fieldnames or ())} columns; quote values with commas"
            )
        yield row
