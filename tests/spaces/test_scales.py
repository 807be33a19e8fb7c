import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spaces.parameters import parse_parameter
from spaces.scales import Parts


@given(st.floats(0, 1))
def test_a_number_has_the_coordinate_that_it_came_from(coordinate: float) -> None:
    for raw in ({"uniform": [0.0, 0.5]}, {"log_uniform": [1e-6, 1e-1]}, {"int": [1, 9], "step": 3}):
        parameter = parse_parameter(raw)

        back = parameter.scale.coordinate_of(parameter.scale.value_at(coordinate))

        part = 0 if parameter.choices is None else 0.5 / len(parameter.choices)
        assert back == pytest.approx(coordinate, abs=part + 1e-9)


@given(st.integers(1, 60), st.integers(0, 10**6))
def test_every_whole_number_is_found_again_by_its_coordinate(low: int, width: int) -> None:
    scale = parse_parameter({"log_int": [low, low + width + 1]}).scale

    for value in (low, low + width // 2, low + width + 1):
        assert scale.value_at(scale.coordinate_of(value)) == value


@pytest.mark.parametrize(
    ("raw", "inside", "outside"),
    [
        ({"uniform": [0, 1]}, [0, 0.5, 1], [-0.1, 1.1, True, "a"]),
        ({"uniform": [0, 1], "step": 0.3}, [0, 0.3, 0.9], [0.2, 1, False]),
        ({"log_uniform": [1, 10]}, [1, 3.3], [0, 11, "3"]),
        ({"int": [1, 10**15]}, [1, 10**15], [0, 1.5, True, "2"]),
        ({"log_int": [1, 8]}, [1, 8], [0, 9, 2.0, True]),
        ({"choice": [1, True, "a"]}, [1, True, "a"], [False, "b", 2]),
    ],
)
def test_only_a_parameters_own_values_are_on_its_scale(
    raw: object, inside: list[float], outside: list[object]
) -> None:
    scale = parse_parameter(raw).scale

    for value in inside:
        assert scale.find(value) == value
        assert isinstance(scale.find(value), bool) == isinstance(value, bool)
    for value in outside:
        assert scale.find(value) is None  # type: ignore[arg-type]


def test_a_message_names_few_values_and_the_ends_of_many() -> None:
    assert str(Parts((8, "a"))) == "8, a"
    assert str(Parts(range(1, 100))) == "1, 2, ... 99"
    assert math.isclose(Parts(range(1, 100)).coordinate_of(50), 0.5)
