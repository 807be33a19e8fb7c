"""What decides is found, and nothing is said of a few trials."""

import random
from pathlib import Path

import pytest

from search.importances import MIN_TRIALS, measure_importances
from search.ledger import Ledger
from search.trial_record import TrialRecord
from spaces.space import Space
from tests.search.finished_study import finished_config, write_trials
from tests.search.test_conductor import run_alone, study
from trainables.metrics import METRICS


def trials_of(folder: Path, num_trials: int) -> tuple[list[TrialRecord], Space]:
    config = finished_config()
    write_trials(folder / "study", config, num_trials=num_trials)
    with Ledger.read(folder / "study") as ledger:
        return ledger.trials(), config.space


def test_the_learning_rate_is_found_where_it_alone_decides(tmp_path: Path) -> None:
    found = measure_importances(*trials_of(tmp_path, 60), METRICS["roc_auc"])

    assert found is not None
    assert next(iter(found.shares)) == "learning_rate"
    assert found.shares["learning_rate"] > 0.5
    assert sum(found.shares.values()) == pytest.approx(1)
    # One of the sixty failed, one isn't finished.
    assert found.num_trials == 58
    assert "method" not in found.shares


def test_nothing_is_said_of_a_few_trials(tmp_path: Path) -> None:
    assert measure_importances(*trials_of(tmp_path, MIN_TRIALS), METRICS["roc_auc"]) is None


def test_a_metric_that_is_minimized_gives_the_same(tmp_path: Path) -> None:
    trials, space = trials_of(tmp_path, 60)

    # One minus the other in these trials.
    found = [measure_importances(trials, space, METRICS[name]) for name in ("roc_auc", "log_loss")]

    assert found[0] is not None
    assert found[1] is not None
    assert found[1].shares == pytest.approx(found[0].shares)


def test_every_kind_of_parameter_can_be_measured(tmp_path: Path) -> None:
    space = {
        "learning_rate": {"log_uniform": [0.0001, 0.001]},
        "dropout": {"uniform": [0.0, 0.3], "step": 0.05},
        "batch_size": {"ordinal": [8, 16, 32]},
        "field_units": {"log_int": [4, 64]},
        "augmentation": {"choice": ["none", "synonym"]},
        "augmentation_rate": {"uniform": [0.1, 0.3], "when": {"augmentation": "synonym"}},
        "method": "lora",
        "lora_rank": {"int": [4, 16], "step": 4},
    }
    config = study(f"space={space}", "search.trials=30")

    found = measure_importances(run_alone(config, tmp_path), config.space, METRICS["roc_auc"])

    assert found is not None
    assert set(found.shares) == set(space) - {"method"}


def test_the_order_of_the_trials_does_not_matter(tmp_path: Path) -> None:
    trials, space = trials_of(tmp_path, 60)
    shuffled = random.Random(0).sample(trials, len(trials))

    first, second = (measure_importances(t, space, METRICS["roc_auc"]) for t in (trials, shuffled))

    assert first is not None
    assert second is not None
    assert second.shares == pytest.approx(first.shares)
