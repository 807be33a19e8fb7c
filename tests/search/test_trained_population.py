"""A population that is really trained: a successor begins with its donor's weights."""

from pathlib import Path

import pytest

from search import Study
from search.single_trial import single_trial_setup
from search.study_config import parse_study
from search.trial_record import TrialRecord
from tests.search.trained_study import write_log
from trainables.checkpoint import hand_over, read_checkpoint_info
from trainables.data.store import prepare_shared
from trainables.data.table import load_clicks
from trainables.fine_tune import fine_tune
from trainables.trial_setup import Progress, TrialSetup, Worker

STUDY = """
name: population
data:
  path: {log}
  columns: {{text: [query, title], clicks: clicks, impressions: impressions, group: query}}
  split: {{by: group}}
encoder: {{name: {encoder}, max_tokens: 24}}
space:
  learning_rate: {{log_uniform: [1.0e-4, 1.0e-2]}}
  dropout: {{uniform: [0.0, 0.3]}}
  method: full
search:
  {{algorithm: random, scheduler: pbt, trials: 4, epochs: 2, confirm_trials: 0}}
resources: {{gpus_per_worker: 0, concurrent_trials: 2}}
deepspeed: {{precision: fp32}}
winners: 1
"""


def same(progress: Progress, trial: TrialRecord, epoch: int) -> bool:
    (report,) = (report for report in trial.reports if report.epoch == epoch)
    return dict(progress.metrics) == pytest.approx(dict(report.metrics), abs=1e-6)


def train(
    trial: TrialRecord, setup: TrialSetup, folder: Path, resume_from: Path | None = None
) -> Progress:
    """Train one epoch of a study's trial in this process."""
    return next(
        fine_tune(trial.config, setup, Worker(), checkpoints=folder, resume_from=resume_from)
    )


@pytest.mark.ray
@pytest.mark.slow
def test_a_successors_first_epoch_starts_from_the_donors_weights(
    tmp_path: Path, tiny_encoder: Path, ray_local: None
) -> None:
    config = parse_study(STUDY.format(log=write_log(tmp_path), encoder=tiny_encoder))

    result = Study(config, out=tmp_path / "runs").run()

    assert result.status == "completed"
    assert len(result.trials) == 5
    new = result.trials[4]
    begun = new.continues
    assert begun is not None
    assert (begun.epoch, new.state, new.last_epoch) == (1, "completed", 2)
    assert result.trials[begun.replaces].state == "stopped"

    table = load_clicks(config.data, config.task)
    setup = single_trial_setup(config, prepare_shared(table, config.encoder, tmp_path / "again"))
    assert setup.config_hash(new.config) == new.config_hash
    donor = result.trials[begun.number]
    first = train(donor, setup, tmp_path / "donor")
    assert same(first, donor, 1)
    assert first.checkpoint is not None
    kept, own = Path(first.checkpoint.path), tmp_path / "new" / "epoch-0001"
    hand_over(kept, own, new.config, new.config_hash)
    second = train(new, setup, tmp_path / "new", resume_from=own)
    assert same(second, new, 2)
    # Neither does it train on as the donor would have, nor as if it had begun anew.
    assert not same(train(donor, setup, tmp_path / "donor", resume_from=kept), new, 2)
    assert not same(train(new, setup, tmp_path / "anew"), new, 2)

    (checkpoint,) = new.checkpoints
    info = read_checkpoint_info(checkpoint.path)
    assert (info.trial, info.config_hash, info.epoch) == (new.config, new.config_hash, 2)
