"""Make a bundle of the chosen candidate."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from trainables.bundle.export import (
    describe_machine,
    library_versions,
    record_parity,
    seal_bundle,
    stage_bundle,
    utc_now,
)
from trainables.bundle.features import Features
from trainables.bundle.manifest import BundleManifest, Latency, Parity, Step
from trainables.compression.measure import NUM_ROWS, spread_over_lengths
from trainables.compression.report import Candidate
from trainables.compression.winner import Winner
from trainables.data.token_rows import tokenize
from trainables.encoder import find_encoder, load_tokenizer

NUM_PARITY_ROWS = 16


def write_bundle(
    winner: Winner,
    candidate: Candidate,
    graph: Path,
    *,
    staging: Path,
    output: Path,
    lineage: Mapping[str, Any],
) -> BundleManifest:
    """Write the bundle of a candidate, whole or not at all.

    Args:
        winner: The model before compression.
        candidate: What was measured.
        graph: The candidate's ONNX file.
        staging: A folder to make, on the same file system as ``output``.
        output: The bundle's folder.
        lineage: JSON values that say where the checkpoint comes from.
    """
    encoder = winner.info.setup.encoder
    tokenizer = load_tokenizer(find_encoder(encoder), max_tokens=encoder.max_tokens)
    features = Features(text=winner.text_columns, max_tokens=encoder.max_tokens)
    scorer = stage_bundle(staging, graph=graph, tokenizer=tokenizer, features=features)
    chosen = spread_over_lengths(winner.validation.tokens.lengths, NUM_PARITY_ROWS)
    texts = winner.validation.texts(chosen)
    rows = [dict(zip(features.text, row, strict=True)) for row in texts]
    served = tokenize([[row[name] for row in rows] for name in features.text], scorer.tokenizer)
    trained = winner.validation.tokens.take(chosen)
    if not np.array_equal(served.ids, trained.ids):
        raise RuntimeError("the bundle would read text unlike training did; nothing was exported")
    parity = record_parity(
        scorer, rows, winner.probabilities[chosen], precision=candidate.precision
    )
    return seal_bundle(staging, _draft(winner, candidate, parity, output.name, lineage), output)


def _draft(
    winner: Winner, candidate: Candidate, parity: Parity, name: str, lineage: Mapping[str, Any]
) -> BundleManifest:
    """Say everything about the bundle but its files' hashes."""
    info = winner.info
    return BundleManifest(
        name=name,
        created=utc_now(),
        task=dataclasses.asdict(info.setup.task),
        columns={"text": winner.text_columns},
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
        lineage=dict(lineage),
        files={},
    )
