"""Write a bundle: stage its parts, record what they predict, seal them with a manifest."""

import dataclasses
import importlib.metadata
import json
import os
import platform
import shutil
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from trainables.bundle.card import model_card
from trainables.bundle.drift import DriftBaseline
from trainables.bundle.features import Features
from trainables.bundle.manifest import (
    BUNDLE_FILES,
    CALIBRATION_FILE,
    CARD_FILE,
    DRIFT_FILE,
    FEATURES_FILE,
    MANIFEST_FILE,
    MODEL_FILE,
    TOKENIZER_FILE,
    BundleManifest,
    Parity,
    RowValue,
    file_record,
    read_manifest,
    replace_text,
)
from trainables.bundle.predictor import RowScorer, log_odds, run_graph
from trainables.calibration import Calibration
from trainables.data.row_inputs import RowInputs

if TYPE_CHECKING:
    from tokenizers import Tokenizer

LIBRARIES = (
    "clicktune",
    "deepspeed",
    "numpy",
    "onnx",
    "onnxruntime",
    "peft",
    "tokenizers",
    "torch",
    "transformers",
)
"""Whose versions a manifest records."""

TOLERANCES = {"fp32": 1e-3, "fp16": 1e-3, "int8": 0.1, "int8+int4": 0.1, "int8+fp32": 0.1}
"""Largest difference in log-odds that a replay on another CPU may show, by precision. With other
kernels for the float operations around them, int8 layers were seen to differ by 0.03."""


def stage_bundle(
    folder: Path,
    *,
    graph: Path,
    tokenizer: "Tokenizer",
    features: Features,
    calibration: Calibration | None = None,
) -> RowScorer:
    """Put the parts that predict into a new folder, and load them from there.

    Args:
        folder: Made; must not exist.
        graph: The ONNX graph, copied.
        tokenizer: Set to truncate as in training.
        features: What the predictor needs to know.
        calibration: What becomes of the graph's probabilities; None: nothing.
    """
    folder.mkdir(parents=True)
    shutil.copyfile(graph, folder / MODEL_FILE)
    tokenizer.save(str(folder / TOKENIZER_FILE), pretty=False)
    (folder / FEATURES_FILE).write_text(features.to_json(), encoding="utf-8")
    calibration = Calibration() if calibration is None else calibration
    text = json.dumps(calibration.to_dict(), indent=2) + "\n"
    (folder / CALIBRATION_FILE).write_text(text, encoding="utf-8")
    return RowScorer(folder, num_threads=1)


def record_parity(
    scorer: RowScorer,
    rows: Sequence[Mapping[str, RowValue]],
    uncompressed: np.ndarray,
    *,
    precision: str,
    others: RowInputs | None = None,
) -> Parity:
    """Predict real rows one by one, so that a verification can replay them.

    Args:
        scorer: The staged parts.
        rows: Values by column; at least one.
        uncompressed: (n,) what the model gave before compression.
        precision: Of the graph; decides the tolerance.
        others: Rows that show how much one depends on the others of its batch; None: these.
    """
    if others is None:
        names = scorer.features.columns
        others = scorer.encode({name: [row[name] for row in rows] for name in names})
    alone = np.concatenate([scorer.score([row]) for row in rows])
    return Parity(
        rows=tuple(dict(row) for row in rows),
        probabilities=tuple(alone.tolist()),
        uncompressed=tuple(np.asarray(uncompressed, np.float64).tolist()),
        tolerance=TOLERANCES[precision],
        batch_spread=_batch_spread(scorer, others),
    )


def _batch_spread(scorer: RowScorer, inputs: RowInputs) -> float:
    """Return the largest change of a row's log-odds between alone and with others, n rows.

    Calibrated as predictions are, but for the steps of an isotonic one, whose log-odds have none.
    """
    calibration = scorer.calibration
    slope = calibration.slope if calibration.kind in ("platt", "temperature") else 1.0

    def predict(order: np.ndarray, size: int) -> np.ndarray:
        found = np.empty(len(inputs))
        for start in range(0, len(order), size):
            chosen = order[start : start + size]
            found[chosen] = log_odds(run_graph(scorer.session, inputs.take(chosen)))
        return found

    order = np.random.default_rng(0).permutation(len(inputs))
    alone = predict(order, 1)
    changes = [np.abs(predict(order, size) - alone).max() for size in (2, len(inputs))]
    return float(slope * max(changes))


def record_baseline(
    folder: Path,
    scorer: RowScorer,
    inputs: RowInputs,
    probabilities: np.ndarray,
    *,
    num_groups: int | None = None,
) -> None:
    """Write how rows and their scores are distributed, so that later rows can be compared.

    Args:
        folder: From :func:`stage_bundle`.
        scorer: The staged parts.
        inputs: n rows that the model wasn't trained on.
        probabilities: (n,) what the bundle predicts for them.
        num_groups: Groups of rows that belong together; None: each row is its own.
    """
    baseline = DriftBaseline.of(inputs, probabilities, scorer.features, num_groups=num_groups)
    (folder / DRIFT_FILE).write_text(baseline.to_json(), encoding="utf-8")


def seal_bundle(folder: Path, draft: BundleManifest, output: Path) -> BundleManifest:
    """Add model card and manifest to staged parts, and give the folder its name.

    ``output`` is a whole bundle or isn't there, whenever the process is killed; only an older
    bundle in its place is gone for an instant.

    Args:
        folder: From :func:`stage_bundle`, on the same file system as ``output``.
        draft: The manifest; its ``files`` are filled in.
        output: Where the bundle will be.

    Raises:
        ValueError: if something else than a bundle is there already.
    """
    check_output(output)
    (folder / CARD_FILE).write_text(model_card(draft), encoding="utf-8")
    files = {name: file_record(folder / name) for name in BUNDLE_FILES}
    manifest = dataclasses.replace(draft, files=files)
    (folder / MANIFEST_FILE).write_text(manifest.to_json(), encoding="utf-8")
    for name in (*BUNDLE_FILES, MANIFEST_FILE):
        with (folder / name).open("rb") as file:
            os.fsync(file.fileno())
    older = folder.with_name(f"{folder.name}.older")
    if output.exists():
        # Moved away whole: half-removed it would be neither a bundle nor a place for one.
        output.rename(older)
    folder.rename(output)
    shutil.rmtree(older, ignore_errors=True)
    return manifest


def check_output(output: Path) -> None:
    """Refuse to write a bundle over anything but a bundle.

    Raises:
        ValueError: if the path is taken.
    """
    if output.is_symlink() or (output.exists() and not (output / MANIFEST_FILE).is_file()):
        raise ValueError(
            f"{output} exists and is not a bundle; choose another output folder, or remove it"
        )


def with_test_metrics(bundle: Path, metrics: Mapping[str, Any]) -> BundleManifest:
    """Add what the bundle scored on the test split to its manifest and its model card.

    Each of the two files is replaced in one step. After a kill between the two the bundle fails its
    verification, and calling this again mends it.

    Args:
        bundle: The bundle's folder, or a link to it.
        metrics: JSON values: a number by metric, and intervals or baselines beside them.

    Returns:
        The new manifest.
    """
    bundle = bundle.resolve()
    manifest = dataclasses.replace(read_manifest(bundle), test_metrics=dict(metrics))
    replace_text(bundle / CARD_FILE, model_card(manifest))
    files = {**manifest.files, CARD_FILE: file_record(bundle / CARD_FILE)}
    manifest = dataclasses.replace(manifest, files=files)
    replace_text(bundle / MANIFEST_FILE, manifest.to_json())
    return manifest


def utc_now() -> str:
    """Return the time as a manifest writes it."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def library_versions() -> dict[str, str]:
    """Return the versions of Python and of the libraries that make a bundle."""
    versions = {"python": platform.python_version()}
    for name in LIBRARIES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            versions[name] = "not installed as a package"
    return versions


def describe_machine() -> str:
    """Describe the CPU in words that identify no one: model, instruction set, number of cores."""
    model = platform.processor() or "unknown CPU"
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        for line in cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                model = line.partition(":")[2].strip()
                break
    return f"{model}, {platform.machine()}, {os.cpu_count()} cores, {platform.system()}"
