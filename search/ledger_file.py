"""The SQLite file behind the ledger: its tables, how it is opened, how it is locked."""

import fcntl
import os
import socket
import sqlite3
from pathlib import Path
from typing import IO

LEDGER_FILE = "ledger.db"
LOCK_FILE = "study.lock"
SCHEMA_VERSION = 3
APPLICATION_ID = 0x434C4B54  # "CLKT", by which SQLite files tell whose they are

CONTINUATIONS = """continuations (
    trial INTEGER PRIMARY KEY,
    continues INTEGER NOT NULL,
    epoch INTEGER NOT NULL,
    replaces INTEGER NOT NULL UNIQUE
)"""
"""The table that schema version 2 lacked: which trials began with another one's checkpoint."""

SCHEMA = f"""
CREATE TABLE facts (name TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE trials (
    number INTEGER PRIMARY KEY,
    params TEXT NOT NULL,
    config TEXT NOT NULL,
    config_hash TEXT NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('running', 'completed', 'stopped', 'failed')),
    starts INTEGER NOT NULL DEFAULT 0,
    failures INTEGER NOT NULL DEFAULT 0,
    error TEXT,
    created_at REAL NOT NULL,
    ended_at REAL,
    repeats INTEGER REFERENCES trials (number),
    reused TEXT
);
CREATE TABLE reports (
    position INTEGER PRIMARY KEY AUTOINCREMENT,
    trial INTEGER NOT NULL REFERENCES trials (number),
    epoch INTEGER NOT NULL,
    metrics TEXT NOT NULL,
    seconds REAL NOT NULL,
    decision TEXT NOT NULL CHECK (decision IN ('continue', 'stop')),
    created_at REAL NOT NULL,
    UNIQUE (trial, epoch)
);
CREATE TABLE checkpoints (
    path TEXT PRIMARY KEY,
    trial INTEGER NOT NULL REFERENCES trials (number),
    epoch INTEGER NOT NULL,
    num_bytes INTEGER NOT NULL,
    resumable INTEGER NOT NULL
);
CREATE INDEX checkpoints_of_trial ON checkpoints (trial, epoch);
CREATE TABLE compressions (
    trial INTEGER PRIMARY KEY REFERENCES trials (number),
    report TEXT NOT NULL,
    created_at REAL NOT NULL
);
CREATE TABLE {CONTINUATIONS};
"""


def existing_ledger(folder: Path) -> Path:
    """Return the path of a folder's ledger, checked to be there."""
    path = folder / LEDGER_FILE
    if not path.is_file():
        raise ValueError(f"{folder} holds no study: there is no {LEDGER_FILE} in it")
    return path


def connect(path: Path, *, read_only: bool = False) -> sqlite3.Connection:
    """Open and check a ledger. Durable before a method returns: WAL with full synchronization.

    One of schema version 2 gets the table that it lacks; opened to be read it stays as it is, and
    an empty table beside it stands in.
    """
    uri = f"{path.absolute().as_uri()}?mode={'ro' if read_only else 'rw'}"
    try:
        # Transactions are begun by hand; another process's write is waited for.
        db = sqlite3.connect(uri, uri=True, isolation_level=None, timeout=30.0)
        application = db.execute("PRAGMA application_id").fetchone()[0]
        version = db.execute("PRAGMA user_version").fetchone()[0]
        is_known = application == APPLICATION_ID and version in (2, SCHEMA_VERSION)
        if is_known and not read_only:
            db.executescript(
                "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON;"
            )
        if is_known and version == 2:
            version = _add_continuations(db, read_only=read_only)
    except sqlite3.Error as error:
        raise ValueError(f"can't open {path} as a study's ledger: {error}") from error
    if application != APPLICATION_ID:
        db.close()
        raise ValueError(f"{path} is a database, but not a study's ledger")
    if version != SCHEMA_VERSION:
        db.close()
        raise ValueError(
            f"{path} has schema version {version}, this program knows {SCHEMA_VERSION}; "
            "use the version of clicktune that wrote it"
        )
    return db


def _add_continuations(db: sqlite3.Connection, *, read_only: bool) -> int:
    """Bring a ledger of schema version 2 to the present one; return that."""
    if read_only:
        db.execute(f"CREATE TEMPORARY TABLE {CONTINUATIONS}")
        return SCHEMA_VERSION
    db.executescript(
        f"BEGIN IMMEDIATE; CREATE TABLE {CONTINUATIONS}; "
        f"PRAGMA user_version = {SCHEMA_VERSION}; COMMIT;"
    )
    return SCHEMA_VERSION


def take_lock(folder: Path) -> IO[str]:
    """Lock a study for this process; the kernel releases it however the process ends."""
    file = (folder / LOCK_FILE).open("a+", encoding="utf-8")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        file.seek(0)
        owner = file.read().strip() or "another process"
        file.close()
        raise ValueError(
            f"the study in {folder} is running already ({owner}); wait for it or stop it first"
        ) from error
    file.truncate(0)
    file.write(f"process {os.getpid()} on {socket.gethostname()}\n")
    file.flush()
    return file
