"""Predict a table on disk, a part at a time."""

import contextlib
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet

from trainables.bundle.drift import DriftCheck, say_drift
from trainables.bundle.predictor import ROWS_AT_ONCE as PREDICTED_AT_ONCE
from trainables.bundle.predictor import Predictor

PROBABILITY_COLUMN = "click_probability"
ROWS_AT_ONCE = 16_384
CSV_BLOCK_BYTES = 4_000_000
"""What is read of a CSV file at once; a longer row is an error."""

CSV_SUFFIXES = (".csv", ".csv.gz")
SUFFIXES = (*CSV_SUFFIXES, ".parquet")


@dataclass(frozen=True, kw_only=True, slots=True)
class PredictedFile:
    """What was predicted."""

    num_rows: int
    """Rows of the table."""
    drifts: tuple[str, ...]
    """In what its rows, or their predictions, are distributed otherwise than those of the
    bundle's validation split, a sentence each; see :mod:`trainables.bundle.drift`."""


def predict_file(
    bundle: Path,
    input_path: Path,
    output_path: Path,
    *,
    num_threads: int | None = None,
    on_rows: Callable[[int], None] | None = None,
) -> PredictedFile:
    """Copy a table with a column ``click_probability`` added.

    All columns of the input are kept; a CSV's values are copied as they are written, and a blank
    text is predicted as an empty one. The output appears when it is complete.

    Args:
        bundle: The bundle's folder.
        input_path: A .csv, .csv.gz or .parquet file.
        output_path: The same; replaced if it exists.
        num_threads: Threads of the graph; None: one for each core.
        on_rows: Called with the number of finished rows after each part.

    Returns:
        How many rows there were, and in what they differ from those of the bundle's validation.

    Raises:
        ValueError: naming the file and, where it is one row's fault, the row (from 0, the header
            not counted) and column.
    """
    check_paths(input_path, output_path)
    predictor = Predictor(bundle, num_threads)
    check = DriftCheck(predictor.baseline, predictor.features)
    num_rows = 0
    with _naming(input_path), _reader(input_path) as (schema, parts):
        if PROBABILITY_COLUMN in schema.names:
            raise ValueError(f"there is a column {PROBABILITY_COLUMN!r} already; rename or drop it")
        # Also where there are no rows to miss a column in.
        predictor.predict({name: [] for name in schema.names})
        wider = schema.append(pa.field(PROBABILITY_COLUMN, pa.float64()))
        with _replacing(output_path) as temporary, _writer(temporary, output_path, wider) as write:
            for part in parts:
                values = {
                    name: part.column(name).to_pylist() for name in predictor.features.columns
                }
                probabilities = np.empty(part.num_rows)
                # As the predictor does: int8 scales activations by batch.
                for start in range(0, part.num_rows, PREDICTED_AT_ONCE):
                    block = slice(start, start + PREDICTED_AT_ONCE)
                    inputs = predictor.encode(
                        {name: column[block] for name, column in values.items()},
                        first_row=num_rows + start,
                    )
                    probabilities[block] = predictor.predict_inputs(inputs)
                    check.add(inputs, probabilities[block])
                columns = [*part.columns, pa.array(probabilities)]
                write(pa.RecordBatch.from_arrays(columns, schema=wider))
                num_rows += part.num_rows
                if on_rows is not None:
                    on_rows(num_rows)
    drifts = tuple(say_drift(drift, predictor.features) for drift in check.drifts())
    return PredictedFile(num_rows=num_rows, drifts=drifts)


def check_paths(input_path: Path, output_path: Path) -> None:
    """Refuse tables that can't be read or written.

    Raises:
        ValueError: naming the path.
    """
    for path in (input_path, output_path):
        if not path.name.lower().endswith(SUFFIXES):
            raise ValueError(f"{path} must end in {', '.join(SUFFIXES)}")
    if not input_path.is_file():
        raise ValueError(f"there is no file {input_path}")
    if not output_path.parent.is_dir():
        raise ValueError(f"the output's folder {output_path.parent} does not exist")
    if output_path.is_dir() or (output_path.exists() and output_path.samefile(input_path)):
        raise ValueError(f"the output {output_path} must be a file of its own")


def read_columns(path: Path, names: Sequence[str]) -> dict[str, list[Any]]:
    """Read some columns of a table, as a bundle reads them: a CSV's values are text.

    Raises:
        ValueError: naming the file, and the column that is missing.
    """
    columns: dict[str, list[Any]] = {name: [] for name in names}
    with _naming(path), _reader(path) as (schema, parts):
        for name in names:
            if name not in schema.names:
                raise ValueError(f"there is no column {name!r}; it has {', '.join(schema.names)}")
        for part in parts:
            for name, values in columns.items():
                values += part.column(name).to_pylist()
    return columns


def write_with_columns(
    input_path: Path, output_path: Path, columns: Mapping[str, Sequence[Any]]
) -> None:
    """Copy a table with columns added, a part at a time.

    Raises:
        ValueError: if a column is there already.
    """
    added = {name: pa.array(values) for name, values in columns.items()}
    start = 0
    with _naming(input_path), _reader(input_path) as (schema, parts):
        if taken := sorted(set(added) & set(schema.names)):
            raise ValueError(f"there is a column {taken[0]!r} already; rename or drop it")
        wider = schema
        for name, values in added.items():
            wider = wider.append(pa.field(name, values.type))
        with _replacing(output_path) as temporary, _writer(temporary, output_path, wider) as write:
            for part in parts:
                more = [values.slice(start, part.num_rows) for values in added.values()]
                write(pa.RecordBatch.from_arrays([*part.columns, *more], schema=wider))
                start += part.num_rows


def _is_csv(path: Path) -> bool:
    return path.name.lower().endswith(CSV_SUFFIXES)


def _compression(path: Path) -> str | None:
    return "gzip" if path.name.lower().endswith(".gz") else None


@contextlib.contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Say which file it is that can't be read or predicted."""
    try:
        yield
    except (ValueError, EOFError, OSError) as error:
        # Arrow's errors about content are ValueErrors, those about files OSErrors.
        raise ValueError(f"{path}: {error}") from error


@contextlib.contextmanager
def _reader(path: Path) -> Iterator[tuple[Any, Iterator[Any]]]:
    """Give a table's Arrow schema and its record batches."""
    if not _is_csv(path):
        with pyarrow.parquet.ParquetFile(path) as file:
            yield file.schema_arrow, file.iter_batches(batch_size=ROWS_AT_ONCE)
        return
    with _open_csv(path, None) as reader:
        names = reader.schema.names
    # Every column is text, so that values are copied as they are written: 007 isn't 7.
    with _open_csv(path, dict.fromkeys(names, pa.string())) as reader:
        yield reader.schema, iter(reader)


def _open_csv(path: Path, types: dict[str, Any] | None) -> Any:  # noqa: ANN401 - untyped Arrow
    return pyarrow.csv.open_csv(
        pa.input_stream(str(path), compression=_compression(path)),
        read_options=pyarrow.csv.ReadOptions(block_size=CSV_BLOCK_BYTES, use_threads=False),
        parse_options=pyarrow.csv.ParseOptions(newlines_in_values=True),
        convert_options=pyarrow.csv.ConvertOptions(column_types=types),
    )


@contextlib.contextmanager
def _replacing(path: Path) -> Iterator[Path]:
    """Give a temporary file that takes the path's place if the block succeeds."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-")
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        temporary.chmod(0o644)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def _writer(
    temporary: Path,
    path: Path,
    schema: Any,  # noqa: ANN401 - untyped Arrow
) -> Iterator[Callable[[Any], None]]:
    """Give a function that appends record batches to the temporary file, in the path's format."""
    if not _is_csv(path):
        with pyarrow.parquet.ParquetWriter(str(temporary), schema) as writer:
            yield writer.write_batch
        return
    options = pyarrow.csv.WriteOptions(quoting_style="needed")
    with (
        pa.output_stream(str(temporary), compression=_compression(path)) as sink,
        pyarrow.csv.CSVWriter(sink, schema, write_options=options) as writer,
    ):
        yield writer.write_batch
