"""Check a bundle: every byte, its schema, and that it still gives what it gave at export."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from trainables.bundle.manifest import (
    BUNDLE_FILES,
    MODEL_FILE,
    BundleManifest,
    check_files,
    read_manifest,
)
from trainables.bundle.predictor import Predictor, log_odds


@dataclass(frozen=True, kw_only=True, slots=True)
class VerifyResult:
    """What was checked on a bundle that passed."""

    manifest: BundleManifest
    """The bundle's own account."""
    num_files: int
    """Files whose size and hash are right."""
    num_parity_rows: int
    """Rows that were replayed."""
    largest_difference: float
    """Largest change of a replayed row's log-odds since the export, at most the tolerance."""


def verify_bundle(folder: str | Path) -> VerifyResult:
    """Check a bundle completely.

    Args:
        folder: The bundle, or a link to it.

    Raises:
        ValueError: saying what is wrong with it.
    """
    folder = Path(folder).resolve()
    manifest = read_manifest(folder)
    if absent := sorted(set(BUNDLE_FILES) - set(manifest.files)):
        raise ValueError(f"bundle {folder}: its manifest doesn't list {', '.join(absent)}")
    check_files(folder, manifest)
    check_self_contained(folder / MODEL_FILE)
    predictor = Predictor(folder, num_threads=1)
    read = {"text": predictor.features.text, "fields": predictor.features.fields.names}
    if read != manifest.columns:
        raise ValueError(
            f"bundle {folder}: features.json reads {read}, but the manifest says "
            f"{dict(manifest.columns)}"
        )
    difference = _replay(predictor)
    return VerifyResult(
        manifest=manifest,
        num_files=len(manifest.files),
        num_parity_rows=len(manifest.parity.rows),
        largest_difference=difference,
    )


def _replay(predictor: Predictor) -> float:
    parity = predictor.manifest.parity
    replayed = predictor.replay()
    differences = np.abs(log_odds(replayed) - log_odds(np.asarray(parity.probabilities)))
    worst = int(np.argmax(differences))
    # Written so that a NaN fails too.
    if not differences[worst] <= parity.tolerance:
        raise ValueError(
            "the bundle doesn't give what it gave at export: parity row "
            f"{worst} is {replayed[worst]:.6f} here and was {parity.probabilities[worst]:.6f}, "
            f"{differences[worst]:.3g} apart in log-odds where {parity.tolerance:g} is allowed; "
            "another version of onnxruntime or tokenizers may be at fault "
            f"(exported with {_versions(predictor.manifest)})"
        )
    return float(differences[worst])


def _versions(manifest: BundleManifest) -> str:
    names = ("onnxruntime", "tokenizers")
    return ", ".join(f"{name} {manifest.libraries.get(name, '?')}" for name in names)


def check_self_contained(path: Path) -> None:
    """Make sure that a graph keeps all its weights in its own file.

    Raises:
        ValueError: if it isn't ONNX, or a weight lies in another file, which no hash would cover.
    """
    import onnx
    from onnx.external_data_helper import uses_external_data

    try:
        model = onnx.load(str(path), load_external_data=False)
    except Exception as error:
        raise ValueError(f"{path} is not an ONNX graph: {error}") from error
    for tensor in _tensors(model):
        if uses_external_data(tensor):
            raise ValueError(
                f"{path} keeps weight {tensor.name!r} in another file, which the manifest's hashes "
                "don't cover; export the bundle again"
            )


def _tensors(message: Any) -> Iterator[Any]:  # noqa: ANN401 - protobuf ships no types
    """Find the tensors of a graph, of its functions and of the graphs inside its nodes."""
    from onnx import TensorProto

    if isinstance(message, TensorProto):
        yield message
        return
    for field, value in message.ListFields():
        if field.message_type is not None:
            for item in [value] if hasattr(value, "ListFields") else value:
                yield from _tensors(item)


def describe_bundle(folder: str | Path) -> dict[str, Any]:
    """Return the facts about a bundle that its user asks for first, as plain values.

    Reads the manifest only; :func:`verify_bundle` checks it.

    Raises:
        ValueError: if the folder holds no readable manifest.
    """
    manifest = read_manifest(Path(folder).resolve())
    return {
        "name": manifest.name,
        "created": manifest.created,
        "task": manifest.task.get("kind"),
        "text columns": list(manifest.columns["text"]),
        "fields": list(manifest.columns["fields"]),
        "encoder": manifest.encoder.get("name"),
        "max tokens": manifest.encoder.get("max_tokens"),
        "precision": manifest.compression.get("precision"),
        "share kept": manifest.compression.get("keep_fraction"),
        "size (MB)": round(manifest.num_bytes() / 1e6, 1),
        "latency (ms)": round(manifest.latency.median_ms, 2),
        "measured on": manifest.latency.machine,
        "validation": {step.name: dict(step.metrics) for step in manifest.steps},
        "test": None if manifest.test_metrics is None else dict(manifest.test_metrics),
        "trial": dict(manifest.trial),
        "config hash": manifest.config_hash,
        "data fingerprint": manifest.data_fingerprint,
        "lineage": dict(manifest.lineage),
    }
