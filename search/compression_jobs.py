"""One winner's compression as a job, here or as a Ray task."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue
from typing import Any

from trainables.compression.config import CompressionConfig
from trainables.compression.report import CompressionReport


@dataclass(frozen=True, kw_only=True, slots=True)
class CompressionJob:
    """One compression, as a worker is told; see ``trainables/compression/pipeline.py``."""

    number: int
    """The trial."""
    checkpoint: str
    """Its best checkpoint's folder, absolute."""
    data_folder: str
    """The study's prepared data, absolute: the folder may have been moved since the training."""
    config: CompressionConfig
    """The limits, and what to try."""
    output: str
    """The bundle's folder, absolute."""
    text_columns: tuple[str, ...]
    """Names of the table's text columns."""
    metric: str
    """What the study optimized."""
    lineage: Mapping[str, Any]
    """Where the checkpoint comes from."""
    num_threads: int
    """CPU threads, and so CPUs of the task."""

    def run(self, tell: Callable[[str], None] = lambda _line: None) -> CompressionReport:
        """Compress, in this process, and tell of each model that was tried."""
        from trainables.compression.pipeline import compress

        return compress(
            Path(self.checkpoint),
            self.config,
            Path(self.output),
            text_columns=self.text_columns,
            metric=self.metric,
            lineage=self.lineage,
            num_threads=self.num_threads,
            data_folder=Path(self.data_folder),
            tell=lambda line: tell(f"trial {self.number}, {line}"),
        )


Outcome = tuple[CompressionJob, CompressionReport | Exception]
"""A job, and what it gave or why it failed."""


def run_here(jobs: Sequence[CompressionJob], tell: Callable[[str], None]) -> Iterator[Outcome]:
    """Run jobs one after the other in this process, and tell of each model that was tried."""
    for job in jobs:
        try:
            yield job, job.run(tell)
        except Exception as error:  # noqa: BLE001 - the other winners may still give a bundle
            yield job, error


def run_on_ray(jobs: Sequence[CompressionJob], tell: Callable[[str], None]) -> Iterator[Outcome]:
    """Run jobs side by side, each with a trial worker's share of the CPUs, as they finish."""
    import ray

    # A killed worker process is worth one more try; an exception would only come again.
    remote = ray.remote(_stream)
    running = {
        remote.options(num_cpus=job.num_threads, max_retries=1).remote(job): job for job in jobs
    }
    try:
        while running:
            (ready, *_), _ = ray.wait(list(running), num_returns=1)
            job = running[ready]
            try:
                said = ray.get(next(ready))
            except StopIteration:
                said = RuntimeError("its process was lost twice")
            except Exception as error:  # noqa: BLE001 - as in run_here
                said = error
            if isinstance(said, str):
                tell(said)
                continue
            del running[ready]
            yield job, said
    finally:
        for stream in running:
            ray.cancel(stream, force=True)


def _stream(job: CompressionJob) -> Iterator[str | CompressionReport]:
    """Yield what a job tells, line by line, and at the end its report."""
    lines: SimpleQueue[str | None] = SimpleQueue()
    yield f"trial {job.number}: its compression begins"
    with ThreadPoolExecutor(1) as thread:
        done = thread.submit(job.run, lines.put)
        done.add_done_callback(lambda _: lines.put(None))
        while (line := lines.get()) is not None:
            yield line
        yield done.result()


def reason_of(error: Exception) -> str:
    """Return a failed job's error in one text."""
    # A Ray task's error wraps the original one, whose text is all that a person needs.
    cause = getattr(error, "cause", None) or error
    return f"{type(cause).__name__}: {cause}"
