"""What a study has compressed already, and whether those bundles are sound."""

import dataclasses
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from search.final_scores import FinalScores
from search.formatting import trial_name
from search.leaderboard import Standing
from search.ledger import Ledger
from search.study_config import StudyConfig
from trainables.bundle.export import with_test_metrics
from trainables.bundle.manifest import hash_predictor, read_manifest
from trainables.bundle.verify import verify_bundle
from trainables.compression.report import CompressionReport

BUNDLES = "bundles"
"""The study's folder of bundles."""
SCORES_FACT = "final_scores"
"""Where the ledger keeps what the test split said: a list, one entry for each bundle scored."""


def bundle_folder(folder: Path, number: int) -> Path:
    """Return where a study keeps the bundle of a trial."""
    return folder / BUNDLES / trial_name(number)


def set_aside(bundle: Path) -> None:
    """Give a bundle that isn't the study's any more another name: it may still be in use."""
    if bundle.is_dir():
        aside = earlier_bundle(bundle)
        shutil.rmtree(aside, ignore_errors=True)
        bundle.rename(aside)


def earlier_bundle(bundle: Path) -> Path:
    """Return where a bundle is kept that stricter limits left without a successor."""
    return bundle.with_name(f"{bundle.name}-earlier")


def find_scores(ledger: Ledger, predictor_sha256: str) -> FinalScores | None:
    """Return what the test split said about a bundle, by its hash; None if it wasn't asked."""
    entries: list[dict[str, Any]] = ledger.fact(SCORES_FACT, [])
    found = (e for e in entries if e["predictor_sha256"] == predictor_sha256)
    return next((FinalScores.from_dict(entry) for entry in found), None)


def record_compression(
    ledger: Ledger,
    folder: Path,
    config: StudyConfig,
    winner: Standing,
    report: CompressionReport,
) -> CompressionReport:
    """Note a compression in the ledger.

    Returns:
        The report with its bundle's path inside the study's folder, which may be moved.
    """
    number = winner.trial.number
    digest = None
    if report.bundle is None:
        # A bundle from looser limits would pass for this compression's.
        set_aside(bundle_folder(folder, number))
    else:
        digest = hash_predictor(Path(report.bundle))
        bundle = Path(report.bundle).relative_to(folder.resolve())
        report = dataclasses.replace(report, bundle=str(bundle))
    entry = {**_identity(config, winner), "report": report.to_dict(), "predictor_sha256": digest}
    ledger.add_compression(number, entry)
    return report


def recorded_compressions(
    ledger: Ledger, folder: Path, config: StudyConfig, winners: Iterable[Standing]
) -> dict[int, CompressionReport]:
    """Return the compressions that need not be done again, by trial.

    They were done with the same settings, and their bundles pass their verification.
    """
    recorded = ledger.compressions()
    found: dict[int, CompressionReport] = {}
    for winner in winners:
        entry = recorded.get(winner.trial.number)
        identity = _identity(config, winner)
        if entry is None or {name: entry.get(name) for name in identity} != identity:
            continue
        report = CompressionReport.from_dict(entry["report"])
        if report.bundle is None or _is_sound(
            ledger, folder / report.bundle, entry["predictor_sha256"]
        ):
            found[winner.trial.number] = report
    return found


def _is_sound(ledger: Ledger, bundle: Path, predictor_sha256: str) -> bool:
    """Return whether a bundle is the one that was recorded, whole and unchanged."""
    try:
        if hash_predictor(bundle) != predictor_sha256:
            return False
        scores = find_scores(ledger, predictor_sha256)
        if scores is not None and read_manifest(bundle).test_metrics is None:
            # A kill between the two files that this replaces leaves a bundle that fails.
            with_test_metrics(bundle, scores.summary())
        verify_bundle(bundle)
    except (ValueError, OSError):
        return False
    return True


def _identity(config: StudyConfig, winner: Standing) -> Mapping[str, Any]:
    return {
        "config": dataclasses.asdict(config.compression)
        | {
            # JSON has no tuples.
            "keep_fractions": list(config.compression.keep_fractions),
            "layer_fractions": list(config.compression.layer_fractions),
        },
        "metric": config.search.metric,
        "config_hash": winner.trial.config_hash,
        "epoch": winner.epoch,
    }
