"""A study's folder as it is after a search with compression, written without training anything."""

import math
import random
from pathlib import Path

from search.compression_records import SCORES_FACT
from search.final_scores import FinalScores, Score
from search.ledger import Ledger
from search.study_config import StudyConfig, dump_study, parse_study
from search.trial_record import ReportRecord, TrialState
from spaces.trial_config import TrialConfig
from trainables.compression.report import Candidate, CompressionReport

STUDY = """
name: finished
data:
  path: /somewhere/private/clicks.parquet
  columns: {text: [query, title], clicks: clicks, impressions: impressions}
space:
  learning_rate: {log_uniform: [1.0e-4, 3.0e-3]}
  batch_size: {choice: [16, 32, 64]}
  augmentation: {choice: [none, synonym, word_dropout]}
  augmentation_rate: {uniform: [0.05, 0.3], when: {augmentation: [synonym, word_dropout]}}
  method: lora
  lora_rank: {int: [4, 16]}
search: {algorithm: random, scheduler: asha, trials: 12, epochs: 3, metric: roc_auc}
winners: 2
"""


def finished_config() -> StudyConfig:
    return parse_study(STUDY)


def write_trials(folder: Path, config: StudyConfig, *, num_trials: int = 12) -> None:
    """Write study.yaml and a ledger: one trial failed, one is not finished, some were stopped."""
    rng = random.Random(0)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "study.yaml").write_text(dump_study(config))
    facts = {"config": dump_study(config), "status": "running", "higher_is_better": True}
    with Ledger.create(folder, facts) as ledger:
        for number in range(num_trials):
            point = config.space.sample(rng)
            ledger.add_trial(number, point, TrialConfig(**point), f"hash-{number}")
            ledger.add_start(number)
            _write_reports(ledger, number, float(point["learning_rate"]), rng)


def _write_reports(ledger: Ledger, number: int, learning_rate: float, rng: random.Random) -> None:
    if number == 4:
        ledger.add_failure(number, "Traceback ...\nRuntimeError: <b>out of memory</b>", final=True)
        return
    quality = 0.70 - 0.04 * (math.log10(learning_rate) + 3) ** 2 + rng.gauss(0, 0.004)
    last = 2 if number == 11 else 1 if quality < 0.69 else 3
    for epoch in range(1, last + 1):
        value = quality - 0.03 * 0.4**epoch
        state: TrialState = "running"
        if epoch == last and number != 11:
            state = "completed" if last == 3 else "stopped"
        report = ReportRecord(
            number=number,
            epoch=epoch,
            metrics={"roc_auc": value, "log_loss": 1 - value, "train_loss": 0.4},
            seconds=6.5,
            decision="stop" if state == "stopped" else "continue",
        )
        ledger.add_report(report, None, state)


def write_promotion(folder: Path, *, best: int, other: int) -> None:
    """Add two compressions, test scores and a link to a bundle that isn't there in full."""
    with Ledger.open(folder) as ledger:
        for number, value in ((best, 0.6995), (other, 0.6975)):
            report = compression_report(number, value)
            ledger.add_compression(number, {"report": report.to_dict()})
        ledger.set_fact(SCORES_FACT, [final_scores(best).to_dict()])


def compression_report(number: int, value: float) -> CompressionReport:
    candidates = []
    for keep, drop in ((1.0, 0.0), (0.75, 0.0012), (0.5, 0.0130)):
        for precision, extra, size, speed in (
            ("fp32", 0.0, 89.0, 3.6),
            ("int8", 0.0006, 23.2, 1.7),
        ):
            metrics = {"roc_auc": value - drop - extra, "log_loss": 0.31}
            candidates.append(
                Candidate(
                    keep_fraction=keep,
                    precision="fp32" if precision == "fp32" else "int8",
                    metrics=metrics,
                    metric_drop=drop + extra,
                    metric_drop_at_most=drop + extra,
                    latency_ms=speed * (0.35 + 0.65 * keep),
                    size_mb=size * (0.55 + 0.45 * keep),
                    shapes={"heads": [12] * 6, "intermediate": [1536] * 6},
                    steps=(("uncompressed", {"roc_auc": value}), ("exported", metrics)),
                )
            )
    return CompressionReport(
        checkpoint="checkpoints/epoch-0003",
        metric="roc_auc",
        baseline={"roc_auc": value, "log_loss": 0.31},
        candidates=tuple(candidates),
        chosen=3,
        bundle=f"bundles/trial-{number:04d}",
        reason="75% int8 is the fastest within the limits.",
        seconds=41.0,
    )


def final_scores(trial: int) -> FinalScores:
    values = {"bundle": 0.6921, "winner": 0.6930, "baseline": 0.6402, "ceiling": 0.7205}
    return FinalScores(
        trial=trial,
        predictor_sha256="0" * 64,
        scores={
            "roc_auc": {
                model: Score(value=value, low=value - 0.011, high=value + 0.012)
                for model, value in values.items()
            }
        },
        lift={"roc_auc": {"baseline": Score(value=0.0519, low=0.0402, high=0.0633)}},
    )
