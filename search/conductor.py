"""What to run next and what becomes of it: algorithm, scheduler and ledger, without Ray."""

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from search.algorithms import Point
from search.budgets import Budgets, Clock, ReachedBudget
from search.confirmation import Repeat, missing_repeats
from search.earlier_studies import EarlierStudies, FetchedTrial
from search.events import OnEvent, StudyEvent, ignore_event
from search.failures import StudyHaltedError, read_failure
from search.formatting import trial_name
from search.generations import Generations
from search.ledger import Ledger
from search.retention import CheckpointKeeper
from search.search_trials import SearchTrials
from search.shape_costs import read_costs, shape_key
from search.study_config import StudyConfig
from search.trial_record import (
    Decision,
    ReportRecord,
    StoredCheckpoint,
    TrialRecord,
    TrialState,
    say_continuation,
)
from spaces.trial_config import TrialConfig
from trainables.metrics import METRICS
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


NO_STUDIES = EarlierStudies()

NextStep = Assignment | Literal["wait", "end"]
"""wait: nothing to start, but a running trial may still fail and be tried again."""


class Conductor:
    """Runs a study's decisions. Each is in the ledger before it is returned.

    Built over a ledger with trials in it, it replays them: what was decided stays decided, ended
    trials count as they ended, interrupted ones are the first to be asked for, from their last
    checkpoints. When the search is over, its best trials are trained again with other seeds; of
    these neither algorithm nor scheduler learns.

    A member of a population that has to wait for the others is one that was interrupted: its
    process is told to stop, and when its generation is decided it goes on as interrupted ones do.
    """

    def __init__(
        self,
        config: StudyConfig,
        setup: TrialSetup,
        ledger: Ledger,
        folder: Path,
        *,
        on_event: OnEvent = ignore_event,
        clock: Clock = time.time,
        earlier: EarlierStudies = NO_STUDIES,
    ) -> None:
        self._config = config
        self._setup = setup
        self._ledger = ledger
        self._checkpoints = folder / "checkpoints"
        higher_is_better = METRICS[config.search.metric].higher_is_better
        self._sign = 1.0 if higher_is_better else -1.0
        self._on_event = on_event
        search = config.search
        self._known = earlier.known
        self._shape_costs = read_costs(ledger)
        self._search = SearchTrials(config, earlier, self._shape_costs)
        self._budgets = Budgets(search, ledger, higher_is_better=higher_is_better, clock=clock)
        self._keeper = CheckpointKeeper(
            ledger,
            self._checkpoints,
            metric=search.metric,
            higher_is_better=higher_is_better,
            budget_bytes=search.checkpoint_budget_gb * 1e9,
            winners=config.winners,
        )
        self._generations = Generations(config, setup, ledger, self._checkpoints, on_event)
        self._live: set[int] = set()
        self._waiting: list[int] = []
        self._next_number = 0
        # Known when the search is over.
        self._repeats_left: list[Repeat] | None = None
        self._is_confirming = False
        self._num_failed = 0
        self._any_report = False
        self._replay()

    def _replay(self) -> None:
        trials = self._ledger.all_trials()
        for trial in trials:
            if trial.continues is not None:
                self._search.adopt_successor(trial.number)
            elif trial.repeats is None:
                self._search.adopt(trial.number, dict(trial.params))
                self._search.count(is_left_out=trial.is_left_out)
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
        if trial.repeats is not None:
            self._budgets.note_report(report.number, None, report.seconds)
            return
        score = self._score(report.metrics)
        # What it decides now doesn't count: the ledger has the decision, perhaps a budget's.
        self._search.report(report.number, report.epoch, score, self._costs(report.metrics))
        lost = trial.state == "failed"
        self._budgets.note_report(report.number, None if lost else score, report.seconds)
        if report.epoch < trial.last_epoch:
            return
        # A report and the end that it led to are in the ledger together, so no state is behind.
        if trial.state == "running":
            self._generations.pause(report.number, report.epoch)
        else:
            self._tell_end(report.number, trial.state)

    @property
    def num_live(self) -> int:
        """Trials that processes work on."""
        return len(self._live)

    @property
    def is_finished(self) -> bool:
        """Whether every trial has ended and none is left to try, or the time is up."""
        if self._live or not self._is_search_over:
            return False
        if self._budgets.is_time_up():
            return True
        waiting = any(number not in self._search for number in self._waiting)
        return not waiting and not self._all_repeats()

    @property
    def _is_search_over(self) -> bool:
        """Whether none of the search's trials runs or will run."""
        if any(number in self._search for number in self._live):
            return False
        if self._budgets.stops_running:
            return True
        return self._tried_all and not any(number in self._search for number in self._waiting)

    @property
    def _tried_all(self) -> bool:
        """Whether no new trial starts any more."""
        return self._search.all_tried or self._budgets.reached is not None

    @property
    def ended_by(self) -> ReachedBudget | None:
        """The budget that ended the search, or ends it as soon as its running trials have."""
        return self._budgets.reached

    @property
    def is_hopeless(self) -> bool:
        """Whether several trials of this run failed and none reported: the study itself is ill."""
        return self._num_failed >= HOPELESS_FAILURES and not self._any_report

    def ask(self) -> NextStep:
        """Return the next trial to take up: an interrupted or failed one, else a new one.

        One that an earlier study ran to its end is taken over here, and the one after it asked for.
        """
        while (step := self._next_step()) is None:
            pass
        return step

    def _next_step(self) -> NextStep | None:
        """Return the next step; None: what was found led to none, so there is another one."""
        if self.is_hopeless:
            return "end"
        self._settle_budgets()
        if self._is_generation_complete:
            self._replace_worst()
        for number in self._waiting:
            if self._may_run(number):
                self._waiting.remove(number)
                return self._assign(number)
        if not self._tried_all:
            point = self._search.next_point(self._next_number)
            # With no point left, what has waited for new trials may go on.
            return None if point is None else self._start(point, self._config.search.seed)
        if self._is_search_over and (repeat := self._next_repeat()) is not None:
            return self._repeat(repeat)
        return "wait" if self._live else "end"

    def _may_run(self, number: int) -> bool:
        """Return whether a trial may go on that no process works on."""
        if number in self._generations.waiting:
            return False
        if number in self._search:
            return not self._budgets.stops_running
        return not self._budgets.is_time_up()

    @property
    def _is_generation_complete(self) -> bool:
        """Whether all members of a population that are alive have come to the rung."""
        if not self._generations.waiting or not self._tried_all:
            return False
        waiting = set(self._generations.waiting)
        return not any(
            number in self._search and number not in waiting
            for number in (*self._live, *self._waiting)
        )

    def _replace_worst(self) -> None:
        """Decide about a complete generation: new trials take the places of its worst members."""
        members = self._generations.waiting
        # With patience at its end nothing new starts.
        successors = self._generations.decide(
            self._next_number, replaces=self._budgets.reached is None
        )
        self._next_number += len(successors)
        for new in successors:
            self._search.adopt_successor(new.number)
            self._waiting.append(new.number)
        replaced = {new.continues.replaces for new in successors}
        self._end_waiting([number for number in members if number in replaced])

    def _end_waiting(self, numbers: Sequence[int]) -> None:
        """Tell the end of members that waited and were stopped, in the order of their reports."""
        for number in numbers:
            self._waiting.remove(number)
            self._tell_end(number, "stopped")
            self._keeper.tidy(number)
            self._tell("stopped", number)

    def _start(self, point: Point, seed: int, *, repeats: int | None = None) -> Assignment | None:
        """Add a trial; return it to be taken up, or None if it was taken over."""
        trial = TrialConfig(**point, epochs=self._config.search.epochs, seed=seed)  # type: ignore[arg-type]
        config_hash, number = self._setup.config_hash(trial), self._next_number
        if repeats is None:
            limit = self._search.over_limit(trial)
            self._search.count(is_left_out=limit is not None)
            if limit is not None:
                self._ledger.add_trial(number, point, trial, config_hash, left_out=limit)
                self._next_number += 1
                self._tell_end(number, "stopped")
                return None
        known = self._find_known(config_hash, is_repeat=repeats is not None, number=number)
        self._ledger.add_trial(
            number,
            point,
            trial,
            config_hash,
            repeats=repeats,
            reused=None if known is None else known.source,
        )
        self._next_number += 1
        if known is None:
            return self._assign(number)
        self._take_over(number, known)
        return None

    def _find_known(self, config_hash: str, *, is_repeat: bool, number: int) -> FetchedTrial | None:
        """Return what an earlier study has of an equal trial, its checkpoint copied already."""
        known = self._known.get((config_hash, is_repeat))
        # A member that waits for others goes on from a training state, which isn't kept.
        if known is None or self._config.search.scheduler == "pbt":
            return None
        return known.fetch(self._config.search.metric, self._checkpoints / trial_name(number))

    def _take_over(self, number: int, known: FetchedTrial) -> None:
        """Note what an earlier study found as this one's, as far as the scheduler lets it go on."""
        self._live.add(number)
        any_report = self._any_report
        for result in known.results(self._config.search.objectives):
            if self.report(number, result) == "stop":
                break
        # It says nothing of whether trials can be run here.
        self._any_report = any_report

    def _next_repeat(self) -> Repeat | None:
        """Return the next trial to train again, once the search is over."""
        if self._budgets.is_time_up():
            return None
        return next(iter(self._all_repeats()), None)

    def _all_repeats(self) -> list[Repeat]:
        """Return what is still to be trained again; read once, when the search is over."""
        if self._repeats_left is None:
            self._repeats_left = missing_repeats(self._ledger.all_trials(), self._config)
        return self._repeats_left

    def _repeat(self, repeat: Repeat) -> Assignment | None:
        if not self._is_confirming:
            self._is_confirming = True
            self._tell_repeats(self._all_repeats())
        self._all_repeats().remove(repeat)
        point = dict(self._ledger.trial(repeat.number).params)
        return self._start(point, repeat.seed, repeats=repeat.number)

    def _tell_repeats(self, repeats: list[Repeat]) -> None:
        numbers = ", ".join(str(number) for number in dict.fromkeys(r.number for r in repeats))
        seeds = len({repeat.seed for repeat in repeats})
        text = f"training again with {seeds} other seed{'s' if seeds > 1 else ''}: trials {numbers}"
        self._on_event(StudyEvent(kind="note", message=text))

    def _assign(self, number: int) -> Assignment | None:
        """Return a trial to be taken up; None if it has failed, for lack of what it began with."""
        trial = self._ledger.trial(number)
        whole, damaged = self._keeper.choose_resumable(trial)
        if whole is None and trial.continues is not None:
            text = f"it {say_continuation(trial)}, and no checkpoint of either is left"
            self._end_failed(number, text, is_ill=False)
            return None
        starts = self._ledger.add_start(number)
        again = "" if starts == 1 else f".{starts}"
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
        seconds = float(result["seconds"])
        metrics = dict(result["metrics"]) | self._known_costs(trial, seconds)
        decision: Decision = "continue"
        if epoch > trial.last_epoch:
            decision = self._note_report(number, epoch, metrics, seconds)
        state: TrialState = "running"
        if bool(result.get("done")) or epoch >= self._config.search.epochs:
            state = "completed"
        elif decision == "stop" or self._would_stop(number):
            decision, state = "stop", "stopped"
        report = ReportRecord(
            number=number, epoch=epoch, metrics=metrics, seconds=seconds, decision=decision
        )
        self._ledger.add_report(report, record, state)
        goes_on = state == "running" and not self._generations.pause(number, epoch)
        self._take_back(number, state, goes_on=goes_on)
        self._settle_budgets()
        self._keeper.tidy(number)
        self._tell("reported", number)
        if state in ("completed", "stopped"):
            self._tell(state, number)
        elif not goes_on:
            self._tell("paused", number)
        return "continue" if goes_on else "stop"

    def _take_back(self, number: int, state: TrialState, *, goes_on: bool) -> None:
        """Note that a process is done with a trial that has ended, or waits for others."""
        if goes_on:
            return
        self._live.discard(number)
        if state == "running":
            self._waiting.append(number)
        else:
            self._tell_end(number, state)

    def _note_report(
        self, number: int, epoch: int, metrics: Mapping[str, float], seconds: float
    ) -> Decision:
        """Count a report, and return what the scheduler decides."""
        if number not in self._search:
            self._budgets.note_report(number, None, seconds)
            return "continue"
        score = self._score(metrics)
        decision = self._search.report(number, epoch, score, self._costs(metrics))
        self._budgets.note_report(number, score, seconds)
        return decision

    def _would_stop(self, number: int) -> bool:
        """Return whether a budget stops a running trial, as of this moment."""
        if number in self._search:
            return self._budgets.would_stop_running()
        return self._budgets.is_time_up()

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
        if epoch < trial.first_epoch:
            return f"reported epoch {epoch}, but it {say_continuation(trial)}"
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

    def _end_failed(self, number: int, error: str, *, is_ill: bool = True) -> None:
        """Note that a trial has failed for good; is_ill: perhaps others of the study would, too."""
        self._ledger.add_failure(number, error, final=True)
        self._live.discard(number)
        # A study whose search has found something is not ill.
        self._num_failed += is_ill and number in self._search
        self._tell_end(number, "failed")
        self._keeper.tidy(number)
        self._tell("failed", number, error)

    def _score(self, metrics: Mapping[str, float]) -> float:
        return self._sign * metrics[self._config.search.metric]

    def _known_costs(self, trial: TrialRecord, seconds: float) -> dict[str, float]:
        """Return what a trial's model costs, and its training up to now, as far as is asked."""
        found = {}
        if (cost := self._shape_costs.get(shape_key(trial.config))) is not None:
            found = {"latency_ms": cost.latency_ms, "size_mb": cost.size_mb}
        if "train_seconds" in self._config.search.objectives and trial.reused is None:
            epochs = len(trial.reports) + 1
            found["train_seconds"] = (trial.seconds + seconds) / epochs * trial.config.epochs
        return found

    def _costs(self, metrics: Mapping[str, float]) -> tuple[float, ...]:
        return tuple(metrics[name] for name in self._config.search.objectives)

    def _tell_end(self, number: int, state: TrialState) -> None:
        if number not in self._search:
            return
        reports = self._ledger.trial(number).reports
        scores = [self._score(report.metrics) for report in reports]
        costs = self._costs(reports[-1].metrics) if reports else ()
        # The best, because that is the epoch whose checkpoint is kept.
        best = max(scores, default=None)
        self._search.end(number, state, best, costs)
        if state != "failed" and best is not None:
            self._budgets.note_end(best)

    def _settle_budgets(self) -> None:
        if reached := self._budgets.settle():
            text = f"the search ends: {reached.reason}"
            self._on_event(StudyEvent(kind="note", message=text))
        if self._budgets.stops_running and (members := self._generations.waiting):
            # Their last report was the one at which running trials stop.
            self._ledger.stop_waiting(members)
            self._generations.release()
            self._end_waiting(members)

    def _tell(
        self,
        kind: Literal["started", "reported", "paused", "completed", "stopped", "retried", "failed"],
        number: int,
        message: str = "",
    ) -> None:
        self._on_event(StudyEvent(kind=kind, trial=self._ledger.trial(number), message=message))
