"""A conductor's trials on Ray Tune, which starts, reuses and stops their processes."""

import contextlib
import dataclasses
import logging
import math
import os
import re
import shutil
import signal
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import ray
from ray import tune
from ray.tune.experiment import Trial
from ray.tune.schedulers import FIFOScheduler, TrialScheduler
from ray.tune.search import Searcher

from cluster.resources import TrialResources
from search.conductor import Conductor
from search.failures import StudyHaltedError, is_disk_full
from search.silence import Silences
from trainables.trial_setup import TrialSetup

LONGEST_ERROR = 4_000
"""Characters of a trial's error that are kept: its end, where the exception stands."""

TUNE_SETTINGS = {
    # Tune's own tables, logs and snapshots would repeat what the ledger holds.
    "RAY_AIR_NEW_OUTPUT": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_GLOBAL_CHECKPOINT_S": "1000000",
    "TUNE_PRINT_ALL_TRIAL_ERRORS": "0",
    "TUNE_WARN_THRESHOLD_S": "60",
    # A trial that waits for its first process is no reason to warn about a small cluster.
    "TUNE_WARN_INSUFFICENT_RESOURCE_THRESHOLD_S": "600",
    # The metric is checked by the conductor, which can say what is wrong.
    "TUNE_DISABLE_STRICT_METRIC_CHECKING": "1",
    # Relative paths in a study mean the folder where it was started, in every process.
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
}

_TERMINAL_COLORS = re.compile(r"\x1b\[[0-9;]*m")


def trial_placement(resources: TrialResources) -> tune.PlacementGroupFactory:
    """Return what Tune reserves for a trial's own process.

    With several workers Ray Train reserves theirs; the process that drives them takes its share
    from the head node's own resource, because with CPUs of its own two drivers could keep each
    other's workers waiting for ever.
    """
    if resources.workers > 1:
        return tune.PlacementGroupFactory([{"node:__internal_head__": 0.001}])
    bundle: dict[str, float] = {"CPU": resources.cpus_per_worker}
    if resources.gpus:
        bundle["GPU"] = resources.gpus
    return tune.PlacementGroupFactory([bundle])


class _ConductedSearch(Searcher):  # type: ignore[misc]
    """Asks the conductor which trial comes next."""

    def __init__(self, conductor: Conductor, setup: TrialSetup) -> None:
        super().__init__()
        self._conductor = conductor
        self._setup = setup
        self.error: Exception | None = None

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        if self.error is not None:
            return str(Searcher.FINISHED)
        step = self._conductor.ask()
        if step == "wait":
            return None
        if step == "end":
            return str(Searcher.FINISHED)
        return {
            "number": step.number,
            "trial": dataclasses.asdict(step.config),
            "setup": self._setup,
            "checkpoints": str(step.checkpoints),
            "resume_from": None if step.resume_from is None else str(step.resume_from),
        }

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        """Do nothing: the scheduler's side told the conductor."""

    def save_to_dir(self, checkpoint_dir: str, session_str: str = "default") -> None:
        """Save nothing: the ledger is what a resume reads."""

    def __getstate__(self) -> dict[str, Any]:
        # Tune writes its searcher into a pickle that nobody reads; a ledger can't be pickled.
        return {}


class _ConductedSchedule(FIFOScheduler):  # type: ignore[misc]
    """Tells the conductor what trials report and how they end."""

    def __init__(
        self, conductor: Conductor, search: _ConductedSearch, watch: "_SilenceWatch"
    ) -> None:
        super().__init__()
        self._conductor = conductor
        self._search = search
        self._watch = watch

    def on_trial_result(self, tune_controller: Any, trial: Trial, result: dict[str, Any]) -> str:  # noqa: ANN401 - Ray's
        with self._kept_errors():
            if self._conductor.report(trial.config["number"], _nested(result)) == "continue":
                return str(TrialScheduler.CONTINUE)
        return str(TrialScheduler.STOP)

    def on_trial_complete(self, tune_controller: Any, trial: Trial, result: dict[str, Any]) -> None:  # noqa: ANN401 - Ray's
        # Tune ends a trial whose result says done without asking for a decision. One that was
        # stopped arrives here too, and the conductor knows that it has ended.
        with self._kept_errors():
            self._conductor.report(trial.config["number"], _nested(result))

    def on_trial_error(self, tune_controller: Any, trial: Trial) -> None:  # noqa: ANN401 - Ray's
        with self._kept_errors():
            error = self._watch.reasons.pop(trial.trial_id, None) or _error_text(trial)
            self._conductor.fail(trial.config["number"], error)

    @contextlib.contextmanager
    def _kept_errors(self) -> Iterator[None]:
        """Keep an error of ours, such as a full disk, that Tune would take for the trial's."""
        if self._search.error is not None:
            # Tune calls on for a trial that it believes has failed; nothing is noted any more.
            raise self._search.error
        try:
            yield
        except Exception as error:
            self._search.error = error
            raise

    def __getstate__(self) -> dict[str, Any]:
        return {}


class _SilenceWatch(tune.Callback):  # type: ignore[misc]
    """Ends the processes of trials that hang; Tune then tells of a trial whose process died."""

    def __init__(self, max_epoch_minutes: float | None) -> None:
        self._minutes = math.inf if max_epoch_minutes is None else max_epoch_minutes
        self._silences = Silences(self._minutes * 60)
        self._trials: dict[str, Trial] = {}
        self.reasons: dict[str, str] = {}
        """Why trials' processes were ended, by Tune's names for the trials."""

    def on_trial_start(
        self, iteration: int, trials: list[Trial], trial: Trial, **info: object
    ) -> None:
        self._trials[trial.trial_id] = trial
        self._silences.heard(trial.trial_id)

    def on_trial_result(
        self,
        iteration: int,
        trials: list[Trial],
        trial: Trial,
        result: object,
        **info: object,
    ) -> None:
        self._silences.heard(trial.trial_id)

    def on_trial_complete(
        self,
        iteration: int,
        trials: list[Trial],
        trial: Trial,
        **info: object,
    ) -> None:
        self._forget(trial)

    def on_trial_error(
        self, iteration: int, trials: list[Trial], trial: Trial, **info: object
    ) -> None:
        self._forget(trial)

    def _forget(self, trial: Trial) -> None:
        self._silences.ended(trial.trial_id)
        self._trials.pop(trial.trial_id, None)

    def on_step_end(self, iteration: int, trials: list[Trial], **info: object) -> None:
        for name in self._silences.overdue():
            process = self._trials[name].temporary_state.ray_actor
            if process is None:
                continue  # It has ended, and Tune is about to say so.
            self.reasons[name] = (
                f"its process was ended: it had not reported for {self._minutes:g} minutes, the "
                "most that search.max_epoch_minutes allows for an epoch"
            )
            ray.kill(process)


def _nested(result: Mapping[str, Any]) -> dict[str, Any]:
    """Undo Tune's flattening of a result: ``metrics/roc_auc`` to ``metrics: {roc_auc: ...}``."""
    nested: dict[str, Any] = {"metrics": {}}
    for key, value in result.items():
        section, slash, name = key.partition("/")
        if not slash:
            nested[key] = value
        elif section in ("metrics", "checkpoint"):
            nested.setdefault(section, {})[name] = value
    return nested


def _error_text(trial: Trial) -> str:
    path = trial.error_file
    if path is None or not Path(path).is_file():
        return "its process died"
    text = _TERMINAL_COLORS.sub("", Path(path).read_text(encoding="utf-8", errors="replace"))
    _heading, _, reason = text.partition("\n")
    return (reason.strip() or text.strip())[-LONGEST_ERROR:]


@contextlib.contextmanager
def _quiet_tune() -> Iterator[None]:
    """Apply Tune's settings, and keep its lines out of the study's."""
    before = {name: os.environ.get(name) for name in TUNE_SETTINGS}
    os.environ.update(TUNE_SETTINGS)
    logger = logging.getLogger("ray.tune")
    level = logger.level
    # Tune logs each failed trial as an error; the conductor tells it once, with its reason.
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(level)
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


@contextlib.contextmanager
def _signals_given_back() -> Iterator[None]:
    """Restore the handlers that Tune leaves behind: its own would swallow the next Ctrl-C."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGUSR1)}
    try:
        yield
    finally:
        if threading.current_thread() is threading.main_thread():
            for number, handler in before.items():
                signal.signal(number, handler)


def run_trials(
    conductor: Conductor,
    setup: TrialSetup,
    trainable: type[tune.Trainable],
    folder: Path,
    *,
    num_concurrent: int,
    max_epoch_minutes: float | None = None,
) -> None:
    """Run a conductor's trials to the end of the search, or until Ctrl-C.

    After Ctrl-C the conductor still has trials to run; its ledger can be resumed. Ray must be
    connected.

    Args:
        conductor: Decides everything.
        setup: What all trials share.
        trainable: Trains one; keeps the contract of :class:`trainables.trial.OneWorkerTrial`.
        folder: Of the study; Tune's own files go into ``tune`` below it.
        num_concurrent: Trials at a time.
        max_epoch_minutes: After which a trial that doesn't report hangs; None: never.

    Raises:
        StudyHaltedError: if the disk is full, or the ledger can't be written.
    """
    # Never restored from: what a former run left there would only grow.
    shutil.rmtree(folder / "tune", ignore_errors=True)
    search = _ConductedSearch(conductor, setup)
    watch = _SilenceWatch(max_epoch_minutes)
    with _quiet_tune(), _signals_given_back():
        tuner = tune.Tuner(
            tune.with_resources(trainable, trial_placement(setup.resources)),
            tune_config=tune.TuneConfig(
                search_alg=search,
                scheduler=_ConductedSchedule(conductor, search, watch),
                num_samples=-1,
                max_concurrent_trials=num_concurrent,
                reuse_actors=True,
                trial_name_creator=_trial_name,
                trial_dirname_creator=_trial_name,
            ),
            run_config=tune.RunConfig(
                name="tune",
                storage_path=str(folder.absolute()),
                failure_config=tune.FailureConfig(max_failures=0),
                checkpoint_config=tune.CheckpointConfig(
                    checkpoint_frequency=0, checkpoint_at_end=False
                ),
                callbacks=[watch],
                verbose=0,
            ),
        )
        try:
            tuner.fit()
        except Exception as error:
            if search.error is None and not is_disk_full(error):
                raise
            search.error = search.error or StudyHaltedError(
                f"the disk is full: Ray Tune can't write ({error}); nothing is lost: free some "
                "room, and go on with --resume"
            )
    if search.error is not None:
        raise search.error


def _trial_name(trial: Trial) -> str:
    return f"trial-{trial.config['number']:04d}-{trial.trial_id}"
