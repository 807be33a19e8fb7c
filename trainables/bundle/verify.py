"""Check a bundle: every byte, its schema, and that it still gives what it gave at export."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from trainables.bundle.graph_check import check_graph
from trainables.bundle.latency import LatencyCheck, check_latency
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
    latency: LatencyCheck | None
    """How fast it is here; None where that wasn't asked."""


def verify_bundle(
    folder: str | Path, *, latency: bool = False, max_latency_ms: float | None = None
) -> VerifyResult:
    """Check a bundle completely; nothing of it is run before it is known to be what it says.

    Args:
        folder: The bundle, or a link to it.
        latency: Whether to time it too.
        max_latency_ms: The most that one row may take, so that it is timed; None: what its study
            allowed, if it did say.

    Raises:
        ValueError: saying what is wrong with it.
    """
    folder = Path(folder).resolve()
    timed = latency or max_latency_ms is not None
    manifest = read_manifest(folder)
    if absent := sorted(set(BUNDLE_FILES) - set(manifest.files)):
        raise ValueError(f"bundle {folder}: its manifest doesn't list {', '.join(absent)}")
    check_files(folder, manifest)
    check_graph(folder / MODEL_FILE)
    predictor = Predictor(folder, num_threads=1)
    read = predictor.features.to_columns()
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
        latency=check_latency(predictor, max_latency_ms) if timed else None,
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
        "compared": list(manifest.columns["compared"]),
        "encoder": manifest.encoder.get("name"),
        "max tokens": manifest.encoder.get("max_tokens"),
        "precision": manifest.compression.get("precision"),
        "layers": len(manifest.compression.get("shapes", {}).get("heads", ())) or None,
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
