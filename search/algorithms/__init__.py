"""Grid, random, quasi-random, Bayesian and evolutionary search, behind one interface."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

from search.algorithms.distinct import LARGEST_ENUMERATION, derive_seed, effective_key
from search.algorithms.grid import GridSearch
from search.algorithms.interface import Algorithm, Outcome, Point
from search.algorithms.learning import LearningSearch, Told
from search.algorithms.random_search import RandomSearch
from search.algorithms.sobol import SobolSearch
from spaces.space import Space

if TYPE_CHECKING:
    from search.study_config import AlgorithmName

__all__ = [
    "ALGORITHMS",
    "LARGEST_ENUMERATION",
    "Algorithm",
    "Outcome",
    "Point",
    "derive_seed",
    "effective_key",
]


def _build_grid(
    space: Space, seed: int, num_trials: int, earlier: Sequence[Told] = (), num_costs: int = 0
) -> Algorithm:
    return GridSearch(space)


def _build_random(
    space: Space, seed: int, num_trials: int, earlier: Sequence[Told] = (), num_costs: int = 0
) -> Algorithm:
    return RandomSearch(space, seed=seed)


def _build_sobol(
    space: Space, seed: int, num_trials: int, earlier: Sequence[Told] = (), num_costs: int = 0
) -> Algorithm:
    return SobolSearch(space, seed=seed)


def _build_tpe(
    space: Space, seed: int, num_trials: int, earlier: Sequence[Told] = (), num_costs: int = 0
) -> Algorithm:
    from search.algorithms.optuna_samplers import tpe_proposer

    propose = tpe_proposer(space, _num_startup(num_trials), num_costs)
    return LearningSearch(space, seed=seed, propose=propose, earlier=earlier)


def _build_gp(
    space: Space, seed: int, num_trials: int, earlier: Sequence[Told] = (), num_costs: int = 0
) -> Algorithm:
    from search.algorithms.optuna_samplers import gp_proposer

    propose = gp_proposer(space, _num_startup(num_trials))
    # Another seed rarely changes where a Gaussian process promises most, and each fit takes long.
    return LearningSearch(space, seed=seed, propose=propose, num_attempts=2, earlier=earlier)


def _build_cmaes(
    space: Space, seed: int, num_trials: int, earlier: Sequence[Told] = (), num_costs: int = 0
) -> Algorithm:
    from search.algorithms.cma_es import cma_es_proposer

    propose = cma_es_proposer(space, _num_startup(num_trials))
    return LearningSearch(space, seed=seed, propose=propose, earlier=earlier)


def _build_nsga2(
    space: Space, seed: int, num_trials: int, earlier: Sequence[Told] = (), num_costs: int = 0
) -> Algorithm:
    from search.algorithms.nsga2 import nsga2_proposer

    propose = nsga2_proposer(space, _population(num_trials))
    return LearningSearch(space, seed=seed, propose=propose, earlier=earlier)


def _population(num_trials: int) -> int:
    """Return how many trials a generation has: a fifth of the study, so that there are some."""
    return max(4, min(50, num_trials // 5))


def _num_startup(num_trials: int) -> int:
    """Return how many random points come first: Optuna's 10, a third of a short study at most."""
    return max(4, min(10, num_trials // 3))


class Builder(Protocol):
    """Builds an algorithm."""

    def __call__(
        self,
        space: Space,
        seed: int,
        num_trials: int,
        earlier: Sequence[Told] = (),
        num_costs: int = 0,
    ) -> Algorithm:
        """Build it.

        Args:
            space: Where points lie.
            seed: Decides the points.
            num_trials: How many will be asked for.
            earlier: Trials of other studies, for one that learns.
            num_costs: Objectives beside the score.
        """
        ...


ALGORITHMS: "dict[AlgorithmName, Builder]" = {
    "grid": _build_grid,
    "random": _build_random,
    "sobol": _build_sobol,
    "tpe": _build_tpe,
    "gp": _build_gp,
    "cmaes": _build_cmaes,
    "nsga2": _build_nsga2,
}
"""Algorithms by name."""
