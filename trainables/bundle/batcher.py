"""Answer requests that come at the same time with one run of the graph, within a bounded queue."""

import asyncio
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import numpy as np

Row = dict[str, Any]
Predict = Callable[[Sequence[Row]], np.ndarray]
"""Rows to their probabilities, (n,); a ValueError says what is wrong with a row."""


class QueueFullError(Exception):
    """So many rows wait already that another request would wait too long."""


@dataclass(frozen=True, kw_only=True, slots=True)
class BatchLimits:
    """How many rows are predicted together, and how many may wait."""

    max_batch_rows: int = 64
    """Rows of one run, unless a single request has more."""
    max_wait_ms: float = 0.0
    """How long the first request of a batch waits for others while nothing runs. Those that come
    during a run are the next batch anyway, so waiting serves only many small requests at a rate
    that leaves the graph idle in between."""
    max_queue_rows: int = 1_024
    """Rows that may wait; a request that would exceed them is refused."""

    def __post_init__(self) -> None:
        for name in ("max_batch_rows", "max_queue_rows"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        # Written so that a NaN is refused.
        if not self.max_wait_ms >= 0:
            raise ValueError(f"max_wait_ms must be at least 0, got {self.max_wait_ms}")


@dataclass(eq=False, slots=True)
class _Request:
    rows: Sequence[Row]
    answer: "asyncio.Future[np.ndarray]"
    since: float = field(default_factory=time.perf_counter)


class MicroBatcher:
    """Collects rows in an event loop, and predicts them in one thread beside it.

    int8 activations are scaled by batch, so a probability can change in its last digits with the
    rows that it is predicted with; a bundle's manifest says by how much.
    """

    def __init__(
        self,
        predict: Predict,
        limits: BatchLimits,
        *,
        on_batch: Callable[[int, float], None] = lambda rows, seconds: None,
    ) -> None:
        """Prepare; :meth:`start` begins.

        Args:
            predict: Called in a thread of its own, never twice at a time.
            limits: Of batches and the queue.
            on_batch: Told of each run: its rows and the seconds that it took.
        """
        self._predict = predict
        self._limits = limits
        self._on_batch = on_batch
        self._waiting: deque[_Request] = deque()
        self._num_waiting = 0
        self._arrived = asyncio.Event()
        self._closing = False
        self._loop: asyncio.Task[None] | None = None
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="predict")

    @property
    def num_waiting(self) -> int:
        """Rows that wait."""
        return self._num_waiting

    def start(self) -> None:
        """Begin to answer, in the running event loop."""
        self._loop = asyncio.create_task(self._run())

    async def close(self) -> None:
        """Answer what waits, then end."""
        self._closing = True
        self._arrived.set()
        if self._loop is not None:
            await self._loop
        self._thread.shutdown()

    async def predict(self, rows: Sequence[Row]) -> np.ndarray:
        """Return the probabilities of some rows, predicted with those of other requests.

        Raises:
            QueueFullError: if too many rows wait.
            ValueError: if a row can't be read; other requests don't suffer from it.
        """
        # One larger than the queue is answered when nothing waits.
        if self._closing or (
            self._waiting and self._num_waiting + len(rows) > self._limits.max_queue_rows
        ):
            raise QueueFullError
        request = _Request(rows, asyncio.get_running_loop().create_future())
        self._waiting.append(request)
        self._num_waiting += len(rows)
        self._arrived.set()
        return await request.answer

    async def _run(self) -> None:
        while True:
            await self._arrived.wait()
            if not self._waiting:
                if self._closing:
                    return
                self._arrived.clear()
                continue
            await self._fill()
            await self._answer(self._take())

    async def _fill(self) -> None:
        """Give other requests a moment to come."""
        left = self._waiting[0].since + self._limits.max_wait_ms / 1e3 - time.perf_counter()
        while left > 0 and self._num_waiting < self._limits.max_batch_rows and not self._closing:
            self._arrived.clear()
            try:
                await asyncio.wait_for(self._arrived.wait(), left)
            except TimeoutError:
                break
            left = self._waiting[0].since + self._limits.max_wait_ms / 1e3 - time.perf_counter()
        self._arrived.set()

    def _take(self) -> list[_Request]:
        taken = [self._waiting.popleft()]
        count = len(taken[0].rows)
        while self._waiting and count + len(self._waiting[0].rows) <= self._limits.max_batch_rows:
            taken.append(self._waiting.popleft())
            count += len(taken[-1].rows)
        self._num_waiting -= count
        return taken

    async def _answer(self, requests: list[_Request]) -> None:
        loop = asyncio.get_running_loop()
        # A client that has gone needs no answer.
        requests = [request for request in requests if not request.answer.done()]
        if not requests:
            return
        started = time.perf_counter()
        try:
            rows = [row for request in requests for row in request.rows]
            values = await loop.run_in_executor(self._thread, self._predict, rows)
        except Exception as error:  # noqa: BLE001 - whatever it is, other requests wait on
            if len(requests) == 1:
                _fail(requests[0], error)
                return
            # One request's rows are wrong: each is answered by itself.
            for request in requests:
                await self._answer([request])
            return
        self._on_batch(len(rows), time.perf_counter() - started)
        start = 0
        for request in requests:
            stop = start + len(request.rows)
            if not request.answer.done():
                request.answer.set_result(values[start:stop])
            start = stop


def _fail(request: _Request, error: Exception) -> None:
    if not request.answer.done():
        request.answer.set_exception(error)
