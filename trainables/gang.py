"""A warm Ray Train worker group around it, two workers or more."""

import contextlib
import os
import shutil
import threading
import uuid
from pathlib import Path
from typing import Any

import ray
from ray import tune

from cluster.resources import TrialResources
from trainables.gang_worker import serve_trials
from trainables.mailbox import Command, Event, Mailbox

TRAIN_SETTINGS = {
    # Ray Train looks after its workers every 2 s by default, and notices a dead one no earlier.
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.1",
    # Relative paths mean the same in a worker as in the process that started the study.
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
    "RAY_TRAIN_METRICS_ENABLED": "0",
}

START_ATTEMPTS = 4
"""How often, for a minute each, a group waits for its places on the machines."""

PATIENCE_S = 0.5
"""How long to wait for an event before looking whether the group is still alive."""

DEATH_NOTICE_S = 2.0
"""How long Ray Train may take to notice that a process is dead, once its peers have."""

END_TIMEOUT_S = 20.0
"""How long a group may take to end by itself; then its processes are killed."""


class WorkerFailedError(RuntimeError):
    """A worker of a trial raised an error, or its process died."""


class GangTrial(tune.Trainable):  # type: ignore[misc]
    """Runs trials in the processes of one Ray Train run that stays warm between them.

    The group starts with the first trial and takes trial after trial, as long as Tune reuses this
    actor (``reuse_actors=True``), so that only the first pays for processes, imports and the
    process group. A worker that fails or dies takes the group with it; the next trial gets a new
    one. The configuration is that of :class:`trainables.trial.OneWorkerTrial`.
    """

    fine_tune = "trainables.fine_tune:fine_tune"
    """What the workers iterate, as ``module:function``."""

    def setup(self, config: dict[str, Any]) -> None:
        """Start a group, and in it the trial that the configuration describes."""
        self._group: WorkerGroup | None = None
        self._start(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Drop the trial before, start the next one in the same group."""
        self._start(new_config)
        return True

    def _start(self, config: dict[str, Any]) -> None:
        resources: TrialResources = config["setup"].resources
        if self._group is not None and not self._group.can_run(resources):
            self._group.end()
            self._group = None
        if self._group is None:
            # Beside the checkpoints, because all machines see it; Ray Train checks that they do.
            storage = Path(config["checkpoints"]).parent.parent / "tune" / "groups"
            self._group = WorkerGroup(resources, storage, self.fine_tune)
        self._number: int = config["number"]
        self._group.tell(Command(kind="start", config=config))
        self._first_epoch = True

    def step(self) -> dict[str, Any]:
        """Let the workers train one epoch and write its checkpoint, and report.

        Raises:
            WorkerFailedError: if a worker failed; the text has its traceback.
        """
        if self._group is None:
            raise WorkerFailedError(f"trial {self._number} has failed before; reset it first")
        if not self._first_epoch:
            self._group.tell(Command(kind="continue"))
        self._first_epoch = False
        try:
            return self._group.next_result()
        except WorkerFailedError as error:
            self._group.kill()
            self._group = None
            raise WorkerFailedError(f"trial {self._number}: {error}") from error

    def cleanup(self) -> None:
        """End the group and give its places on the machines back."""
        if self._group is not None:
            self._group.end()
            self._group = None


class WorkerGroup:
    """The processes that train trials together, seen from the process that directs them."""

    def __init__(self, resources: TrialResources, storage: Path, fine_tune: str) -> None:
        self.resources = resources
        self._folder = storage / uuid.uuid4().hex
        self._mailbox = ray.remote(num_cpus=0, lifetime="detached")(Mailbox).remote()
        self._mailbox.watch.remote(ray.get_runtime_context().current_actor)
        self._actors: dict[int, Any] = {}
        self._pids: dict[int, int] = {}
        self._num_trials = 0
        self._error: BaseException | None = None
        os.environ.update(TRAIN_SETTINGS)
        self._run = threading.Thread(target=self._fit, args=(fine_tune,), daemon=True)
        self._run.start()

    def _fit(self, fine_tune: str) -> None:
        from ray.train import FailureConfig, RunConfig, ScalingConfig
        from ray.train.torch import TorchTrainer

        needs: dict[str, float] = {"CPU": self.resources.cpus_per_worker}
        if self.resources.gpus:
            needs["GPU"] = self.resources.gpus
        trainer = TorchTrainer(
            serve_trials,
            train_loop_config={
                "mailbox": self._mailbox,
                "fine_tune": fine_tune,
                "num_threads": self.resources.cpus_per_worker,
                "use_gpu": self.resources.gpus > 0,
            },
            scaling_config=ScalingConfig(
                num_workers=self.resources.workers,
                use_gpu=self.resources.gpus > 0,
                resources_per_worker=needs,
            ),
            run_config=RunConfig(
                name=self._folder.name,
                storage_path=str(self._folder.parent),
                failure_config=FailureConfig(
                    max_failures=0, controller_failure_limit=START_ATTEMPTS
                ),
            ),
        )
        try:
            trainer.fit()
        except Exception as error:  # noqa: BLE001 - next_result, in the other thread, raises it
            self._error = error

    def can_run(self, resources: TrialResources) -> bool:
        """Return whether the group lives and is of the size that a trial needs."""
        return self._run.is_alive() and self.resources == resources

    def tell(self, command: Command) -> None:
        """Give all workers their next command."""
        self._num_trials += command.kind == "start"
        ray.get(self._mailbox.tell.remote(command))

    def next_result(self) -> dict[str, Any]:
        """Wait until the trial that was started last reports.

        Raises:
            WorkerFailedError: if a worker raised or died, or the group didn't start.
        """
        while True:
            event: Event | None = ray.get(self._mailbox.next_event.remote(PATIENCE_S))
            if event is None:
                if not self._run.is_alive():
                    raise WorkerFailedError(f"its worker group ended: {self._error}")
            elif event.kind == "ready":
                self._actors[event.rank] = event.content["actor"]
                self._pids[event.rank] = event.content["pid"]
            elif event.trial != self._num_trials:
                continue  # It belongs to a trial that was dropped.
            elif event.kind == "failed":
                raise WorkerFailedError(self._explain(event))
            else:
                pids = [self._pids[rank] for rank in sorted(self._pids)]
                return {**event.content["result"], "pids": pids}

    def _explain(self, event: Event) -> str:
        """Tell a worker's own error from that of one who lost a peer."""
        self._run.join(DEATH_NOTICE_S)
        if not self._run.is_alive():
            return f"its worker group ended: {self._error}"
        return f"worker {event.rank} failed:\n{event.content['trace']}"

    def end(self) -> None:
        """Let all processes leave; kill those that don't."""
        with contextlib.suppress(ray.exceptions.RayError):
            ray.get(self._mailbox.tell.remote(Command(kind="end")), timeout=END_TIMEOUT_S)
        self._run.join(END_TIMEOUT_S)
        self.kill()

    def kill(self) -> None:
        """Kill all processes; the places that they held are free afterwards."""
        if self._run.is_alive():
            for actor in self._actors.values():
                ray.kill(actor)
            self._run.join(END_TIMEOUT_S)
        ray.kill(self._mailbox)
        shutil.rmtree(self._folder, ignore_errors=True)
