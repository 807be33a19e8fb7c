import contextlib
import dataclasses
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from search.failures import StudyHaltedError
from search.ledger import GENERATION_FACT, Ledger, Successor
from search.ledger_file import LEDGER_FILE
from search.trial_record import Continuation, Decision, ReportRecord
from spaces.trial_config import TrialConfig
from trainables.trial_setup import CheckpointRecord


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    with Ledger.create(tmp_path, {"name": "tiny"}) as ledger:
        yield ledger


def report(number: int, epoch: int, value: float, decision: Decision = "continue") -> ReportRecord:
    return ReportRecord(
        number=number, epoch=epoch, metrics={"roc_auc": value}, seconds=1.5, decision=decision
    )


def checkpoint(folder: Path, number: int, epoch: int, num_bytes: int = 10) -> CheckpointRecord:
    path = folder / "checkpoints" / f"trial-{number:04d}" / f"epoch-{epoch:04d}"
    return CheckpointRecord(path=str(path), epoch=epoch, num_bytes=num_bytes)


def test_trial_reads_back_as_it_was_written(ledger: Ledger, tmp_path: Path) -> None:
    config = TrialConfig(learning_rate=1.2345678901234567e-5, method="full")
    ledger.add_trial(0, {"learning_rate": config.learning_rate, "method": "full"}, config, "ab")
    ledger.add_start(0)
    ledger.add_report(report(0, 1, 0.6), checkpoint(tmp_path, 0, 1))
    ledger.add_report(report(0, 2, 0.7, "stop"), checkpoint(tmp_path, 0, 2), "stopped")

    (trial,) = ledger.trials()

    assert trial.config == config
    assert trial.params == {"learning_rate": config.learning_rate, "method": "full"}
    assert (trial.state, trial.config_hash, trial.starts, trial.failures) == ("stopped", "ab", 1, 0)
    assert [(r.epoch, r.metrics["roc_auc"], r.decision) for r in trial.reports] == [
        (1, 0.6, "continue"),
        (2, 0.7, "stop"),
    ]
    assert [c.path.name for c in trial.checkpoints] == ["epoch-0001", "epoch-0002"]
    assert trial.last_epoch == 2
    assert trial.seconds == pytest.approx(3.0)
    assert trial.ended_at is not None


def test_reports_come_back_in_the_order_in_which_they_came(ledger: Ledger) -> None:
    for number in range(2):
        ledger.add_trial(number, {}, TrialConfig(), "h")
    for number, epoch in [(1, 1), (0, 1), (0, 2), (1, 2)]:
        ledger.add_report(report(number, epoch, 0.5), None)

    assert [(r.number, r.epoch) for r in ledger.reports()] == [(1, 1), (0, 1), (0, 2), (1, 2)]


def test_second_report_of_an_epoch_replaces_only_the_checkpoint(
    ledger: Ledger, tmp_path: Path
) -> None:
    ledger.add_trial(0, {}, TrialConfig(), "h")
    ledger.add_report(report(0, 1, 0.6), checkpoint(tmp_path, 0, 1, num_bytes=10))
    ledger.add_report(report(0, 1, 0.9), checkpoint(tmp_path, 0, 1, num_bytes=20))

    (trial,) = ledger.trials()

    assert [r.metrics["roc_auc"] for r in trial.reports] == [0.6]
    assert [c.num_bytes for c in trial.checkpoints] == [20]


def test_a_report_that_cannot_be_written_whole_leaves_no_part_of_it(
    ledger: Ledger, tmp_path: Path
) -> None:
    ledger.add_trial(0, {}, TrialConfig(), "h")
    broken = CheckpointRecord(path=str(tmp_path / "c"), epoch=1, num_bytes=None)  # type: ignore[arg-type]

    with pytest.raises(sqlite3.IntegrityError, match="NOT NULL"):
        ledger.add_report(report(0, 1, 0.6), broken, "completed")

    (trial,) = ledger.trials()
    assert trial.reports == ()
    assert trial.state == "running"


def test_a_full_disk_halts_the_study_and_leaves_no_half_of_a_report(ledger: Ledger) -> None:
    ledger.add_trial(0, {}, TrialConfig(), "h")
    # SQLite's own limit, which it reports as it does a full disk.
    (num_pages,) = ledger._db.execute("PRAGMA page_count").fetchone()
    ledger._db.execute(f"PRAGMA max_page_count = {num_pages}")
    long = report(0, 1, 0.6)
    long = dataclasses.replace(long, metrics={"roc_auc": 0.6, "x" * 100_000: 1.0})

    with pytest.raises(StudyHaltedError, match=r"ledger\.db: database or disk is full; .*--resume"):
        ledger.add_report(long, None, "completed")

    assert ledger.trial(0).state == "running"
    assert ledger.reports() == []
    ledger._db.execute(f"PRAGMA max_page_count = {num_pages + 1000}")
    ledger.add_report(long, None, "completed")
    assert ledger.trial(0).state == "completed"


def test_a_ledger_that_another_program_keeps_locked_halts_the_study(
    ledger: Ledger, tmp_path: Path
) -> None:
    ledger._db.execute("PRAGMA busy_timeout = 100")
    with contextlib.closing(sqlite3.connect(tmp_path / LEDGER_FILE)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StudyHaltedError, match="database is locked"):
            ledger.set_fact("status", "running")
        other.rollback()

    ledger.set_fact("status", "running")
    assert ledger.fact("status") == "running"


def test_report_of_an_unknown_trial_is_refused(ledger: Ledger) -> None:
    with pytest.raises(sqlite3.IntegrityError, match="FOREIGN KEY"):
        ledger.add_report(report(9, 1, 0.5), None)


def test_failures_are_counted_and_the_last_one_ends_the_trial(ledger: Ledger) -> None:
    ledger.add_trial(0, {}, TrialConfig(), "h")
    ledger.add_failure(0, "killed", final=False)
    first = ledger.trials()[0]
    ledger.add_failure(0, "killed again", final=True)
    second = ledger.trials()[0]

    assert (first.state, first.failures, first.error) == ("running", 1, "killed")
    assert (second.state, second.failures, second.error) == ("failed", 2, "killed again")


def test_checkpoint_can_shrink_and_go(ledger: Ledger, tmp_path: Path) -> None:
    ledger.add_trial(0, {}, TrialConfig(), "h")
    for epoch in (1, 2):
        ledger.add_report(report(0, epoch, 0.6), checkpoint(tmp_path, 0, epoch))
    first, second = ledger.checkpoints()

    ledger.remove_checkpoint(first.path)
    ledger.shrink_checkpoint(second.path, 3)

    (kept,) = ledger.checkpoints()
    assert (kept.path, kept.num_bytes, kept.resumable) == (second.path, 3, False)


def test_study_folder_may_be_moved(tmp_path: Path) -> None:
    old, new = tmp_path / "old", tmp_path / "new"
    with Ledger.create(old, {}) as ledger:
        ledger.add_trial(0, {}, TrialConfig(), "h")
        ledger.add_report(report(0, 1, 0.6), checkpoint(old, 0, 1))
    old.rename(new)

    with Ledger.read(new) as ledger:
        (kept,) = ledger.checkpoints()

    assert kept.path == new / "checkpoints" / "trial-0000" / "epoch-0001"


def test_facts_and_compressions_hold_json_values(ledger: Ledger) -> None:
    ledger.add_trial(4, {}, TrialConfig(), "h")
    ledger.set_fact("test", {"roc_auc": 0.6})
    ledger.set_fact("test", {"roc_auc": 0.7})
    ledger.add_compression(4, {"bundle": None})
    ledger.add_compression(4, {"bundle": "b"})

    assert ledger.fact("name") == "tiny"
    assert ledger.fact("test") == {"roc_auc": 0.7}
    assert ledger.fact("nothing", 3) == 3
    assert ledger.compressions() == {4: {"bundle": "b"}}


def test_running_study_can_be_read_by_others(ledger: Ledger, tmp_path: Path) -> None:
    ledger.add_trial(0, {}, TrialConfig(), "h")

    with Ledger.read(tmp_path) as reader:
        assert [trial.number for trial in reader.trials()] == [0]
        ledger.add_trial(1, {}, TrialConfig(), "h")
        assert [trial.number for trial in reader.trials()] == [0, 1]
        with pytest.raises(sqlite3.OperationalError, match="readonly"):
            reader.add_start(0)


def test_same_study_cannot_be_started_twice(ledger: Ledger, tmp_path: Path) -> None:
    assert ledger.fact("name") == "tiny"

    with pytest.raises(ValueError, match=r"is running already \(process \d+ on "):
        Ledger.open(tmp_path)
    with pytest.raises(ValueError, match="is running already"):
        Ledger.create(tmp_path, {})


def test_folder_with_a_study_is_not_overwritten(tmp_path: Path) -> None:
    Ledger.create(tmp_path, {"name": "first"}).close()

    with pytest.raises(ValueError, match="holds a study already; resume it"):
        Ledger.create(tmp_path, {"name": "second"})

    with Ledger.open(tmp_path) as ledger:
        assert ledger.fact("name") == "first"


def test_start_that_was_killed_leaves_nothing_in_the_way(tmp_path: Path) -> None:
    (tmp_path / f"{LEDGER_FILE}.new").write_bytes(b"half a file")

    with Ledger.create(tmp_path, {"name": "tiny"}) as ledger:
        assert ledger.fact("name") == "tiny"


def test_writes_survive_a_kill_and_release_the_lock(tmp_path: Path) -> None:
    script = (
        "import os, signal, sys; from pathlib import Path;"
        "from search.ledger import Ledger; from spaces.trial_config import TrialConfig;"
        "ledger = Ledger.create(Path(sys.argv[1]), {});"
        "ledger.add_trial(0, {'dropout': 0.1}, TrialConfig(), 'h');"
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    subprocess.run([sys.executable, "-c", script, str(tmp_path)], check=False)

    with Ledger.open(tmp_path) as ledger:
        assert [trial.params for trial in ledger.trials()] == [{"dropout": 0.1}]


def test_folder_without_a_ledger_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"holds no study: there is no ledger\.db"):
        Ledger.read(tmp_path)
    with pytest.raises(ValueError, match="holds no study"):
        Ledger.open(tmp_path / "gone")


def test_foreign_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / LEDGER_FILE
    path.write_text("not a database, but long enough to look like one" * 20)
    with pytest.raises(ValueError, match=r"can't open .* as a study's ledger: file is not"):
        Ledger.read(tmp_path)
    path.unlink()
    other = sqlite3.connect(path)
    other.execute("CREATE TABLE cats (name TEXT)")
    other.close()
    with pytest.raises(ValueError, match="but not a study's ledger"):
        Ledger.open(tmp_path)


def test_newer_schema_is_refused(tmp_path: Path) -> None:
    Ledger.create(tmp_path, {}).close()
    db = sqlite3.connect(tmp_path / LEDGER_FILE)
    db.execute("PRAGMA user_version = 99")
    db.close()

    with pytest.raises(ValueError, match="schema version 99, this program knows 3"):
        Ledger.open(tmp_path)


def make_older(folder: Path) -> None:
    """Give a ledger the form that schema version 2 had."""
    with contextlib.closing(sqlite3.connect(folder / LEDGER_FILE)) as db:
        db.executescript("DROP TABLE continuations; PRAGMA user_version = 2;")


def test_older_ledger_is_read_as_it_is_and_written_as_a_newer_one(tmp_path: Path) -> None:
    with Ledger.create(tmp_path, {}) as ledger:
        ledger.add_trial(0, {}, TrialConfig(), "h")
        ledger.add_report(report(0, 1, 0.6), None)
        (before,) = ledger.trials()
    make_older(tmp_path)

    with Ledger.read(tmp_path) as ledger:
        assert ledger.trials() == [before]
        assert ledger.trial(0) == before
    with contextlib.closing(sqlite3.connect(tmp_path / LEDGER_FILE)) as db:
        assert db.execute("PRAGMA user_version").fetchone() == (2,)
    with Ledger.open(tmp_path) as ledger, Ledger.read(tmp_path) as reader:
        ledger.add_generation(1, [successor(tmp_path, 1, replaces=0)])
        assert [trial.continues is None for trial in reader.trials()] == [True, False]
    with Ledger.open(tmp_path) as ledger:
        assert ledger.trial(1).continues == Continuation(number=0, epoch=1, replaces=0)


def successor(folder: Path, number: int, *, replaces: int) -> Successor:
    return Successor(
        number=number,
        params={"dropout": 0.3},
        config=TrialConfig(dropout=0.3),
        config_hash="other",
        continues=Continuation(number=0, epoch=1, replaces=replaces),
        checkpoint=checkpoint(folder, number, 1),
    )


def test_generation_reads_back_as_it_was_written(ledger: Ledger, tmp_path: Path) -> None:
    for number in range(2):
        ledger.add_trial(number, {}, TrialConfig(), "h")
        ledger.add_report(report(number, 1, 0.6), checkpoint(tmp_path, number, 1))

    ledger.add_generation(1, [successor(tmp_path, 2, replaces=1)])

    first, loser, new = ledger.trials()
    assert (first.state, first.reports[0].decision) == ("running", "continue")
    assert (loser.state, loser.reports[0].decision) == ("stopped", "stop")
    assert loser.ended_at is not None
    assert (new.state, new.params, new.config_hash) == ("running", {"dropout": 0.3}, "other")
    assert new.continues == Continuation(number=0, epoch=1, replaces=1)
    assert (new.first_epoch, new.last_epoch, new.reports) == (2, 1, ())
    assert [c.path.parent.name for c in new.checkpoints] == ["trial-0002"]
    assert ledger.fact(GENERATION_FACT) == 1


def test_generation_is_noted_as_a_whole_or_not_at_all(ledger: Ledger, tmp_path: Path) -> None:
    for number in range(3):
        ledger.add_trial(number, {}, TrialConfig(), "h")
        ledger.add_report(report(number, 1, 0.6), None)
    twice = [successor(tmp_path, number, replaces=1) for number in (3, 4)]

    with pytest.raises(sqlite3.IntegrityError, match="UNIQUE"):
        ledger.add_generation(1, twice)

    assert {trial.state for trial in ledger.trials()} == {"running"}
    assert len(ledger.trials()) == 3
    assert ledger.fact(GENERATION_FACT) is None
