import math
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from search.schedulers import SCHEDULERS, Scheduler
from search.search_config import SCHEDULER_SETTINGS, SchedulerName, SearchConfig

EPOCHS = 9
NUM_TRIALS = 8
every_scheduler = pytest.mark.parametrize("name", list(SCHEDULERS))
scores = st.one_of(st.floats(), st.sampled_from([0.0, 0.5, 1.0]))
Report = tuple[int, int, float]


def build(name: SchedulerName, *, epochs: int = EPOCHS, grace_epochs: int = 1) -> Scheduler:
    # As few peers as the other schedulers need, so that short histories stop trials.
    return SCHEDULERS[name](
        SearchConfig(
            scheduler=name,
            epochs=epochs,
            grace_epochs=grace_epochs,
            min_peers=2,
            perturbation_epochs=grace_epochs,
            confirm_trials=0,
        )
    )


@st.composite
def histories(draw: st.DrawFn, values: st.SearchStrategy[float] = scores) -> list[Report]:
    """Reports of several trials, each trial's epochs in order, trials interleaved."""
    order = draw(st.lists(st.integers(0, NUM_TRIALS - 1), max_size=50))
    epochs = dict.fromkeys(range(NUM_TRIALS), 0)
    reports = []
    for number in order:
        if epochs[number] < EPOCHS:
            epochs[number] += 1
            reports.append((number, epochs[number], draw(values)))
    return reports


def test_config_and_registry_name_the_same_schedulers() -> None:
    assert set(get_args(SchedulerName)) == set(SCHEDULERS) == set(SCHEDULER_SETTINGS)


@every_scheduler
@given(histories())
def test_replayed_reports_give_the_same_decisions(
    name: SchedulerName, history: list[Report]
) -> None:
    first, second = build(name), build(name)

    assert [first.report(*r) for r in history] == [second.report(*r) for r in history]


@every_scheduler
@given(histories(), st.integers(1, 4))
def test_trials_stop_at_rungs_alone_and_never_before_their_grace_ends(
    name: SchedulerName, history: list[Report], grace_epochs: int
) -> None:
    scheduler = build(name, grace_epochs=grace_epochs)

    stops = {epoch for n, epoch, s in history if scheduler.report(n, epoch, s) == "stop"}

    assert stops <= set(scheduler.rungs)
    assert all(grace_epochs <= rung < EPOCHS for rung in scheduler.rungs)
    assert list(scheduler.rungs) == sorted(set(scheduler.rungs))


@every_scheduler
@given(st.lists(scores, min_size=1))
def test_last_epoch_stops_nothing(name: SchedulerName, values: list[float]) -> None:
    scheduler = build(name, epochs=1)

    assert {scheduler.report(n, 1, value) for n, value in enumerate(values)} == {"continue"}


@every_scheduler
@given(histories(st.floats(allow_nan=False, max_value=0.5)))
def test_a_trial_that_is_best_at_every_epoch_is_never_stopped(
    name: SchedulerName, history: list[Report]
) -> None:
    scheduler = build(name)

    for number, epoch, score in history:
        is_best = number == 0
        decision = scheduler.report(number, epoch, 0.5 if is_best else score)
        assert decision == "continue" or not is_best


@every_scheduler
def test_trials_that_are_all_alike_go_on(name: SchedulerName) -> None:
    scheduler = build(name)

    # Three times 0.1 sums to more than 0.3 in floating point.
    decisions = {scheduler.report(n, e, 0.1) for n in range(20) for e in range(1, EPOCHS + 1)}

    assert decisions == {"continue"}


@every_scheduler
@given(scores)
def test_first_trial_is_never_stopped(name: SchedulerName, score: float) -> None:
    scheduler = build(name)

    assert {scheduler.report(0, epoch, score) for epoch in range(1, EPOCHS + 1)} == {"continue"}


# With pbt no report stops a trial, and a member whose score isn't finite has failed.
@pytest.mark.parametrize("name", [name for name in SCHEDULERS if name not in ("none", "pbt")])
@pytest.mark.parametrize("worst", [math.nan, math.inf, -math.inf])
def test_score_that_is_not_finite_is_the_worst(name: SchedulerName, worst: float) -> None:
    scheduler = build(name)
    for number in range(20):
        scheduler.report(number, 1, 0.5)
    # With hyperband not every bracket stops after the first epoch.
    decisions = [scheduler.report(number, 1, worst) for number in range(20, 30)]

    assert "stop" in decisions
    assert scheduler.report(30, 1, 0.5) == "continue"


@pytest.mark.parametrize("name", ["asha", "hyperband"])
@pytest.mark.parametrize("factor", [2, 3, 4])
def test_halving_keeps_about_one_in_reduction_factor(name: SchedulerName, factor: int) -> None:
    scheduler = SCHEDULERS[name](
        SearchConfig(scheduler=name, epochs=EPOCHS, reduction_factor=factor)
    )
    values = [(n * 7919 % 1000) / 1000 for n in range(1_000)]
    # Trials that may be stopped at the first rung: all of asha's, hyperband's first bracket.
    bracket = getattr(scheduler, "bracket", lambda _number: 0)

    decisions = [scheduler.report(n, 1, v) for n, v in enumerate(values)]

    kept = [d == "continue" for n, d in enumerate(decisions) if bracket(n) == 0]
    assert sum(kept) / len(kept) == pytest.approx(1 / factor, abs=0.05)
    assert all(d == "continue" for n, d in enumerate(decisions) if bracket(n) > 0)
