import itertools
import math
import random
from collections import Counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import kstest, truncnorm

from spaces.given_points import complete_point
from spaces.parameters import Parameter, parse_parameter
from spaces.priors import SPREADS, WEIGHTS, Confidence
from spaces.space import Space

RAW: list[dict[str, Any]] = [
    {"uniform": [-2.0, 3.0]},
    {"uniform": [0.0, 1.0], "step": 0.25},
    {"log_uniform": [1e-6, 1e-1]},
    {"int": [-5, 40], "step": 3},
    {"int": [1, 10**15]},
    {"log_int": [1, 512]},
    {"ordinal": ["few", "some", "many"]},
    {"choice": ["a", True, 1, 2.5]},
]
confidences = st.sampled_from(list(SPREADS))


@st.composite
def expecting(draw: st.DrawFn) -> Parameter:
    """Draw a parameter that has one of its own values as its prior."""
    raw = draw(st.sampled_from(RAW))
    value = parse_parameter(raw).scale.value_at(draw(st.floats(0, 1)))
    return parse_parameter({**raw, "prior": value, "prior_confidence": draw(confidences)})


@given(expecting(), st.integers())
def test_draw_is_a_value_of_the_parameter_and_reproducible(parameter: Parameter, seed: int) -> None:
    draw = parameter.sample(random.Random(seed))

    assert parameter.scale.find(draw) == draw
    assert parameter.sample(random.Random(seed)) == draw


@given(expecting(), st.lists(st.floats(0, 1), min_size=2))
def test_larger_shares_lie_further_on(parameter: Parameter, shares: list[float]) -> None:
    places = [
        parameter.scale.coordinate_of(parameter.quantile(share))  # type: ignore[arg-type]
        for share in sorted(shares)
    ]

    assert all(0 <= place <= 1 for place in places)
    # A logarithm and back may differ in the last place.
    assert all(a <= b + 1e-9 for a, b in itertools.pairwise(places))


@given(expecting())
def test_parameter_reads_back_as_it_is_written(parameter: Parameter) -> None:
    assert parse_parameter(parameter.to_dict()) == parameter


@pytest.mark.parametrize("confidence", list(SPREADS))
@pytest.mark.parametrize("place", [0.0, 0.3, 0.5, 1.0])
def test_numbers_are_truncated_normal_around_the_prior(
    place: float, confidence: Confidence
) -> None:
    for kind in ("uniform", "log_uniform"):
        plain = parse_parameter({kind: [1e-4, 1e-1]})
        prior = {"prior": plain.scale.value_at(place), "prior_confidence": confidence}
        parameter = parse_parameter({kind: [1e-4, 1e-1], **prior})
        rng = random.Random(0)

        places = [plain.scale.coordinate_of(parameter.sample(rng)) for _ in range(2_000)]  # type: ignore[arg-type]

        spread = {"low": 0.5, "medium": 0.25, "high": 0.125}[confidence]
        expected = truncnorm((0 - place) / spread, (1 - place) / spread, loc=place, scale=spread)
        assert kstest(places, expected.cdf).pvalue > 0.001


@given(st.integers(1, 6), st.integers(0, 5), confidences)
def test_a_choice_gives_its_prior_the_weight_of_its_confidence(
    num_options: int, place: int, confidence: Confidence
) -> None:
    options = [f"option {index}" for index in range(num_options)]
    expected = options[place % num_options]
    parameter = parse_parameter(
        {"choice": options, "prior": expected, "prior_confidence": confidence}
    )

    total = num_options - 1 + WEIGHTS[confidence]
    # The middles of equal parts, of which each other option has ten.
    counts = Counter(parameter.quantile((i + 0.5) / (10 * total)) for i in range(10 * total))

    assert counts == {o: 10 * (WEIGHTS[confidence] if o == expected else 1) for o in options}


def test_ordinal_and_whole_numbers_are_drawn_most_often_at_the_prior() -> None:
    rng = random.Random(0)
    for raw in (
        {"ordinal": [1, 2, 4, 8, 16], "prior": 2},
        {"int": [1, 10], "prior": 2},
        {"uniform": [0.0, 1.0], "step": 0.1, "prior": 0.2},
    ):
        parameter = parse_parameter({**raw, "prior_confidence": "high"})
        draws = Counter(parameter.sample(rng) for _ in range(1_000))

        assert draws.most_common(1)[0][0] == raw["prior"]


def test_confidence_is_medium_unless_it_is_given() -> None:
    raw = {"uniform": [0, 1], "prior": 0.5}

    assert parse_parameter(raw).to_dict() == {**raw, "prior_confidence": "medium"}


def test_what_a_point_leaves_out_is_the_prior_where_the_space_lacks_the_default() -> None:
    space = Space.parse(
        {
            "learning_rate": {"log_uniform": [1e-2, 1.0], "prior": 0.5},
            "dropout": {"uniform": [0.0, 0.5], "prior": 0.4},
        }
    )

    assert complete_point(space, {}) == {"learning_rate": 0.5, "dropout": 0.1}


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        ({"uniform": [0, 1], "prior": 1.5}, "prior is 1.5, but .* numbers from 0.0 to 1.0"),
        ({"uniform": [0, 1], "prior": True}, "prior is True"),
        ({"uniform": [0, 1], "step": 0.5, "prior": 0.4}, "prior is 0.4, .* takes 0.0, 0.5, 1.0"),
        ({"log_uniform": [1.0e-5, 1], "prior": 0}, "prior is 0, but"),
        ({"log_uniform": [1.0e-5, 1], "prior": "1e-3"}, "prior is the text '1e-3'"),
        ({"log_uniform": [1, 2], "prior": math.nan}, "prior is nan"),
        ({"int": [1, 99], "step": 2, "prior": 4}, r"prior is 4, .* takes 1, 3, \.\.\. 99"),
        ({"log_int": [1, 8], "prior": 9}, "whole numbers from 1 to 8"),
        ({"choice": ["full", "lora"], "prior": "ia3"}, "prior is 'ia3', .* takes full, lora"),
        ({"choice": [0, 1], "prior": False}, "prior is False"),
        ({"ordinal": [1, 2], "prior": 3}, "prior is 3"),
        ({"uniform": [0, 1], "prior": [0.5]}, r"prior takes one value, got \[0.5\]"),
        ({"uniform": [0, 1], "prior": 0.5, "prior_confidence": "sure"}, "low, medium, high, got"),
        ({"uniform": [0, 1], "prior_confidence": "low"}, "name the value, prior"),
    ],
)
def test_mistake_is_named_with_its_parameter(raw: object, message: str) -> None:
    with pytest.raises(ValueError, match=f"dropout: .*{message}"):
        Space.parse({"dropout": raw})
