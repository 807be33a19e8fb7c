"""Predictions of memory and time, from footprints whose numbers are easy to follow."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cluster.resources import Capacity, TrialResources
from search.room import (
    START_SECONDS,
    TrialCosts,
    bound_need,
    expected_epochs,
    frozen_seconds,
    is_ample,
)
from search.study_config import SearchConfig, StudyConfig, parse_study
from spaces.trial_config import TrialConfig
from trainables.footprint import Footprint

STUDY = """
name: tiny
data: {path: clicks.csv, columns: {text: [title], label: clicked}}
space: {batch_size: {choice: [16, 32, 64]}, method: full}
"""
SMALL, MIDDLE, LARGE = (TrialConfig(method="full", batch_size=size) for size in (16, 32, 64))
NONE = SearchConfig(scheduler="none", epochs=3)


def footprint(trial: TrialConfig, seconds: float, gigabytes: float) -> Footprint:
    return Footprint(
        trial=trial,
        num_rows=640,
        rows_per_step=trial.batch_size,
        step_seconds=seconds,
        evaluate_seconds=0.0,
        start_seconds=0.0,
        memory_bytes=gigabytes * 1e9,
        gpu_bytes=0.0,
    )


def costs(search: SearchConfig = NONE) -> TrialCosts:
    return TrialCosts(
        footprints=(footprint(SMALL, 1, 1), footprint(LARGE, 3, 4)),
        shares={SMALL: 0.25, MIDDLE: 0.5, LARGE: 0.25},
        search=search,
        frozen_seconds=0.0,
    )


def study(*overrides: str) -> StudyConfig:
    return parse_study(STUDY, overrides)


def test_a_batch_size_between_is_interpolated() -> None:
    between = costs().of(MIDDLE)

    assert between.trial == MIDDLE
    assert between.step_seconds == pytest.approx(1 + 2 / 3)
    assert between.memory_bytes == pytest.approx(2e9)
    assert between.num_steps == 20


def test_a_study_takes_the_mean_of_its_kinds_in_rounds() -> None:
    per_epoch = 0.25 * 40 * 1 + 0.5 * 20 * (1 + 2 / 3) + 0.25 * 10 * 3

    assert costs().study_seconds(num_trials=12, num_concurrent=2) == pytest.approx(
        START_SECONDS + 6 * 3 * per_epoch
    )
    alone = costs().study_seconds(num_trials=2, num_concurrent=4)
    assert alone == pytest.approx(START_SECONDS + 3 * per_epoch)
    # Eight on one GPU do 2.3 times the work of one, so that each takes longer.
    packed = costs().study_seconds(num_trials=80, num_concurrent=8, num_packed=8)
    assert packed == pytest.approx(START_SECONDS + 80 * 3 * per_epoch / 8**0.4)


def test_the_need_is_that_of_the_largest_trial() -> None:
    need = costs().need(TrialResources(), Capacity(cpus=2, gpus=0, memory=(2.1e9,)))

    assert need.worker_bytes == 4e9
    assert need.largest == "batch_size 64, method full"
    assert need.remedy.startswith("use batch_size 33, ")


def test_trials_that_share_a_machine_leave_room_for_smaller_batches_only() -> None:
    resources = TrialResources(concurrent_trials=2)

    need = costs().need(resources, Capacity(cpus=2, gpus=0, memory=(3e9,)))

    assert need.remedy.startswith("use batch_size 24, ")


def test_no_batch_size_is_named_where_even_the_smallest_does_not_fit() -> None:
    need = costs().need(TrialResources(), Capacity(cpus=2, gpus=0, memory=(0.5e9,)))

    assert need.remedy.startswith("use a smaller batch_size, ")


def test_without_a_scheduler_every_trial_runs_all_epochs() -> None:
    assert expected_epochs(NONE, 12) == 3


@settings(max_examples=20)
@given(trials=st.integers(1, 3_000), epochs=st.integers(1, 9))
def test_asha_saves_epochs_and_never_adds_any(trials: int, epochs: int) -> None:
    search = SearchConfig(scheduler="asha", epochs=epochs)

    assert 1 <= expected_epochs(search, trials) <= epochs


def test_asha_stops_more_of_a_longer_search() -> None:
    search = SearchConfig(scheduler="asha", epochs=3, reduction_factor=3)

    # The first two go on unseen; of many trials two thirds are stopped at the first rung.
    assert expected_epochs(search, 2) == 3
    assert expected_epochs(search, 200) == pytest.approx(1 + 2 / 3, abs=0.15)
    assert expected_epochs(search, 12) > expected_epochs(search, 200)


def test_frozen_layers_are_computed_once_for_each_cut(tiny_encoder: Path) -> None:
    top = TrialConfig(tuned_layers=1, batch_size=16)
    found = Footprint(
        trial=top,
        num_rows=10,
        rows_per_step=16,
        step_seconds=1.0,
        evaluate_seconds=2.0,
        start_seconds=0.0,
        memory_bytes=1e9,
        gpu_bytes=0.0,
    )

    # The layer below takes as long for a row as the layer above in the evaluation of 50 rows.
    assert frozen_seconds([found], study(), tiny_encoder, (450, 50)) == pytest.approx(20)
    assert frozen_seconds([found], study("encoder.cache_gb=0"), tiny_encoder, (450, 50)) == 0


@pytest.mark.parametrize(
    ("cpus", "memory", "expected"),
    [(2, 16e9, True), (2, 1.7e9, False), (1, 1.7e9, True), (64, 16e9, False), (1, 1e8, False)],
)
def test_ample_memory_needs_no_measurement(
    tiny_encoder: Path, cpus: int, memory: float, expected: bool
) -> None:
    capacity = Capacity(cpus=cpus, gpus=0, memory=(memory,))
    config = study("resources.gpus_per_worker=0")

    bound = bound_need(config, tiny_encoder, num_tokens=64, num_rows=9_999, use_gpu=False)

    assert is_ample(config.resources, capacity, bound, num_trials=20) is expected


def test_a_batch_never_has_more_rows_than_the_table(tiny_encoder: Path) -> None:
    config = study("resources.gpus_per_worker=0", "space={batch_size: 1000000}")
    capacity = Capacity(cpus=2, gpus=0, memory=(4e9,))

    few, many = (
        bound_need(config, tiny_encoder, num_tokens=64, num_rows=num_rows, use_gpu=False)
        for num_rows in (100, 10**6)
    )

    assert is_ample(config.resources, capacity, few, num_trials=20)
    assert not is_ample(config.resources, capacity, many, num_trials=20)


@pytest.mark.parametrize("share", ["0.25", "auto"])
def test_a_full_gpu_is_not_ample_whatever_the_machine_has(tiny_encoder: Path, share: str) -> None:
    config = study(f"resources.gpus_per_worker={share}")

    bound = bound_need(config, tiny_encoder, num_tokens=64, num_rows=9_999, use_gpu=True)

    for memory, expected in ((80e9, True), (4e9, False)):
        capacity = Capacity(cpus=8, gpus=1, gpu_memory=memory)
        assert is_ample(config.resources, capacity, bound, num_trials=20) is expected
