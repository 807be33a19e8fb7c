"""What a bundle says about itself: its files, where it came from, and how well it did."""

import dataclasses
import hashlib
import json
import os
import re
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

MANIFEST_FILE = "manifest.json"
MODEL_FILE = "model.onnx"
TOKENIZER_FILE = "tokenizer.json"
FEATURES_FILE = "features.json"
CALIBRATION_FILE = "calibration.json"
DRIFT_FILE = "drift.json"
CARD_FILE = "README.md"

BUNDLE_FILES = (
    MODEL_FILE,
    TOKENIZER_FILE,
    FEATURES_FILE,
    CALIBRATION_FILE,
    DRIFT_FILE,
    CARD_FILE,
)
"""The files of a bundle beside its manifest."""

SCHEMA_VERSION = 4
"""Version of the manifest that this code writes, and the only one that it reads."""

MAX_DOCUMENT_BYTES = 64_000_000
"""Largest JSON file of a bundle that is read: the largest tokenizers take a few megabytes, and a
file that fills the memory must not be opened to find that out."""

_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, kw_only=True, slots=True)
class FileRecord:
    """One file of a bundle, as it was written."""

    sha256: str
    """Its SHA-256, 64 hexadecimal digits."""
    num_bytes: int
    """Its size."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Step:
    """What the model scored after one step of its compression."""

    name: str
    """uncompressed, vocabulary trimmed, 4 layers kept, pruned to 50%, recovered, exported, the
    precision, calibrated; the last one on the rows that it was fitted on."""
    metrics: Mapping[str, float]
    """Metrics on the validation split."""


RowValue = str | float | int | bool | None
"""A value of a row: text, a category, a number, or missing."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Parity:
    """Real rows and what the model gave for them at export, to be replayed elsewhere."""

    rows: tuple[Mapping[str, RowValue], ...]
    """Values by column, from the validation split."""
    probabilities: tuple[float, ...]
    """What the bundle's graph gave for each row alone, before calibration, which could make a
    difference between two CPUs larger or smaller."""
    uncompressed: tuple[float, ...]
    """What the model gave before compression."""
    tolerance: float
    """How far the log-odds of a replay may be off: arithmetic differs a little from CPU to CPU, and
    int8 rounds some of those differences up to a whole step."""
    batch_spread: float
    """Largest change of a row's log-odds between alone and with other rows, of validation rows of
    all lengths, after a calibration that isn't isotonic. Above 0 for int8, whose scale of
    activations is that of the whole batch."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Latency:
    """How long the graph takes for one row, measured at export."""

    median_ms: float
    """Median over real rows of the validation split, one at a time; without tokenization."""
    num_rows: int
    """How many rows were timed."""
    num_threads: int
    """Threads that the graph ran on."""
    machine: str
    """The machine in words."""


@dataclass(frozen=True, kw_only=True, slots=True)
class BundleManifest:
    """Everything that is known about a bundle; ``manifest.json``."""

    schema_version: int = SCHEMA_VERSION
    """Version of these fields."""
    name: str
    """What the bundle is called."""
    created: str
    """When it was exported: ISO 8601, UTC."""
    task: Mapping[str, Any]
    """What is predicted (TaskConfig)."""
    columns: Mapping[str, tuple[str, ...]]
    """Which columns the predictor reads: ``text``, in order, ``fields``, and the pairs that are
    ``compared``."""
    encoder: Mapping[str, Any]
    """The pretrained encoder: name, fingerprint, max_tokens."""
    trial: Mapping[str, Any]
    """The configuration that was trained (TrialConfig)."""
    config_hash: str
    """Hash of all that determined the trained model."""
    data_fingerprint: str
    """Hash of the rows, split and tokens that it was trained on."""
    libraries: Mapping[str, str]
    """Versions of the libraries that made it."""
    compression: Mapping[str, Any]
    """keep_fraction, precision, shapes (heads and feed-forward width of each layer), size_mb, and
    max_latency_ms, which one row may take, or None."""
    metric: str
    """The metric that the study chose by."""
    steps: tuple[Step, ...]
    """Validation metrics before and after each step of compression."""
    test_metrics: Mapping[str, Any] | None = None
    """Scored once, for the bundle that was chosen; None before."""
    parity: Parity
    """Rows to replay."""
    latency: Latency
    """Speed at export."""
    lineage: Mapping[str, Any]
    """The study and the trial that it came from."""
    files: Mapping[str, FileRecord]
    """Every file of the bundle but the manifest."""

    def num_bytes(self) -> int:
        """Add up the sizes of all files but the manifest."""
        return sum(record.num_bytes for record in self.files.values())

    def to_json(self) -> str:
        """Write the manifest as JSON text; NaN, which JSON doesn't have, raises ValueError."""
        return json.dumps(dataclasses.asdict(self), indent=2, allow_nan=False) + "\n"

    @classmethod
    def from_json(cls, text: str) -> "BundleManifest":
        """Read what :meth:`to_json` wrote.

        Raises:
            ValueError: if it isn't JSON, a field is missing, unknown or of a wrong type, a file's
                name leads out of the bundle, or a newer ClickTune wrote it.
        """
        try:
            raw = json.loads(text)
        except RecursionError as error:
            raise ValueError("it is nested too deeply to be a manifest") from error
        _check(isinstance(raw, dict), f"expected an object, got {type(raw).__name__}")
        _check_version(raw.get("schema_version"))
        _check_fields(cls, raw, "")
        for name in ("task", "encoder", "trial", "compression", "lineage"):
            _check_type(raw[name], dict, name)
        limit = raw["compression"].get("max_latency_ms")
        _check(
            limit is None or _number(limit, "compression.max_latency_ms") > 0,
            f"compression.max_latency_ms must be above 0 or null, got {limit!r:.80}",
        )
        for name in ("name", "created", "config_hash", "data_fingerprint", "metric"):
            _check_type(raw[name], str, name)
        if raw["test_metrics"] is not None:
            _check_type(raw["test_metrics"], dict, "test_metrics")
        _check_strings(raw["libraries"], "libraries")
        for name in ("steps", "files"):
            _check_type(raw[name], list if name == "steps" else dict, name)
        return cls(
            **{
                **raw,
                "columns": _columns(raw["columns"]),
                "steps": tuple(_step(step, i) for i, step in enumerate(raw["steps"])),
                "parity": _parity(raw["parity"]),
                "latency": _latency(raw["latency"]),
                "files": {name: _file_record(name, raw["files"][name]) for name in raw["files"]},
            }
        )


def read_manifest(folder: Path) -> BundleManifest:
    """Read a bundle's manifest, without a look at its other files.

    Raises:
        ValueError: if the folder holds none, or one that can't be trusted to be understood.
    """
    path = folder / MANIFEST_FILE
    if not folder.is_dir():
        raise ValueError(f"there is no bundle at {folder}: it is not a folder")
    if not path.is_file() or path.is_symlink():
        raise ValueError(f"{folder} is not a bundle: it has no file {MANIFEST_FILE}")
    _check_document(path)
    try:
        return BundleManifest.from_json(path.read_text(encoding="utf-8"))
    except (ValueError, OSError) as error:
        raise ValueError(f"{path} can't be read as a bundle's manifest: {error}") from error


def check_files(folder: Path, manifest: BundleManifest) -> None:
    """Compare a bundle's files with its manifest, byte for byte.

    Raises:
        ValueError: naming the first file that is missing, extra, a link, or changed.
    """
    present = {path.name for path in folder.iterdir()} - {MANIFEST_FILE}
    if missing := sorted(set(manifest.files) - present):
        raise ValueError(f"bundle {folder} is incomplete: {', '.join(missing)} missing")
    if extra := sorted(present - set(manifest.files)):
        raise ValueError(
            f"bundle {folder} holds {', '.join(extra)}, which its manifest doesn't list; "
            "remove it, or get the bundle anew from where it was exported"
        )
    for name, record in manifest.files.items():
        path = folder / name
        if path.is_symlink() or not path.is_file():
            raise ValueError(f"{path} is not a plain file; a bundle holds no links or folders")
        if path.suffix == ".json":
            _check_document(path)
        found = file_record(path)
        if found != record:
            raise ValueError(
                f"{path} was changed after the export: {found.num_bytes} bytes with SHA-256 "
                f"{found.sha256[:12]}…, but the manifest says {record.num_bytes} bytes with "
                f"{record.sha256[:12]}…; get the bundle anew from where it was exported"
            )


def _check_document(path: Path) -> None:
    size = path.stat().st_size
    if size > MAX_DOCUMENT_BYTES:
        raise ValueError(
            f"{path} takes {size / 1e6:,.0f} MB, and no bundle's needs more than "
            f"{MAX_DOCUMENT_BYTES / 1e6:,.0f} MB; get the bundle anew from where it was exported"
        )


def file_record(path: Path) -> FileRecord:
    """Hash a file."""
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        return FileRecord(sha256=digest, num_bytes=file.tell())


def hash_predictor(folder: Path) -> str:
    """Hash what a bundle predicts with: its graph, tokenizer, features and calibration."""
    digest = hashlib.sha256()
    for name in (MODEL_FILE, TOKENIZER_FILE, FEATURES_FILE, CALIBRATION_FILE):
        digest.update(file_record(folder / name).sha256.encode())
    return digest.hexdigest()


def replace_text(path: Path, text: str) -> None:
    """Write a file so that whoever reads it sees the old text or the new one.

    The temporary file lies beside the bundle, not in it, where it would be an unexpected file.
    """
    handle, temporary = tempfile.mkstemp(dir=path.parent.parent, prefix=f".{path.name}-")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).chmod(0o644)
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def _check(holds: bool, problem: str) -> None:
    if not holds:
        raise ValueError(problem)


def _check_version(version: object) -> None:
    if isinstance(version, bool) or not isinstance(version, int) or version < 1:
        raise ValueError(f"schema_version must be a whole number from 1, got {version!r}")
    if version > SCHEMA_VERSION:
        raise ValueError(
            f"it has schema_version {version}, and this ClickTune reads {SCHEMA_VERSION}; "
            "upgrade clicktune to use the bundle"
        )
    if version < SCHEMA_VERSION:
        raise ValueError(
            f"it has schema_version {version}, and this ClickTune reads {SCHEMA_VERSION}; "
            "export the bundle again"
        )


def _check_fields(kind: type, raw: object, where: str) -> None:
    _check(isinstance(raw, dict), f"{where or 'it'} must be an object, got {raw!r:.80}")
    assert isinstance(raw, dict)
    expected = {field.name for field in dataclasses.fields(kind)}
    if missing := sorted(expected - set(raw)):
        raise ValueError(f"{where + ' ' if where else ''}lacks {', '.join(missing)}")
    if unknown := sorted(set(raw) - expected):
        raise ValueError(f"{where + ' ' if where else ''}has unknown fields {', '.join(unknown)}")


def _check_type(value: object, kind: type, where: str) -> None:
    _check(isinstance(value, kind), f"{where} must be a {kind.__name__}, got {value!r:.80}")


def _check_strings(raw: object, where: str) -> None:
    _check(
        isinstance(raw, dict) and all(isinstance(value, str) for value in raw.values()),
        f"{where} must map names to text, got {raw!r:.80}",
    )


def _columns(raw: object) -> dict[str, tuple[str, ...]]:
    kinds = ("text", "fields", "compared")
    if (
        not isinstance(raw, dict)
        or set(raw) != set(kinds)
        or not all(
            isinstance(names, list) and all(isinstance(name, str) for name in names)
            for names in raw.values()
        )
        or not any(raw.values())
    ):
        raise ValueError(
            "columns must be like {'text': ['title'], 'fields': [], 'compared': []}, got "
            f"{raw!r:.80}"
        )
    return {kind: tuple(raw[kind]) for kind in kinds}


def _number(value: object, where: str) -> float:
    # A comparison, because math.isfinite overflows on a huge int.
    finite = isinstance(value, int | float) and abs(value) <= sys.float_info.max
    if isinstance(value, bool) or not finite:
        raise ValueError(f"{where} must be a finite number, got {value!r:.80}")
    assert isinstance(value, int | float)
    return float(value)


def _numbers(raw: object, where: str) -> tuple[float, ...]:
    if not isinstance(raw, list):
        raise ValueError(f"{where} must be a list of numbers, got {raw!r:.80}")
    return tuple(_number(value, f"{where}[{i}]") for i, value in enumerate(raw))


def _step(raw: Any, number: int) -> Step:  # noqa: ANN401 - unchecked JSON
    _check_fields(Step, raw, f"steps[{number}]")
    _check_type(raw["name"], str, f"steps[{number}].name")
    _check_type(raw["metrics"], dict, f"steps[{number}].metrics")
    where = f"steps[{number}].metrics"
    return Step(
        name=raw["name"], metrics={k: _number(v, f"{where}.{k}") for k, v in raw["metrics"].items()}
    )


def _parity(raw: Any) -> Parity:  # noqa: ANN401 - unchecked JSON
    _check_fields(Parity, raw, "parity")
    _check_type(raw["rows"], list, "parity.rows")
    for i, row in enumerate(raw["rows"]):
        _check(
            isinstance(row, dict)
            and all(value is None or isinstance(value, RowValue) for value in row.values()),
            f"parity.rows[{i}] must map columns to values, got {row!r:.80}",
        )
    parity = Parity(
        rows=tuple(raw["rows"]),
        probabilities=_numbers(raw["probabilities"], "parity.probabilities"),
        uncompressed=_numbers(raw["uncompressed"], "parity.uncompressed"),
        tolerance=_number(raw["tolerance"], "parity.tolerance"),
        batch_spread=_number(raw["batch_spread"], "parity.batch_spread"),
    )
    counts = {len(parity.rows), len(parity.probabilities), len(parity.uncompressed)}
    _check(len(counts) == 1 and 0 not in counts, f"parity lists differ in length: {sorted(counts)}")
    return parity


def _latency(raw: Any) -> Latency:  # noqa: ANN401 - unchecked JSON
    _check_fields(Latency, raw, "latency")
    _number(raw["median_ms"], "latency.median_ms")
    for name in ("num_rows", "num_threads"):
        _check_type(raw[name], int, f"latency.{name}")
    _check_type(raw["machine"], str, "latency.machine")
    return Latency(**raw)


def _file_record(name: str, raw: Any) -> FileRecord:  # noqa: ANN401 - unchecked JSON
    if name in ("", ".", "..", MANIFEST_FILE) or "/" in name or "\\" in name or "\0" in name:
        raise ValueError(f"files lists {name!r}, which is not the name of a file in the bundle")
    _check_fields(FileRecord, raw, f"files[{name!r}]")
    digest, size = raw["sha256"], raw["num_bytes"]
    if not isinstance(digest, str) or not _SHA256.fullmatch(digest):
        raise ValueError(
            f"files[{name!r}].sha256 must be 64 hexadecimal digits, got {digest!r:.80}"
        )
    if isinstance(size, bool) or not isinstance(size, int) or size < 0:
        raise ValueError(f"files[{name!r}].num_bytes must be a size, got {size!r:.80}")
    return FileRecord(sha256=digest, num_bytes=size)
