"""Give each row its best option while no option takes more rows than it may.

This is a transportation problem of many rows and few options. All rows start at their best option;
then, one row at a time, options that hold too many rows pass one on to those with room, along the
path of moves that loses least (successive shortest paths: Ahuja, Magnanti and Orlin 1993, "Network
flows", section 9.7). Rows of one option are alike to a path but for what each move of one of them
loses, so the graph has a node an option, not a row, and the result is optimal at every step. A row
that has to give way takes 0.1 to 0.2 ms.
"""

import heapq
import itertools
from collections.abc import Iterable

import numpy as np

BARRED = -(1 << 50)
"""Score of an option that a row may not take."""
LARGEST_SCORE = 1 << 40
"""Scores lie between this and its negative: sums over a path stay far from BARRED."""
UNREACHABLE = 1 << 60
_REFUSED_LOSS = 1 << 49


def assign_within(scores: np.ndarray, limits: np.ndarray) -> np.ndarray:
    """Choose an option for each row, so that the sum of scores is largest within the limits.

    Args:
        scores: int64 (n, k), within plus and minus LARGEST_SCORE, or BARRED. Whole numbers, so that
            sums are exact.
        limits: int64 (k,), rows that each option may take.

    Returns:
        int64 (n,), each row's option.

    Raises:
        ValueError: if no choice keeps within the limits.
    """
    chosen: np.ndarray = scores.argmax(axis=1)
    counts = np.bincount(chosen, minlength=len(limits))
    moves = _Moves(scores, chosen)
    while (counts > limits).any():
        path = _cheapest_path(moves.losses, counts > limits, counts < limits)
        if path is None:
            full = np.flatnonzero(counts > limits)
            raise ValueError(
                f"the limits {limits.tolist()} can't hold {len(chosen):,} rows: "
                f"{int((counts - limits)[full].sum()):,} rows of option {full.tolist()} have no "
                "other allowed option with room; raise capacity or allow more"
            )
        moves.follow(path)
        counts[path[0]] -= 1
        counts[path[-1]] += 1
    return chosen


class _Moves:
    """For each pair of options, which row is the cheapest to move from one to the other."""

    def __init__(self, scores: np.ndarray, chosen: np.ndarray) -> None:
        self._scores = scores
        self._chosen = chosen
        num_options = scores.shape[1]
        # A row's losses never change, so those that start in an option are sorted once; those that
        # come to it later wait in heaps. Rows that have left are skipped when they come up.
        self._sorted: list[np.ndarray] = []
        for option in range(num_options):
            rows = np.flatnonzero(chosen == option)
            losses = scores[rows, option][:, None] - scores[rows]
            self._sorted.append(rows[np.argsort(losses, axis=0, kind="stable")])
        self._next = np.zeros((num_options, num_options), dtype=np.int64)
        self._arrived: list[list[list[tuple[int, int]]]] = [
            [[] for _ in range(num_options)] for _ in range(num_options)
        ]
        self.losses = np.full((num_options, num_options), UNREACHABLE, dtype=np.int64)
        """int64 (k, k): what the cheapest move from an option to another loses."""
        self._cheapest = np.full((num_options, num_options), -1, dtype=np.int64)
        for source in range(num_options):
            self._refresh(source, range(num_options))

    def follow(self, path: list[int]) -> None:
        """Move one row from each option of the path to the next one."""
        steps = [(a, b, int(self._cheapest[a, b])) for a, b in itertools.pairwise(path)]
        for _, target, row in steps:
            self._chosen[row] = target
        for source, target, row in steps:
            lost = self._scores[row, target] - self._scores[row]
            for other in range(len(lost)):
                if other != target and lost[other] < _REFUSED_LOSS:
                    heapq.heappush(self._arrived[target][other], (int(lost[other]), row))
            self._refresh(source, np.flatnonzero(self._cheapest[source] == row).tolist())
            nearer = np.flatnonzero(lost < self.losses[target])
            self._refresh(target, nearer.tolist())

    def _refresh(self, source: int, targets: Iterable[int]) -> None:
        for target in targets:
            if target != source:
                loss, row = self._find(source, target)
                self.losses[source, target] = loss
                self._cheapest[source, target] = row

    def _find(self, source: int, target: int) -> tuple[int, int]:
        rows, place = self._sorted[source], int(self._next[source, target])
        while place < len(rows) and self._chosen[rows[place, target]] != source:
            place += 1
        self._next[source, target] = place
        arrived = self._arrived[source][target]
        while arrived and self._chosen[arrived[0][1]] != source:
            heapq.heappop(arrived)
        found = (UNREACHABLE, -1)
        if place < len(rows):
            row = int(rows[place, target])
            loss = int(self._scores[row, source] - self._scores[row, target])
            if loss < _REFUSED_LOSS:
                found = (loss, row)
        return min(found, arrived[0]) if arrived else found


def _cheapest_path(losses: np.ndarray, full: np.ndarray, free: np.ndarray) -> list[int] | None:
    """Find the options from a full one to a free one whose moves lose least (Bellman and Ford)."""
    distance = np.where(full, 0, UNREACHABLE)
    before = np.full(len(full), -1)
    for _ in range(len(full)):
        through = np.where(distance[:, None] < UNREACHABLE, distance[:, None] + losses, UNREACHABLE)
        source = through.argmin(axis=0)
        shorter = through[source, np.arange(len(full))]
        better = shorter < distance
        if not better.any():
            break
        distance = np.where(better, shorter, distance)
        before = np.where(better, source, before)
    end = int(np.where(free, distance, UNREACHABLE).argmin())
    if not free[end] or distance[end] >= UNREACHABLE:
        return None
    path = [end]
    while before[path[-1]] >= 0:
        path.append(int(before[path[-1]]))
    return path[::-1]
