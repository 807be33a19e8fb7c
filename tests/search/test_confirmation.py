"""The best trials are trained again with other seeds, and what that says decides."""

import random
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from search.confirmation import (
    Confirmation,
    choose_configurations,
    choose_winners,
    find_confirmation,
    missing_repeats,
)
from search.evidence import read_evidence
from search.ledger import Ledger
from search.results import read_result
from search.study_config import StudyConfig, dump_study
from search.summary import summarize
from search.trial_record import ReportRecord, TrialRecord
from spaces.trial_config import TrialConfig
from tests.search.test_conductor import Crew, conduct, result, study, take

CONFIRMING = ["search.confirm_trials=3", "search.confirm_seeds=2"]


def write_study(
    folder: Path, searched: dict[int, float], again: dict[int, list[float]], *overrides: str
) -> StudyConfig:
    """Write a study whose trials reached some values in the search, and some when repeated."""
    config = study(*CONFIRMING, "search.epochs=1", *overrides)
    default = config.default_point()
    facts = {"config": dump_study(config), "status": "completed", "higher_is_better": True}
    with Ledger.create(folder, facts) as ledger:
        number = 0
        for trial, value in searched.items():
            point = (
                default
                if trial == 0 and default
                else {"learning_rate": 1e-4 + trial * 1e-6, "batch_size": 8}
            )
            add(ledger, trial, TrialConfig(**point), point, value, None)  # type: ignore[arg-type]
            number = max(number, trial + 1)
        for trial, values in again.items():
            for seed, value in enumerate(values, start=1):
                params = dict(ledger.trial(trial).params)
                add(ledger, number, TrialConfig(**params, seed=seed), params, value, trial)  # type: ignore[arg-type]
                number += 1
    return config


def add(
    ledger: Ledger,
    number: int,
    trial: TrialConfig,
    params: dict[str, object],
    value: float,
    repeats: int | None,
) -> None:
    ledger.add_trial(number, params, trial, "hash", repeats=repeats)  # type: ignore[arg-type]
    report = ReportRecord(
        number=number, epoch=1, metrics={"roc_auc": value}, seconds=1.0, decision="continue"
    )
    ledger.add_report(report, None, "completed")


def read(folder: Path, config: StudyConfig) -> Confirmation:
    with Ledger.read(folder) as ledger:
        found = find_confirmation(ledger.all_trials(), config)
    assert found is not None
    return found


def test_the_best_and_the_default_are_trained_again_to_their_end(tmp_path: Path) -> None:
    config = study(*CONFIRMING)
    with Ledger.create(tmp_path, {}) as ledger:
        assert Crew(random.Random(0)).work(conduct(config, ledger, tmp_path))
        trials = ledger.all_trials()

    searched = [trial for trial in trials if trial.repeats is None]
    repeats = [trial for trial in trials if trial.repeats is not None]
    best = sorted(searched, key=lambda t: -max(r.metrics["roc_auc"] for r in t.reports))[:3]
    expected = {trial.number for trial in (*best, searched[0])}
    assert len(searched) == 9
    assert {trial.repeats for trial in repeats} == expected
    assert len(repeats) == 2 * len(expected)
    for trial in repeats:
        assert trial.repeats is not None
        assert trial.state == "completed"
        assert trial.last_epoch == 4
        assert trial.params == searched[trial.repeats].params
        assert trial.config.seed in (1, 2)


def test_the_default_comes_first(tmp_path: Path) -> None:
    config = study()

    with Ledger.create(tmp_path, {}) as ledger:
        first = take(conduct(config, ledger, tmp_path))

    assert first.config.learning_rate == TrialConfig().learning_rate
    # 32 is no choice of the space.
    assert first.config.batch_size == 8


def test_a_study_may_do_without(tmp_path: Path) -> None:
    config = study("search.default_trial=false", "search.confirm_trials=0")

    with Ledger.create(tmp_path, {}) as ledger:
        assert Crew(random.Random(0)).work(conduct(config, ledger, tmp_path))

        assert len(ledger.all_trials()) == 9
        assert config.default_point() is None


@pytest.mark.parametrize("seed", range(4))
def test_kills_change_nothing_of_what_is_trained_again(tmp_path: Path, seed: int) -> None:
    config = study(*CONFIRMING)
    rng = random.Random(seed)
    with Ledger.create(tmp_path / "killed", {}) as ledger:
        while not Crew(rng).work(conduct(config, ledger, tmp_path / "killed"), steps=9):
            pass
        trials = ledger.all_trials()

    pairs = [(trial.repeats, trial.config.seed) for trial in trials if trial.repeats is not None]
    assert len(set(pairs)) == len(pairs)
    assert {trial.state for trial in trials if trial.repeats is not None} == {"completed"}
    assert missing_repeats(trials, config) == []


def test_a_longer_search_counts_its_trials_as_if_none_had_been_repeated(tmp_path: Path) -> None:
    whole, part = study(*CONFIRMING), study(*CONFIRMING, "search.trials=5")
    with Ledger.create(tmp_path / "at-once", {}) as ledger:
        Crew(random.Random(0), size=1).work(conduct(whole, ledger, tmp_path / "at-once"))
        at_once = [trial.params for trial in ledger.trials()]
    with Ledger.create(tmp_path / "later", {}) as ledger:
        Crew(random.Random(0), size=1).work(conduct(part, ledger, tmp_path / "later"))
        Crew(random.Random(0), size=1).work(conduct(whole, ledger, tmp_path / "later"))

        assert [trial.params for trial in ledger.trials()] == at_once
        assert missing_repeats(ledger.all_trials(), whole) == []


def test_hours_that_have_run_out_leave_nothing_to_train_again(tmp_path: Path) -> None:
    config = study(*CONFIRMING, "search.max_trial_hours=1.0e-5", "search.trials=3")
    with Ledger.create(tmp_path, {}) as ledger:
        assert Crew(random.Random(0), size=1).work(conduct(config, ledger, tmp_path))

        assert all(trial.repeats is None for trial in ledger.all_trials())


def test_a_target_still_lets_the_best_be_trained_again(tmp_path: Path) -> None:
    config = study(*CONFIRMING, "search.target=0.5")
    with Ledger.create(tmp_path, {}) as ledger:
        conductor = conduct(config, ledger, tmp_path)
        first, second = take(conductor), take(conductor)
        conductor.report(first.number, result(first, 1))
        conductor.report(second.number, result(second, 1))

        again = take(conductor)

        assert ledger.trial(again.number).repeats in (first.number, second.number)
        assert not conductor.is_finished


def test_a_repeat_that_fails_is_not_tried_for_ever(tmp_path: Path) -> None:
    config = study(*CONFIRMING, "search.trials=2", "search.max_failures=1")
    with Ledger.create(tmp_path, {}) as ledger:
        conductor = conduct(config, ledger, tmp_path)
        for _ in range(2):
            trial = take(conductor)
            for epoch in (1, 2, 3, 4):
                if conductor.report(trial.number, result(trial, epoch)) == "stop":
                    break
        tries = 0
        while conductor.ask() != "end":
            tries += 1
            number = max(t.number for t in ledger.all_trials() if t.state == "running")
            conductor.fail(number, "its process died")

        repeats = [trial for trial in ledger.all_trials() if trial.repeats is not None]
        assert {trial.state for trial in repeats} == {"failed"}
        assert tries == 2 * len(repeats)


def test_the_mean_of_the_repeats_chooses_and_luck_is_told(tmp_path: Path) -> None:
    config = write_study(
        tmp_path, {0: 0.70, 1: 0.80, 2: 0.79}, {1: [0.74, 0.76], 2: [0.77, 0.79], 0: [0.70, 0.71]}
    )

    found = read(tmp_path, config)

    assert [confirmed.found.trial.number for confirmed in found.ranked] == [2, 1, 0]
    assert found.first_found.found.trial.number == 1
    text = " ".join(summarize(read_evidence(tmp_path)))
    assert "In the search trial 1 had 0.8000, 0.0500 better than with other seeds" in text
    assert "trial 2 has the best mean, 0.7800" in text
    assert found.default is found.ranked[2]
    result = read_result(tmp_path)
    assert result.best is not None
    assert result.best.trial.number == 2


def test_intervals_are_those_of_student_with_a_common_spread(tmp_path: Path) -> None:
    again = {1: [0.74, 0.76], 2: [0.77, 0.79], 0: [0.70, 0.71]}
    config = write_study(tmp_path, {0: 0.70, 1: 0.80, 2: 0.79}, again)

    found = read(tmp_path, config)

    variance = np.mean([np.var(values, ddof=1) for values in again.values()])
    half = stats.t.ppf(0.975, 3) * np.sqrt(variance / 2)
    assert found.half_interval(found.best) == pytest.approx(half)
    gain = found.difference(found.best, found.ranked[2])
    assert gain.value == pytest.approx(0.075)
    assert gain.half_interval == pytest.approx(half * np.sqrt(2))
    assert gain.is_clear
    assert not found.difference(found.best, found.ranked[1]).is_clear


def test_one_seed_gives_means_without_intervals(tmp_path: Path) -> None:
    config = write_study(tmp_path, {0: 0.70, 1: 0.80}, {1: [0.74], 0: [0.70]})

    found = read(tmp_path, config)

    assert found.half_interval(found.best) is None
    assert not found.difference(*found.ranked).is_clear


def test_the_winner_is_the_best_training_of_the_best_configuration(tmp_path: Path) -> None:
    config = study(*CONFIRMING)
    with Ledger.create(tmp_path, {}) as ledger:
        assert Crew(random.Random(3)).work(conduct(config, ledger, tmp_path))
        trials = ledger.all_trials()

    found = find_confirmation(trials, config)
    winners = choose_winners(trials, config)

    assert found is not None
    assert [winner.trial.repeats for winner in winners] == [
        confirmed.found.trial.number for confirmed in found.ranked[:3]
    ]
    assert winners[0].value == max(found.best.values)


def test_without_repeats_the_search_itself_decides(tmp_path: Path) -> None:
    config = study()
    with Ledger.create(tmp_path, {}) as ledger:
        assert Crew(random.Random(3)).work(conduct(config, ledger, tmp_path))
        trials: list[TrialRecord] = ledger.all_trials()

    assert find_confirmation(trials, config) is None
    assert all(winner.trial.repeats is None for winner in choose_winners(trials, config))


def test_configurations_are_compared_by_the_seeds_that_all_have(tmp_path: Path) -> None:
    again = {1: [0.74, 0.76], 2: [0.75], 0: [0.70, 0.71]}
    config = write_study(tmp_path, {0: 0.70, 1: 0.80, 2: 0.79}, again)

    found = read(tmp_path, config)

    # With the second seed trial 2 hasn't been trained yet.
    assert [confirmed.values for confirmed in found.ranked] == [(0.75,), (0.74,), (0.70,)]


def test_what_is_only_begun_decides_nothing(tmp_path: Path) -> None:
    config = write_study(tmp_path, {0: 0.70, 1: 0.80, 2: 0.79}, {0: [0.71, 0.72]})

    with Ledger.read(tmp_path) as ledger:
        trials = ledger.all_trials()

    assert find_confirmation(trials, config) is None
    assert "not yet all of them" in " ".join(summarize(read_evidence(tmp_path)))
    result = read_result(tmp_path)
    assert result.best is not None
    assert result.best.trial.number == 1


def test_a_configuration_that_fails_with_a_seed_comes_last(tmp_path: Path) -> None:
    again = {1: [0.74, 0.76], 2: [0.90], 0: [0.70, 0.71]}
    config = write_study(tmp_path, {0: 0.70, 1: 0.80, 2: 0.79}, again)
    with Ledger.open(tmp_path) as ledger:
        params = dict(ledger.trial(2).params)
        trial = TrialConfig(**params, seed=2)  # type: ignore[arg-type]
        ledger.add_trial(99, params, trial, "hash", repeats=2)
        ledger.add_failure(99, "diverged", final=True)

    found = read(tmp_path, config)

    assert [confirmed.found.trial.number for confirmed in found.ranked] == [1, 0, 2]
    assert found.ranked[-1].num_failed == 1


def test_as_many_are_trained_again_as_become_bundles(tmp_path: Path) -> None:
    config = study("search.confirm_trials=1", "winners=4")
    with Ledger.create(tmp_path, {}) as ledger:
        assert Crew(random.Random(1)).work(conduct(config, ledger, tmp_path))
        trials = ledger.all_trials()

    assert len(choose_configurations(trials, config)) >= 4
    assert len(choose_winners(trials, config)) == 4
