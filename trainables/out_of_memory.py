"""Running out of memory, told as the trial's own limit and what would fit."""

import errno
import gc
import re
import resource
import sys
import traceback
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

from cluster.memory import format_gb, free_memory
from spaces.trial_config import TrialConfig
from trainables.encoder import find_encoder
from trainables.memory_bound import EncoderShape, largest_batch

if TYPE_CHECKING:
    from trainables.data.prepared import PreparedData
    from trainables.trial_setup import TrialSetup

MICRO_BATCH_REMEDY = "set deepspeed.micro_batch_rows, which takes a batch in smaller parts"
"""The study's key that keeps the batch size and lowers memory."""

CPU_MESSAGES = (
    "DefaultCPUAllocator: can't allocate memory",
    "DefaultCPUAllocator: not enough memory",
    "could not create a memory object",  # oneDNN
    "std::bad_alloc",
)
"""What torch's RuntimeErrors say when the system gives no more memory."""


class TrialOutOfMemoryError(RuntimeError):
    """A trial needs more memory than there is; it would again, so nobody need try."""

    happened: str = ""
    """What happened, without the study's settings and what to do about them."""
    fitting_rows: int | None = None
    """Rows that a worker could take through the model at once, by estimate; None: not known."""


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an error says that memory, of the CPU's or a GPU's, ran out."""
    if isinstance(error, MemoryError):
        return True
    if isinstance(error, OSError):
        return error.errno == errno.ENOMEM
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(error, torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and any(text in str(error) for text in CPU_MESSAGES)


def suggest_smaller(
    trial: TrialConfig,
    *,
    batch: int | None = None,
    micro_batch_rows: int | None = None,
    fitting_rows: int | None = None,
) -> str:
    """Say what would make a trial fit, the least change first.

    Args:
        trial: The one that doesn't.
        batch: A ``batch_size`` that does, or ``batch_tokens`` where that decides, by measurement or
            estimate; None: not known.
        micro_batch_rows: The study's; then a batch's size hardly matters.
        fitting_rows: What of it would fit; None: not known.
    """
    changes = []
    if micro_batch_rows is None:
        name = trial.batch_name
        if trial.batch > 1:
            changes.append(f"use a smaller {name}" if batch is None else f"use {name} {batch}")
        changes.append(MICRO_BATCH_REMEDY)
    elif micro_batch_rows > 1:
        to = "" if fitting_rows is None else f" to {fitting_rows}"
        changes.append(f"lower deepspeed.micro_batch_rows from {micro_batch_rows}{to}")
    if trial.method == "full":
        changes.append("train adapters (method: lora)")
    if trial.tuned_layers is None:
        changes.append("train the top layers alone (tuned_layers)")
    return ", ".join([*changes, "or run fewer trials at a time"])


class explain_out_of_memory:  # noqa: N801 - a context manager, named as one reads it
    """Turns errors of memory that ran out inside into :class:`TrialOutOfMemoryError`.

    The process stays usable: what the failed step held is released, on a GPU to the driver. A
    class, because contextlib's frames would keep the traceback, and so the step's tensors, alive as
    long as the new error.
    """

    def __init__(self, trial: TrialConfig, setup: "TrialSetup", data: "PreparedData") -> None:
        """Watch a trial.

        Args:
            trial: What is trained.
            setup: Names the encoder, and how many workers share a batch.
            data: Its training rows.
        """
        self._trial = trial
        self._setup = setup
        self._data = data

    def __enter__(self) -> Self:
        """Begin to watch."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Replace an error of memory.

        Raises:
            TrialOutOfMemoryError: for an error of memory.
        """
        if error is None or not is_out_of_memory(error):
            return
        reason, on_gpu = _reason(error), _is_of_gpu(error)
        _forget(error)
        del kind, error, trace
        _release()
        raise self._explain(reason, on_gpu=on_gpu) from None

    def _explain(self, reason: str, *, on_gpu: bool) -> TrialOutOfMemoryError:
        trial, workers = self._trial, self._setup.resources.workers
        micro_batch_rows = self._setup.deepspeed.micro_batch_rows
        longest = int(self._data.rows("train").tokens.lengths.max(initial=1))
        # What a row counts in the setting that decides.
        unit = 1 if trial.batch_tokens is None else longest
        share = -(-max(1, trial.batch // unit) // workers)
        at_once = min(share, micro_batch_rows or share)
        available, where = _available(on_gpu=on_gpu)
        shape = EncoderShape.read(find_encoder(self._setup.encoder))
        fits = largest_batch(shape, trial, available=available, num_tokens=longest)
        # An estimate that doesn't ask for less contradicts what just happened.
        rows = fits if 0 < fits < at_once else None
        advice = suggest_smaller(
            trial,
            batch=None if rows is None else rows * workers * unit,
            micro_batch_rows=micro_batch_rows,
            fitting_rows=rows,
        )
        between = f", {share} rows on each of {workers} workers" if workers > 1 else ""
        parts = f", {at_once} at a time" if at_once < share else ""
        told = f"{reason}, of {format_gb(available)} of {where} that there are for it"
        error = TrialOutOfMemoryError(
            f"out of memory with {trial.batch_name} {trial.batch}{between}{parts}, rows of up to "
            f"{longest} tokens: {told}; {advice}"
        )
        error.happened = f"out of memory with {at_once} rows of up to {longest} tokens: {told}"
        error.fitting_rows = rows
        return error


_ASKED = re.compile(r"(?i)tried to allocate ([\d.]+) (bytes|KiB|MiB|GiB)")
_UNITS = {"bytes": 1, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30}


def _reason(error: BaseException) -> str:
    """Say in a few words what an error of memory says."""
    if asked := _ASKED.search(str(error)):
        return f"{format_gb(float(asked[1]) * _UNITS[asked[2]])} more could not be had"
    return type(error).__name__


def _forget(error: BaseException) -> None:
    """Let go of what an error's frames hold: the tensors of the step that failed."""
    found: BaseException | None = error
    while found is not None:
        following = found.__cause__ or found.__context__
        traceback.clear_frames(found.__traceback__)
        found.__traceback__ = found.__cause__ = found.__context__ = None
        found = following


def _release() -> None:
    gc.collect()
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        torch.cuda.empty_cache()


def _is_of_gpu(error: BaseException) -> bool:
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_initialized():
        return False
    return isinstance(error, torch.OutOfMemoryError)


def _available(*, on_gpu: bool) -> tuple[float, str]:
    """Return how many bytes there are for a trial once its tensors are gone, and where."""
    if on_gpu:
        return float(sys.modules["torch"].cuda.mem_get_info()[0]), "GPU memory"
    free = free_memory()
    limit = resource.getrlimit(resource.RLIMIT_AS)[0]
    if limit != resource.RLIM_INFINITY:
        pages = int(Path("/proc/self/statm").read_text(encoding="utf-8").split()[0])
        free = min(free, limit - pages * resource.getpagesize())
    return max(0.0, free), "memory"
