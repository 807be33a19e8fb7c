"""Populations: members wait, the worst make room, and no kill changes what is decided."""

import errno
import random
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from search.algorithms import Point
from search.budgets import REACHED_FACT
from search.conductor import Assignment, Conductor
from search.earlier_studies import NUM_POINTS, EarlierStudies, read_earlier
from search.events import StudyEvent
from search.failures import StudyHaltedError
from search.generations import has_waiting_members
from search.ledger import GENERATION_FACT, Ledger, Successor
from search.search_trials import SearchTrials
from search.study_config import StudyConfig, dump_study
from search.trial_record import TrialRecord, say_continuation, without_replaced
from spaces.perturbation import CHANGEABLE
from tests.fakes import fake_metric
from tests.search.test_conductor import SETUP, Crew, conduct, result, study, take
from trainables.bundle.export import library_versions

NUM_MEMBERS = 8
PBT = ["search.scheduler=pbt", f"search.trials={NUM_MEMBERS}", "space.dropout={uniform: [0, 0.5]}"]
few_examples = settings(max_examples=4, suppress_health_check=[HealthCheck.function_scoped_fixture])


def population(*overrides: str) -> StudyConfig:
    return study(*PBT, *overrides)


def run(config: StudyConfig, folder: Path, *, seed: int = 0, size: int = 3) -> list[TrialRecord]:
    with Ledger.create(folder, {}) as ledger:
        assert Crew(random.Random(seed), size).work(conduct(config, ledger, folder))
        return ledger.trials()


def outcomes(trials: list[TrialRecord]) -> list[tuple[object, ...]]:
    return [
        (
            trial.number,
            trial.config,
            trial.config_hash,
            trial.continues,
            trial.state,
            [(r.epoch, r.metrics["roc_auc"], r.decision) for r in trial.reports],
        )
        for trial in trials
    ]


def test_worst_members_make_room_for_copies_of_the_best(tmp_path: Path) -> None:
    trials = run(population(), tmp_path)

    # A quarter of eight after each of three epochs.
    assert len(trials) == NUM_MEMBERS + 6
    assert [trial.continues is None for trial in trials] == [True] * NUM_MEMBERS + [False] * 6
    assert len(without_replaced(trials)) == NUM_MEMBERS
    for trial in without_replaced(trials):
        assert trial.state == "completed"
    for trial in trials[NUM_MEMBERS:]:
        begun = trial.continues
        assert begun is not None
        donor, loser = trials[begun.number], trials[begun.replaces]
        assert (loser.state, loser.last_epoch) == ("stopped", begun.epoch)
        assert [report.decision for report in loser.reports][-1] == "stop"
        assert trial.reports[0].epoch == begun.epoch + 1 == trial.first_epoch
        score, other = (fake_metric(t.config, begun.epoch) for t in (donor, loser))
        assert score > other
        changed = {name for name in trial.params if trial.params[name] != donor.params[name]}
        assert changed
        assert changed <= set(CHANGEABLE)
        assert say_continuation(trial) == f"continues trial {donor.number} from epoch {begun.epoch}"


def test_what_is_decided_does_not_depend_on_how_many_train_at_a_time(tmp_path: Path) -> None:
    config = population("search.perturbation_epochs=2", "search.exploit_fraction=0.5")
    one, three, all_at_once = (
        outcomes(run(config, tmp_path / str(size), seed=size, size=size))
        for size in (1, 3, NUM_MEMBERS)
    )

    assert one == three == all_at_once
    assert len(one) == NUM_MEMBERS + 4


@pytest.mark.parametrize("size", [1, 3])
def test_a_space_of_few_points_is_a_smaller_population(tmp_path: Path, size: int) -> None:
    space = "space={dropout: {choice: [0.1, 0.2, 0.3, 0.4, 0.5]}, method: full}"
    trials = run(study(*PBT[:2], "search.algorithm=grid", space), tmp_path, size=size)

    assert len(without_replaced(trials)) == 5
    assert len(trials) == 8
    assert {trial.state for trial in without_replaced(trials)} == {"completed"}


def test_members_wait_until_all_have_come_and_go_on_from_their_checkpoints(tmp_path: Path) -> None:
    with Ledger.create(tmp_path, {}) as ledger:
        conductor = conduct(population("search.trials=4"), ledger, tmp_path)
        members = [take(conductor) for _ in range(4)]
        for member in members[:3]:
            assert conductor.report(member.number, result(member, 1)) == "stop"
            assert conductor.ask() == "wait"
        assert {trial.state for trial in ledger.trials()} == {"running"}
        assert has_waiting_members(ledger, population("search.trials=4"))

        assert conductor.report(3, result(members[3], 1)) == "stop"

        going_on = [take(conductor) for _ in range(4)]
        assert not has_waiting_members(ledger, population("search.trials=4"))
        new = ledger.trial(4)
        assert new.continues is not None
        assert [a.number for a in going_on] == [
            *(number for number in range(4) if number != new.continues.replaces),
            4,
        ]
        for assignment in going_on[:3]:
            before = members[assignment.number]
            assert assignment.resume_from == before.checkpoints / "epoch-0001"
            assert assignment.checkpoints != before.checkpoints
        # Files of the donor, in a folder of its own.
        donor = members[new.continues.number].checkpoints / "epoch-0001"
        own = going_on[3].resume_from
        assert own == tmp_path / "checkpoints" / "trial-0004" / "epoch-0001"
        assert (own / "model.safetensors").samefile(donor / "model.safetensors")
        assert conductor.ask() == "wait"


@pytest.fixture(scope="module")
def left_alone(tmp_path_factory: pytest.TempPathFactory) -> list[TrialRecord]:
    return run(population(), tmp_path_factory.mktemp("alone"))


@few_examples
@given(seed=st.integers(0, 10**6))
def test_population_killed_at_any_moment_ends_with_the_same_trials(
    tmp_path_factory: pytest.TempPathFactory, left_alone: list[TrialRecord], seed: int
) -> None:
    folder, crew = tmp_path_factory.mktemp("killed"), Crew(random.Random(seed))
    Ledger.create(folder, {}).close()
    done = False
    while not done:
        with Ledger.open(folder) as ledger:
            conductor = conduct(population(), ledger, folder)
            done = crew.work(conductor, steps=crew.rng.randint(0, 9))
            trials = ledger.trials()

    assert outcomes(trials) == outcomes(left_alone)
    assert len(crew.trained) == len(set(crew.trained))


class KilledError(Exception):
    """The process ends here."""


class MortalLedger(Ledger):
    """A ledger whose process is killed after so many writes."""

    writes_left = 0

    @contextmanager
    def _transaction(self) -> Iterator[object]:  # type: ignore[override]
        with super()._transaction() as db:
            yield db
        self.writes_left -= 1
        if self.writes_left <= 0:
            raise KilledError


@pytest.mark.parametrize("overrides", [[], ["search.algorithm=tpe", "search.patience=2"]])
@pytest.mark.parametrize("size", [1, 3])
def test_population_killed_between_any_two_writes_ends_with_the_same_trials(
    tmp_path: Path, size: int, overrides: list[str]
) -> None:
    # As few as tpe draws at random, since what it learns depends on the order of the reports.
    config = population("search.trials=4", "search.epochs=3", *overrides)
    alone = outcomes(run(config, tmp_path / "alone"))
    folder, crew = tmp_path / "killed", Crew(random.Random(0), size)
    Ledger.create(folder, {}).close()
    done, kills = False, 0
    while not done:
        with MortalLedger.open(folder) as ledger:
            # Opening a conductor takes two or three; each try comes further by one and on.
            ledger.writes_left = 4 + kills % 3
            try:
                done = crew.work(conduct(config, ledger, folder))
            except KilledError:
                kills += 1
            trials = ledger.trials()

    assert outcomes(trials) == alone
    assert kills > 10
    assert len(crew.trained) == len(set(crew.trained))
    noted = {checkpoint.path for trial in trials for checkpoint in trial.checkpoints}
    assert noted == set((folder / "checkpoints").glob("*/*"))


class UnnotedLedger(Ledger):
    """A ledger whose process is killed when the files of a generation are there, and it isn't."""

    def add_generation(self, epoch: int, successors: Sequence[Successor]) -> None:
        raise KilledError("killed")


def test_population_killed_before_a_generation_is_noted_decides_alike(
    tmp_path: Path, left_alone: list[TrialRecord]
) -> None:
    crew = Crew(random.Random(5))
    Ledger.create(tmp_path, {}).close()
    with UnnotedLedger.open(tmp_path) as ledger, pytest.raises(KilledError, match="killed"):
        crew.work(conduct(population(), ledger, tmp_path))
    left = tmp_path / "checkpoints" / f"trial-{NUM_MEMBERS:04d}"
    assert left.is_dir()
    with Ledger.open(tmp_path) as ledger:
        conductor = conduct(population(), ledger, tmp_path)
        assert not left.exists()
        assert crew.work(conductor)

        assert outcomes(ledger.trials()) == outcomes(left_alone)


@few_examples
@given(seed=st.integers(0, 10**6))
def test_members_that_fail_for_good_do_not_hold_up_the_others(
    tmp_path_factory: pytest.TempPathFactory, seed: int
) -> None:
    folder, crew = tmp_path_factory.mktemp("failing"), Crew(random.Random(seed))
    with Ledger.create(folder, {}) as ledger:
        crew.work(conduct(population(), ledger, folder), failure_rate=0.2)
        trials = ledger.trials()

    assert len(crew.trained) == len(set(crew.trained))
    assert {trial.state for trial in trials} <= {"completed", "stopped", "failed"}
    stopped = {trial.number for trial in trials if trial.state == "stopped"}
    assert stopped == {t.continues.replaces for t in trials if t.continues is not None}


def give_first_reports(
    conductor: Conductor, values: list[float], epoch: int = 1
) -> list[Assignment]:
    """Let four members report an epoch."""
    members = [take(conductor) for _ in values]
    for member, value in zip(members, values, strict=True):
        conductor.report(member.number, result(member, epoch, metrics={"roc_auc": value}))
    return members


def truncate(checkpoint: Path) -> None:
    (checkpoint / "training" / "state").write_bytes(b"")


def spoil(checkpoint: Path) -> None:
    description = checkpoint / "trial.json"
    description.write_text("x" * description.stat().st_size)


@pytest.mark.parametrize("damage", [truncate, spoil, shutil.rmtree])
def test_a_damaged_checkpoint_is_handed_to_nobody(
    tmp_path: Path, damage: Callable[[Path], None]
) -> None:
    config = population("search.trials=4", "search.exploit_fraction=0.5")
    with Ledger.create(tmp_path, {}) as ledger:
        conductor = conduct(config, ledger, tmp_path)
        members = give_first_reports(conductor, [0.9, 0.8, 0.7, 0.6])
        damage(members[0].checkpoints / "epoch-0001")

        take(conductor)

        new = [trial.continues for trial in ledger.trials() if trial.continues is not None]
        assert [(begun.number, begun.replaces) for begun in new] == [(1, 2), (1, 3)]


def test_with_no_whole_checkpoint_of_a_better_one_the_worst_goes_on(tmp_path: Path) -> None:
    events: list[StudyEvent] = []
    with Ledger.create(tmp_path, {}) as ledger:
        conductor = conduct(population("search.trials=4"), ledger, tmp_path, events.append)
        members = give_first_reports(conductor, [0.9, 0.8, 0.7, 0.6])
        truncate(members[0].checkpoints / "epoch-0001")

        going_on = [take(conductor) for _ in range(4)]

        assert [assignment.number for assignment in going_on] == [0, 1, 2, 3]
        assert going_on[0].resume_from is None
        warnings = [event.message for event in events if event.kind == "warning"]
        assert warnings[0] == (
            "trial 3 is among the worst after epoch 1, but goes on: no better one's checkpoint is "
            "whole"
        )
        assert warnings[1].startswith("trial 0's checkpoint of epoch 1 is damaged")
        assert len(warnings) == 2
        # What it trains again was decided, so that it doesn't wait for it anew.
        again = conductor.report(0, result(going_on[0], 1))
        assert again == "continue"
        assert conductor.report(0, result(going_on[0], 2)) == "stop"


def test_a_full_disk_halts_the_study_and_nothing_is_decided(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(source: Path, target: Path) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    config = population("search.trials=4")
    with Ledger.create(tmp_path, {}) as ledger:
        conductor = conduct(config, ledger, tmp_path)
        give_first_reports(conductor, [0.9, 0.8, 0.7, 0.6])
        with monkeypatch.context() as full:
            full.setattr("os.link", refuse)
            full.setattr("shutil.copyfile", refuse)
            with pytest.raises(StudyHaltedError, match=r"disk is full: .*trial-0004.*--resume"):
                conductor.ask()
        assert {trial.state for trial in ledger.trials()} == {"running"}
        assert list((tmp_path / "checkpoints" / "trial-0004").iterdir()) == []
    with Ledger.open(tmp_path) as ledger:
        take(conduct(config, ledger, tmp_path))
        assert say_continuation(ledger.trial(4)) == "continues trial 0 from epoch 1"


def test_a_successor_that_fails_goes_on_from_its_own_checkpoints(tmp_path: Path) -> None:
    config = population("search.trials=4", "search.max_failures=2", "search.perturbation_epochs=2")
    with Ledger.create(tmp_path, {}) as ledger:
        conductor = conduct(config, ledger, tmp_path)
        members = [take(conductor) for _ in range(4)]
        for epoch in (1, 2):
            for member in members:
                conductor.report(member.number, result(member, epoch))
        new = [take(conductor) for _ in range(4)][-1]
        assert new.number == 4
        first = new.resume_from
        assert first is not None

        conductor.fail(4, "its process died")
        again = take(conductor)
        assert (again.number, again.resume_from) == (4, first)
        conductor.report(4, result(again, 3))
        conductor.fail(4, "its process died")
        third = take(conductor)
        assert third.resume_from == again.checkpoints / "epoch-0003"
        shutil.rmtree(third.resume_from)
        conductor.fail(4, "DamagedCheckpointError: the checkpoint is damaged")

        assert conductor.ask() == "wait"
        lost = ledger.trial(4)
        assert lost.state == "failed"
        assert str(lost.error).startswith("it continues trial ")
        assert "no checkpoint of either is left" in str(lost.error)
        assert not conductor.is_hopeless


def test_a_successor_that_begins_anew_is_not_believed(tmp_path: Path) -> None:
    with Ledger.create(tmp_path, {}) as ledger:
        conductor = conduct(population("search.trials=4"), ledger, tmp_path)
        give_first_reports(conductor, [0.9, 0.8, 0.7, 0.6])
        new = [take(conductor) for _ in range(4)][-1]

        assert conductor.report(4, result(new, 1)) == "stop"

        assert ledger.trial(4).error == "reported epoch 1, but it continues trial 0 from epoch 1"


def test_a_budget_that_stops_running_trials_stops_those_that_wait(tmp_path: Path) -> None:
    config = population("search.trials=4", "search.target=0.85")
    with Ledger.create(tmp_path, {}) as ledger:
        conductor = conduct(config, ledger, tmp_path)
        members = [take(conductor) for _ in range(4)]
        for member, value in zip(members[:3], (0.7, 0.6, 0.9), strict=True):
            report = result(member, 1, metrics={"roc_auc": value})
            assert conductor.report(member.number, report) == "stop"
        states = [trial.state for trial in ledger.trials()]
        assert states == ["stopped", "stopped", "stopped", "running"]
        assert conductor.report(3, result(members[3], 1)) == "stop"
        assert conductor.ask() == "end"
        assert {trial.state for trial in ledger.trials()} == {"stopped"}
        assert {r.decision for trial in ledger.trials() for r in trial.reports} == {"stop"}


def test_a_budget_stops_those_that_wait_also_after_a_kill_in_between(tmp_path: Path) -> None:
    config = population("search.trials=4", "search.target=0.85")
    with Ledger.create(tmp_path, {}) as ledger:
        give_first_reports(conduct(config, ledger, tmp_path), [0.7, 0.6])
        reached = {"name": "target", "limit": 0.85, "reason": "it is"}
        ledger.set_fact(REACHED_FACT, reached)
    with Ledger.open(tmp_path) as ledger:
        assert has_waiting_members(ledger, config)
        conductor = conduct(config, ledger, tmp_path)

        assert conductor.ask() == "end"
        assert conductor.is_finished
        assert [trial.state for trial in ledger.trials()] == ["stopped", "stopped"]


def test_hours_of_successors_count(tmp_path: Path) -> None:
    # Four epochs of a hundredth of a second each, and one more by a successor.
    config = population("search.trials=4", f"search.max_trial_hours={0.045 / 3600}")
    trials = run(config, tmp_path, size=1)

    assert [len(trial.reports) for trial in trials] == [2, 1, 1, 1, 0]
    assert sum(trial.seconds for trial in trials) == pytest.approx(0.05)


def test_after_patience_nobody_is_replaced_any_more(tmp_path: Path) -> None:
    with Ledger.create(tmp_path, {}) as ledger:
        config = population("search.patience=1", "search.epochs=6")
        assert Crew(random.Random(0)).work(conduct(config, ledger, tmp_path))
        trials, reached = ledger.trials(), ledger.fact(REACHED_FACT)

    assert reached["name"] == "patience"
    replaced_after = {t.continues.epoch for t in trials if t.continues is not None}
    assert 1 in replaced_after
    assert 5 not in replaced_after
    assert [t.state for t in without_replaced(trials)] == ["completed"] * NUM_MEMBERS


def test_the_algorithm_hears_nothing_of_successors(tmp_path: Path) -> None:
    config = population("search.algorithm=tpe", "search.trials=30")

    def asked(with_successor: bool) -> list[Point | None]:
        search = SearchTrials(config, EarlierStudies(), {})
        for number in range(20):
            assert search.next_point(number) is not None
            search.report(number, 1, number / 20, ())
            search.end(number, "stopped", number / 20, ())
        if with_successor:
            search.adopt_successor(100)
            assert 100 in search
            assert search.report(100, 2, 0.99, ()) == "continue"
            search.end(100, "completed", 0.99, ())
        return [search.next_point(number) for number in range(20, 30)]

    assert asked(with_successor=True) == asked(with_successor=False)


def test_later_studies_learn_nothing_from_successors(tmp_path: Path) -> None:
    config = population()
    facts = {
        "config": dump_study(config),
        "data": {"fingerprint": "d"},
        "encoder_fingerprint": "e",
        "libraries": library_versions(),
    }
    with Ledger.create(tmp_path, facts) as ledger:
        Crew(random.Random(0)).work(conduct(config, ledger, tmp_path))
        trials = ledger.trials()
    later = study("space.dropout={uniform: [0, 0.5]}", f"search.warm_start=[{tmp_path}]")

    earlier = read_earlier(later, data_fingerprint="d", encoder_fingerprint="e")

    first = [trial for trial in trials if trial.continues is None]
    whole = {trial.config_hash for trial in first if trial.state == "completed"}
    assert {config_hash for config_hash, _ in earlier.known} == whole
    assert len(earlier.told) == NUM_MEMBERS
    params = [dict(trial.params) for trial in first]
    assert len(earlier.points) == NUM_POINTS
    assert all(point in params for point in earlier.points)


def test_a_population_takes_no_trial_over(tmp_path: Path) -> None:
    config = study("search.scheduler=none", *PBT[1:])
    facts = {
        "config": dump_study(config),
        "data": {"fingerprint": "d"},
        "encoder_fingerprint": "e",
        "libraries": library_versions(),
    }
    with Ledger.create(tmp_path / "a", facts) as ledger:
        Crew(random.Random(0)).work(conduct(config, ledger, tmp_path / "a"))
    later = population(f"search.warm_start=[{tmp_path / 'a'}]")
    earlier = read_earlier(later, data_fingerprint="d", encoder_fingerprint="e")
    assert earlier.known
    with Ledger.create(tmp_path / "b", {}) as ledger:
        conductor = Conductor(later, SETUP, ledger, tmp_path / "b", earlier=earlier)
        assert Crew(random.Random(0)).work(conductor)
        assert {trial.reused for trial in ledger.trials()} == {None}


def test_a_generation_is_noted_as_a_whole(tmp_path: Path) -> None:
    with Ledger.create(tmp_path, {}) as ledger:
        conductor = conduct(population("search.trials=4"), ledger, tmp_path)
        give_first_reports(conductor, [0.9, 0.8, 0.7, 0.6])
        assert ledger.fact(GENERATION_FACT) is None
        take(conductor)

        assert ledger.fact(GENERATION_FACT) == 1
        assert [trial.state for trial in ledger.trials()] == [
            *("running", "running", "running", "stopped", "running"),
        ]
