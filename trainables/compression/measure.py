"""How long exported graphs take for one row, comparable also where they weren't timed together."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from trainables.bundle.latency import ROUNDS, time_rows
from trainables.bundle.predictor import open_graph
from trainables.data.row_inputs import RowInputs

NUM_ROWS = 24


def spread_over_lengths(lengths: np.ndarray, count: int) -> np.ndarray:
    """Choose rows evenly from the shortest to the longest, at most ``count``."""
    order = np.argsort(lengths, kind="stable")
    places = np.unique(np.linspace(0, len(order) - 1, min(count, len(order))).round().astype(int))
    chosen: np.ndarray = order[places]
    return chosen


class LatencyTimer:
    """Times graphs on one thread, a few at a time: all of a search's at once would fill memory.

    What was timed first takes part in each later turn, and the others are told in its time: so what
    the machine did in between makes no graph look slower than another.
    """

    def __init__(self, inputs: RowInputs) -> None:
        """Choose rows over all the lengths of their texts."""
        self._inputs = inputs
        self._rows = spread_over_lengths(inputs.tokens.lengths, NUM_ROWS).tolist()
        self._reference: tuple[Path, float] | None = None

    @property
    def reference(self) -> Path | None:
        """The graph that takes part in each turn, and so must stay; None before the first."""
        return None if self._reference is None else self._reference[0]

    def measure(self, graphs: Sequence[Path], *, rounds: int = ROUNDS) -> list[float]:
        """Return the median of each graph for one row, in milliseconds.

        Args:
            graphs: Take turns.
            rounds: How often each gets each row.
        """
        if not graphs:
            return []
        if self._reference is None:
            times = self._time(graphs, rounds)
            # The last one: of a model's graphs it is the smallest.
            self._reference = (graphs[-1], times[-1])
            return times
        path, then = self._reference
        now, *times = self._time([path, *graphs], rounds)
        return [each * then / now for each in times]

    def _time(self, graphs: Sequence[Path], rounds: int) -> list[float]:
        sessions = [open_graph(path, num_threads=1) for path in graphs]
        return time_rows(sessions, self._inputs, self._rows, rounds=rounds)
