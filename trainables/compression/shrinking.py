"""Smaller models of a winner: fewer layers, heads and units, recovered by distillation."""

import copy
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from trainables.compression.config import CompressionConfig
from trainables.compression.exporting import (
    DivergedError,
    Exported,
    StepMetrics,
    export_all,
    measure_finite,
)
from trainables.compression.ladder import Ladder, Shape
from trainables.compression.layers import choose_layers, keep_layers
from trainables.compression.pruning import choose_kept, measure_importance, prune
from trainables.compression.recovery import Teaching, ask_teacher, recover
from trainables.compression.report import say_layers
from trainables.compression.winner import Winner
from trainables.fine_tune import predict_probabilities
from trainables.model import ClickModel, Model

LAYER_ROWS = 128
"""Rows that layers are chosen on at most: each choice runs the model once for every layer."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Shrunk:
    """A smaller model of a winner; see :class:`trainables.compression.ladder.Tried`."""

    shape: Shape
    """What stayed."""
    model: Model
    """The model, recovered."""
    steps: tuple[StepMetrics, ...]
    """What was done to it, the last step before its export last."""
    exported: tuple[Exported, ...]
    """Its graphs, one for each precision."""
    is_good_enough: bool
    """Whether one of its graphs loses no more of the metric than it may."""


class Shrinker:
    """Makes smaller models of one winner, each from a larger one."""

    def __init__(self, winner: Winner, config: CompressionConfig, work: Path) -> None:
        """Prepare to shrink.

        Args:
            winner: Stays as it is.
            config: The limits, and how to recover.
            work: A folder for the graphs.
        """
        self._winner = winner
        self._config = config
        self._work = work
        self._teaching: Teaching | None = None
        num_layers = winner.model.num_layers if isinstance(winner.model, ClickModel) else 0
        self._whole = Shape(layers=num_layers, keep_fraction=1.0)
        self.ladder = Ladder.of(num_layers, config.layer_fractions, config.keep_fractions)

    def make_top(self) -> Shrunk:
        """Make the largest model, which is the winner itself unless the settings forbid it."""
        winner = self._winner
        if self.ladder.top == self._whole:
            return self._export(winner.model, self._whole, winner.steps)
        return self._shrink(winner.model, self._whole, winner.steps, self.ladder.top)

    def shrink(self, larger: Shrunk, shape: Shape) -> Shrunk:
        """Make a smaller model of a larger one, which stays as it is.

        One that gives no numbers any more has no graphs, and isn't good enough.
        """
        try:
            return self._shrink(larger.model, larger.shape, larger.steps, shape)
        except DivergedError:
            return Shrunk(
                shape=shape, model=larger.model, steps=(), exported=(), is_good_enough=False
            )

    def _shrink(
        self, larger: Model, present: Shape, steps: tuple[StepMetrics, ...], shape: Shape
    ) -> Shrunk:
        assert isinstance(larger, ClickModel), "without an encoder there is nothing to leave out"
        winner, config = self._winner, self._config
        some = self._ask_teacher().some(config.importance_rows, [config.seed, 0])
        model = copy.deepcopy(larger)
        if shape.layers < present.layers:
            few = some.some(LAYER_ROWS, [config.seed, 1])
            keep_layers(model, choose_layers(model, winner.train, few, shape.layers))
            steps = (*steps, (f"{say_layers(shape.layers)} kept", self._measure(model)))
        if shape.keep_fraction < present.keep_fraction:
            importance = measure_importance(model, winner.train, some.indices)
            prune(model, choose_kept(importance, shape.keep_fraction / present.keep_fraction))
            steps = (*steps, (f"pruned to {shape.keep_fraction:.0%}", self._measure(model)))
        return self._export(model, shape, (*steps, *self._recover(model, steps[-1][1])))

    def _ask_teacher(self) -> Teaching:
        """Ask once, and for as many rows as any step needs."""
        winner, config = self._winner, self._config
        if self._teaching is None:
            assert isinstance(winner.model, ClickModel)
            taught = config.recovery_rows if config.recovery_epochs else 0
            most = max(taught, config.importance_rows)
            rows = _sample(len(winner.train), most, [config.seed, 2])
            self._teaching = ask_teacher(winner.model, winner.train, rows)
        return self._teaching

    def _measure(self, model: ClickModel) -> dict[str, float]:
        return measure_finite(self._winner, predict_probabilities(model, self._winner.validation))

    def _recover(self, model: ClickModel, before: dict[str, float]) -> list[StepMetrics]:
        """Make up for what a removal cost, where it cost something."""
        winner, config = self._winner, self._config
        lost_nothing = winner.goodness(before) >= winner.goodness(winner.baseline)
        if not config.recovery_epochs or lost_nothing:
            return []
        seen = {winner.goodness(before): before}

        def evaluate(student: ClickModel) -> float:
            try:
                metrics = self._measure(student)
            except DivergedError:
                return -math.inf
            # Of equally good epochs the first one's weights are kept.
            return winner.goodness(seen.setdefault(winner.goodness(metrics), metrics))

        best = recover(
            model,
            winner.train,
            self._ask_teacher().some(config.recovery_rows, [config.seed, 2]),
            config,
            evaluate,
            before=winner.goodness(before),
        )
        return [("recovered", seen[best])]

    def _export(self, model: Model, shape: Shape, steps: tuple[StepMetrics, ...]) -> Shrunk:
        exported = export_all(
            self._winner,
            model,
            steps,
            keep_fraction=shape.keep_fraction,
            config=self._config,
            folder=self._work / f"{shape.layers}-{shape.keep_fraction:g}",
        )
        return Shrunk(
            shape=shape,
            model=model,
            steps=steps,
            exported=tuple(exported),
            is_good_enough=min(item.drop_at_most for item in exported)
            <= self._config.max_metric_drop,
        )


def _sample(num_rows: int, most: int, seed: list[int]) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return np.sort(rng.permutation(num_rows)[:most])
