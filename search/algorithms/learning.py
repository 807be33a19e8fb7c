"""What an algorithm that learns was told of each trial, and the points that it may not repeat."""

import dataclasses
import math
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from search.algorithms.distinct import DistinctPoints, derive_seed
from search.algorithms.interface import Outcome, Point
from spaces.space import Space

CONSTRAINED = 4
"""How many times as many proposals are looked at where constraints may forbid them."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Told:
    """What is known of a trial."""

    point: Point
    """What it trains with."""
    outcome: Outcome = "running"
    """How it ended."""
    score: float | None = None
    """Its final score."""
    costs: tuple[float, ...] = ()
    """What is to be low beside it, in the order of the study's objectives."""
    scores: Mapping[int, float] = field(default_factory=dict)
    """Finite scores by epoch."""

    @property
    def has_score(self) -> bool:
        """Whether the final score is a finite number."""
        return self.score is not None and math.isfinite(self.score)

    @property
    def values(self) -> tuple[float, ...]:
        """The final score and the costs, turned so that higher is better."""
        assert self.score is not None
        return (self.score, *(-cost for cost in self.costs))


History = Mapping[int, Told]
"""What is known of the trials so far, by number, in the order of numbers."""

Propose = Callable[[History, int], Point]
"""From what is known and a seed to the point that promises most."""


class LearningSearch:
    """Proposes from what was told, and keeps nothing else that a point depends on.

    So there is no state to lose: told the same again, it proposes the same.
    """

    def __init__(
        self,
        space: Space,
        *,
        seed: int,
        propose: Propose,
        num_attempts: int = 4,
        earlier: Sequence[Told] = (),
    ) -> None:
        """Know nothing yet, or what was found before.

        Args:
            space: Where points lie.
            seed: Decides, with what is known.
            propose: From what is known to a point.
            num_attempts: Proposals before a random point, where all train a known model.
            earlier: Ended trials of other studies; theirs may be proposed again.

        Raises:
            ValueError: if the space has grids, which no proposal goes through in turn.
        """
        if grids := space.grids():
            raise ValueError(
                f"{', '.join(grids)} can't take its values in turn where trials are proposed from "
                "what others reached; write choice instead of grid"
            )
        self._space = space
        self._seed = seed
        self._propose = propose
        self._num_attempts = num_attempts
        self._distinct = DistinctPoints(space)
        self._earlier = len(earlier)
        self._told: dict[int, Told] = dict(enumerate(earlier))

    def ask(self, number: int) -> Point | None:
        """Propose the point that promises most, among those that weren't tried."""
        point = self._find(number)
        if point is not None:
            self._told[self._earlier + number] = Told(point=point)
        return point

    def _find(self, number: int) -> Point | None:
        # What proposes knows of no constraints.
        num_attempts = self._num_attempts * (CONSTRAINED if self._space.constraints else 1)
        for attempt in range(num_attempts):
            point = self._propose(self._told, derive_seed(self._seed, number, attempt))
            if self._space.allows(point) and self._distinct.add(point):
                return point
        rng = random.Random(derive_seed(self._seed, number))
        return self._distinct.find(lambda: self._space.sample(rng), rng)

    def adopt(self, number: int, point: Point) -> None:
        """Note that a point is being tried."""
        self._distinct.add(point)
        self._told[self._earlier + number] = Told(point=point)

    def tell_report(self, number: int, epoch: int, score: float) -> None:
        """Note a running trial's score; what isn't finite teaches nothing."""
        if math.isfinite(score):
            place = self._earlier + number
            told = self._told[place]
            self._told[place] = dataclasses.replace(told, scores={**told.scores, epoch: score})

    def tell(
        self, number: int, outcome: Outcome, score: float | None, costs: Sequence[float] = ()
    ) -> None:
        """Note how a trial ended."""
        place = self._earlier + number
        self._told[place] = dataclasses.replace(
            self._told[place], outcome=outcome, score=score, costs=tuple(costs)
        )


def count_as_completed(history: History) -> dict[int, Told]:
    """Give every ended trial a score, for methods that know nothing but points and scores.

    A stopped trial counts with what it reported: too low where more epochs would have helped, but
    it was stopped for being low. One that failed counts as the worst, since where trials diverge or
    run out of memory no more should be tried; it still has failed where no trial has a score.
    """
    scored = [told for told in history.values() if told.has_score]
    worst = min((told.score for told in scored if told.score is not None), default=None)
    worst_costs = tuple(map(max, zip(*(told.costs for told in scored), strict=True)))
    judged = {}
    for number, told in history.items():
        if told.outcome == "running" or (told.outcome == "completed" and told.has_score):
            judged[number] = told
        elif worst is not None:
            counts = told.has_score and told.outcome == "stopped"
            judged[number] = dataclasses.replace(
                told,
                outcome="completed",
                score=told.score if counts else worst,
                costs=told.costs if counts else worst_costs,
            )
        else:
            judged[number] = dataclasses.replace(told, outcome="failed")
    return judged
