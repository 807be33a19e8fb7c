"""What one trial needs, how many trials fit, and what is said when none does."""

import math
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from cluster.resources import (
    GPU_DRIVERS,
    Capacity,
    MemoryNeed,
    TrialResources,
    available_cpus,
    count_gpus,
    fit_trials,
    local_capacity,
)


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


@pytest.mark.parametrize(("share", "fits"), [(0.1, 30), (0.2, 15), (0.25, 12), (0.3, 9)])
def test_fractions_add_up_on_each_gpu_in_spite_of_rounding(share: float, fits: int) -> None:
    resources = TrialResources(gpus_per_worker=share)

    # Ray gives a worker no parts of two GPUs: a tenth of each stays free beside three of 0.3.
    assert fit_trials(resources, Capacity(cpus=64, gpus=3)) == fits


def need(gigabytes: float, gpu: float = 0) -> MemoryNeed:
    return MemoryNeed(
        worker_bytes=gigabytes * 1e9,
        gpu_bytes=gpu * 1e9,
        largest="batch_size 64",
        remedy="use batch_size 8",
    )


def test_memory_lowers_auto() -> None:
    capacity = Capacity(cpus=8, gpus=0, memory=(10e9,))

    assert fit_trials(TrialResources(), capacity, need(1)) == 8
    assert fit_trials(TrialResources(), capacity, need(3)) == 3


def test_memory_counts_on_each_machine_alone() -> None:
    capacity = Capacity(cpus=6, gpus=0, nodes=((2, 0), (4, 0)), memory=(9e9, 5e9))

    assert fit_trials(TrialResources(), capacity, need(3)) == 2 + 1
    assert fit_trials(TrialResources(workers=2), capacity, need(3)) == 1


@pytest.mark.parametrize(
    ("concurrent", "gigabytes", "message"),
    [
        (
            "auto",
            11,
            r"one trial needs 1 x 11 GB of memory \(batch_size 64\), but there is 10 GB; ",
        ),
        (3, 4, r"is 3, but only 2 fit: .* 1 x 4 GB .* write concurrent_trials: 2, or use batch_s"),
    ],
)
def test_too_little_memory_is_refused_with_what_would_fit(
    concurrent: int, gigabytes: float, message: str
) -> None:
    resources = TrialResources(concurrent_trials=concurrent)

    with pytest.raises(ValueError, match=message):
        fit_trials(resources, Capacity(cpus=4, gpus=0, memory=(10e9,)), need(gigabytes))


def test_a_gpu_is_packed_as_far_as_its_memory_holds() -> None:
    resources = TrialResources(gpus_per_worker=0.25)
    capacity = Capacity(cpus=16, gpus=2, memory=(100e9,), gpu_memory=80e9)

    assert fit_trials(resources, capacity, need(4, gpu=20)) == 8
    with pytest.raises(
        ValueError,
        match=r"packs trials that need 4 x 21 GB of GPU memory .* write gpus_per_worker: 0\.3333 "
        "for 3 on a GPU, or use batch_size 8",
    ):
        fit_trials(resources, capacity, need(4, gpu=21))
    assert fit_trials(TrialResources(gpus_per_worker=0.3333), capacity, need(4, gpu=21)) == 6


def test_trials_that_never_meet_on_a_gpu_are_not_counted_twice() -> None:
    resources = TrialResources(gpus_per_worker=0.25, concurrent_trials=2)
    capacity = Capacity(cpus=16, gpus=2, memory=(100e9,), gpu_memory=80e9)

    assert fit_trials(resources, capacity, need(4, gpu=40)) == 2


def test_a_trial_larger_than_a_gpu_is_refused() -> None:
    capacity = Capacity(cpus=16, gpus=1, memory=(100e9,), gpu_memory=10e9)

    with pytest.raises(ValueError, match="one trial needs 1 x 12 GB of GPU memory"):
        fit_trials(TrialResources(gpus_per_worker=1), capacity, need(4, gpu=12))


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


@pytest.mark.parametrize(
    ("cpus", "gpus", "memory", "gpu", "packed"),
    [
        (16, 1, 128, 5, 8),
        (16, 1, 128, 20, 4),
        (16, 1, 128, 50, 1),
        (16, 1, 128, 200, 1),
        (5, 1, 128, 5, 5),
        (16, 4, 128, 5, 4),
        (16, 1, 30, 5, 3),
        (2, 4, 128, 5, 1),
    ],
)
def test_auto_shares_gpus_as_far_as_memory_and_cores_allow(
    cpus: int, gpus: int, memory: float, gpu: float, packed: int
) -> None:
    capacity = Capacity(cpus=cpus, gpus=gpus, memory=(memory * 1e9,), gpu_memory=80e9)

    settled = TrialResources().settle_gpus(capacity, need(8, gpu=gpu))

    assert 1 / settled.gpus == pytest.approx(packed, rel=1e-3)
    if gpu < 80:
        assert fit_trials(settled, capacity, need(8, gpu=gpu)) == min(packed * gpus, cpus)
    assert TrialResources().settle_gpus(capacity).gpus == 1
    assert TrialResources(workers=gpus).settle_gpus(capacity, need(8, gpu=gpu)).gpus == (
        settled.gpus if gpus == 1 else 1
    )


def test_few_trials_of_auto_pack_no_more_than_they_need_to() -> None:
    capacity = Capacity(cpus=64, gpus=4, gpu_memory=80e9)
    fewer = TrialResources(concurrent_trials=8)

    assert TrialResources().settle_gpus(capacity, need(1, gpu=1), most=5).gpus == 0.5
    assert TrialResources().settle_gpus(capacity, need(1, gpu=1), most=4).gpus == 1
    assert fewer.settle_gpus(capacity, need(1, gpu=1)).gpus == 0.5


@pytest.mark.parametrize(
    ("nodes", "share", "fits"),
    [
        # One GPU's cores are no reason to leave another's idle.
        (((16, 1), (1, 1)), 0.125, 9),
        (((15, 8),), 0.5, 15),
        (((7, 4),), 0.5, 7),
        (((16, 1), (64, 0)), 0.125, 8),
    ],
)
def test_machines_are_packed_as_far_as_each_can_be(
    nodes: tuple[tuple[float, float], ...], share: float, fits: int
) -> None:
    capacity = Capacity(
        cpus=sum(cpus for cpus, _ in nodes),
        gpus=sum(gpus for _, gpus in nodes),
        nodes=nodes,
        gpu_memory=80e9,
    )

    settled = TrialResources().settle_gpus(capacity, need(1, gpu=1))

    assert settled.gpus == share
    assert fit_trials(settled, capacity, need(1, gpu=1)) == fits


def test_a_gpu_whose_memory_is_not_known_is_not_shared() -> None:
    assert TrialResources().settle_gpus(Capacity(cpus=8, gpus=1), need(1, gpu=1)).gpus == 1


@given(count=st.integers(1, 64))
def test_a_share_fits_as_often_as_it_was_made_for(count: int) -> None:
    capacity = Capacity(cpus=64, gpus=1, gpu_memory=count * 1e9)

    with pytest.raises(ValueError, match="gpus_per_worker") as caught:
        fit_trials(TrialResources(gpus_per_worker=0.01), capacity, need(1, gpu=1))

    share = float(str(caught.value).split("write gpus_per_worker: ")[1].split()[0])
    assert fit_trials(TrialResources(gpus_per_worker=share), capacity, need(1, gpu=1)) == count


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


def test_gpus_are_counted_where_a_driver_is(tmp_path: Path) -> None:
    driver = tmp_path / "nvidiactl"
    assert count_gpus([driver]) == 0

    driver.touch()
    assert count_gpus([driver]) == torch.cuda.device_count()


@pytest.mark.skipif(any(d.exists() for d in GPU_DRIVERS), reason="this machine may have a GPU")
def test_without_a_driver_nobody_waits_for_torch() -> None:
    code = "import sys; from cluster.resources import local_capacity; local_capacity()"

    subprocess.run([sys.executable, "-c", f"{code}; assert 'torch' not in sys.modules"], check=True)
