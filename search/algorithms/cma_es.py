"""CMA-ES over the numbers that every trial has; TPE decides the rest (imports optuna)."""

import functools
from collections.abc import Callable, Mapping

import numpy as np
from cmaes import CMA

from search.algorithms.interface import Point
from search.algorithms.learning import History, Told, count_as_completed
from search.algorithms.optuna_samplers import SamplerProposer, univariate_tpe
from search.algorithms.shared_numbers import Number, shared_numbers
from spaces.parameters import Value
from spaces.space import Space

_INITIAL_SPREAD = 0.3
"""Standard deviation of the first generation, as a share of each range (Hansen 2016, B.1)."""


def cma_es_proposer(space: Space, num_startup: int) -> Callable[[History, int], Point]:
    """Covariance matrix adaptation evolution strategy.

    It knows only numbers that always exist, so choices and conditional parameters are drawn by a
    TPE, each by itself. A number's prior is the mean and the standard deviation of its first
    generation; draws outside the range are drawn again. Trials that still run teach nothing: draws
    from a normal distribution keep apart by themselves.

    Hansen 2016, "The CMA Evolution Strategy: A Tutorial", https://arxiv.org/abs/1604.00772;
    Loshchilov and Hutter 2016, "CMA-ES for Hyperparameter Optimization of Deep Neural Networks",
    https://arxiv.org/abs/1604.07269

    Raises:
        ValueError: if the space has no such number.
    """
    numbers = shared_numbers(space)
    if not numbers:
        raise ValueError(
            "cmaes needs a number that every trial has, as uniform, log_uniform or int without "
            f"when; the space varies {', '.join(space.parameters)}"
        )
    build = functools.partial(univariate_tpe, num_startup=num_startup)
    sampler = SamplerProposer(space, build, num_startup)

    def propose(history: History, seed: int) -> Point:
        judged = count_as_completed(history)
        return sampler.propose(judged, seed, _draw(numbers, judged, seed))

    return propose


def _draw(numbers: Mapping[str, Number], history: History, seed: int) -> dict[str, Value]:
    """Draw the numbers from the distribution that the trials so far lead to.

    Optuna's CmaEsSampler keeps a pickled optimizer with the trials that advanced it, and counts for
    a generation only what was drawn from it. What a restart knows is points and scores. So ended
    trials are replayed by number, as many at a time as a generation has: with one trial at a time
    those are CMA-ES's generations, with several at a time some of them are drawn a generation
    earlier than they count for, and none is wasted.
    """
    optimizer = CMA(
        mean=np.array([_centre(parameter) for parameter in numbers.values()]),
        sigma=_INITIAL_SPREAD,
        bounds=np.tile([0.0, 1.0], (len(numbers), 1)),
        seed=seed,
        cov=np.diag([(_spread(p) / _INITIAL_SPREAD) ** 2 for p in numbers.values()]),
    )
    ended = [told for told in history.values() if told.outcome == "completed"]
    size = optimizer.population_size
    for start in range(0, len(ended) - size + 1, size):
        generation = ended[start : start + size]
        # It minimizes.
        optimizer.tell([(_coordinates(numbers, told), -_score(told)) for told in generation])
    drawn = optimizer.ask().tolist()
    return {
        name: parameter.scale.value_at(coordinate)
        for (name, parameter), coordinate in zip(numbers.items(), drawn, strict=True)
    }


def _centre(parameter: Number) -> float:
    if parameter.prior is None:
        return 0.5
    return parameter.scale.coordinate_of(parameter.prior.value)  # type: ignore[arg-type]


def _spread(parameter: Number) -> float:
    return _INITIAL_SPREAD if parameter.prior is None else parameter.prior.spread


def _coordinates(
    numbers: Mapping[str, Number], told: Told
) -> "np.ndarray[tuple[int], np.dtype[np.float64]]":
    return np.array(
        [
            parameter.scale.coordinate_of(told.point[name])  # type: ignore[arg-type]
            for name, parameter in numbers.items()
        ]
    )


def _score(told: Told) -> float:
    assert told.score is not None
    return told.score
