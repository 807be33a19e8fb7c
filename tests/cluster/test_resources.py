"""What one trial needs, how many trials fit, and what is said when none does."""

import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.resources import Capacity, TrialResources, available_cpus, fit_trials, local_capacity


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"workers": 0}, r"resources\.workers must be at least 1, got 0"),
        ({"cpus_per_worker": 0}, r"resources\.cpus_per_worker must be at least 1, got 0"),
        ({"gpus_per_worker": -1}, r"resources\.gpus_per_worker must be auto, or 0 or more, got -1"),
        ({"gpus_per_worker": math.nan}, r"must be auto, or 0 or more, got nan"),
        ({"gpus_per_worker": 1.5}, r"must be whole above 1.*got 1\.5"),
        ({"workers": 2, "gpus_per_worker": 0.5}, r"must be whole for 2 workers, got 0\.5"),
        ({"concurrent_trials": 0}, r"must be auto or at least 1, got 0"),
    ],
)
def test_impossible_resources_are_refused(settings: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TrialResources(**settings)


@given(
    workers=st.integers(1, 8),
    cpus=st.integers(1, 8),
    gpus=st.sampled_from([0, 1, 2]),
    capacity=st.builds(Capacity, cpus=st.integers(1, 256), gpus=st.integers(0, 64)),
)
def test_as_many_trials_fit_as_leave_no_room_for_another(
    workers: int, cpus: int, gpus: int, capacity: Capacity
) -> None:
    resources = TrialResources(workers=workers, cpus_per_worker=cpus, gpus_per_worker=gpus)

    def hold(trials: int) -> bool:
        return trials * workers * cpus <= capacity.cpus and trials * workers * gpus <= capacity.gpus

    if not hold(1):
        with pytest.raises(ValueError, match="one trial needs"):
            fit_trials(resources, capacity)
        return
    fits = fit_trials(resources, capacity)
    assert hold(fits)
    assert not hold(fits + 1)


@pytest.mark.parametrize("share", [0.1, 0.2, 0.25, 0.3])
def test_fractions_of_a_gpu_add_up_in_spite_of_rounding(share: float) -> None:
    resources = TrialResources(gpus_per_worker=share)

    assert fit_trials(resources, Capacity(cpus=64, gpus=3)) == round(3 / share - 1e-9)


@pytest.mark.parametrize(
    ("nodes", "workers", "cpus", "fits"),
    [
        (((3, 0), (3, 0), (3, 0)), 1, 2, 3),
        (((3, 0), (3, 0), (3, 0)), 2, 2, 1),
        (((2, 0), (2, 0)), 4, 1, 1),
    ],
)
def test_a_worker_is_not_spread_over_machines(
    nodes: tuple[tuple[float, float], ...], workers: int, cpus: int, fits: int
) -> None:
    capacity = Capacity(cpus=sum(cpus for cpus, _ in nodes), gpus=0, nodes=nodes)

    assert fit_trials(TrialResources(workers=workers, cpus_per_worker=cpus), capacity) == fits


def test_a_worker_larger_than_every_machine_is_refused() -> None:
    capacity = Capacity(cpus=2, gpus=0, nodes=((1, 0), (1, 0)))

    with pytest.raises(ValueError, match="there are 2 CPUs and 0 GPUs on 2 machines"):
        fit_trials(TrialResources(cpus_per_worker=2), capacity)


@pytest.mark.parametrize(
    ("workers", "gpus", "expected"), [(1, 0, 0), (1, 4, 1), (2, 1, 0), (2, 2, 1)]
)
def test_auto_takes_gpus_where_there_are_enough(workers: int, gpus: int, expected: int) -> None:
    settled = TrialResources(workers=workers).settle_gpus(Capacity(cpus=8, gpus=gpus))

    assert settled.gpus == expected


def test_a_number_of_gpus_is_not_settled_otherwise() -> None:
    resources = TrialResources(gpus_per_worker=0)

    assert resources.settle_gpus(Capacity(cpus=8, gpus=8)) == resources


def test_fewer_concurrent_trials_than_fit_are_kept_and_more_are_refused() -> None:
    capacity = Capacity(cpus=8, gpus=0)

    assert fit_trials(TrialResources(workers=2, concurrent_trials=3), capacity) == 3
    with pytest.raises(
        ValueError, match=r"concurrent_trials is 5, but only 4 fit: one trial needs 2 x 1 CPUs"
    ):
        fit_trials(TrialResources(workers=2, concurrent_trials=5), capacity)


def test_a_trial_that_is_too_large_is_told_what_there_is() -> None:
    with pytest.raises(
        ValueError,
        match=r"one trial needs 4 x 2 CPUs and 4 x 1 GPUs, but there are 4 CPUs and 0 GPUs",
    ):
        fit_trials(
            TrialResources(workers=4, cpus_per_worker=2, gpus_per_worker=1),
            Capacity(cpus=4, gpus=0),
        )


@pytest.mark.parametrize(
    ("limit", "expected"),
    [("100000 100000", 1), ("50000 100000", 1), ("max 100000", None), ("nonsense", None)],
)
def test_a_containers_quota_limits_the_cores(
    tmp_path: Path, limit: str, expected: int | None
) -> None:
    path = tmp_path / "cpu.max"
    unlimited = available_cpus(path)
    path.write_text(limit)

    assert available_cpus(path) == (unlimited if expected is None else expected)


def test_this_machine_has_a_core() -> None:
    assert local_capacity().cpus >= 1
