"""How much memory and time trials take, measured on a few steps of the real training loop."""

import dataclasses
import json
import math
import os
import signal
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from pydantic import TypeAdapter

from spaces.trial_config import TrialConfig
from trainables.data.batching import like_length_batches
from trainables.data.prepared import prepare
from trainables.data.token_rows import tokenize
from trainables.encoder import encoder_fingerprint, find_encoder, load_tokenizer
from trainables.footprint_process import Order, Outcome
from trainables.memory_bound import GPU_PROCESS_BYTES, EncoderShape, most_rows
from trainables.trial_setup import evaluation_tokens

if TYPE_CHECKING:
    from trainables.data.table import ClickTable
    from trainables.trial_setup import TrialSetup

LENGTH_SAMPLE = 6_000
"""Training rows whose lengths are looked at: some thousand batches of a small batch size, and about
one pool of sorted ones of a large one."""

FEWEST_STEPS, MOST_STEPS, TIMED_ROWS = 3, 8, 2_000
"""Steps of typical rows: as many as these rows make, within limits. The first is slower and doesn't
count; the process that measures ends earlier where steps are long."""

LONGEST_STEPS = 2
"""Steps of the longest rows: from the second on, the optimizer's state is there too."""

PROCESS_MARGIN = 0.25e9
"""What a trial's process holds beside a measured one's: Ray, 0.05 GB, and allocator's scraps."""

MEASURING_TIMEOUT_S = 600.0
"""How long measuring all trials of a study may take; a dozen kinds take a minute or two."""

MEASURED_MARGIN = 1.1
"""What a prediction adds to a measurement: other rows, and peaks between two looks."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Footprint:
    """What one trial takes on one of its workers."""

    trial: TrialConfig
    """The trial."""
    num_rows: int
    """Training rows."""
    rows_per_step: int
    """Training rows of a typical step, on all workers together: ``batch_size``, or what a budget of
    tokens comes to."""
    step_seconds: float
    """Of a step of typical rows."""
    evaluate_seconds: float
    """Of an evaluation of all validation rows, beside which the checkpoint is written."""
    start_seconds: float
    """Until the first step, in a process that is warm."""
    memory_bytes: float
    """Most private memory of the process, in a step of the longest rows, with its margins."""
    gpu_bytes: float
    """Most memory on the GPU, with its margins."""

    @property
    def num_steps(self) -> int:
        """Optimizer steps of an epoch."""
        return math.ceil(self.num_rows / self.rows_per_step)

    @property
    def samples_per_second(self) -> float:
        """Training rows a second."""
        return self.num_rows / (self.num_steps * self.step_seconds)

    def seconds(self, epochs: float) -> float:
        """Return how long a trial of some epochs takes."""
        epoch = self.num_steps * self.step_seconds + self.evaluate_seconds
        return self.start_seconds + epochs * epoch


class MeasuringFailedError(RuntimeError):
    """The process that measures ended with an error that isn't memory's, or not in time."""


class MeasuredTooLargeError(ValueError):
    """A trial ran out of memory while it was measured."""

    def __init__(
        self, trial: TrialConfig, reason: str, *, batch: int | None, rows: int | None
    ) -> None:
        """Say what happened.

        Args:
            trial: The trial.
            reason: What happened.
            batch: A size of its batch that fits, by measurement or estimate; None: not known.
            rows: Rows that fit at once, by estimate; None: not known.
        """
        self.trial = trial
        self.batch = batch
        self.rows = rows
        super().__init__(reason)


@dataclass(frozen=True, kw_only=True, slots=True)
class _Lengths:
    """Token lengths of a study's rows, as far as they are known."""

    rows: np.ndarray
    """int64 (s,): training rows that were looked at: a sample, then the longest texts."""
    tokens: np.ndarray
    """int64 (s,): their lengths."""
    num_sampled: int
    """How many of them are the sample."""

    def typical(
        self, batch_size: int | None, rng: np.random.Generator, *, batch_tokens: int | None = None
    ) -> int:
        """Return how long a batch's rows are, padding included, on average over an epoch."""
        lengths = self.tokens[: self.num_sampled]
        batches = like_length_batches(lengths, batch_size, rng, batch_tokens=batch_tokens)
        padded = sum(len(batch) * int(lengths[batch].max()) for batch in batches)
        return round(padded / len(lengths))

    def nearest(self, length: int, num_rows: int) -> np.ndarray:
        """Return the rows whose length is nearest to one; some repeat where there are too few."""
        order = np.argsort(np.abs(self.tokens - length), kind="stable")
        return self.rows[np.resize(order[:num_rows], num_rows)]


def measure_footprints(
    table: "ClickTable",
    setup: "TrialSetup",
    trials: Sequence[TrialConfig],
    *,
    use_gpu: bool,
) -> list[Footprint]:
    """Measure what trials take on this machine: some steps each, in a process of its own.

    The data is a few rows of the table: for the time, those of the length to which an epoch's
    batches are padded on average; for the memory, the longest. A trial of several workers is
    measured as one of them with its share of the batch, without what they exchange.

    Args:
        table: The study's.
        setup: The study's; its data folder isn't used.
        trials: What to measure, small ones first.
        use_gpu: Whether trials run on this machine's GPU.

    Returns:
        One footprint for each trial.

    Raises:
        MeasuredTooLargeError: at the first trial for which memory doesn't suffice.
        MeasuringFailedError: if the process failed otherwise, or took too long.
    """
    with tempfile.TemporaryDirectory(prefix="clicktune-room-") as folder:
        surveyor = _Surveyor(table, setup, Path(folder), use_gpu=use_gpu)
        evaluated = {_kind(trial): trial for trial in reversed(trials)}
        orders = [
            order
            for trial in trials
            for order in surveyor.orders(trial, evaluates=evaluated[_kind(trial)] is trial)
        ]
        outcomes, end = _run(orders, Path(folder), use_gpu=use_gpu)
        footprints: list[Footprint] = []
        for trial in trials:
            done, outcomes = outcomes[:2], outcomes[2:]
            failed = [outcome for outcome in done if outcome.out_of_memory]
            if failed or len(done) < 2:
                raise surveyor.too_large(trial, failed[0] if failed else None, end, footprints)
            same = [found for found in footprints if _kind(found.trial) == _kind(trial)]
            footprints.append(surveyor.footprint(trial, *done, evaluated=same[0] if same else None))
    return footprints


def _kind(trial: TrialConfig) -> TrialConfig:
    """Return what a trial's evaluation costs depend on: all but its batch size."""
    return trial.with_batch(1)


class _Surveyor:
    """Plans what to run of a study's trials, and reads what came out."""

    def __init__(
        self, table: "ClickTable", setup: "TrialSetup", folder: Path, *, use_gpu: bool
    ) -> None:
        self._evaluation_tokens = evaluation_tokens("cuda" if use_gpu else "cpu")
        self._table = table
        self._folder = folder
        self._encoder = find_encoder(setup.encoder)
        self._workers = setup.resources.workers
        self._setup = dataclasses.replace(
            setup,
            resources=dataclasses.replace(setup.resources, workers=1),
            encoder_fingerprint=encoder_fingerprint(self._encoder),
        )
        self._train = np.flatnonzero(table.split == 0)
        self._validation = np.flatnonzero(table.split == 1)
        clicks, impressions = table.clicks[self._train], table.impressions[self._train]
        self._base_rate = float(clicks.sum(dtype=float) / impressions.sum(dtype=float))
        self._rng = np.random.default_rng(0)
        self._lengths = self._measure_lengths()

    def _measure_lengths(self) -> _Lengths:
        size = min(len(self._train), LENGTH_SAMPLE)
        sample = self._rng.choice(self._train, size, replace=False)
        characters = sum(column.take(self._train).num_characters() for column in self._table.texts)
        longest = self._train[np.argsort(characters)[-LENGTH_SAMPLE // 4 :]]
        rows = np.concatenate([sample, longest])
        texts = [column.texts(rows) for column in self._table.texts]
        tokenizer = load_tokenizer(self._encoder, max_tokens=self._setup.encoder.max_tokens)
        return _Lengths(
            rows=rows,
            tokens=tokenize(texts, tokenizer, self._table.layout).lengths,
            num_sampled=size,
        )

    def orders(self, trial: TrialConfig, *, evaluates: bool) -> tuple[Order, Order]:
        """Return what to run for a trial: typical rows for the time, the longest for memory."""
        typical, longest = self._typical_length(trial), self._longest
        share = self._share(self.rows_per_step(trial))
        steps = min(MOST_STEPS, max(FEWEST_STEPS, TIMED_ROWS // share))
        # Rounded up for a budget of tokens: somewhat shorter rows may fill it better.
        most = self._share(most_rows(trial, num_tokens=longest))
        return (
            self._order(trial, share, typical, steps, evaluates=False),
            self._order(trial, most, longest, LONGEST_STEPS, evaluates=evaluates),
        )

    def _evaluated_rows(self, length: int) -> int:
        """Return how many rows of a length make one batch of an evaluation."""
        return max(1, self._evaluation_tokens // length)

    @property
    def _longest(self) -> int:
        return int(self._lengths.tokens.max())

    def _share(self, rows: int) -> int:
        """Return how many of a batch's rows one worker has."""
        return -(-min(rows, len(self._train)) // self._workers)

    def _typical_length(self, trial: TrialConfig) -> int:
        # Always the same draws, so that a trial's length is the same whenever it is asked for.
        rng = np.random.default_rng(0)
        if trial.batch_tokens is None:
            return self._lengths.typical(self._share(trial.batch_size), rng)
        return self._lengths.typical(None, rng, batch_tokens=trial.batch_tokens)

    def rows_per_step(self, trial: TrialConfig) -> int:
        """Return how many rows a step of typical rows has on all workers together."""
        if trial.batch_tokens is None:
            return trial.batch_size
        return max(1, trial.batch_tokens // self._typical_length(trial))

    def too_large(
        self,
        trial: TrialConfig,
        failed: Outcome | None,
        end: str,
        measured: Sequence[Footprint],
    ) -> MeasuredTooLargeError:
        """Explain a trial for which memory didn't suffice.

        Args:
            trial: The trial.
            failed: What it told; None: it was killed.
            end: How the process ended.
            measured: What fitted.
        """
        same = [found.trial.batch for found in measured if _kind(found.trial) == _kind(trial)]
        rows = None if failed is None else failed.fitting_rows
        if rows is not None:
            unit = 1 if trial.batch_tokens is None else self._longest
            same.append(min(rows * self._workers * unit, trial.batch - 1))
        reason = end if failed is None else str(failed.out_of_memory)
        return MeasuredTooLargeError(trial, reason, batch=max(same, default=None), rows=rows)

    def _order(
        self, trial: TrialConfig, rows: int, length: int, steps: int, *, evaluates: bool
    ) -> Order:
        # In rows even where tokens decide: each step is then as large as the one that is meant.
        trial = dataclasses.replace(trial, batch_size=rows, batch_tokens=None, epochs=1)
        train = self._lengths.nearest(length, steps * trial.batch_size)
        num_evaluated = self._evaluated_rows(length) if evaluates else 1
        evaluated = self._lengths.nearest(length, num_evaluated)
        chosen_rows = np.concatenate([train, evaluated])
        split = np.repeat(np.array([0, 1], dtype=np.int8), [len(train), len(evaluated)])
        chosen = dataclasses.replace(
            self._table.take(
                chosen_rows,
                f"{self._table.fingerprint}-{length}-{len(train)}-{len(evaluated)}",
            ),
            # So few rows may hold no click at all, from which no trial can start.
            clicks=(self._table.impressions[chosen_rows] * self._base_rate).astype(np.float32),
            split=split,
        )
        data = prepare(chosen, self._setup.encoder, self._folder / "data")
        return Order(
            trial=trial,
            setup=dataclasses.replace(
                self._setup, data_folder=str(data.folder), data_fingerprint=data.fingerprint
            ),
            num_threads=self._setup.resources.cpus_per_worker,
            num_steps=steps,
            evaluates=evaluates,
        )

    def footprint(
        self, trial: TrialConfig, timed: Outcome, longest: Outcome, *, evaluated: Footprint | None
    ) -> Footprint:
        """Turn what was measured on a few rows into what a trial takes on all.

        Args:
            trial: The trial.
            timed: Of typical rows.
            longest: Of the longest rows.
            evaluated: A trial of another batch size whose evaluation was measured; None: this one's
                was.
        """
        step = statistics.median(timed.step_seconds)
        memory = max(timed.memory_bytes, longest.memory_bytes) * MEASURED_MARGIN + PROCESS_MARGIN
        if self._workers > 1:
            # One alone shares the encoder's file; DeepSpeed writes into the weights of several, so
            # that each has a copy of its own.
            memory += 4 * EncoderShape.read(self._encoder).weights
        gpu = max(timed.gpu_bytes, longest.gpu_bytes)
        gpu = gpu * MEASURED_MARGIN + GPU_PROCESS_BYTES if gpu else 0.0
        footprint = Footprint(
            trial=trial,
            num_rows=len(self._train),
            rows_per_step=self.rows_per_step(trial),
            step_seconds=step,
            evaluate_seconds=self._evaluation(longest.evaluate_seconds),
            start_seconds=max(0.0, timed.start_seconds - step),
            memory_bytes=memory,
            gpu_bytes=gpu,
        )
        if evaluated is None:
            return footprint
        return dataclasses.replace(
            footprint,
            evaluate_seconds=evaluated.evaluate_seconds,
            memory_bytes=max(memory, evaluated.memory_bytes),
            gpu_bytes=max(gpu, evaluated.gpu_bytes),
        )

    def _evaluation(self, seconds: float) -> float:
        """Scale the time of the longest rows' evaluation to that of all validation rows."""
        # It sorts all rows, so that few of their tokens are padding.
        mean = float(self._lengths.tokens[: self._lengths.num_sampled].mean())
        per_token = seconds / (self._evaluated_rows(self._longest) * self._longest)
        return per_token * mean * len(self._validation) / self._workers


def _run(orders: Sequence[Order], folder: Path, *, use_gpu: bool) -> tuple[list[Outcome], str]:
    """Carry out orders in a new process; return what it noted, and how it ended if too early."""
    orders_file, results_file = folder / "orders.json", folder / "results.jsonl"
    orders_file.write_text(
        json.dumps([dataclasses.asdict(order) for order in orders]), encoding="utf-8"
    )
    results_file.touch()
    threads = str(orders[0].num_threads)
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
        # As Ray sets them for a worker.
        "OMP_NUM_THREADS": threads,
        "MKL_NUM_THREADS": threads,
    }
    if not use_gpu:
        # Ray doesn't hide GPUs from a trial that asked for none; the trial does.
        environment["CUDA_VISIBLE_DEVICES"] = ""
    try:
        # It kills the process that doesn't end in time.
        ended = subprocess.run(
            [sys.executable, "-m", "trainables.footprint_process", orders_file, results_file],
            env=environment,
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
            timeout=MEASURING_TIMEOUT_S,
        )
    except subprocess.TimeoutExpired as error:
        raise MeasuringFailedError(
            f"measuring the trials took longer than {MEASURING_TIMEOUT_S:g} s and was ended, with "
            f"{len(_read(results_file))} of {len(orders)} runs done; try again when this machine "
            "is less busy, or let the space vary fewer methods and tuned_layers"
        ) from error
    outcomes = _read(results_file)
    if ended.returncode == -signal.SIGKILL:
        return outcomes, "its process was killed, most likely because memory ran out"
    if ended.returncode:
        raise MeasuringFailedError(
            f"measuring the trials failed with exit code {ended.returncode}:\n"
            f"{ended.stderr.strip()[-4000:]}"
        )
    return outcomes, ""


def _read(results_file: Path) -> list[Outcome]:
    lines = results_file.read_text(encoding="utf-8").splitlines()
    return [TypeAdapter(Outcome).validate_json(line) for line in lines]
