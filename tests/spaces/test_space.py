import random
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from spaces.constraints import Constraint
from spaces.space import Space, load_preset, preset_names
from spaces.trial_config import TrialConfig

PARENTS = {"method": ["full", "lora"], "augmentation": ["none", "synonym", "word_dropout"]}
CHILDREN = {"lora_rank": [2, 4, 8], "augmentation_rate": [0.1, 0.2], "batch_size": [8, 16]}


CONSTRAINTS = (
    "lora_rank * batch_size <= 64",
    "batch_size / lora_rank >= 2 or batch_size < 16",
    "augmentation_rate * lora_rank < 1.6",
)


@st.composite
def finite_spaces(draw: st.DrawFn) -> Space:
    raw: dict[str, Any] = {}
    for name, options in PARENTS.items():
        chosen = draw(st.lists(st.sampled_from(options), unique=True))
        if chosen:
            raw[name] = {"choice": chosen}
    parents = {name: raw[name]["choice"] for name in raw}
    for name, options in CHILDREN.items():
        chosen = draw(st.lists(st.sampled_from(options), unique=True))
        if not chosen:
            continue
        raw[name] = {"choice": chosen}
        parent = draw(st.sampled_from([None, *parents]))
        if parent is not None:
            values = draw(st.lists(st.sampled_from(parents[parent]), unique=True, min_size=1))
            raw[name]["when"] = {parent: values}
    if not raw:
        raw["batch_size"] = 8
    known = [text for text in CONSTRAINTS if set(Constraint(text).names) <= set(raw)]
    chosen = draw(st.lists(st.sampled_from(known), unique=True)) if known else []
    try:
        return Space.parse({**raw, "constraints": chosen})
    except ValueError as error:
        assume("no point" not in str(error))
        raise


@given(finite_spaces())
def test_enumeration_visits_as_many_distinct_points_as_are_counted(space: Space) -> None:
    points = list(space.enumerate())

    assert len(points) == space.count()
    assert len({tuple(point.items()) for point in points}) == len(points)


@given(finite_spaces(), st.integers())
def test_sampled_point_is_one_of_the_enumerated(space: Space, seed: int) -> None:
    assert space.sample(random.Random(seed)) in list(space.enumerate())


@given(finite_spaces(), st.integers())
def test_every_point_fulfils_the_constraints(space: Space, seed: int) -> None:
    for point in (space.sample(random.Random(seed)), *space.enumerate()):
        assert all(constraint.holds(point) for constraint in space.constraints)


@given(finite_spaces(), st.integers())
def test_every_point_makes_a_trial(space: Space, seed: int) -> None:
    point = space.sample(random.Random(seed))

    config = TrialConfig(**point)

    assert {name: getattr(config, name) for name in point} == point


@given(finite_spaces(), st.integers())
def test_parameter_is_active_exactly_if_its_parents_allow_it(space: Space, seed: int) -> None:
    point = space.sample(random.Random(seed))

    for name, parameter in space.parameters.items():
        allowed = all(point.get(parent) in values for parent, values in parameter.when.items())
        assert (name in point) == allowed


@given(finite_spaces())
def test_space_reads_back_as_it_is_written(space: Space) -> None:
    assert Space.parse(space.to_dict()) == space


def test_condition_of_a_condition_is_followed() -> None:
    space = Space.parse(
        {
            "augmentation": {"choice": ["none", "synonym"]},
            "method": {"choice": ["full", "lora"], "when": {"augmentation": "synonym"}},
            "lora_rank": {"choice": [2, 4], "when": {"method": "lora"}},
        }
    )

    assert list(space.enumerate()) == [
        {"augmentation": "none"},
        {"augmentation": "synonym", "method": "full"},
        {"augmentation": "synonym", "method": "lora", "lora_rank": 2},
        {"augmentation": "synonym", "method": "lora", "lora_rank": 4},
    ]
    assert space.count() == 4


def test_continuous_draws_fulfil_constraints() -> None:
    space = Space.parse(
        {
            "learning_rate": {"log_uniform": [1e-5, 1e-2]},
            "lora_rank": {"log_int": [1, 64]},
            "constraints": ["learning_rate * lora_rank <= 1.0e-3"],
        }
    )
    rng = random.Random(0)

    points: list[dict[str, Any]] = [space.sample(rng) for _ in range(300)]

    assert max(p["learning_rate"] * p["lora_rank"] for p in points) <= 1e-3 * (1 + 1e-9)
    assert space.count() is None


def test_the_only_point_that_is_allowed_is_found() -> None:
    space = Space.parse(
        {
            "batch_size": {"int": [1, 250]},
            "lora_rank": {"int": [1, 250]},
            "constraints": ["batch_size + lora_rank >= 500"],
        }
    )

    assert space.count() == 1
    assert space.sample(random.Random(0)) == {"batch_size": 250, "lora_rank": 250}


def test_last_parameter_of_a_grid_varies_fastest() -> None:
    space = Space.parse({"method": {"choice": ["full", "lora"]}, "batch_size": {"int": [1, 2]}})

    assert [tuple(point.values()) for point in space.enumerate()] == [
        ("full", 1),
        ("full", 2),
        ("lora", 1),
        ("lora", 2),
    ]


def test_huge_conditional_space_is_counted_without_visiting_it() -> None:
    space = Space.parse(
        {
            "method": {"choice": ["full", "lora"]},
            "lora_rank": {"int": [1, 10**6], "when": {"method": "lora"}},
            "batch_size": {"int": [1, 10**6]},
        }
    )

    assert space.count() == 10**6 + 10**12


def test_continuous_space_has_no_count_and_no_grid() -> None:
    space = Space.parse({"dropout": {"uniform": [0, 0.5]}, "batch_size": 8})

    assert space.count() is None
    assert space.continuous() == ("dropout",)
    with pytest.raises(ValueError, match="a grid can't enumerate dropout; list the values"):
        next(space.enumerate())


@pytest.mark.parametrize("name", preset_names())
def test_every_preset_loads_and_makes_trials(name: str) -> None:
    space = load_preset(name)
    rng = random.Random(0)

    for _ in range(50):
        TrialConfig(**space.sample(rng))


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        ({}, "the space is empty"),
        (None, "the space is empty"),
        (["learning_rate"], "expected parameters or a preset's name"),
        ("ctl", "unknown preset 'ctl'; did you mean 'ctr'"),
        ({"lr": 0.1}, "unknown parameter 'lr'; "),
        ({"epochs": {"int": [1, 3]}}, "unknown parameter 'epochs'"),
        ({"dropout": {"uniform": [0, 1.5]}}, r"dropout: dropout must be in \[0, 1\)"),
        ({"batch_size": {"choice": [8, 0]}}, "batch_size must be at least 1, got 0"),
        ({"batch_size": {"uniform": [8, 16]}}, r"batch_size must be a whole number, got 8\.0"),
        ({"method": {"choice": ["lora", "prefix"]}}, "method must be one of full, lora"),
        ({"dropout": {"choice": ["1e-1"]}}, r"YAML reads 1e-5 as text, write 1\.0e-5"),
        ({"dropout": {"foo": 1}}, "dropout: expected exactly one of"),
        ({"batch_size": 8, "constraints": "batch_size < 9"}, "constraints: expected a list"),
        ({"batch_size": 8, "constraints": ["batch_sise < 9"]}, "did you mean 'batch_size'"),
        ({"batch_size": 8, "constraints": ["batch_size < 8"]}, "no point of the space fulfils"),
        ({"method": "lora", "constraints": ["method < 8"]}, "computes with method, which may be"),
        (
            {"dropout": {"uniform": [0, 0.5]}, "constraints": ["dropout < 0"]},
            "none of 10,000 draws fulfils 'dropout < 0'",
        ),
        (
            {"lora_rank": {"choice": [2], "when": {"method": "lora"}}},
            "lora_rank.when names 'method', which is not in the space",
        ),
        (
            {"lora_rank": {"choice": [2], "when": {"method": "lora"}}, "method": "lora"},
            "must stand above lora_rank",
        ),
        (
            {
                "dropout": {"uniform": [0, 0.5]},
                "lora_rank": {"choice": [2], "when": {"dropout": 0}},
            },
            "which is not a choice or an int",
        ),
        (
            {"method": "lora", "lora_rank": {"choice": [2], "when": {"method": "full"}}},
            r"waits for method='full', which method never is; it takes \['lora'\]",
        ),
        (
            {"method": "lora", "lora_rank": {"choice": [2], "when": {"method": []}}},
            "lora_rank.when lists no value of method",
        ),
    ],
)
def test_mistake_is_named(raw: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Space.parse(raw)
