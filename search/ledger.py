"""Every trial and report, durable; the truth that a resume replays."""

import json
import sqlite3
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

from search.failures import StudyHaltedError
from search.ledger_file import (
    APPLICATION_ID,
    LEDGER_FILE,
    SCHEMA,
    SCHEMA_VERSION,
    connect,
    existing_ledger,
    take_lock,
)
from search.trial_record import (
    Continuation,
    ReportRecord,
    StoredCheckpoint,
    TrialRecord,
    TrialState,
)
from spaces.parameters import Value
from spaces.trial_config import TrialConfig
from trainables.trial_setup import CheckpointRecord

TRIAL_QUERY = (
    "SELECT number, params, config, config_hash, state, starts, failures, error, created_at, "
    "ended_at, repeats, reused, continues, epoch, replaces "
    "FROM trials LEFT JOIN continuations ON trial = number"
)

GENERATION_FACT = "generation"
"""Of a population's ledger: the epoch up to which it is decided whose place others take."""

UNWRITABLE = (sqlite3.SQLITE_FULL, sqlite3.SQLITE_BUSY, sqlite3.SQLITE_IOERR)
"""SQLite's errors of the world around it: the disk is full, locked by another program, broken."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Successor:
    """A new trial that takes the place of another one in a population."""

    number: int
    """The new trial."""
    params: Mapping[str, Value]
    """Its point."""
    config: TrialConfig
    """All that it is told."""
    config_hash: str
    """Of everything that determines it but for the weights with which it begins."""
    continues: Continuation
    """Where it begins, and whom it replaces."""
    checkpoint: CheckpointRecord
    """Its first one: the other trial's weights and training state, in a folder of its own."""


class Ledger:
    """A study's SQLite file. One process writes (it holds the lock), any number read.

    Each method that writes is one transaction, on disk when the method returns.
    """

    def __init__(self, folder: Path, connection: sqlite3.Connection, lock: IO[str] | None) -> None:
        self._folder = folder
        self._db = connection
        self._lock = lock

    @classmethod
    def exists(cls, folder: Path) -> bool:
        """Return whether a folder holds a ledger."""
        return (folder / LEDGER_FILE).exists()

    @classmethod
    def create(cls, folder: Path, facts: Mapping[str, Any]) -> Self:
        """Start the ledger of a new study and lock it.

        Args:
            folder: The study's folder; made if it isn't there.
            facts: What is true of the whole study; JSON values by name.

        Raises:
            ValueError: if the folder holds a ledger already, or another process has the lock.
        """
        folder.mkdir(parents=True, exist_ok=True)
        lock = take_lock(folder)
        path = folder / LEDGER_FILE
        if path.exists():
            lock.close()
            raise ValueError(f"{folder} holds a study already; resume it, or choose another folder")
        # Renamed into place when complete: a killed start leaves no half-made ledger.
        unfinished = folder / f"{LEDGER_FILE}.new"
        unfinished.unlink(missing_ok=True)
        db = sqlite3.connect(unfinished)
        db.executescript(
            f"PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = {SCHEMA_VERSION};"
            + SCHEMA
        )
        with db:
            for name, value in facts.items():
                db.execute("INSERT INTO facts VALUES (?, ?)", (name, json.dumps(value)))
        db.close()
        unfinished.rename(path)
        return cls(folder, connect(path), lock)

    @classmethod
    def open(cls, folder: Path) -> Self:
        """Lock and open the ledger of a study, to go on writing.

        Raises:
            ValueError: if there is none, it isn't one of ours, or another process has the lock.
        """
        path = existing_ledger(folder)
        lock = take_lock(folder)
        try:
            return cls(folder, connect(path), lock)
        except ValueError:
            lock.close()
            raise

    @classmethod
    def read(cls, folder: Path) -> Self:
        """Open the ledger of a study to read it, also while the study runs.

        Raises:
            ValueError: if there is none, or it isn't one of ours.
        """
        return cls(folder, connect(existing_ledger(folder), read_only=True), None)

    def close(self) -> None:
        """Close the file and release the lock."""
        self._db.close()
        if self._lock is not None:
            self._lock.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        try:
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield self._db
                # On a full disk it fails, and would leave the transaction open.
                self._db.commit()
            except BaseException:
                self._db.rollback()
                raise
        except sqlite3.OperationalError as error:
            # The lower byte is the kind, without which part of it failed.
            if getattr(error, "sqlite_errorcode", 0) & 0xFF not in UNWRITABLE:
                raise
            raise StudyHaltedError(
                f"can't write {self._folder / LEDGER_FILE}: {error}; nothing that was noted is "
                "lost: mend that, and go on with --resume"
            ) from error

    def fact(self, name: str, default: Any = None) -> Any:  # noqa: ANN401 - any JSON value
        """Return what is noted of the whole study under a name."""
        row = self._db.execute("SELECT value FROM facts WHERE name = ?", (name,)).fetchone()
        return default if row is None else json.loads(row[0])

    def set_fact(self, name: str, value: Any) -> None:  # noqa: ANN401 - any JSON value
        """Note a JSON value of the whole study under a name, in place of what was there."""
        with self._transaction() as db:
            db.execute("INSERT OR REPLACE INTO facts VALUES (?, ?)", (name, json.dumps(value)))

    def add_trial(
        self,
        number: int,
        params: Mapping[str, Value],
        config: TrialConfig,
        config_hash: str,
        *,
        repeats: int | None = None,
        reused: str | None = None,
        left_out: str | None = None,
    ) -> None:
        """Note that a trial exists.

        Args:
            number: The trial.
            params: Its point.
            config: All that it is told.
            config_hash: Of everything that determines it.
            repeats: The trial that it trains again, if any.
            reused: The trial of an earlier study that it is taken over from, if any.
            left_out: Why it is stopped before its first step, if it is.
        """
        with self._transaction() as db:
            _insert_trial(db, number, params, config, config_hash)
            db.execute(
                "UPDATE trials SET repeats = ?, reused = ?, error = ? WHERE number = ?",
                (repeats, reused, left_out, number),
            )
            if left_out is not None:
                _end_trial(db, number, "stopped")

    def add_start(self, number: int) -> int:
        """Note that a process takes a trial up; return how often one did."""
        with self._transaction() as db:
            row = db.execute(
                "UPDATE trials SET starts = starts + 1 WHERE number = ? RETURNING starts",
                (number,),
            ).fetchone()
        return int(row[0])

    def add_report(
        self,
        report: ReportRecord,
        checkpoint: CheckpointRecord | None,
        state: TrialState = "running",
    ) -> None:
        """Note a report, its decision, its checkpoint and the trial's state, all or nothing.

        A second report of an epoch (its checkpoint was lost, so it was trained again) replaces
        only the checkpoint: what was decided stays decided.
        """
        now = time.time()
        with self._transaction() as db:
            db.execute(
                "INSERT INTO reports (trial, epoch, metrics, seconds, decision, created_at) "
                "VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (trial, epoch) DO NOTHING",
                (
                    report.number,
                    report.epoch,
                    json.dumps(dict(report.metrics)),
                    report.seconds,
                    report.decision,
                    now,
                ),
            )
            if checkpoint is not None:
                self._insert_checkpoint(db, report.number, checkpoint)
            if state != "running":
                _end_trial(db, report.number, state)

    def _insert_checkpoint(
        self, db: sqlite3.Connection, number: int, checkpoint: CheckpointRecord
    ) -> None:
        db.execute(
            "INSERT OR REPLACE INTO checkpoints VALUES (?, ?, ?, ?, 1)",
            (
                self._stored(Path(checkpoint.path)),
                number,
                checkpoint.epoch,
                checkpoint.num_bytes,
            ),
        )

    def add_generation(self, epoch: int, successors: Sequence[Successor]) -> None:
        """Note what becomes of a population after an epoch, all or nothing.

        Args:
            epoch: Up to it everything is decided now.
            successors: New trials, each with its first checkpoint, and by that the stopped ones.
        """
        with self._transaction() as db:
            for new in successors:
                _insert_trial(db, new.number, new.params, new.config, new.config_hash)
                begun = new.continues
                db.execute(
                    "INSERT INTO continuations VALUES (?, ?, ?, ?)",
                    (new.number, begun.number, begun.epoch, begun.replaces),
                )
                self._insert_checkpoint(db, new.number, new.checkpoint)
                _stop_after_report(db, begun.replaces)
            db.execute(
                "INSERT OR REPLACE INTO facts VALUES (?, ?)", (GENERATION_FACT, json.dumps(epoch))
            )

    def stop_waiting(self, numbers: Sequence[int]) -> None:
        """Note that trials which no process works on are stopped after their last reports."""
        with self._transaction() as db:
            for number in numbers:
                _stop_after_report(db, number)

    def end_trial(self, number: int, state: TrialState) -> None:
        """Note how a trial ended."""
        with self._transaction() as db:
            _end_trial(db, number, state)

    def add_failure(self, number: int, error: str, *, final: bool) -> None:
        """Note that a trial failed, and whether that was its last try."""
        with self._transaction() as db:
            db.execute(
                "UPDATE trials SET failures = failures + 1, error = ? WHERE number = ?",
                (error, number),
            )
            if final:
                db.execute(
                    "UPDATE trials SET state = 'failed', ended_at = ? WHERE number = ?",
                    (time.time(), number),
                )

    def remove_checkpoint(self, path: Path) -> None:
        """Note that a checkpoint is no longer kept."""
        with self._transaction() as db:
            db.execute("DELETE FROM checkpoints WHERE path = ?", (self._stored(path),))

    def shrink_checkpoint(self, path: Path, num_bytes: int) -> None:
        """Note that a checkpoint lost its training state, and its new size."""
        with self._transaction() as db:
            db.execute(
                "UPDATE checkpoints SET resumable = 0, num_bytes = ? WHERE path = ?",
                (num_bytes, self._stored(path)),
            )

    def add_compression(self, number: int, report: Mapping[str, Any]) -> None:
        """Note what compressing a trial's checkpoint gave; JSON values, in place of older ones."""
        with self._transaction() as db:
            db.execute(
                "INSERT OR REPLACE INTO compressions VALUES (?, ?, ?)",
                (number, json.dumps(dict(report)), time.time()),
            )

    def compressions(self) -> dict[int, dict[str, Any]]:
        """Return what compressing gave, by trial."""
        rows = self._db.execute("SELECT trial, report FROM compressions ORDER BY trial")
        return {number: json.loads(report) for number, report in rows}

    def reports(self) -> list[ReportRecord]:
        """Return every report in the order in which it came."""
        rows = self._db.execute(
            "SELECT trial, epoch, metrics, seconds, decision FROM reports ORDER BY position"
        )
        return [_report_record(row) for row in rows]

    def moments(self) -> list[float]:
        """Return when something was noted of a trial, in seconds since the epoch of Unix."""
        rows = self._db.execute(
            "SELECT created_at FROM trials UNION SELECT created_at FROM reports "
            "UNION SELECT ended_at FROM trials WHERE ended_at IS NOT NULL ORDER BY 1"
        )
        return [moment for (moment,) in rows]

    def checkpoints(self, number: int | None = None) -> list[StoredCheckpoint]:
        """Return every checkpoint, or every one of a trial, that is still kept, in order."""
        where, values = ("", ()) if number is None else ("WHERE trial = ? ", (number,))
        rows = self._db.execute(
            "SELECT trial, path, epoch, num_bytes, resumable FROM checkpoints "
            f"{where}ORDER BY trial, epoch",
            values,
        )
        return [
            StoredCheckpoint(
                number=number,
                path=self._folder / path,
                epoch=epoch,
                num_bytes=num_bytes,
                resumable=bool(resumable),
            )
            for number, path, epoch, num_bytes, resumable in rows
        ]

    def checkpoint_bytes(self) -> int:
        """Return the size of all checkpoints that are still kept."""
        row = self._db.execute("SELECT COALESCE(SUM(num_bytes), 0) FROM checkpoints").fetchone()
        return int(row[0])

    def trials(self) -> list[TrialRecord]:
        """Return the trials of the search, by number, as of one moment."""
        return [trial for trial in self.all_trials() if trial.repeats is None]

    def all_trials(self) -> list[TrialRecord]:
        """Return them and those that were trained again, by number, as of one moment."""
        # Outside an explicit transaction each query would see another moment of a running study.
        self._db.execute("BEGIN")
        try:
            rows = self._db.execute(f"{TRIAL_QUERY} ORDER BY number").fetchall()
            reports: dict[int, list[ReportRecord]] = {row[0]: [] for row in rows}
            for report in self.reports():
                reports[report.number].append(report)
            checkpoints: dict[int, list[StoredCheckpoint]] = {row[0]: [] for row in rows}
            for checkpoint in self.checkpoints():
                checkpoints[checkpoint.number].append(checkpoint)
        finally:
            self._db.rollback()
        return [_trial_record(row, reports[row[0]], checkpoints[row[0]]) for row in rows]

    def trial(self, number: int) -> TrialRecord:
        """Return one trial.

        Raises:
            KeyError: if there is none of that number.
        """
        row = self._db.execute(f"{TRIAL_QUERY} WHERE number = ?", (number,)).fetchone()
        if row is None:
            raise KeyError(number)
        reports = self._db.execute(
            "SELECT trial, epoch, metrics, seconds, decision FROM reports WHERE trial = ?",
            (number,),
        )
        found = [_report_record(report) for report in reports]
        return _trial_record(row, found, self.checkpoints(number))

    def _stored(self, path: Path) -> str:
        # Relative, so that a study's folder may be moved as a whole.
        absolute = path.absolute()
        folder = self._folder.absolute()
        return str(absolute.relative_to(folder) if absolute.is_relative_to(folder) else absolute)


def _insert_trial(
    db: sqlite3.Connection,
    number: int,
    params: Mapping[str, Value],
    config: TrialConfig,
    config_hash: str,
) -> None:
    db.execute(
        "INSERT INTO trials (number, params, config, config_hash, state, created_at) "
        "VALUES (?, ?, ?, ?, 'running', ?)",
        (
            number,
            json.dumps(dict(params)),
            json.dumps(asdict(config)),
            config_hash,
            time.time(),
        ),
    )


def _end_trial(db: sqlite3.Connection, number: int, state: TrialState) -> None:
    db.execute(
        "UPDATE trials SET state = ?, ended_at = ? WHERE number = ?", (state, time.time(), number)
    )


def _stop_after_report(db: sqlite3.Connection, number: int) -> None:
    db.execute(
        "UPDATE reports SET decision = 'stop' WHERE position = "
        "(SELECT MAX(position) FROM reports WHERE trial = ?)",
        (number,),
    )
    _end_trial(db, number, "stopped")


def _report_record(row: tuple[Any, ...]) -> ReportRecord:
    number, epoch, metrics, seconds, decision = row
    return ReportRecord(
        number=number,
        epoch=epoch,
        metrics=json.loads(metrics),
        seconds=seconds,
        decision=decision,
    )


def _trial_record(
    row: tuple[Any, ...], reports: list[ReportRecord], checkpoints: list[StoredCheckpoint]
) -> TrialRecord:
    return TrialRecord(
        number=row[0],
        params=json.loads(row[1]),
        config=TrialConfig(**json.loads(row[2])),
        config_hash=row[3],
        state=row[4],
        starts=row[5],
        failures=row[6],
        error=row[7],
        created_at=row[8],
        ended_at=row[9],
        repeats=row[10],
        reused=row[11],
        continues=None
        if row[12] is None
        else Continuation(number=row[12], epoch=row[13], replaces=row[14]),
        reports=tuple(sorted(reports, key=lambda report: report.epoch)),
        checkpoints=tuple(checkpoints),
    )
