"""Run a bundle: rows in, click probabilities out; needs onnxruntime, tokenizers and numpy."""

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import numpy as np

from trainables.bundle.drift import DriftBaseline, read_baseline
from trainables.bundle.features import Features, read_features
from trainables.bundle.manifest import (
    CALIBRATION_FILE,
    DRIFT_FILE,
    FEATURES_FILE,
    MODEL_FILE,
    TOKENIZER_FILE,
    BundleManifest,
    check_files,
    read_manifest,
)
from trainables.bundle.retrieval import Side
from trainables.calibration import Calibration
from trainables.data.fields import is_missing
from trainables.data.row_inputs import RowInputs
from trainables.data.token_rows import TextLayout, TokenRows, as_text, tokenize

if TYPE_CHECKING:
    from onnxruntime import InferenceSession
    from tokenizers import Tokenizer

ROWS_AT_ONCE = 4_096
"""Rows that are tokenized and sorted by length together: bounds the memory for any input."""

TOKENS_PER_BATCH = 2_048
"""Tokens of one run of the graph, padding included: beyond it a larger batch gains nothing."""


class Predictor:
    """A bundle, loaded and checked.

    >>> predictor = Predictor("runs/headlines/best")
    >>> predictor.predict([{"headline": "You won't believe this"}])
    array([0.0213...])

    With an int8 bundle a probability changes with the rows that it is predicted with, because
    activations are scaled by batch; ``manifest.parity.batch_spread`` says by how much.
    """

    def __init__(self, folder: str | Path, num_threads: int | None = None) -> None:
        """Load a bundle.

        Args:
            folder: The bundle, or a link to it.
            num_threads: Threads of the graph; None: one for each core.

        Raises:
            ValueError: if it isn't a bundle, a file is missing or changed, or it can't be loaded.
        """
        folder = Path(folder).resolve()
        self.manifest: BundleManifest = read_manifest(folder)
        check_files(folder, self.manifest)
        self._scorer = RowScorer(folder, num_threads=num_threads)
        self.baseline: DriftBaseline = read_baseline(folder / DRIFT_FILE, self.features)

    @property
    def features(self) -> Features:
        """Which columns are read, and how."""
        return self._scorer.features

    @property
    def tokenizer(self) -> "Tokenizer":
        """What its texts are read with."""
        return self._scorer.tokenizer

    @property
    def session(self) -> "InferenceSession":
        """Its graph."""
        return self._scorer.session

    def predict(self, rows: Any, *, first_row: int = 0) -> np.ndarray:  # noqa: ANN401 - see below
        """Return the probability that each row is clicked.

        Args:
            rows: A sequence of mappings from column to value, a mapping from column to a list of
                values, or a DataFrame (of pandas or alike; this module imports none). Other columns
                than the bundle's are ignored. An empty text is a text; a category, number or time
                may be missing (None or NaN).
            first_row: What an error calls the first row.

        Returns:
            (n,) float64, in [0, 1].

        Raises:
            ValueError: naming the column that is missing, or the row and column of a wrong value.
        """
        return self._scorer.predict(rows, first_row=first_row)

    def embed(self, texts: Sequence[str], side: Side) -> np.ndarray:
        """Return the vectors of texts, for retrieval; the bundle must be of two towers.

        Args:
            texts: Each a whole segment: its text columns, joined by spaces.
            side: Whether they are first segments (queries) or second ones (items).

        Returns:
            float32 (n, size), each of length 1. The cosine of a first and a second one, scaled,
            gives the log-odds, unless the pair is so long that it would be truncated.

        Raises:
            ValueError: if the bundle isn't of two towers, or a text isn't one.
        """
        return self._scorer.embed(texts, side)

    def predict_inputs(self, inputs: RowInputs) -> np.ndarray:
        """Return the probabilities, (n,) float64, of rows that are encoded already."""
        return self._scorer.calibration.apply(run_graph(self._scorer.session, inputs))

    def encode(self, columns: Mapping[str, Sequence[Any]], *, first_row: int = 0) -> RowInputs:
        """Turn rows, given as n values by column, into what :meth:`predict_inputs` takes."""
        return self._scorer.encode(columns, first_row=first_row)

    def replay(self) -> np.ndarray:
        """Return what the graph gives now for the rows that were recorded at export, one by one."""
        rows = self.manifest.parity.rows
        return np.concatenate([self._scorer.score([row]) for row in rows])


class RowScorer:
    """A graph and what turns rows into its inputs, out of a folder that needs no manifest yet."""

    def __init__(self, folder: Path, *, num_threads: int | None) -> None:
        self.features = read_features(folder / FEATURES_FILE)
        self.tokenizer = load_bundled_tokenizer(folder / TOKENIZER_FILE, self.features)
        self.calibration = read_calibration(folder / CALIBRATION_FILE)
        self.session = open_graph(folder / MODEL_FILE, num_threads=num_threads)

    def predict(self, rows: Any, *, first_row: int = 0) -> np.ndarray:  # noqa: ANN401 - see below
        """See :meth:`Predictor.predict`."""
        return self.calibration.apply(self.score(rows, first_row=first_row))

    def score(self, rows: Any, *, first_row: int = 0) -> np.ndarray:  # noqa: ANN401 - see above
        """Return the graph's probabilities, (n,) float64, before calibration."""
        columns = _columns_of(rows, self.features.columns, first_row)
        num_rows = len(next(iter(columns.values())))
        probabilities = np.empty(num_rows, dtype=np.float64)
        for start in range(0, num_rows, ROWS_AT_ONCE):
            stop = min(start + ROWS_AT_ONCE, num_rows)
            block = {name: values[start:stop] for name, values in columns.items()}
            inputs = self.encode(block, first_row=first_row + start)
            probabilities[start:stop] = run_graph(self.session, inputs)
        return probabilities

    def embed(self, texts: Sequence[str], side: Side) -> np.ndarray:
        """See :meth:`Predictor.embed`."""
        if side not in get_args(Side):
            raise ValueError(f"side must be one of {', '.join(get_args(Side))}, got {side!r}")
        outputs = {node.name: node.shape[-1] for node in self.session.get_outputs()}
        if side not in outputs:
            raise ValueError(
                "this bundle reads both segments together, so it has no vectors of one; train with "
                "architecture: two_tower"
            )
        for row, text in enumerate(texts):
            if not isinstance(text, str):
                raise ValueError(f"text {row}: expected text, got {text!r:.60}")
        vectors = np.empty((len(texts), outputs[side]), dtype=np.float32)
        for start in range(0, len(texts), ROWS_AT_ONCE):
            block = list(texts[start : start + ROWS_AT_ONCE])
            blank = [""] * len(block)
            pair = [block, blank] if side == "first" else [blank, block]
            inputs = RowInputs.of_text(tokenize(pair, self.tokenizer, TextLayout.of(2)))
            vectors[start : start + len(block)] = run_batches(self.session, inputs, side)
        return vectors

    def encode(self, columns: Mapping[str, Sequence[Any]], *, first_row: int = 0) -> RowInputs:
        """Turn rows, given as n values by column, into what the model sees of them."""
        features, fields = self.features, self.features.fields
        texts = {
            name: _as_texts(columns[name], may_be_blank=features.may_be_blank(name))
            for name in features.texts
        }
        for name, column in texts.items():
            for row, text in enumerate(column, start=first_row):
                if not isinstance(text, str):
                    raise ValueError(
                        f"row {row}, column {name!r}: expected text, got {text!r:.60} "
                        f"({type(text).__name__})"
                    )
        # A text that is a category too is the same text, joined where it is a list.
        codes, numbers = fields.encode({**columns, **texts}, texts, first_row=first_row)
        blank = [""] * len(next(iter(columns.values())))
        tokens = self._tokenize([texts[name] for name in features.text] or [blank], first_row)
        if not fields:
            return RowInputs.of_text(tokens)
        return RowInputs(tokens=tokens, codes=codes, numbers=numbers)

    def _tokenize(self, texts: Sequence[Sequence[str]], first_row: int) -> TokenRows:
        try:
            return tokenize(texts, self.tokenizer, self.features.layout)
        except (TypeError, UnicodeError):
            # The Rust tokenizer refuses half a surrogate pair without saying where it stands.
            for name, column in zip(self.features.text, texts, strict=True):
                for row, text in enumerate(column, start=first_row):
                    if not _is_unicode(text):
                        raise ValueError(
                            f"row {row}, column {name!r}: the text {text!r:.60} is not valid "
                            "Unicode; decode it with errors='replace'"
                        ) from None
            raise


def _as_texts(column: Sequence[Any], *, may_be_blank: bool) -> list[Any]:
    """Join lists of texts, and take a missing text for a blank one, as training does."""
    texts = [value if isinstance(value, str) else as_text(value) for value in column]
    if may_be_blank:
        return ["" if is_missing(text) else text for text in texts]
    return texts


def read_calibration(path: Path) -> Calibration:
    """Read what becomes of a graph's probabilities.

    Raises:
        ValueError: if it can't be read.
    """
    try:
        return Calibration.from_dict(json.loads(path.read_text(encoding="utf-8")))
    except (ValueError, OSError, RecursionError) as error:
        raise ValueError(f"{path} can't be read as a bundle's calibration: {error}") from error


def open_graph(path: Path, *, num_threads: int | None) -> "InferenceSession":
    """Load an ONNX graph on the CPU.

    Raises:
        ValueError: if ONNX Runtime can't load it.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    if num_threads is not None:
        if num_threads < 1:
            raise ValueError(f"num_threads must be at least 1 or None, got {num_threads}")
        options.intra_op_num_threads = num_threads
    try:
        return onnxruntime.InferenceSession(
            str(path), sess_options=options, providers=["CPUExecutionProvider"]
        )
    except Exception as error:
        raise ValueError(f"ONNX Runtime can't load {path}: {error}") from error


def run_graph(session: "InferenceSession", inputs: RowInputs) -> np.ndarray:
    """Run rows through a graph, in batches of like length.

    Args:
        session: Takes some of what a batch of rows has by name; gives logits.
        inputs: n rows.

    Returns:
        (n,) probabilities, float64.
    """
    logits = run_batches(session, inputs, "logits").astype(np.float64)
    return 1 / (1 + np.exp(-logits))


def run_batches(session: "InferenceSession", inputs: RowInputs, output: str) -> np.ndarray:
    """Return one of a graph's outputs for n rows, (n, ...) float32, computed as in run_graph."""
    lengths = inputs.tokens.lengths
    found: dict[int, np.ndarray] = {}
    # Longest first: memory that the longest batch takes is reused by the others.
    order = np.argsort(-lengths, kind="stable")
    start = 0
    while start < len(order):
        stop = start + max(1, TOKENS_PER_BATCH // int(lengths[order[start]]))
        indices = order[start:stop]
        found[start] = session.run([output], graph_inputs(session, inputs, indices))[0]
        start = stop
    if not found:
        return np.zeros(0, np.float32)
    values = np.concatenate([*found.values()])
    ordered = np.empty_like(values)
    ordered[order] = values
    return ordered


def graph_inputs(
    session: "InferenceSession", inputs: RowInputs, indices: np.ndarray
) -> dict[str, np.ndarray]:
    """Return what a graph takes of a batch of rows: a model may read less than rows have."""
    batch = inputs.batch(indices)
    return {node.name: batch[node.name] for node in session.get_inputs()}


def log_odds(probabilities: np.ndarray) -> np.ndarray:
    """Return the log-odds of probabilities; 0 and 1 are taken for the nearest float64 inside."""
    inside = np.clip(probabilities, 1e-15, 1 - 1e-15)
    odds: np.ndarray = np.log(inside) - np.log1p(-inside)
    return odds


def load_bundled_tokenizer(path: Path, features: Features) -> "Tokenizer":
    """Load a bundle's tokenizer, set as it was in training.

    Raises:
        ValueError: if it can't be read.
    """
    from tokenizers import Tokenizer

    try:
        tokenizer = Tokenizer.from_file(str(path))
    except Exception as error:
        raise ValueError(f"{path} can't be read as a tokenizer: {error}") from error
    tokenizer.no_padding()
    tokenizer.enable_truncation(features.max_tokens, strategy="longest_first")
    return tokenizer


def _columns_of(
    rows: Any,  # noqa: ANN401 - see Predictor.predict
    names: Sequence[str],
    first_row: int,
) -> dict[str, list[Any]]:
    """Return a list of values for each column, all equally long."""
    if isinstance(rows, Mapping):
        columns = _from_columns(rows, names)
    elif hasattr(rows, "columns") and hasattr(rows, "__getitem__"):
        found = [str(name) for name in rows.columns]
        columns = [_to_list(rows[_present(name, found, "the table")]) for name in names]
    elif isinstance(rows, Iterable) and not isinstance(rows, str | bytes):
        columns = _from_rows(list(rows), names, first_row)
    else:
        raise ValueError(
            f"expected a list of rows like {_example(names)}, a mapping of columns or a DataFrame, "
            f"got {type(rows).__name__}"
        )
    return dict(zip(names, columns, strict=True))


def _from_columns(columns: Mapping[str, Any], names: Sequence[str]) -> list[list[Any]]:
    values = []
    for name in names:
        column = columns[_present(name, [str(key) for key in columns], "the input")]
        if isinstance(column, str | bytes) or not isinstance(column, Iterable):
            raise ValueError(
                f"column {name!r} must be a list of values, got {column!r:.60}; "
                f"give one row as [{_example(names)}]"
            )
        values.append(_to_list(column))
    lengths = {name: len(column) for name, column in zip(names, values, strict=True)}
    if len(set(lengths.values())) > 1:
        counts = ", ".join(f"{name!r} has {count}" for name, count in lengths.items())
        raise ValueError(f"columns must be equally long, but {counts}")
    return values


def _from_rows(rows: list[Any], names: Sequence[str], first_row: int) -> list[list[Any]]:
    for number, row in enumerate(rows, start=first_row):
        if not isinstance(row, Mapping):
            raise ValueError(
                f"row {number}: expected a mapping like {_example(names)}, got {row!r:.60} "
                f"({type(row).__name__})"
            )
        for name in names:
            if name not in row:
                _present(name, [str(key) for key in row], f"row {number}")
    return [[row[name] for row in rows] for name in names]


def _present(name: str, found: Sequence[str], where: str) -> str:
    if name not in found:
        raise ValueError(
            f"{where} has no column {name!r}; it has {', '.join(map(repr, found)) or 'none'}"
        )
    return name


def _to_list(column: Any) -> list[Any]:  # noqa: ANN401 - pandas, polars, numpy or a list
    if isinstance(column, np.ndarray) and column.dtype.kind == "M":
        # tolist would make nanoseconds of them, which nothing tells from seconds.
        return list(column)
    for method in ("tolist", "to_list"):
        if hasattr(column, method):
            return list(getattr(column, method)())
    return list(column)


def _example(names: Sequence[str]) -> str:
    return "{" + ", ".join(f"{name!r}: '...'" for name in names) + "}"


def _is_unicode(text: str) -> bool:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True
