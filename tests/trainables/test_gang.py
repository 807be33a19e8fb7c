"""A worker group stays warm between trials, and recovers from a worker that fails."""

import contextlib
import dataclasses
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import ray

from cluster.resources import TrialResources
from spaces.trial_config import TrialConfig
from tests.trainables.counting_trial import DIE, RAISE
from trainables.deepspeed_config import DeepSpeedConfig
from trainables.fine_tune import fine_tune
from trainables.gang import GangTrial, WorkerFailedError
from trainables.trial_setup import TrialSetup, Worker

pytestmark = pytest.mark.ray

Config = Callable[..., dict[str, Any]]


class CountingGang(GangTrial):
    fine_tune = "tests.trainables.counting_trial:count_epochs"


class Gang:
    """A trial in an actor, as Tune runs it."""

    def __init__(self, config: dict[str, Any]) -> None:
        # By name, because Ray's workers find the tests' modules on their path.
        self.actor = ray.remote(num_cpus=0)(CountingGang).remote(config)

    def train(self) -> dict[str, Any]:
        return ray.get(self.actor.train.remote())

    def reset(self, config: dict[str, Any]) -> bool:
        return ray.get(self.actor.reset.remote(config))

    def stop(self) -> None:
        ray.get(self.actor.stop.remote())
        ray.kill(self.actor)


@pytest.fixture
def config(tmp_path: Path) -> Config:
    def make(
        number: int, *, epochs: int = 3, seed: int = 0, resume_from: str | None = None
    ) -> dict[str, Any]:
        setup = TrialSetup(
            data_folder="",
            data_fingerprint="",
            encoder_fingerprint="",
            resources=TrialResources(workers=2),
        )
        trial = TrialConfig(epochs=epochs, seed=seed)
        return {
            "number": number,
            "trial": dataclasses.asdict(trial),
            "setup": setup,
            "checkpoints": str(tmp_path / "checkpoints" / f"trial-{number:04d}"),
            "resume_from": resume_from,
        }

    return make


Start = Callable[[dict[str, Any]], Gang]


@pytest.fixture
def start(ray_local: None) -> Iterator[Start]:
    """Start a gang of its own for a test that ends it."""
    started = []

    def make(config: dict[str, Any]) -> Gang:
        started.append(Gang(config))
        return started[-1]

    yield make
    for gang in started:
        with contextlib.suppress(ray.exceptions.RayActorError):
            gang.stop()


def free_cpus() -> float:
    return ray.available_resources().get("CPU", 0.0)


def wait_for_free_cpus(number: float, timeout_s: float = 10) -> float:
    deadline = time.monotonic() + timeout_s
    while free_cpus() < number and time.monotonic() < deadline:
        time.sleep(0.1)
    return free_cpus()


@pytest.mark.slow
def test_a_group_takes_trial_after_trial_until_a_worker_raises(
    start: Start, config: Config, tmp_path: Path
) -> None:
    gang = start(config(0, epochs=2))
    first = [gang.train(), gang.train()]
    assert gang.reset(config(1))
    second = gang.train()  # One epoch of three: the rest is dropped by the next reset.
    assert gang.reset(config(2, seed=RAISE))
    started = time.monotonic()
    third = gang.train()
    later_start_s = time.monotonic() - started

    assert [result["epoch"] for result in first] == [1, 2]
    assert [result["done"] for result in (*first, second, third)] == [False, True, False, False]
    assert first[0]["pids"] == second["pids"] == third["pids"]
    assert len(set(third["pids"]) - {os.getpid()}) == 2
    assert third["metrics"] == {"workers": 2.0, "threads": 1.0}
    assert later_start_s < 2

    with pytest.raises(WorkerFailedError, match=r"(?s)trial 2: worker 1 failed.*too much"):
        gang.train()
    with pytest.raises(WorkerFailedError, match="has failed before"):
        gang.train()

    resume_from = tmp_path / "checkpoints" / "trial-0003" / "epoch-0001"
    assert gang.reset(config(3, resume_from=str(resume_from)))
    after = gang.train()
    assert not set(after["pids"]) & set(third["pids"])
    assert after["trial_number"] == 3
    assert after["epoch"] == 2
    assert after["checkpoint"]["path"] == str(resume_from.with_name("epoch-0002"))
    assert Path(after["checkpoint"]["path"]).is_dir()

    gang.stop()
    assert wait_for_free_cpus(2) == 2
    assert not list((tmp_path / "tune" / "groups").iterdir())


@pytest.mark.slow
def test_a_trial_whose_worker_is_killed_fails_and_the_next_gets_a_new_group(
    start: Start, config: Config
) -> None:
    gang = start(config(5, seed=DIE))
    before = gang.train()

    started = time.monotonic()
    with pytest.raises(WorkerFailedError, match="trial 5: its worker group ended"):
        gang.train()
    assert time.monotonic() - started < 30

    assert gang.reset(config(6))
    assert not set(gang.train()["pids"]) & set(before["pids"])


@pytest.mark.slow
def test_a_gang_whose_director_is_killed_gives_its_cpus_back(start: Start, config: Config) -> None:
    gang = start(config(7))
    pids = gang.train()["pids"]
    assert wait_for_free_cpus(1, timeout_s=1) == 0

    ray.kill(gang.actor)

    assert wait_for_free_cpus(2, timeout_s=30) == 2
    assert not [pid for pid in pids if Path(f"/proc/{pid}").exists()]


@pytest.mark.slow
def test_two_workers_fine_tune_with_zero_2_and_share_each_batch(
    ray_local: None, config: Config, tiny_setup: TrialSetup
) -> None:
    one_worker = list(fine_tune(TrialConfig(epochs=2, dropout=0.0), tiny_setup, Worker()))
    setup = dataclasses.replace(
        tiny_setup,
        deepspeed=DeepSpeedConfig(precision="fp32", zero_stage=2),
        resources=TrialResources(workers=2),
    )
    trial = dataclasses.asdict(TrialConfig(epochs=2, dropout=0.0))
    actor = ray.remote(num_cpus=0)(GangTrial).remote({**config(8), "trial": trial, "setup": setup})

    results = [ray.get(actor.train.remote()) for _ in range(2)]
    assert ray.get(actor.reset.remote({**config(9), "trial": trial, "setup": setup}))
    again = ray.get(actor.train.remote())
    parts = dataclasses.replace(
        setup, deepspeed=dataclasses.replace(setup.deepspeed, micro_batch_rows=3)
    )
    assert ray.get(actor.reset.remote({**config(10), "trial": trial, "setup": parts}))
    in_parts = ray.get(actor.train.remote())
    ray.get(actor.stop.remote())

    assert again["pids"] == results[0]["pids"]
    assert again["metrics"] == results[0]["metrics"]
    for name in ("log_loss", "train_loss"):
        assert in_parts["metrics"][name] == pytest.approx(again["metrics"][name], rel=1e-3)
    for result, alone in zip(results, one_worker, strict=True):
        for name in ("log_loss", "train_loss"):
            assert result["metrics"][name] == pytest.approx(alone.metrics[name], rel=1e-3)
        assert (Path(result["checkpoint"]["path"]) / "model.safetensors").is_file()
