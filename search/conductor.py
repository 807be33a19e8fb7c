"""What to run next and what becomes of it: algorithm, scheduler and ledger, without Ray."""

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from search.algorithms import ALGORITHMS, Point
from search.budgets import Budgets, Clock, ReachedBudget
from search.events import OnEvent, StudyEvent, ignore_event
from search.failures import StudyHaltedError, read_failure
from search.ledger import Ledger
from search.retention import CheckpointKeeper
from search.schedulers import SCHEDULERS
from search.study_config import StudyConfig
from search.trial_record import (
    Decision,
    ReportRecord,
    StoredCheckpoint,
    TrialRecord,
    TrialState,
)
from spaces.trial_config import TrialConfig
from trainables.trial_setup import CheckpointRecord, TrialSetup

HOPELESS_FAILURES = 3
"""Trials of a run that fail, with none that reported, before the study is given up."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Assignment:
    """A trial for a process to take up."""

    number: int
    """The trial."""
    config: TrialConfig
    """What it is told."""
    checkpoints: Path
    """Folder for its checkpoints; of this try alone, so that a process of an earlier try that is
    not quite dead can't write into it."""
    resume_from: Path | None
    """Checkpoint to go on from; None: from the beginning."""


NextStep = Assignment | Literal["wait", "end"]
"""wait: nothing to start, but a running trial may still fail and be tried again."""


class Conductor:
    """Runs a study's decisions. Each is in the ledger before it is returned.

    Built over a ledger with trials in it, it replays them: what was decided stays decided, ended
    trials count as they ended, interrupted ones are the first to be asked for, from their last
    checkpoints.
    """

    def __init__(
        self,
        config: StudyConfig,
        setup: TrialSetup,
        ledger: Ledger,
        folder: Path,
        *,
        higher_is_better: bool,
        on_event: OnEvent = ignore_event,
        clock: Clock = time.time,
    ) -> None:
        self._config = config
        self._setup = setup
        self._ledger = ledger
        self._checkpoints = folder / "checkpoints"
        self._sign = 1.0 if higher_is_better else -1.0
        self._on_event = on_event
        search = config.search
        self._algorithm = ALGORITHMS[search.algorithm](config.space, search.seed, search.trials)
        self._start_points = config.start_points()
        self._scheduler = SCHEDULERS[search.scheduler](search)
        self._budgets = Budgets(search, ledger, higher_is_better=higher_is_better, clock=clock)
        self._keeper = CheckpointKeeper(
            ledger,
            self._checkpoints,
            metric=search.metric,
            higher_is_better=higher_is_better,
            budget_bytes=search.checkpoint_budget_gb * 1e9,
            winners=config.winners,
        )
        self._live: set[int] = set()
        self._waiting: list[int] = []
        self._next_number = 0
        self._exhausted = False
        self._num_failed = 0
        self._any_report = False
        self._replay()

    def _replay(self) -> None:
        trials = self._ledger.trials()
        for trial in trials:
            self._algorithm.adopt(trial.number, dict(trial.params))
            if trial.state == "running":
                self._waiting.append(trial.number)
            elif not trial.reports:
                self._tell_end(trial.number, trial.state)
        for report in self._ledger.reports():
            self._replay_report(report, trials[report.number])
        self._next_number = len(trials)
        self._keeper.sweep()

    def _replay_report(self, report: ReportRecord, trial: TrialRecord) -> None:
        """Tell a report of an earlier run again, and the trial's end if it led to one."""
        score = self._score(report.metrics)
        # What it decides now doesn't count: the ledger has the decision, perhaps a budget's.
        self._scheduler.report(report.number, report.epoch, score)
        self._algorithm.tell_report(report.number, report.epoch, score)
        lost = trial.state == "failed"
        self._budgets.note_report(report.number, None if lost else score, report.seconds)
        # A report and the end that it led to are in the ledger together, so no state is behind.
        if trial.state != "running" and report.epoch == trial.last_epoch:
            self._tell_end(report.number, trial.state)

    @property
    def num_live(self) -> int:
        """Trials that processes work on."""
        return len(self._live)

    @property
    def is_finished(self) -> bool:
        """Whether every trial has ended and none is left to try, or a budget ended the search."""
        if self._live:
            return False
        return self._budgets.stops_running or (self._tried_all and not self._waiting)

    @property
    def _tried_all(self) -> bool:
        """Whether no new trial starts any more."""
        tried_all = self._exhausted or self._next_number >= self._config.search.trials
        return tried_all or self._budgets.reached is not None

    @property
    def ended_by(self) -> ReachedBudget | None:
        """The budget that ended the search, or ends it as soon as its running trials have."""
        return self._budgets.reached

    @property
    def is_hopeless(self) -> bool:
        """Whether several trials of this run failed and none reported: the study itself is ill."""
        return self._num_failed >= HOPELESS_FAILURES and not self._any_report

    def ask(self) -> NextStep:
        """Return the next trial to take up: an interrupted or failed one, else a new one."""
        if self.is_hopeless:
            return "end"
        self._settle_budgets()
        if self._waiting and not self._budgets.stops_running:
            return self._assign(self._waiting.pop(0))
        if not self._tried_all:
            point = self._next_point(self._next_number)
            if point is not None:
                number = self._next_number
                self._next_number += 1
                search = self._config.search
                trial = TrialConfig(**point, epochs=search.epochs, seed=search.seed)  # type: ignore[arg-type]
                self._ledger.add_trial(number, point, trial, self._setup.config_hash(trial))
                return self._assign(number)
            self._exhausted = True
        return "wait" if self._live else "end"

    def _next_point(self, number: int) -> Point | None:
        if number >= len(self._start_points):
            return self._algorithm.ask(number)
        point = self._start_points[number]
        self._algorithm.adopt(number, point)
        return point

    def _assign(self, number: int) -> Assignment:
        starts = self._ledger.add_start(number)
        trial = self._ledger.trial(number)
        again = "" if starts == 1 else f".{starts}"
        whole, damaged = self._keeper.choose_resumable(trial)
        self._live.add(number)
        self._tell("started", number)
        for checkpoint in damaged:
            self._warn_of_damage(number, checkpoint, whole)
        return Assignment(
            number=number,
            config=trial.config,
            checkpoints=self._checkpoints / f"trial-{number:04d}{again}",
            resume_from=None if whole is None else whole.path,
        )

    def _warn_of_damage(
        self, number: int, checkpoint: StoredCheckpoint, whole: StoredCheckpoint | None
    ) -> None:
        start = "begins again" if whole is None else f"goes on from epoch {whole.epoch}"
        text = (
            f"trial {number}'s checkpoint of epoch {checkpoint.epoch} is damaged: its files are "
            f"not the {checkpoint.num_bytes:,} bytes that were written; it {start}"
        )
        self._on_event(StudyEvent(kind="warning", message=text))

    def report(self, number: int, result: Mapping[str, Any]) -> Decision:
        """Note what a trial reported after an epoch and decide whether it goes on.

        Args:
            number: The trial.
            result: What ``trainables/trial.py`` reports: epoch, metrics, seconds, config_hash,
                checkpoint and done.
        """
        if number not in self._live:
            return "stop"
        self._any_report = True
        trial = self._ledger.trial(number)
        epoch = int(result["epoch"])
        if problem := self._find_problem(trial, epoch, result):
            self._end_failed(number, problem)
            return "stop"
        checkpoint = result.get("checkpoint")
        record = None if checkpoint is None else CheckpointRecord(**checkpoint)
        metrics, seconds = dict(result["metrics"]), float(result["seconds"])
        is_new = epoch > trial.last_epoch
        decision: Decision = "continue"
        if is_new:
            score = self._score(metrics)
            decision = self._scheduler.report(number, epoch, score)
            self._algorithm.tell_report(number, epoch, score)
            self._budgets.note_report(number, score, seconds)
        state: TrialState = "running"
        if bool(result.get("done")) or epoch >= self._config.search.epochs:
            state = "completed"
        elif decision == "stop" or self._budgets.would_stop_running():
            decision, state = "stop", "stopped"
        report = ReportRecord(
            number=number, epoch=epoch, metrics=metrics, seconds=seconds, decision=decision
        )
        self._ledger.add_report(report, record, state)
        if state != "running":
            self._live.discard(number)
            self._tell_end(number, state)
        self._settle_budgets()
        self._keeper.tidy(number)
        self._tell("reported", number)
        if state in ("completed", "stopped"):
            self._tell(state, number)
        return "continue" if state == "running" else "stop"

    def _find_problem(
        self, trial: TrialRecord, epoch: int, result: Mapping[str, Any]
    ) -> str | None:
        """Return why a report can't be believed, if so."""
        if result["config_hash"] != trial.config_hash:
            return (
                f"ran with another configuration than it was told (hash {result['config_hash']}, "
                f"expected {trial.config_hash}); its results belong to no trial of this study"
            )
        metric, metrics = self._config.search.metric, result["metrics"]
        if metric not in metrics:
            return f"reported no {metric}; it reported {', '.join(metrics) or 'nothing'}"
        if not math.isfinite(metrics[metric]):
            return f"diverged: {metric} is {metrics[metric]} after epoch {epoch}"
        if epoch > trial.last_epoch + 1:
            return f"reported epoch {epoch} after epoch {trial.last_epoch}; the one between is lost"
        return None

    def fail(self, number: int, error: str) -> None:
        """Note that a trial's process failed; the trial is tried again while it may be.

        One that ran out of memory by itself isn't: the same configuration would again. A damaged
        checkpoint is deleted and costs no try: there is one less each time.

        Raises:
            StudyHaltedError: if the disk is full. That is no failure of the trial's: every other
                one would fail too, and for good.
        """
        if number not in self._live:
            return
        self._keeper.sweep_trial(number)
        trial = self._ledger.trial(number)
        micro_batch_rows = self._setup.deepspeed.micro_batch_rows
        failure = read_failure(error, trial.config, micro_batch_rows=micro_batch_rows)
        if failure.blame == "disk":
            raise StudyHaltedError(
                f"the disk is full: trial {number} can't write ({failure.text}); nothing is lost: "
                "free some room, and go on with --resume"
            )
        if failure.blame == "checkpoint" and trial.checkpoints:
            self._keeper.drop(trial.checkpoints[-1])
            self._retry(number, failure.text)
            return
        if not failure.retry or trial.failures >= self._config.search.max_failures:
            self._end_failed(number, failure.text)
            return
        self._ledger.add_failure(number, failure.text, final=False)
        self._retry(number, failure.text)

    def _retry(self, number: int, reason: str) -> None:
        self._live.discard(number)
        self._waiting.append(number)
        self._tell("retried", number, reason)

    def _end_failed(self, number: int, error: str) -> None:
        self._ledger.add_failure(number, error, final=True)
        self._live.discard(number)
        self._num_failed += 1
        self._tell_end(number, "failed")
        self._keeper.tidy(number)
        self._tell("failed", number, error)

    def _score(self, metrics: Mapping[str, float]) -> float:
        return self._sign * metrics[self._config.search.metric]

    def _tell_end(self, number: int, state: TrialState) -> None:
        scores = [self._score(report.metrics) for report in self._ledger.trial(number).reports]
        # The best, because that is the epoch whose checkpoint is kept.
        best = max(scores, default=None)
        self._algorithm.tell(number, state, best)
        if state != "failed" and best is not None:
            self._budgets.note_end(best)

    def _settle_budgets(self) -> None:
        if reached := self._budgets.settle():
            text = f"the search ends: {reached.reason}"
            self._on_event(StudyEvent(kind="note", message=text))

    def _tell(
        self,
        kind: Literal["started", "reported", "completed", "stopped", "retried", "failed"],
        number: int,
        message: str = "",
    ) -> None:
        self._on_event(StudyEvent(kind=kind, trial=self._ledger.trial(number), message=message))
