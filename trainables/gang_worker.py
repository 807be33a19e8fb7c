"""Take trial after trial in one process of a worker group."""

import os
import traceback
from collections.abc import Callable, Generator
from importlib import import_module
from pathlib import Path
from typing import Any

import ray

from spaces.trial_config import TrialConfig
from trainables.checkpoint import checkpoint_folder
from trainables.mailbox import Command, Event
from trainables.trial import trial_result
from trainables.trial_setup import Progress, Worker


def serve_trials(config: dict[str, Any]) -> None:
    """Do what the mailbox says until it says ``end``; Ray Train calls this in every worker.

    Args:
        config: ``mailbox`` (the actor), ``fine_tune`` (``module:function``), ``num_threads``,
            ``use_gpu``.
    """
    if not config["use_gpu"]:
        # Ray doesn't hide GPUs from a process that asked for none. Set before torch looks.
        os.environ["CUDA_VISIBLE_DEVICES"] = ""
    import torch
    from ray import train

    # Before anything is computed, and in the thread that computes: OpenMP counts per thread.
    torch.set_num_threads(config["num_threads"])
    context = train.get_context()
    worker = Worker(
        rank=context.get_world_rank(),
        world_size=context.get_world_size(),
        num_threads=config["num_threads"],
    )
    GangWorker(config["mailbox"], worker, load_function(config["fine_tune"])).serve()


def load_function(path: str) -> Callable[..., Any]:
    """Import what ``module:function`` names."""
    module, _, name = path.partition(":")
    function: Callable[..., Any] = getattr(import_module(module), name)
    return function


class GangWorker:
    """One worker's trial, and its place in the sequence of commands."""

    def __init__(
        self,
        mailbox: Any,  # noqa: ANN401 - Ray ships no types
        worker: Worker,
        fine_tune: Callable[..., Generator[Progress, None, None]],
    ) -> None:
        self._mailbox = mailbox
        self._worker = worker
        self._fine_tune = fine_tune
        self._trial = 0
        self._config: dict[str, Any] = {}
        self._progress: Generator[Progress, None, None] | None = None

    def serve(self) -> None:
        """Take commands until the last."""
        self._post(
            "ready",
            actor=ray.get_runtime_context().current_actor,
            pid=os.getpid(),
            places=ray.util.get_current_placement_group(),
        )
        index = 0
        while True:
            command: Command = ray.get(self._mailbox.command.remote(index))
            index += 1
            try:
                self._obey(command)
            except Exception:  # noqa: BLE001 - whatever a trial raises is the trial's result
                # Those who wait in a collective for this worker are ended from outside.
                self._post("failed", trace=traceback.format_exc())
            if command.kind == "end":
                return

    def _obey(self, command: Command) -> None:
        if command.kind == "start":
            # First, so that a failure to drop the trial before is this one's: the director passes
            # over what belongs to an earlier trial, and would wait for this one for ever.
            self._trial += 1
        if command.kind != "continue":
            self._drop()
        if command.kind == "start":
            self._start(dict(command.config))
        if command.kind != "end":
            self._train_epoch()

    def _start(self, config: dict[str, Any]) -> None:
        self._config = config
        resume_from = config["resume_from"]
        self._progress = self._fine_tune(
            TrialConfig(**config["trial"]),
            config["setup"],
            self._worker,
            resume_from=None if resume_from is None else Path(resume_from),
        )

    def _train_epoch(self) -> None:
        assert self._progress is not None, "continue without a trial"
        progress = next(self._progress)
        record = progress.save(checkpoint_folder(Path(self._config["checkpoints"]), progress.epoch))
        if self._worker.rank == 0:
            result = trial_result(self._config["number"], progress, record, [])
            self._post("reported", result=result)

    def _drop(self) -> None:
        if self._progress is not None:
            self._progress.close()
            self._progress = None

    def _post(self, kind: Any, **content: Any) -> None:  # noqa: ANN401 - checked by Event
        event = Event(kind=kind, rank=self._worker.rank, trial=self._trial, content=content)
        ray.get(self._mailbox.post.remote(event))
