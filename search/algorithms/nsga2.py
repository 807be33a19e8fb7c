"""NSGA-II: generations of points, bred from those that nothing dominates."""

import random
from collections.abc import Callable, Sequence

import numpy as np

from search.algorithms.interface import Point
from search.algorithms.learning import History, Told
from search.pareto import best_first
from spaces.parameters import Parameter, Value
from spaces.space import Space

CROSSOVER_RATE = 0.9
"""Probability that a point has two parents (Deb et al. 2002, section IV.B)."""


def nsga2_proposer(space: Space, population: int) -> Callable[[History, int], Point]:
    """Breed each point from two parents out of the best of all trials before its generation.

    Deb et al. 2002, "A Fast and Elitist Multiobjective Genetic Algorithm: NSGA-II",
    https://doi.org/10.1109/4235.996017. Parents are the ``population`` best so far, by front and
    crowding; of two drawn at random the better one breeds (binary tournament). Each parameter comes
    from one of both parents (uniform crossover) and is drawn anew, by its prior if it has one, with
    one chance in as many as there are parameters, as in Optuna's sampler. A generation is as many
    trials as a population: those that still run when it begins are no parents yet.

    Args:
        space: Where points lie.
        population: Trials of a generation.
    """

    def propose(history: History, seed: int) -> Point:
        rng = random.Random(seed)
        before = len(history) // population * population
        parents = _choose_parents(list(history.values())[:before], population)
        if len(parents) < 2:
            return space.sample(rng)
        first, second = _tournament(parents, rng), _tournament(parents, rng)
        if rng.random() >= CROSSOVER_RATE:
            second = first
        rate = 1 / max(1, len(space.parameters))

        def decide(name: str, parameter: Parameter) -> Value:
            given = [parent[name] for parent in (first, second) if name in parent]
            if not given or rng.random() < rate:
                return parameter.sample(rng)
            return rng.choice(given)

        return space.walk(decide)

    return propose


def _choose_parents(told: Sequence[Told], count: int) -> list[Point]:
    """Return the best points, best first."""
    ended = [trial for trial in told if trial.outcome != "running" and trial.has_score]
    ended = [trial for trial in ended if trial.outcome != "failed"]
    if not ended:
        return []
    order = best_first(np.array([trial.values for trial in ended]))
    return [ended[place].point for place in order[:count]]


def _tournament(parents: Sequence[Point], rng: random.Random) -> Point:
    return parents[min(rng.randrange(len(parents)) for _ in range(2))]
