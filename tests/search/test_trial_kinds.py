"""A study's trials are reduced to what memory and time depend on."""

import pytest

from search.study_config import StudyConfig, parse_study
from search.trial_kinds import describe_kind, sizes_to_measure, trial_kinds
from spaces.trial_config import TrialConfig

STUDY = """
name: tiny
data: {path: clicks.csv, columns: {text: [title], label: clicked}}
space: {learning_rate: {log_uniform: [1.0e-5, 1.0e-3]}}
"""


def study(space: str, *overrides: str) -> StudyConfig:
    return parse_study(STUDY, [f"space={space}", *overrides])


def test_what_costs_nothing_makes_no_kind() -> None:
    space = "{batch_size: {choice: [8, 16]}, dropout: {uniform: [0.0, 0.2]}, augmentation: \
        {choice: [none, synonym]}, weight_decay: {uniform: [0.0, 0.1]}}"

    kinds = trial_kinds(study(space))

    assert sorted(kind.batch_size for kind in kinds) == [8, 16]
    assert sum(kinds.values()) == pytest.approx(1)
    assert all(share == pytest.approx(0.5, abs=0.07) for share in kinds.values())


def test_the_costliest_rank_stands_for_all() -> None:
    kinds = trial_kinds(study("{method: lora, lora_rank: {choice: [4, 16, 8]}}"))

    assert [kind.lora_rank for kind in kinds] == [16]


def test_each_number_of_tuned_layers_is_a_kind() -> None:
    space = "{tuned_layers: {choice: [1, 2]}, augmentation: {choice: [none, synonym]}}"

    assert sorted(kind.tuned_layers or 0 for kind in trial_kinds(study(space))) == [1, 2]


def test_token_budgets_are_sizes_of_one_kind() -> None:
    kinds = trial_kinds(study("{batch_tokens: {int: [1024, 4096]}}"))

    assert (min(kind.batch for kind in kinds), max(kind.batch for kind in kinds)) == (1024, 4096)
    assert [kind.batch_tokens for kind in sizes_to_measure(kinds)] == [1024, 4096]


def test_the_largest_batch_of_a_wide_range_is_among_the_kinds() -> None:
    kinds = trial_kinds(study("{batch_size: {int: [1, 100000]}}"))

    assert max(kind.batch_size for kind in kinds) == 100_000


@pytest.mark.parametrize(
    ("sizes", "measured"),
    [([16], [16]), ([16, 32, 64], [16, 64]), ([8, 16, 32, 64, 128], [8, 32, 128])],
)
def test_sizes_between_are_left_to_interpolation(sizes: list[int], measured: list[int]) -> None:
    kinds = {TrialConfig(batch_size=size): 1 / len(sizes) for size in sizes}

    assert [kind.batch_size for kind in sizes_to_measure(kinds)] == measured


def test_each_kind_has_its_own_smallest_and_largest() -> None:
    kinds = [
        TrialConfig(batch_size=8, method="full"),
        TrialConfig(batch_size=16, method="full"),
        TrialConfig(batch_size=32, method="lora"),
    ]

    assert sizes_to_measure(dict.fromkeys(kinds, 1 / 3)) == kinds


def test_a_kind_is_named_as_a_study_file_would() -> None:
    kind = TrialConfig(batch_size=8, method="full", tuned_layers=2)

    assert describe_kind(kind) == "batch_size 8, method full, tuned_layers 2"


def test_the_largest_batch_that_constraints_allow_is_among_the_kinds() -> None:
    config = study(
        "{batch_size: {int: [8, 4096]}, field_units: {int: [16, 4096]}, "
        "constraints: [batch_size * field_units <= 40000]}"
    )

    assert max(kind.batch for kind in trial_kinds(config)) > 2_000
