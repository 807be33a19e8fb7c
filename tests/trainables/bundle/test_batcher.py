"""Requests share runs, get their own answers, and don't suffer from each other."""

import asyncio
import threading
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import numpy as np
import pytest

from trainables.bundle.batcher import BatchLimits, MicroBatcher, QueueFullError


class Doubler:
    """Predicts twice the number of a row; refuses text; may be held up."""

    def __init__(self) -> None:
        self.batches: list[int] = []
        self.gate = threading.Event()
        self.gate.set()

    def __call__(self, rows: Sequence[dict[str, Any]]) -> np.ndarray:
        assert self.gate.wait(30)
        for place, row in enumerate(rows):
            if isinstance(row["x"], str):
                raise ValueError(f"row {place}: expected a number")
            if row["x"] < 0:
                raise RuntimeError("broken")
        self.batches.append(len(rows))
        return np.array([2.0 * row["x"] for row in rows])


def play(scene: Callable[[MicroBatcher, Doubler], Awaitable[None]], **limits: float) -> Doubler:
    doubler = Doubler()

    async def run() -> None:
        batcher = MicroBatcher(doubler, BatchLimits(**limits))  # type: ignore[arg-type]
        batcher.start()
        await scene(batcher, doubler)
        await batcher.close()

    asyncio.run(asyncio.wait_for(run(), 60))
    return doubler


def rows(*numbers: object) -> list[dict[str, Any]]:
    return [{"x": number} for number in numbers]


def test_every_request_gets_its_own_rows_answers() -> None:
    async def scene(batcher: MicroBatcher, doubler: Doubler) -> None:
        asked = [rows(*range(n, n + 1 + n % 3)) for n in range(40)]
        found = await asyncio.gather(*(batcher.predict(some) for some in asked))
        for some, values in zip(asked, found, strict=True):
            assert values.tolist() == [2.0 * row["x"] for row in some]

    doubler = play(scene)

    assert sum(doubler.batches) == sum(1 + n % 3 for n in range(40))
    assert len(doubler.batches) < 40


def test_what_comes_during_a_run_is_the_next_batch() -> None:
    async def scene(batcher: MicroBatcher, doubler: Doubler) -> None:
        doubler.gate.clear()
        first = asyncio.create_task(batcher.predict(rows(1)))
        await asyncio.sleep(0.05)
        others = [asyncio.create_task(batcher.predict(rows(n))) for n in range(10)]
        await asyncio.sleep(0.05)
        doubler.gate.set()
        await asyncio.gather(first, *others)

    assert play(scene, max_wait_ms=0).batches == [1, 10]


def test_a_batch_has_no_more_rows_than_allowed_but_for_one_request() -> None:
    async def scene(batcher: MicroBatcher, doubler: Doubler) -> None:
        doubler.gate.clear()
        first = asyncio.create_task(batcher.predict(rows(1)))
        await asyncio.sleep(0.05)
        others = [asyncio.create_task(batcher.predict(rows(1, 2, 3))) for _ in range(3)]
        large = asyncio.create_task(batcher.predict(rows(*range(9))))
        await asyncio.sleep(0.05)
        doubler.gate.set()
        await asyncio.gather(first, *others, large)

    assert play(scene, max_batch_rows=7, max_wait_ms=0).batches == [1, 6, 3, 9]


def test_a_wrong_row_fails_its_own_request_alone() -> None:
    async def scene(batcher: MicroBatcher, doubler: Doubler) -> None:
        found = await asyncio.gather(
            batcher.predict(rows(1)),
            batcher.predict(rows("text")),
            batcher.predict(rows(-1)),
            batcher.predict(rows(3)),
            return_exceptions=True,
        )
        assert isinstance(found[0], np.ndarray)
        assert isinstance(found[3], np.ndarray)
        assert [found[0].tolist(), found[3].tolist()] == [[2.0], [6.0]]
        assert isinstance(found[1], ValueError)
        assert isinstance(found[2], RuntimeError)
        # And it goes on.
        assert (await batcher.predict(rows(5))).tolist() == [10.0]

    play(scene, max_wait_ms=20)


def test_a_full_queue_refuses_and_takes_again_when_it_has_room() -> None:
    async def scene(batcher: MicroBatcher, doubler: Doubler) -> None:
        doubler.gate.clear()
        first = asyncio.create_task(batcher.predict(rows(1)))
        await asyncio.sleep(0.05)
        waiting = asyncio.create_task(batcher.predict(rows(*range(4))))
        await asyncio.sleep(0.01)
        with pytest.raises(QueueFullError):
            await batcher.predict(rows(1, 2))
        one_more = asyncio.create_task(batcher.predict(rows(7)))
        await asyncio.sleep(0.01)
        assert batcher.num_waiting == 5
        doubler.gate.set()
        await asyncio.gather(first, waiting, one_more)
        assert batcher.num_waiting == 0
        assert (await batcher.predict(rows(1, 2))).tolist() == [2.0, 4.0]

    play(scene, max_queue_rows=5, max_wait_ms=0)


def test_closing_answers_what_waits_and_refuses_the_rest() -> None:
    async def scene(batcher: MicroBatcher, doubler: Doubler) -> None:
        doubler.gate.clear()
        waiting = [asyncio.create_task(batcher.predict(rows(n))) for n in range(5)]
        await asyncio.sleep(0.05)
        closing = asyncio.create_task(batcher.close())
        await asyncio.sleep(0.01)
        with pytest.raises(QueueFullError):
            await batcher.predict(rows(1))
        doubler.gate.set()
        await closing
        assert [(await task).tolist() for task in waiting] == [[2.0 * n] for n in range(5)]

    play(scene)


def test_a_client_that_has_gone_costs_nothing() -> None:
    async def scene(batcher: MicroBatcher, doubler: Doubler) -> None:
        doubler.gate.clear()
        first = asyncio.create_task(batcher.predict(rows(1)))
        await asyncio.sleep(0.05)
        gone = asyncio.create_task(batcher.predict(rows(*range(50))))
        await asyncio.sleep(0.01)
        gone.cancel()
        doubler.gate.set()
        await first

    assert play(scene, max_wait_ms=0).batches == [1]


@pytest.mark.parametrize(
    ("limits", "message"),
    [
        ({"max_batch_rows": 0}, "max_batch_rows must be at least 1, got 0"),
        ({"max_queue_rows": 0}, "max_queue_rows must be at least 1"),
        ({"max_wait_ms": -1.0}, "max_wait_ms must be at least 0"),
    ],
)
def test_limits_that_make_no_sense_are_refused(limits: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        BatchLimits(**limits)
