import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spaces.parameters import (
    Choice,
    Grid,
    IntRange,
    LogIntRange,
    LogUniform,
    Ordinal,
    Parameter,
    Uniform,
    parse_parameter,
)

finite = st.floats(min_value=-1e12, max_value=1e12, allow_nan=False)
positive = st.floats(min_value=1e-12, max_value=1e12)
values = st.one_of(st.text(), st.integers(), finite, st.booleans())


def intervals(numbers: st.SearchStrategy[float]) -> st.SearchStrategy[tuple[float, float]]:
    return st.tuples(numbers, numbers).filter(lambda pair: pair[0] < pair[1])


parameters = st.one_of(
    intervals(finite).map(lambda pair: Uniform(low=pair[0], high=pair[1])),
    intervals(positive).map(lambda pair: LogUniform(low=pair[0], high=pair[1])),
    st.builds(
        lambda low, width, step: IntRange(low=low, high=low + width, step=step),
        st.integers(-1000, 1000),
        st.integers(1, 1000),
        st.integers(1, 2000),
    ),
    st.builds(
        lambda low, width: LogIntRange(low=low, high=low + width),
        st.integers(1, 1000),
        st.integers(1, 10**15),
    ),
    st.builds(
        lambda low, num, step: Uniform(low=low / 8, high=low / 8 + num * step, step=step),
        st.integers(-100, 100),
        st.integers(1, 50),
        st.sampled_from([0.05, 0.1, 0.25, 3]),
    ),
    st.lists(st.integers(), min_size=1, unique=True).map(
        lambda options: Ordinal(options=tuple(sorted(options)))
    ),
    st.lists(st.text(), min_size=1, unique=True).map(
        lambda options: Ordinal(options=tuple(options))
    ),
    st.lists(values, min_size=1, unique_by=lambda v: (type(v), v)).map(
        lambda options: Choice(options=tuple(options))
    ),
    st.lists(values, min_size=1, unique_by=lambda v: (type(v), v)).map(
        lambda options: Grid(options=tuple(options))
    ),
)


@given(parameters, st.integers())
def test_draw_lies_within_the_parameter(parameter: Parameter, seed: int) -> None:
    draw = parameter.sample(random.Random(seed))

    if parameter.choices is not None:
        assert draw in parameter.choices
    else:
        low, high = parameter.extremes()
        assert low <= draw <= high


@given(parameters, st.integers())
def test_equal_seeds_draw_equal_values(parameter: Parameter, seed: int) -> None:
    assert parameter.sample(random.Random(seed)) == parameter.sample(random.Random(seed))


@given(parameters)
def test_parameter_reads_back_as_it_is_written(parameter: Parameter) -> None:
    assert parse_parameter(parameter.to_dict()) == parameter


@given(parameters)
def test_condition_reads_back_as_it_is_written(parameter: Parameter) -> None:
    raw = {**parameter.to_dict(), "when": {"method": "lora", "batch_size": [16, 32]}}

    parsed = parse_parameter(raw)

    assert parsed.when == {"method": ("lora",), "batch_size": (16, 32)}
    assert parse_parameter(parsed.to_dict()) == parsed


def test_log_uniform_spreads_draws_evenly_over_decades() -> None:
    rng = random.Random(0)
    parameter = LogUniform(low=1e-6, high=1e-2)

    draws = [parameter.sample(rng) for _ in range(4_000)]

    below_geometric_middle = sum(draw < 1e-4 for draw in draws) / len(draws)
    assert below_geometric_middle == pytest.approx(0.5, abs=0.03)


def test_uniform_spreads_draws_evenly() -> None:
    rng = random.Random(0)
    parameter = Uniform(low=-1, high=3)

    draws = [parameter.sample(rng) for _ in range(4_000)]

    assert sum(draw < 1 for draw in draws) / len(draws) == pytest.approx(0.5, abs=0.03)


def test_int_steps_may_end_below_the_upper_bound() -> None:
    parameter = IntRange(low=1, high=10, step=4)

    assert list(parameter.choices) == [1, 5, 9]
    assert parameter.extremes() == (1, 9)


def test_steps_of_a_real_number_are_what_one_would_write() -> None:
    parameter = parse_parameter({"uniform": [0.0, 0.32], "step": 0.05})

    assert parameter.choices == (0.0, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3)
    assert parameter.extremes() == (0.0, 0.3)


def test_log_int_spreads_draws_evenly_over_octaves() -> None:
    rng = random.Random(0)
    parameter = LogIntRange(low=1, high=64)

    draws = [parameter.sample(rng) for _ in range(4_000)]

    assert {1, 64} <= set(draws)
    assert sum(draw < 8 for draw in draws) / len(draws) == pytest.approx(0.56, abs=0.04)


def test_huge_int_range_is_not_listed_in_memory() -> None:
    parameter = IntRange(low=1, high=10**15)

    assert 1 <= parameter.sample(random.Random(0)) <= 10**15


def test_bare_value_is_a_constant() -> None:
    assert parse_parameter("lora") == Choice(options=("lora",))


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        ({"uniform": [1, 1]}, r"low < high, got \[1, 1\]; write a single value"),
        ({"uniform": [2, 1]}, r"low < high"),
        ({"uniform": [0, math.inf]}, "finite bounds"),
        ({"uniform": [0, 10**400]}, "finite bounds"),
        ({"uniform": [0, math.nan]}, "finite bounds"),
        ({"uniform": [True, 2]}, "numbers as bounds, got True"),
        ({"uniform": ["1e-5", 1.0]}, r"got '1e-5'; write 1\.0e-5"),
        ({"uniform": 3}, "takes two bounds"),
        ({"uniform": [1, 2, 3]}, "takes two bounds"),
        ({"log_uniform": [0, 1]}, r"low > 0, got 0; use uniform to include 0"),
        ({"int": [1, 2.5]}, "whole number as high, got 2.5"),
        ({"int": [1, 10**30]}, r"bounds of at most 1e\+18"),
        ({"int": [1, 5], "step": 0}, "step >= 1"),
        ({"int": [1, 5], "stpe": 2}, "unknown key 'stpe' beside int; allowed: step, when"),
        ({"uniform": [0, 1], "step": 0}, "step above 0"),
        ({"uniform": [0, 1], "step": 2}, "step above 0 that fits"),
        ({"uniform": [0, 1], "step": "0.1"}, "a number as step, got '0.1'"),
        ({"uniform": [0, 1], "step": 1e-9}, "up to 10,000 steps"),
        ({"log_uniform": [1, 10], "step": 1}, "log_uniform takes no step"),
        ({"log_int": [0, 10]}, "log_int needs low >= 1, got 0; use int"),
        ({"log_int": [1, 10.0]}, "whole number as high"),
        ({"log_int": [1, 10], "step": 2}, "unknown key 'step' beside log_int; allowed: when"),
        ({"ordinal": []}, "ordinal needs at least one value"),
        ({"ordinal": [1, "a"]}, "either strings or numbers"),
        ({"ordinal": [True, False]}, "either strings or numbers"),
        ({"ordinal": [1, 4, 2]}, r"numbers in order, got \[1, 4, 2\]"),
        ({"choice": []}, "at least one value"),
        ({"choice": 3}, "takes a list"),
        ({"choice": [1, 1]}, "lists a value twice"),
        ({"choice": [[1]]}, "strings, numbers and booleans"),
        ({"choice": [None]}, "strings, numbers and booleans"),
        ({"choice": [1], "step": 2}, "unknown key 'step' beside choice"),
        ({"uniform": [0, 1], "choice": [1]}, "exactly one of .*, got uniform, choice"),
        ({"unifrom": [0, 1]}, "exactly one of .*, got unifrom"),
        ({}, "got nothing"),
        (None, "expected {kind: ...}"),
        ([1, 2], "expected {kind: ...}"),
        ({"choice": [1], "when": ["lora"]}, "when maps a parameter to its values"),
        ({"grid": [1, 1]}, "grid lists a value twice"),
        ({"grid": [1, 2], "prior": 1}, "unknown key 'prior' beside grid; allowed: when"),
    ],
)
def test_mistake_is_named(raw: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse_parameter(raw)
