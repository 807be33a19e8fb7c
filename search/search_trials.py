"""The trials of the search among a study's: their points, what is learned, what is left out."""

from collections.abc import Mapping, Sequence

from search.algorithms import ALGORITHMS, Point
from search.earlier_studies import EarlierStudies, all_start_points
from search.schedulers import SCHEDULERS
from search.shape_costs import over_limit, shape_key
from search.study_config import StudyConfig
from search.trial_record import Decision, TrialState
from spaces.trial_config import TrialConfig
from trainables.compression.untrained import ShapeCost

MOST_LEFT_OUT = 20
"""Trials that may be left out in a row, for their models exceed a limit, before the search ends."""


class SearchTrials:
    """Asks the algorithm and tells algorithm and scheduler, who count the search's trials alone.

    A study numbers all its trials, also those that are trained again once the search is over; a
    search that goes on later goes on as if there had been none of these.
    """

    def __init__(
        self,
        config: StudyConfig,
        earlier: EarlierStudies,
        shape_costs: Mapping[str, ShapeCost],
    ) -> None:
        """Know no trial yet.

        Args:
            config: The study.
            earlier: What earlier studies know.
            shape_costs: What each shape of model costs, where the study asks for it.
        """
        search = config.search
        self._config = config
        self._shape_costs = shape_costs
        self._algorithm = ALGORITHMS[search.algorithm](
            config.space, search.seed, search.trials, earlier.told, len(search.objectives)
        )
        self._scheduler = SCHEDULERS[search.scheduler](search)
        self._start_points = all_start_points(config, earlier)
        self._places: dict[int, int] = {}
        self._successors: set[int] = set()
        self._num_left_out = 0
        self._left_out_in_a_row = 0
        self._exhausted = False

    def __contains__(self, number: int) -> bool:
        return number in self._places or number in self._successors

    @property
    def all_tried(self) -> bool:
        """Whether there are as many as the study asks for, or no point is left."""
        num_trained = len(self._places) - self._num_left_out
        is_full = num_trained >= self._config.search.trials
        return is_full or self._exhausted or self._left_out_in_a_row >= MOST_LEFT_OUT

    def next_point(self, number: int) -> Point | None:
        """Return the point of a new trial; None if none is left."""
        place = len(self._places)
        if place < len(self._start_points):
            point = self._start_points[place]
            self.adopt(number, point)
            return point
        asked = self._algorithm.ask(place)
        if asked is None:
            self._exhausted = True
        else:
            self._places[number] = place
        return asked

    def adopt(self, number: int, point: Point) -> None:
        """Count a trial whose point is given."""
        place = len(self._places)
        self._algorithm.adopt(place, point)
        self._places[number] = place

    def adopt_successor(self, number: int) -> None:
        """Know a trial that continues another one: no point of the algorithm's, nor told to it.

        Its score is the merit of several configurations, one after the other.
        """
        self._successors.add(number)

    def over_limit(self, trial: TrialConfig) -> str | None:
        """Say which limit a trial's model would exceed, if one."""
        if not self._config.search.needs_shape_costs:
            return None
        return over_limit(self._config, self._shape_costs[shape_key(trial)])

    def count(self, *, is_left_out: bool) -> None:
        """Count a new trial as one that is trained, or left out."""
        self._num_left_out += is_left_out
        self._left_out_in_a_row = self._left_out_in_a_row + 1 if is_left_out else 0

    def report(self, number: int, epoch: int, score: float, costs: Sequence[float]) -> Decision:
        """Tell a trial's score after an epoch, and return what the scheduler decides."""
        if number in self._successors:
            # They follow all others, so that these have their numbers as places.
            return self._scheduler.report(number, epoch, score, costs)
        place = self._places[number]
        decision = self._scheduler.report(place, epoch, score, costs)
        self._algorithm.tell_report(place, epoch, score)
        return decision

    def end(
        self, number: int, state: TrialState, score: float | None, costs: Sequence[float]
    ) -> None:
        """Tell how a trial ended."""
        if number in self._successors:
            return
        self._algorithm.tell(self._places[number], state, score, costs)
