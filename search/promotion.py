"""Winners -> compression -> bundles."""

import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from search.compression_jobs import CompressionJob, reason_of, run_here, run_on_ray
from search.compression_records import (
    BUNDLES,
    SCORES_FACT,
    bundle_folder,
    earlier_bundle,
    find_scores,
    record_compression,
    recorded_compressions,
)
from search.confirmation import (
    choose_winners,
    default_checkpoint,
    find_confirmation,
    means_of,
)
from search.final_scores import FinalScores
from search.formatting import format_duration, format_metric, trial_name
from search.leaderboard import Standing
from search.ledger import Ledger
from search.study_config import StudyConfig
from search.trial_record import TrialRecord, say_trial
from trainables.bundle.verify import VerifyResult, verify_bundle
from trainables.compression.report import CompressionReport
from trainables.data.store import DATA_FOLDER
from trainables.metrics import METRICS

BEST = "best"
"""The study's link to the chosen bundle."""


class PromotionError(RuntimeError):
    """A study's winners gave no bundle that can be trusted."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Promotion:
    """What became of a study's winners."""

    reports: Mapping[int, CompressionReport]
    """By trial."""
    errors: Mapping[int, str]
    """Winners whose compression failed, and why."""
    best: int | None
    """The trial whose bundle was chosen; None if no candidate kept within the study's limits."""
    scores: FinalScores | None
    """What the test split said about that bundle."""
    checkpoint: Path | None
    """The checkpoint that it was made of."""


def promote(
    folder: Path,
    config: StudyConfig,
    *,
    on_ray: bool = False,
    tell: Callable[[str], None] = lambda line: None,
) -> Promotion:
    """Compress a study's winners, choose the best bundle, and score the test split once for it.

    What an earlier call finished is not done again: neither a compression with the same settings
    nor the test scores of the same bundle. A kill leaves no half-written bundle.

    Args:
        folder: The study's folder; its ledger is locked meanwhile.
        config: The study; its ``compression`` may differ from an earlier call's.
        on_ray: Compress as tasks of the Ray that this process is connected to, instead of one after
            the other here.
        tell: Called with a line for a person whenever something is done.

    Raises:
        ValueError: if the folder holds no study, or another process works on it.
        PromotionError: if no trial has ended, every compression failed, or the bundle fails its
            verification.
    """
    with Ledger.open(folder) as ledger:
        trials = ledger.all_trials()
        winners = {winner.trial.number: winner for winner in choose_winners(trials, config)}
        if not winners:
            raise PromotionError(
                f"no trial of {folder} has ended with a result, so there is nothing to compress; "
                "resume the study with clicktune search --resume"
            )
        _sweep(folder)
        reports, errors = _compress_all(ledger, folder, config, winners, on_ray=on_ray, tell=tell)
        if not reports:
            raise PromotionError(
                f"every compression failed; the first: {next(iter(errors.values()))}"
            )
        best = choose_best(
            reports, config.search.metric, means_of(find_confirmation(trials, config))
        )
        scores = None
        if best is None:
            (folder / BEST).unlink(missing_ok=True)
        else:
            # Before the test rows are looked at: a damaged bundle would only cost a second look.
            _verify(folder, best)
            default = default_checkpoint(trials, config)
            scores = _score_once(ledger, folder, config, winners[best], default, tell)
            verified = _verify(folder, best)
            tell(
                f"verified the bundle: {verified.num_files} files match their SHA-256, "
                f"{verified.num_parity_rows} rows give what they gave at export"
            )
            _link_best(folder, best)
    return Promotion(
        reports=reports,
        errors=errors,
        best=best,
        scores=scores,
        checkpoint=None if best is None else _checkpoint(winners[best]),
    )


def _compress_all(
    ledger: Ledger,
    folder: Path,
    config: StudyConfig,
    winners: Mapping[int, Standing],
    *,
    on_ray: bool,
    tell: Callable[[str], None],
) -> tuple[dict[int, CompressionReport], dict[int, str]]:
    """Return every winner's report, done now or before, or why it failed."""
    reports = recorded_compressions(ledger, folder, config, winners.values())
    errors: dict[int, str] = {}
    pending = [winner for winner in winners.values() if winner.trial.number not in reports]
    if pending:
        tell(f"compressing {', '.join(say_trial(winner.trial) for winner in pending)}")
    data = _data_folder(ledger, folder)
    jobs = [_job(folder, data, config, winner, alone=not on_ray) for winner in pending]
    for job, outcome in run_on_ray(jobs, tell) if on_ray else run_here(jobs, tell):
        if isinstance(outcome, Exception):
            errors[job.number] = reason_of(outcome)
            tell(f"trial {job.number} could not be compressed: {errors[job.number]}")
            continue
        report = record_compression(ledger, folder, config, winners[job.number], outcome)
        reports[job.number] = report
        tell(_describe(job.number, report, config.search.metric))
        if report.chosen is None and (earlier := earlier_bundle(Path(job.output))).is_dir():
            tell(f"trial {job.number}: its bundle of other limits is kept in {earlier}")
    return reports, errors


def choose_best(
    reports: Mapping[int, CompressionReport], metric: str, means: Mapping[int, float]
) -> int | None:
    """Return the trial whose bundle is the best on the validation split; None without a bundle.

    Args:
        reports: By trial.
        metric: What is compared.
        means: What the trainings of a trial's configuration reach in the mean, where it was trained
            again: a bundle then counts as that, less what compression cost it, for the training
            that it was made of may be a lucky one.
    """
    sign = 1 if METRICS[metric].higher_is_better else -1
    values = {}
    for number, report in reports.items():
        if report.chosen is not None:
            chosen = report.candidates[report.chosen]
            values[number] = sign * chosen.metrics[metric]
            if number in means:
                values[number] = sign * means[number] - chosen.metric_drop
    return max(values, key=lambda number: values[number], default=None)


def _checkpoint(winner: Standing) -> Path:
    assert winner.checkpoint is not None
    return winner.checkpoint.path


def _sweep(folder: Path) -> None:
    """Remove what compressions that were killed left behind."""
    for path in (folder / BUNDLES).glob(".*"):
        shutil.rmtree(path, ignore_errors=True)


def _data_folder(ledger: Ledger, folder: Path) -> Path:
    # Not the path that the checkpoints name: a study's folder may be moved as a whole.
    return folder.resolve() / DATA_FOLDER / str(ledger.fact("data")["fingerprint"])


def _job(
    folder: Path, data: Path, config: StudyConfig, winner: Standing, *, alone: bool
) -> CompressionJob:
    cores = config.resources.cpus_per_worker
    return CompressionJob(
        number=winner.trial.number,
        checkpoint=str(_checkpoint(winner).resolve()),
        data_folder=str(data),
        config=config.compression,
        output=str(bundle_folder(folder, winner.trial.number).resolve()),
        text_columns=config.data.columns.text,
        metric=config.search.metric,
        lineage={
            "study": config.name,
            "trial": winner.trial.number,
            **({} if winner.trial.repeats is None else {"repeats_trial": winner.trial.repeats}),
            **_continued(winner.trial),
            "seed": winner.trial.config.seed,
            "epoch": winner.epoch,
            "params": dict(winner.trial.params),
        },
        num_threads=len(os.sched_getaffinity(0)) if alone else cores,
    )


def _continued(trial: TrialRecord) -> dict[str, int]:
    """Say what a trial continued, whose hyperparameters were others."""
    if (begun := trial.continues) is None:
        return {}
    return {"continues_trial": begun.number, "continues_from_epoch": begun.epoch}


def _describe(number: int, report: CompressionReport, metric: str) -> str:
    took = format_duration(report.seconds)
    if report.chosen is None:
        return f"trial {number}: {report.reason} ({took})"
    chosen = report.candidates[report.chosen]
    return (
        f"trial {number}: {chosen.name}, {metric} "
        f"{format_metric(chosen.metrics[metric])}, {chosen.latency_ms:.2f} ms, "
        f"{chosen.size_mb:.1f} MB ({took})"
    )


def _score_once(
    ledger: Ledger,
    folder: Path,
    config: StudyConfig,
    winner: Standing,
    default: Path | None,
    tell: Callable[[str], None],
) -> FinalScores:
    from search.scoring import score_test_split
    from trainables.bundle.export import with_test_metrics
    from trainables.bundle.manifest import hash_predictor, read_manifest
    from trainables.data.prepared import PreparedData

    bundle = bundle_folder(folder, winner.trial.number)
    scores = find_scores(ledger, hash_predictor(bundle))
    if scores is None:
        tell("scoring the test split")
        scores = score_test_split(
            config,
            PreparedData.open(_data_folder(ledger, folder)),
            trial=winner.trial.number,
            checkpoint=_checkpoint(winner),
            default=default,
            bundle=bundle,
        )
        ledger.set_fact(SCORES_FACT, [*ledger.fact(SCORES_FACT, []), scores.to_dict()])
    # Recorded first: a kill in between must not lead to a second look at the test split.
    if read_manifest(bundle).test_metrics is None:
        with_test_metrics(bundle, scores.summary())
    return scores


def _verify(folder: Path, number: int) -> VerifyResult:
    try:
        return verify_bundle(bundle_folder(folder, number))
    except ValueError as error:
        raise PromotionError(
            f"the exported bundle fails its verification: {error}; clicktune compress {folder} "
            "makes it anew"
        ) from error


def _link_best(folder: Path, number: int) -> None:
    """Point ``best`` at a bundle; whoever follows it finds the old one or the new one."""
    unfinished = folder / f".{BEST}-{os.getpid()}"
    unfinished.unlink(missing_ok=True)
    unfinished.symlink_to(Path(BUNDLES) / trial_name(number))
    unfinished.replace(folder / BEST)
