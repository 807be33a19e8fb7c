"""Studies killed at many moments: nothing is lost, nothing is decided anew."""

import os
import random
import time
from collections import Counter
from pathlib import Path

import pytest

from tests.faults.study_process import Stop, StudyPlace, what_is_wrong

NUM_TRIALS = 200
NUM_KILLS = int(os.environ.get("MANY_KILLS", "8"))
"""Each costs a minute, most of it Ray's start; MANY_KILLS=20 for the whole, which takes 25."""
NUM_EPOCHS = 300
"""Fewer than ASHA lets 200 trials of 3 epochs train; the kills are spread over them."""


def moments(rng: random.Random) -> list[tuple[int, float]]:
    """Draw when to kill: once so many epochs were trained in all, and seconds later.

    Every fifth kill waits for no epoch: its process may be anywhere between its start and a trial.
    """
    epochs = sorted(rng.sample(range(1, NUM_EPOCHS), NUM_KILLS))
    return [
        (0, rng.uniform(1.0, 15.0)) if number % 5 == 4 else (epoch, rng.uniform(0.0, 0.2))
        for number, epoch in enumerate(epochs)
    ]


def stored_epochs(stop: Stop) -> set[tuple[int, int]]:
    return {(report.number, report.epoch) for t in stop.trials.values() for report in t.reports}


@pytest.mark.ray
@pytest.mark.slow
def test_study_killed_at_many_moments_loses_nothing(tmp_path: Path, tiny_encoder: Path) -> None:
    place = StudyPlace(
        folder=tmp_path,
        encoder=tiny_encoder,
        environment={"FAKE_EPOCH_S": "0.05"},
        trainable="tests.fakes:FakeTrial",
    )
    place.write(trials=NUM_TRIALS, epochs=3, search="algorithm: tpe, scheduler: asha")
    stops: list[Stop] = []

    for num_epochs, seconds in moments(random.Random(0)):
        process = place.start()
        process.wait_until(lambda least=num_epochs: len(place.trained()) >= least)  # type: ignore[misc]
        time.sleep(seconds)
        assert not process.has_ended, process.ended().errors
        assert process.kill() == [], "processes of Ray outlive their driver"
        stops.append(place.stop())
    ended = place.run()

    trials, trained = place.trials(), place.trained()
    assert ended.status == "completed", ended.errors
    assert what_is_wrong(trials, NUM_TRIALS) == []
    assert {trial.state for trial in trials} == {"completed", "stopped"}
    assert {trial.failures for trial in trials} == {0}
    log = [(number, epoch) for number, epoch, _pid in trained]
    assert set(log) == {(t.number, report.epoch) for t in trials for report in t.reports}
    may_repeat: Counter[tuple[int, int]] = Counter()
    for stop in stops:
        assert stop.what_was_lost(trials) == []
        stored = stored_epochs(stop)
        assert not stored & set(log[stop.num_trained :])
        may_repeat.update(set(log[: stop.num_trained]) - stored)
    # Only what a kill found trained and not yet reported, once for each such kill.
    repeated = Counter(log) - Counter(set(log))
    assert repeated <= may_repeat, repeated
    assert repeated.total() <= 2 * NUM_KILLS


def decided(place: StudyPlace) -> list[tuple[object, ...]]:
    return [
        (
            trial.params,
            trial.config_hash,
            trial.continues,
            trial.state,
            [
                (report.epoch, report.metrics["roc_auc"], report.decision)
                for report in trial.reports
            ],
        )
        for trial in place.trials()
    ]


@pytest.mark.ray
@pytest.mark.slow
def test_population_whose_processes_are_killed_ends_as_one_left_alone(
    tmp_path: Path, tiny_encoder: Path
) -> None:
    alone, killed = (
        StudyPlace(
            folder=tmp_path / name,
            encoder=tiny_encoder,
            environment={"FAKE_EPOCH_S": "0.05"},
            trainable="tests.fakes:FakeTrial",
        )
        for name in ("alone", "killed")
    )
    for place in (alone, killed):
        place.write(trials=6, epochs=5, search="algorithm: random, scheduler: pbt")
    for num_epochs in (8, 20):
        process = killed.start()
        process.wait_until(lambda least=num_epochs: len(killed.trained()) >= least)  # type: ignore[misc]
        assert not process.has_ended, process.ended().errors
        assert process.kill() == [], "processes of Ray outlive their driver"
    for place in (alone, killed):
        ended = place.run()
        assert ended.status == "completed", ended.errors

    assert decided(killed) == decided(alone)
    assert len(decided(alone)) == 6 + 4
    # One epoch at most in each of the places, at each kill.
    again = Counter((number, epoch) for number, epoch, _pid in killed.trained())
    assert sum(count - 1 for count in again.values()) <= 2 * 2
