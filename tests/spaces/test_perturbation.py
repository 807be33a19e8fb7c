import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spaces.perturbation import CHANGEABLE, FACTORS, changeable, perturb
from spaces.space import Space

NEIGHBOURS = [0.1, 0.2, 0.3]
KINDS: list[dict[str, Any]] = [
    {"uniform": [0.0, 0.5]},
    {"uniform": [0.05, 0.5], "step": 0.05},
    {"log_uniform": [1.0e-3, 0.9]},
    {"choice": [0.5, 0.0, 0.25]},
    {"ordinal": [0.3, 0.2, 0.1]},
    {"grid": [0, 0.4]},
    {"choice": [0.1]},
    {"choice": [0.1, 0.2], "when": {"method": "lora"}},
]


@st.composite
def spaces(draw: st.DrawFn) -> Space:
    """Spaces of some parameters that may change, beside some that may not."""
    names = draw(st.lists(st.sampled_from(CHANGEABLE), unique=True, min_size=1))
    raw: dict[str, Any] = {
        "method": {"choice": ["full", "lora"]},
        "batch_size": {"int": [8, 64]},
        "lora_rank": {"choice": [4, 8], "when": {"method": "lora"}},
    }
    for name in names:
        # 0 is no learning rate.
        kinds = [k for k in KINDS if "learning_rate" not in name or 0 not in _values(k)]
        raw[name] = draw(st.sampled_from(kinds))
    if {"dropout", "mixup_alpha"} <= set(names) and draw(st.booleans()):
        raw["constraints"] = ["dropout + mixup_alpha <= 0.45"]
    return Space.parse(raw)


def _values(kind: dict[str, Any]) -> list[float]:
    return next(v for k, v in kind.items() if k not in ("step", "when"))


@given(spaces(), st.integers(0, 2**32))
def test_a_perturbed_point_is_one_of_the_space_and_differs_in_what_may_change_alone(
    space: Space, seed: int
) -> None:
    rng = random.Random(seed)
    point = space.sample(rng)

    found = perturb(space, point, rng)

    assert list(found) == list(point)
    assert space.allows(found)
    for name, value in found.items():
        parameter = space.parameters[name]
        if name not in changeable(space):
            assert value == point[name]
        elif parameter.choices is not None:
            assert value in parameter.choices
        else:
            low, high = parameter.extremes()
            before = point[name]
            assert isinstance(before, float)
            assert value in [min(max(before * factor, low), high) for factor in FACTORS]


@given(spaces(), st.integers(0, 2**32))
def test_the_same_generator_perturbs_alike(space: Space, seed: int) -> None:
    point = space.sample(random.Random(seed))

    first, second = (perturb(space, point, random.Random(seed)) for _ in range(2))

    assert first == second


@pytest.mark.parametrize(
    ("parameter", "value", "reached"),
    [
        ({"log_uniform": [1.0e-5, 1.0e-2]}, 1e-3, {8e-4, 1.2e-3}),
        ({"log_uniform": [1.0e-5, 1.0e-3]}, 1e-3, {8e-4}),
        ({"uniform": [0.0, 1.0], "step": 0.25}, 0.25, {0.0, 0.5}),
        ({"uniform": [0.0, 1.0], "step": 0.01}, 0.5, {0.4, 0.6}),
        ({"choice": [0.5, 0.1, 0.9]}, 0.5, {0.1, 0.9}),
        ({"choice": [0.5, 0.1, 0.9]}, 0.9, {0.5}),
        ({"ordinal": [0.9, 0.5, 0.1]}, 0.9, {0.5}),
        ({"grid": [0.2, 0.1]}, 0.1, {0.2}),
    ],
)
def test_numbers_move_by_a_fifth_and_listed_ones_to_a_neighbour(
    parameter: dict[str, Any], value: float, reached: set[float]
) -> None:
    space = Space.parse({"augmented_share": parameter})
    point = {"augmented_share": value}

    found = [perturb(space, point, random.Random(seed)) for seed in range(50)]

    assert {round(float(point["augmented_share"]), 12) for point in found} == reached


@pytest.mark.parametrize(
    ("parameter", "value", "reached"),
    [
        ({"int": [0, 12]}, 10, {8, 12}),
        ({"int": [0, 12]}, 2, {1, 3}),
        ({"int": [0, 12], "step": 4}, 8, {4, 12}),
        ({"int": [0, 12]}, 0, {1}),
        ({"log_int": [1, 40]}, 20, {16, 24}),
        ({"log_int": [1, 40]}, 1, {2}),
    ],
)
def test_whole_numbers_keep_to_their_steps(
    parameter: dict[str, Any], value: int, reached: set[int]
) -> None:
    space = Space.parse({"timestamp_jitter": parameter})
    point = {"timestamp_jitter": value}

    found = [perturb(space, point, random.Random(seed)) for seed in range(50)]

    assert {point["timestamp_jitter"] for point in found} == reached
    assert all(isinstance(point["timestamp_jitter"], int) for point in found)


def test_constraints_hold_or_the_point_stays() -> None:
    space = Space.parse(
        {
            "dropout": {"choice": NEIGHBOURS},
            "mixup_alpha": {"choice": NEIGHBOURS},
            "constraints": ["dropout == mixup_alpha"],
        }
    )
    point = {"dropout": 0.1, "mixup_alpha": 0.1}
    stuck = Space.parse({**space.to_dict(), "constraints": ["dropout + mixup_alpha <= 0.21"]})

    found = perturb(space, point, random.Random(0))

    assert found == {"dropout": 0.2, "mixup_alpha": 0.2}
    assert perturb(stuck, point, random.Random(0)) == point


def test_what_others_wait_for_stays() -> None:
    space = Space.parse(
        {
            "mixup_alpha": {"choice": [0.0, 0.2]},
            "dropout": {"uniform": [0.0, 0.3], "when": {"mixup_alpha": 0.2}},
        }
    )

    assert changeable(space) == ("dropout",)
    assert perturb(space, {"mixup_alpha": 0.0}, random.Random(0)) == {"mixup_alpha": 0.0}


def test_nothing_may_change_in_a_space_of_shapes() -> None:
    space = Space.parse({"lora_rank": {"choice": [4, 8]}, "dropout": 0.2})

    assert changeable(space) == ()
