import dataclasses
from pathlib import Path

import pytest

from cluster.resources import NO_MEMORY, Capacity, MemoryNeed
from search.study_config import parse_study
from search.study_plan import StudyPlan, count_points, make_plan
from spaces.space import Space

STUDY = """
name: tiny
data: {path: clicks.csv, columns: {text: [title], label: clicked}}
space: ctr
"""
PBT = ["search.scheduler=pbt", "search.confirm_trials=0"]


def plan(*overrides: str, cpus: float = 8, gpus: float = 0) -> StudyPlan:
    config = parse_study(STUDY, overrides)
    return make_plan(config, Path("runs/tiny"), Capacity(cpus=cpus, gpus=gpus), None)


def test_continuous_space_has_infinitely_many_points() -> None:
    assert plan().num_points is None
    assert plan().num_trials == 24


def test_finite_space_limits_the_trials() -> None:
    small = plan("space={batch_size: {choice: [8, 16]}}")

    assert (small.num_points, small.num_trials, small.num_concurrent) == (2, 2, 2)
    assert any("only 2 points" in note for note in small.notes)


def test_points_that_train_the_same_model_count_once() -> None:
    space = Space.parse({"method": {"choice": ["full", "lora"]}, "lora_rank": {"choice": [2, 4]}})

    assert space.count() == 4
    assert count_points(space) == 3


def test_huge_space_is_not_visited() -> None:
    assert count_points(Space.parse({"batch_size": {"int": [1, 10**9]}})) == 10**9


def test_trials_run_as_many_at_a_time_as_fit() -> None:
    two = plan("resources.workers=2", "resources.cpus_per_worker=2", cpus=9)

    assert two.num_concurrent == 2
    assert two.threads_per_worker == 2
    assert two.num_idle_cpus == 1


def test_rungs_are_named() -> None:
    assert plan("search.epochs=9").rungs == (1, 2, 4, 8)
    assert plan("search.epochs=9", "search.reduction_factor=3").rungs == (1, 3)
    assert plan("search.scheduler=none").rungs == ()
    assert plan("search.scheduler=hyperband", "search.epochs=9").rungs == (1, 2, 4, 8)
    assert plan("search.scheduler=median", "search.epochs=4").rungs == (1, 2, 3)
    assert plan(*PBT, "search.epochs=5", "search.perturbation_epochs=2").rungs == (2, 4)


@pytest.mark.parametrize(
    ("overrides", "note"),
    [
        (["search.epochs=1"], "asha stops no trial"),
        (["search.brackets=2"], "search.brackets is 2, but scheduler asha doesn't use it"),
        (
            ["search.scheduler=none", "search.grace_epochs=9"],
            "search.grace_epochs is 9, but scheduler none doesn't use it",
        ),
        (
            ["search.scheduler=hyperband", "search.brackets=5"],
            "search.brackets is 5, but from 1 to 3 epochs there are only 3",
        ),
        (
            ["search.scheduler=median", "search.trials=5"],
            "median stops no trial: search.min_peers is 5",
        ),
        ([*PBT, "search.perturbation_epochs=3"], "pbt replaces no trial: search.perturbation_ep"),
        (
            [*PBT, "space={dropout: {choice: [0.1, 0.2]}}"],
            "pbt replaces no trial: there are only 2, and it needs 4",
        ),
        ([*PBT, "search.grace_epochs=2"], "scheduler pbt doesn't use it"),
        (["search.exploit_fraction=0.5"], "exploit_fraction is 0.5, but scheduler asha doesn't"),
        (["search.patience=24"], "search.patience is 24, but there are only 24 trials"),
        (["search.trials=2"], "winners is 3, but there are only 2 trials"),
        (["deepspeed.zero_stage=2"], "with one worker there is nothing to shard"),
        (
            ["search.algorithm=grid", "space={batch_size: {int: [1, 99]}}"],
            "the grid has 99 points; only the first 24",
        ),
        (
            [
                "search.algorithm=sobol",
                "search.trials=5",
                "space={batch_size: {grid: [1, 2, 3, 4, 5, 6]}, dropout: {uniform: [0.0, 0.3]}}",
            ],
            "the grids of batch_size have 6 combinations; with search.trials 5 some of them have",
        ),
        (
            ["search.algorithm=grid", "space={batch_size: {choice: [8, 16], prior: 8}}"],
            "space.batch_size has a prior, but algorithm grid visits every value alike",
        ),
    ],
)
def test_setting_without_effect_is_noted(overrides: list[str], note: str) -> None:
    assert any(note in line for line in plan(*overrides).notes)


def test_usual_study_has_nothing_to_note() -> None:
    assert plan().notes == ()


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["resources.workers=9"], "one trial needs 9 x 1 CPUs, but there are 8 CPUs"),
        (["resources.gpus_per_worker=1"], "0 GPUs"),
        (["resources.concurrent_trials=20"], "only 8 fit"),
    ],
)
def test_what_does_not_fit_is_refused(overrides: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        plan(*overrides)


def need(gigabytes: float) -> MemoryNeed:
    return MemoryNeed(
        worker_bytes=gigabytes * 1e9, gpu_bytes=0, largest="batch_size 64", remedy="use less"
    )


GPU = Capacity(cpus=16, gpus=1, memory=(100e9,), gpu_memory=80e9)


def gpu_need(gigabytes: float) -> MemoryNeed:
    return dataclasses.replace(need(4), gpu_bytes=gigabytes * 1e9)


def test_trials_that_may_share_a_gpu_are_as_many_as_were_asked_for() -> None:
    config = parse_study(STUDY, ["resources.concurrent_trials=4"])

    found = make_plan(config, Path("runs/tiny"), GPU, None, NO_MEMORY)

    assert (found.num_concurrent, found.config.resources.gpus, found.num_packed) == (4, 0.25, 4)
    assert found.notes == ()


def test_a_gpu_that_holds_few_trials_is_noted() -> None:
    config = parse_study(STUDY, ["search.trials=20"])

    found = make_plan(config, Path("runs/tiny"), GPU, None, gpu_need(30))
    unknown = make_plan(config, Path("runs/tiny"), GPU, None, None)

    assert (found.num_concurrent, unknown.num_concurrent) == (2, 1)
    assert found.notes == (
        "2 instead of 8 trials run at a time, because one takes 30 GB of GPU memory (batch_size 64)"
        " and a GPU offers 80 GB",
    )
    assert unknown.notes == (
        "1 instead of 8 trials run at a time, because what they take of a GPU's memory isn't known",
    )


def test_fewer_trials_at_a_time_for_want_of_memory_are_noted() -> None:
    config = parse_study(STUDY)
    capacity = Capacity(cpus=8, gpus=0, memory=(10e9,))

    tight = make_plan(config, Path("runs/tiny"), capacity, None, need(3))

    assert tight.num_concurrent == 3
    assert tight.num_idle_cpus == 5
    assert any(
        note.startswith("3 instead of 8 trials run at a time, because one takes 1 x 3 GB of memory")
        for note in tight.notes
    )
    assert make_plan(config, Path("runs/tiny"), capacity, None, need(1)).notes == ()
