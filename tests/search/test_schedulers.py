import math
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from search.schedulers import SCHEDULERS, Scheduler, SuccessiveHalving
from search.search_config import SchedulerName, SearchConfig

every_scheduler = pytest.mark.parametrize("name", list(SCHEDULERS))
scores = st.one_of(st.floats(), st.sampled_from([0.0, 0.5, 1.0]))


def build(name: SchedulerName, *, epochs: int = 9) -> Scheduler:
    return SCHEDULERS[name](SearchConfig(scheduler=name, epochs=epochs))


@st.composite
def histories(draw: st.DrawFn) -> list[tuple[int, int, float]]:
    """Reports of several trials, each trial's epochs in order, trials interleaved."""
    order = draw(st.lists(st.integers(0, 9), max_size=60))
    epochs = dict.fromkeys(range(10), 0)
    reports = []
    for number in order:
        epochs[number] += 1
        reports.append((number, epochs[number], draw(scores)))
    return reports


def test_config_and_registry_name_the_same_schedulers() -> None:
    assert set(get_args(SchedulerName)) == set(SCHEDULERS)


@every_scheduler
@given(histories())
def test_replayed_reports_give_the_same_decisions(
    name: SchedulerName, history: list[tuple[int, int, float]]
) -> None:
    first, second = build(name), build(name)

    assert [first.report(*r) for r in history] == [second.report(*r) for r in history]


@every_scheduler
@given(st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=1), st.integers(1, 9))
def test_best_so_far_goes_on(name: SchedulerName, values: list[float], epoch: int) -> None:
    scheduler = build(name)

    for number, value in enumerate(values):
        decision = scheduler.report(number, epoch, value)
        if value >= max(values[: number + 1]):
            assert decision == "continue"


@every_scheduler
@given(scores)
def test_first_trial_is_never_stopped(name: SchedulerName, score: float) -> None:
    scheduler = build(name)

    assert {scheduler.report(0, epoch, score) for epoch in range(1, 10)} == {"continue"}


@every_scheduler
@given(st.lists(scores, min_size=1))
def test_last_epoch_stops_nothing(name: SchedulerName, values: list[float]) -> None:
    scheduler = build(name, epochs=3)

    for number, value in enumerate(values):
        assert scheduler.report(number, 3, value) == "continue"


def test_none_stops_nothing() -> None:
    scheduler = build("none")

    assert {scheduler.report(n, 1, -float(n)) for n in range(50)} == {"continue"}


@pytest.mark.parametrize(
    ("grace", "factor", "epochs", "rungs"),
    [
        (1, 3, 9, (1, 3)),
        (1, 3, 3, (1,)),
        (1, 2, 9, (1, 2, 4, 8)),
        (2, 3, 20, (2, 6, 18)),
        (1, 3, 1, ()),
    ],
)
def test_rungs_stand_at_powers_of_the_reduction_factor(
    grace: int, factor: int, epochs: int, rungs: tuple[int, ...]
) -> None:
    asha = SuccessiveHalving(grace_epochs=grace, reduction_factor=factor, max_epochs=epochs)

    assert asha.rungs == rungs


def test_asha_lets_the_best_third_of_a_rung_go_on() -> None:
    asha = build("asha")

    decisions = [asha.report(n, 1, s) for n, s in enumerate([0.5, 0.6, 0.4, 0.7, 0.55, 0.65, 0.9])]

    # The first two have too few against them; then a third of those there go on.
    assert decisions == ["continue", "continue", "stop", "continue", "stop", "continue", "continue"]


def test_asha_decides_nothing_between_rungs() -> None:
    asha = build("asha")

    assert {asha.report(n, 2, -float(n)) for n in range(30)} == {"continue"}


def test_asha_keeps_ties() -> None:
    asha = build("asha")

    assert {asha.report(n, 1, 0.5) for n in range(30)} == {"continue"}


def test_asha_stops_a_score_that_is_no_number_once_there_is_a_choice() -> None:
    asha = build("asha")
    for number in range(3):
        asha.report(number, 1, 0.5)

    assert asha.report(3, 1, math.nan) == "stop"


def test_asha_stops_about_two_thirds_of_random_trials() -> None:
    asha = build("asha")
    values = [(n * 7919 % 1000) / 1000 for n in range(300)]

    stopped = [asha.report(n, 1, value) for n, value in enumerate(values)].count("stop")

    assert stopped / 300 == pytest.approx(2 / 3, abs=0.05)
