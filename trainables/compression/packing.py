"""Make a bundle of the chosen candidate."""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from trainables.bundle.export import (
    describe_machine,
    library_versions,
    record_baseline,
    record_parity,
    seal_bundle,
    stage_bundle,
    utc_now,
)
from trainables.bundle.features import Features
from trainables.bundle.manifest import BundleManifest, Latency, Parity, RowValue, Step
from trainables.calibration import Calibration
from trainables.compression.exporting import Exported
from trainables.compression.measure import NUM_ROWS, spread_over_lengths
from trainables.compression.report import Candidate
from trainables.compression.winner import Winner
from trainables.data.row_inputs import RowInputs

NUM_PARITY_ROWS = 16
NUM_BATCHED_ROWS = 128
"""Rows that show how much one depends on the others of its batch."""


@dataclass(frozen=True, kw_only=True, slots=True)
class BundleRequest:
    """Where a bundle goes, and what it says beside what was measured."""

    output: Path
    """The bundle's folder."""
    staging: Path
    """A folder to make, on the same file system."""
    lineage: Mapping[str, Any]
    """JSON values that say where the checkpoint comes from."""
    max_latency_ms: float | None
    """What one row may take, which a verification elsewhere checks; None: nobody said."""


def write_bundle(
    winner: Winner,
    candidate: Candidate,
    exported: Exported,
    request: BundleRequest,
    *,
    calibration: Calibration,
) -> BundleManifest:
    """Write the bundle of a candidate, whole or not at all.

    Args:
        winner: The model before compression.
        candidate: What was measured.
        exported: The candidate's graph.
        request: Where the bundle goes, and what it says beside.
        calibration: What becomes of its probabilities.
    """
    features = winner.features
    staging = request.staging
    scorer = stage_bundle(
        staging,
        graph=exported.graph,
        tokenizer=winner.tokenizer,
        features=features,
        calibration=calibration,
    )
    lengths = winner.validation.tokens.lengths
    chosen = spread_over_lengths(lengths, NUM_PARITY_ROWS)
    rows = _raw_rows(winner, chosen)
    served = scorer.encode({name: [row[name] for row in rows] for name in features.columns})
    if not _are_equal(served, winner.validation.inputs.take(chosen), features):
        raise RuntimeError("the bundle would read rows unlike training did; nothing was exported")
    parity = record_parity(
        scorer,
        rows,
        winner.probabilities[chosen],
        precision=candidate.precision,
        others=winner.validation.inputs.take(spread_over_lengths(lengths, NUM_BATCHED_ROWS)),
    )
    record_baseline(
        staging,
        scorer,
        winner.validation.inputs,
        calibration.apply(exported.probabilities),
        num_groups=len(np.unique(winner.validation.groups)),
    )
    return seal_bundle(staging, _draft(winner, candidate, parity, request), request.output)


def _raw_rows(winner: Winner, chosen: np.ndarray) -> list[dict[str, RowValue]]:
    """Return validation rows as a table has them, with the columns that the bundle reads."""
    columns: dict[str, Sequence[RowValue]] = {}
    columns.update(winner.validation.raw_fields(chosen))
    if winner.text_columns:
        texts = zip(*winner.validation.texts(chosen), strict=True)
        columns.update(zip(winner.text_columns, texts, strict=True))
    return [
        {name: columns[name][place] for name in winner.features.columns}
        for place in range(len(chosen))
    ]


def _are_equal(served: RowInputs, trained: RowInputs, features: Features) -> bool:
    """Tell whether a bundle's inputs are those of training, to the last bit."""
    pairs = []
    if features.text:
        one, other = (rows.tokens.batch(np.arange(len(rows))) for rows in (served, trained))
        pairs += [(one[name], other[name]) for name in one]
    if features.fields:
        pairs += [(served.codes, trained.codes), (served.numbers, trained.numbers)]
    return all(np.array_equal(one, other) for one, other in pairs)


def _draft(
    winner: Winner, candidate: Candidate, parity: Parity, request: BundleRequest
) -> BundleManifest:
    """Say everything about the bundle but its files' hashes."""
    info = winner.info
    return BundleManifest(
        name=request.output.name,
        created=utc_now(),
        task=dataclasses.asdict(info.setup.task),
        columns=winner.features.to_columns(),
        encoder={
            "name": info.setup.encoder.name,
            "fingerprint": info.setup.encoder_fingerprint,
            "max_tokens": info.setup.encoder.max_tokens,
        },
        trial=info.trial.effective(),
        config_hash=info.config_hash,
        data_fingerprint=info.setup.data_fingerprint,
        libraries=library_versions(),
        compression={
            "keep_fraction": candidate.keep_fraction,
            "precision": candidate.precision,
            "shapes": candidate.shapes,
            "size_mb": candidate.size_mb,
            "max_latency_ms": request.max_latency_ms,
        },
        metric=winner.metric,
        steps=tuple(Step(name=name, metrics=metrics) for name, metrics in candidate.steps),
        parity=parity,
        latency=Latency(
            median_ms=candidate.latency_ms,
            num_rows=min(NUM_ROWS, len(winner.validation)),
            num_threads=1,
            machine=describe_machine(),
        ),
        lineage=dict(request.lineage),
        files={},
    )
