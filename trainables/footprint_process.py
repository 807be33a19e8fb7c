"""Train a few steps of several trials in this process, and note their memory and time.

``python -m trainables.footprint_process ORDERS RESULTS`` reads a JSON list of orders and writes a
line of JSON for each, as soon as it is done: a process that is killed leaves what it had measured.
"""

import contextlib
import dataclasses
import gc
import itertools
import json
import sys
import tempfile
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from spaces.trial_config import TrialConfig
from trainables.out_of_memory import TrialOutOfMemoryError
from trainables.trial_setup import Progress, TrialSetup, Worker

SAMPLING_S = 0.003
"""How often the process's memory is looked at; a step's largest tensors live ten times longer."""

ENOUGH_S = 3.0
"""Time of timed steps after which more would tell little."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Order:
    """A trial to start, and how far to go."""

    trial: TrialConfig
    """What to train."""
    setup: TrialSetup
    """Data and engine."""
    num_threads: int
    """CPU threads."""
    num_steps: int
    """Steps to take at most; they are the whole first epoch where ``evaluates``."""
    evaluates: bool
    """Whether to go on to the evaluation and write a checkpoint."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Outcome:
    """What a trial took."""

    step_seconds: tuple[float, ...] = ()
    """Of each step but the first."""
    start_seconds: float = 0.0
    """From the call to the end of the first step."""
    evaluate_seconds: float = 0.0
    """Of one evaluation."""
    memory_bytes: float = 0.0
    """Most private memory of this process; mapped files, which processes share, don't count."""
    gpu_bytes: float = 0.0
    """Most memory that torch reserved on the GPU."""
    out_of_memory: str | None = None
    """Why it ended early, if it did."""
    fitting_rows: int | None = None
    """How many rows at once would then have fitted, by estimate; None: not known."""


class _EnoughError(Exception):
    """Ends a trial that has told enough."""


@dataclass(slots=True)
class _Watch:
    """Notes when each step of a trial ended."""

    order: Order
    ends: list[float] = field(default_factory=list)

    def on_step(self, done: int, _total: int) -> None:
        """Note the end of a step, and end the trial where it has told enough."""
        self.ends.append(time.perf_counter())
        enough = self.ends[-1] - self.ends[0] > ENOUGH_S or done >= self.order.num_steps
        if enough and not self.order.evaluates:
            raise _EnoughError


class _MemorySampler:
    """Looks at this process's private memory from a thread of its own."""

    def __init__(self) -> None:
        self.peak = 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._sample, daemon=True)

    def __enter__(self) -> "_MemorySampler":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _sample(self) -> None:
        with Path("/proc/self/status").open("rb") as status:
            while True:
                status.seek(0)
                text = status.read()
                at = text.index(b"RssAnon:") + len(b"RssAnon:")
                self.peak = max(self.peak, int(text[at : text.index(b"kB", at)]) * 1024)
                if self._stop.wait(SAMPLING_S):
                    return


def carry_out(order: Order) -> Outcome:
    """Run a trial as far as its order says, through the real loop."""
    import torch

    uses_gpu = torch.cuda.is_available()
    if uses_gpu:
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    watch = _Watch(order)
    progress: Progress | None = None
    reason: str | None = None
    fitting_rows: int | None = None
    started = time.perf_counter()
    with _MemorySampler() as sampler:
        try:
            if order.trial.tuned_layers is not None:
                # What the frozen layers give for these rows is then there, as it is for all trials
                # of a study but one.
                _run(_one_step(order))
            started = time.perf_counter()
            progress = _run(order, watch)
        except TrialOutOfMemoryError as error:
            reason, fitting_rows = error.happened, error.fitting_rows
    ends = watch.ends
    return Outcome(
        step_seconds=tuple(end - begin for begin, end in itertools.pairwise(ends)),
        start_seconds=ends[0] - started if ends else 0.0,
        evaluate_seconds=0.0 if progress is None else progress.evaluate_seconds,
        memory_bytes=sampler.peak,
        gpu_bytes=torch.cuda.max_memory_reserved() if uses_gpu else 0,
        out_of_memory=reason,
        fitting_rows=fitting_rows,
    )


def _run(order: Order, watch: _Watch | None = None) -> Progress | None:
    """Train; return what the trial reports, if it gets that far."""
    from trainables.fine_tune import fine_tune

    watch = _Watch(order) if watch is None else watch
    with tempfile.TemporaryDirectory(prefix="clicktune-") as checkpoints:
        running = fine_tune(
            order.trial,
            order.setup,
            Worker(num_threads=order.num_threads),
            checkpoints=Path(checkpoints) if order.evaluates else None,
            on_step=watch.on_step,
        )
        with contextlib.closing(running), contextlib.suppress(_EnoughError):
            return next(running)
    return None


def _one_step(order: Order) -> Order:
    return dataclasses.replace(order, num_steps=1, evaluates=False)


def main(orders_file: str, results_file: str) -> None:
    """Carry out all orders; end after the first that ran out of memory."""
    # If the system must kill a process, it shall be this one and not the user's.
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000", encoding="utf-8")
    raw: list[Any] = json.loads(Path(orders_file).read_text(encoding="utf-8"))
    orders = TypeAdapter(list[Order]).validate_python(raw)
    with Path(results_file).open("a", encoding="utf-8") as results:
        # The first trial of a process loads libraries and the encoder. It may run out of memory,
        # which is for its own turn to tell.
        with contextlib.suppress(TrialOutOfMemoryError):
            _run(_one_step(orders[0]))
        for order in orders:
            gc.collect()
            outcome = carry_out(order)
            results.write(json.dumps(dataclasses.asdict(outcome)) + "\n")
            results.flush()
            if outcome.out_of_memory is not None:
                return


if __name__ == "__main__":
    main(*sys.argv[1:])
