"""A study's folder with two trials that were really trained, for what comes after a search."""

from collections.abc import Sequence
from pathlib import Path

from search.ledger import Ledger
from search.single_trial import single_trial, single_trial_setup
from search.study_config import StudyConfig, dump_study, parse_study
from search.trial_record import ReportRecord
from trainables.data.prepared import PreparedData
from trainables.data.simulate import SimulationConfig, simulate, write_simulation
from trainables.data.store import prepare_shared
from trainables.data.table import load_clicks
from trainables.encoder import encoder_fingerprint, find_encoder
from trainables.fine_tune import fine_tune
from trainables.trial_setup import Worker

STUDY = """
name: trained
data:
  path: log.parquet
  columns: {text: [query, title], clicks: clicks, impressions: impressions, group: query}
  split: {by: group}
space: {learning_rate: {log_uniform: [1.0e-4, 3.0e-3]}, method: lora}
search: {algorithm: random, scheduler: none, trials: 2, epochs: 1, confirm_trials: 0}
compression:
  {max_metric_drop: 0.2, layer_fractions: [1.0], keep_fractions: [1.0], recovery_epochs: 0}
winners: 2
"""
LOG = SimulationConfig(
    num_impressions=12_000,
    num_products=60,
    num_queries=40,
    products_per_query=8,
    num_users=200,
    aggregate=True,
)


def write_log(folder: Path) -> Path:
    """Simulate a small log: 320 rows of clicks, and the truth beside it."""
    return write_simulation(simulate(LOG), folder)


def trained_config(log: Path, encoder: Path, overrides: Sequence[str] = ()) -> StudyConfig:
    return parse_study(
        STUDY,
        [
            f"data.path={log}",
            f"data.truth={log.with_name('truth.parquet')}",
            f"encoder={{name: {encoder}, max_tokens: 24}}",
            *overrides,
        ],
    )


def write_trained_study(folder: Path, config: StudyConfig) -> None:
    """Train two trials of one epoch and write them into a ledger as a search would."""
    table = load_clicks(config.data, config.task)
    data = prepare_shared(table, config.encoder, folder)
    facts = {
        "config": dump_study(config),
        "status": "completed",
        "higher_is_better": True,
        "table_fingerprint": table.fingerprint,
        "encoder_fingerprint": encoder_fingerprint(find_encoder(config.encoder)),
        "data": {
            "fingerprint": data.fingerprint,
            "num_rows": list(data.num_rows),
            "base_rate": data.base_rate,
        },
    }
    with Ledger.create(folder, facts) as ledger:
        (folder / "study.yaml").write_text(dump_study(config))
        for number, learning_rate in enumerate((1e-3, 2e-4)):
            _train(ledger, folder, config, data, number, learning_rate)


def _train(
    ledger: Ledger,
    folder: Path,
    config: StudyConfig,
    data: PreparedData,
    number: int,
    learning_rate: float,
) -> None:
    trial = single_trial(config, {"learning_rate": learning_rate})
    setup = single_trial_setup(config, data)
    ledger.add_trial(number, {"learning_rate": learning_rate}, trial, setup.config_hash(trial))
    ledger.add_start(number)
    checkpoints = folder / "checkpoints" / f"trial-{number:04d}"
    for progress in fine_tune(trial, setup, Worker(), checkpoints=checkpoints):
        report = ReportRecord(
            number=number,
            epoch=progress.epoch,
            metrics=progress.metrics,
            seconds=progress.seconds,
            decision="continue",
        )
        ledger.add_report(report, progress.checkpoint, "completed")
