"""A trial hangs when it was silent for too long while somebody listened."""

from search.silence import LONGEST_TICK_S, Silences


class Hours:
    """A clock that is set by hand."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def watch(limit_s: float) -> tuple[Silences, Hours]:
    clock = Hours()
    return Silences(limit_s, clock=clock), clock


def listen(silences: Silences, clock: Hours, seconds: float) -> list[str]:
    """Look twice a second, and return who was overdue."""
    found = []
    for _ in range(round(2 * seconds)):
        clock.now += 0.5
        found += silences.overdue()
    return found


def test_a_trial_is_overdue_after_the_limit_and_not_before() -> None:
    silences, clock = watch(limit_s=20)
    silences.heard("a")

    assert listen(silences, clock, 20) == []
    assert listen(silences, clock, 1) == ["a"]


def test_a_report_begins_a_new_silence_of_its_trial_alone() -> None:
    silences, clock = watch(limit_s=20)
    silences.heard("a")
    silences.heard("b")

    listen(silences, clock, 15)
    silences.heard("a")

    assert listen(silences, clock, 10) == ["b"]


def test_nothing_more_is_expected_of_a_trial_that_has_ended() -> None:
    silences, clock = watch(limit_s=20)
    silences.heard("a")
    silences.ended("a")
    silences.ended("unknown")

    assert listen(silences, clock, 100) == []


def test_one_that_stays_silent_is_told_again() -> None:
    silences, clock = watch(limit_s=20)
    silences.heard("a")

    assert listen(silences, clock, 50) == ["a", "a"]


def test_a_study_that_was_suspended_does_not_blame_its_trials() -> None:
    silences, clock = watch(limit_s=2 * LONGEST_TICK_S)
    silences.heard("a")
    clock.now += 3600

    assert silences.overdue() == []
