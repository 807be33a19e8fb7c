import dataclasses
import io
import time

import pytest
from rich.console import Console

from search.display import (
    StudyDisplay,
    StudyGoal,
    best_trial,
    describe_counts,
    describe_end,
    draw,
    seconds_left,
    study_goal,
)
from search.events import EventKind, StudyEvent
from search.study_config import parse_study
from search.trial_record import (
    Continuation,
    Decision,
    ReportRecord,
    TrialRecord,
    TrialState,
)
from spaces.trial_config import TrialConfig
from tests.search.finished_study import STUDY

GOAL = StudyGoal(
    name="tiny", metric="roc_auc", higher_is_better=True, num_trials=4, num_epochs=3, num_repeats=0
)


def trial(
    number: int, state: TrialState, values: list[float], *, error: str | None = None
) -> TrialRecord:
    decision: Decision = "continue"
    reports = tuple(
        ReportRecord(
            number=number, epoch=epoch, metrics={"roc_auc": v}, seconds=10.0, decision=decision
        )
        for epoch, v in enumerate(values, start=1)
    )
    return TrialRecord(
        number=number,
        params={"learning_rate": 3e-4, "method": "lora"},
        config=TrialConfig(),
        config_hash="h",
        state=state,
        starts=1,
        failures=0,
        error=error,
        created_at=0.0,
        ended_at=None,
        reports=reports,
        checkpoints=(),
    )


def plain_console() -> tuple[Console, io.StringIO]:
    output = io.StringIO()
    return Console(file=output, force_terminal=False, width=100), output


def event(kind: EventKind, record: TrialRecord, message: str = "") -> StudyEvent:
    return StudyEvent(kind=kind, trial=record, message=message)


def continued(number: int, donor: int, replaces: int, values: list[float]) -> TrialRecord:
    """Return a trial that took another one's place after the first epoch."""
    record = trial(number, "completed", values)
    begun = Continuation(number=donor, epoch=1, replaces=replaces)
    reports = tuple(dataclasses.replace(r, epoch=r.epoch + 1) for r in record.reports)
    return dataclasses.replace(record, continues=begun, reports=reports)


def test_population_counts_its_members_and_not_the_replaced() -> None:
    replaced = trial(1, "stopped", [0.5])
    trials = [trial(0, "completed", [0.7, 0.8, 0.9]), replaced, continued(2, 0, 1, [0.6, 0.7])]

    assert describe_counts(trials, GOAL, 0) == (
        "2/4 trials: 0 running, 2 done, 0 stopped early, 0 failed, 1 replaced"
    )
    assert describe_end(trials[2], GOAL).endswith(", continues trial 0 from epoch 1")
    assert "trial 2 done after 3 of 3 epochs" in describe_end(trials[2], GOAL)


def test_a_trial_that_waits_for_others_does_not_run() -> None:
    console, output = plain_console()
    with StudyDisplay(GOAL, console, interval_s=0.05) as display:
        waiting = trial(0, "running", [0.7])
        for kind in ("started", "reported", "paused"):
            display.on_event(event(kind, waiting))
        time.sleep(0.3)

    assert "0 running, 0 done" in output.getvalue().splitlines()[-1]


def test_best_trial_counts_each_trials_best_epoch_and_no_failed_one() -> None:
    trials = [
        trial(0, "completed", [0.6, 0.7, 0.65]),
        trial(1, "running", [0.69]),
        trial(2, "failed", [0.9]),
        trial(3, "running", []),
    ]

    found = best_trial(trials, GOAL)

    assert found is not None
    assert (found[0].number, found[1]) == (0, 0.7)


def test_lower_is_better_where_the_metric_is_a_loss() -> None:
    goal = StudyGoal(
        name="tiny",
        metric="roc_auc",
        higher_is_better=False,
        num_trials=2,
        num_epochs=1,
        num_repeats=0,
    )

    found = best_trial([trial(0, "completed", [0.4]), trial(1, "completed", [0.3])], goal)

    assert found is not None
    assert found[0].number == 1


def test_time_left_counts_running_and_waiting_trials_over_the_places() -> None:
    # 1 epoch is left of trial 1; two more trials of 3 epochs wait; 10 s an epoch, 2 at a time.
    trials = [trial(0, "completed", [0.6, 0.6, 0.6]), trial(1, "running", [0.6, 0.6])]

    assert seconds_left(trials, GOAL, num_places=2) == pytest.approx(10.0 * (1 + 2 * 3) / 2)


def test_time_left_expects_the_scheduler_to_go_on_saving() -> None:
    trials = [trial(0, "stopped", [0.6]), trial(1, "stopped", [0.6])]

    assert seconds_left(trials, GOAL, num_places=2) == pytest.approx(10.0 * 2 * 1 / 2)


def test_time_left_is_unknown_before_the_first_epoch() -> None:
    assert seconds_left([trial(0, "running", [])], GOAL, num_places=2) is None


def test_time_left_is_zero_at_the_end() -> None:
    trials = [trial(number, "completed", [0.6] * 3) for number in range(4)]

    assert seconds_left(trials, GOAL, num_places=2) == 0


def test_goal_of_a_small_grid_is_its_number_of_points() -> None:
    config = parse_study(STUDY, ["space={batch_size: {choice: [16, 32]}}", "search.algorithm=grid"])

    goal = study_goal(config)

    assert (goal.num_trials, goal.num_epochs) == (2, 3)


def test_log_gets_one_line_for_each_ended_trial() -> None:
    console, output = plain_console()

    with StudyDisplay(GOAL, console) as display:
        display.on_event(event("started", trial(0, "running", [])))
        display.on_event(event("reported", trial(0, "running", [0.6])))
        display.on_event(event("completed", trial(0, "completed", [0.6, 0.7, 0.71])))
        display.on_event(event("stopped", trial(1, "stopped", [0.55])))

    first, second = output.getvalue().splitlines()
    assert first == (
        "trial 0 done after 3 of 3 epochs, roc_auc 0.7100, 30 s (lr 3e-4, method lora)"
    )
    assert second.startswith("trial 1 stopped early after 1 of 3 epochs, roc_auc 0.5500")


def test_log_says_why_a_trial_failed_without_its_traceback() -> None:
    console, output = plain_console()
    error = "Traceback (most recent call last):\n  File ...\nRuntimeError: out of memory"

    with StudyDisplay(GOAL, console) as display:
        display.on_event(event("retried", trial(0, "running", []), error))
        display.on_event(event("failed", trial(0, "failed", [], error=error), error))

    assert "trial 0 retried: RuntimeError: out of memory" in output.getvalue()
    assert "trial 0 failed after 0 of 3 epochs" in output.getvalue()
    assert "Traceback" not in output.getvalue()


def test_log_tells_the_state_of_the_study_regularly() -> None:
    console, output = plain_console()

    with StudyDisplay(GOAL, console, interval_s=0.02) as display:
        display.on_event(event("reported", trial(0, "running", [0.6])))
        deadline = time.monotonic() + 5
        while "elapsed" not in output.getvalue() and time.monotonic() < deadline:
            time.sleep(0.01)

    assert "0/4 trials: 1 running, 0 done" in output.getvalue()
    assert "best roc_auc 0.6000 (trial 0:" in output.getvalue()


def test_log_says_that_the_first_epochs_are_still_under_way() -> None:
    console, output = plain_console()

    with StudyDisplay(GOAL, console, interval_s=0.02) as display:
        display.on_event(event("started", trial(0, "running", [])))
        deadline = time.monotonic() + 5
        while "elapsed" not in output.getvalue() and time.monotonic() < deadline:
            time.sleep(0.01)

    assert "no result yet, no trial has ended its first of 3 epochs" in output.getvalue()


def test_notes_appear_in_the_log() -> None:
    console, output = plain_console()

    with StudyDisplay(GOAL, console) as display:
        display.on_event(StudyEvent(kind="note", message="preparing data"))

    assert output.getvalue() == "preparing data\n"


def test_screen_shows_running_trials_best_and_time() -> None:
    output = io.StringIO()
    console = Console(file=output, force_terminal=True, width=100)
    trials = [trial(0, "completed", [0.6, 0.7, 0.71]), trial(1, "running", [0.62])]

    console.print(draw(trials, {1}, GOAL, elapsed_s=75, left_s=30, note="hello [world]"))

    drawn = output.getvalue()
    for text in (
        "1 running",
        "1 done",
        "1/4 trials",
        "1 min 15 s elapsed",
        "about 30 s left",
        "epoch 2/3",
    ):
        assert text in drawn
    assert "hello [world]" in drawn


def test_screen_of_a_large_cluster_lists_some_of_its_trials() -> None:
    output = io.StringIO()
    trials = [trial(number, "running", [0.5]) for number in range(40)]

    Console(file=output, width=100).print(
        draw(trials, set(range(40)), GOAL, elapsed_s=1, left_s=None, note="")
    )

    assert "and 28 more" in output.getvalue()


def test_live_screen_starts_and_stops() -> None:
    output = io.StringIO()
    console = Console(file=output, force_terminal=True, width=100)

    with StudyDisplay(GOAL, console, trials=[trial(0, "completed", [0.7])]) as display:
        display.on_event(event("reported", trial(1, "running", [0.6])))
        display.on_event(event("failed", trial(1, "failed", [], error="boom"), "boom"))

    assert "trial 1 failed: boom" in output.getvalue()
    assert "1/4 trials" in output.getvalue() or "2/4 trials" in output.getvalue()


def test_waiting_trials_of_a_resumed_study_are_not_running() -> None:
    trials = [trial(0, "running", [0.6]), trial(1, "running", [0.6])]

    assert describe_counts(trials, GOAL, num_live=1).startswith("0/4 trials: 1 running")
