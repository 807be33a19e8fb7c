"""A real study in processes of its own: start it, watch it, kill it, see what it left."""

import json
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from search.ledger import Ledger
from search.results import StudyResult, read_result
from search.trial_record import TrialRecord
from tests.fakes import read_trained

ROOT = Path(__file__).resolve().parents[2]
DEADLINE_S = 600.0
"""For whatever is waited for; generous, because it says nothing of how fast anything is."""
FAULTY_TRIAL = "tests.faults.faulty_trial:FaultyTrial"
NAME = "study"
PLAIN = "algorithm: random, scheduler: none"

STUDY = """
name: {name}
data: {{path: {data}, columns: {{text: [title], label: clicked}}}}
encoder: {{name: {encoder}, max_tokens: 16}}
space: {{learning_rate: {{log_uniform: [1.0e-5, 1.0e-3]}}}}
search: {{trials: {trials}, epochs: {epochs}, {search}}}
resources: {{gpus_per_worker: 0, concurrent_trials: {places}}}
winners: 1
"""


@dataclass(frozen=True, kw_only=True)
class Ended:
    """What a study's process told, and how it ended."""

    exit_code: int
    events: list[dict[str, object]]
    errors: str

    def messages(self, kind: str, trial: int | None = None) -> list[str]:
        return [
            str(event["message"])
            for event in self.events
            if event["kind"] == kind and (trial is None or event["trial"] == trial)
        ]

    @property
    def status(self) -> str:
        return next(iter(self.messages("status")), f"exit code {self.exit_code}")

    @property
    def last_error(self) -> str:
        lines = [line for line in self.errors.splitlines() if line.startswith("error: ")]
        return lines[-1].removeprefix("error: ") if lines else ""


@dataclass(frozen=True, kw_only=True)
class StudyPlace:
    """A folder of a case, with a study in it."""

    folder: Path
    encoder: Path
    environment: Mapping[str, str] = field(default_factory=dict)
    trainable: str = FAULTY_TRIAL

    @property
    def study(self) -> Path:
        return self.folder / "runs" / NAME

    @property
    def config(self) -> Path:
        return self.folder / "study.yaml"

    def write(
        self, *, trials: int, epochs: int = 3, search: str = PLAIN, places: int | str = "auto"
    ) -> None:
        """Write a table and the study's file."""
        self.folder.mkdir(parents=True, exist_ok=True)
        data = self.folder / "clicks.csv"
        words = ["red shoe", "blue sofa", "old lamp", "small cup", "green bag"]
        lines = [f"{words[n % 5]} {n % 17},{n * 7 % 3 // 2}" for n in range(200)]
        data.write_text("title,clicked\n" + "\n".join(lines) + "\n")
        text = STUDY.format(
            name=NAME,
            data=data,
            encoder=self.encoder,
            trials=trials,
            epochs=epochs,
            places=places,
            search=search,
        )
        self.config.write_text(text)

    def start(
        self, *arguments: str, environment: Mapping[str, str] | None = None
    ) -> "StudyProcess":
        command = [sys.executable, "-m", "tests.faults.driver", str(self.config)]
        command += [str(self.study.parent), self.trainable, *arguments]
        return StudyProcess(command, {**self.environment, **(environment or {})}, self.folder)

    def run(self, *arguments: str, environment: Mapping[str, str] | None = None) -> Ended:
        return self.start(*arguments, environment=environment).wait()

    def trained(self) -> list[tuple[int, int, int]]:
        return read_trained(self.study)

    def result(self) -> StudyResult:
        return read_result(self.study)

    def trials(self) -> tuple[TrialRecord, ...]:
        """Return the trials that the ledger holds; none before it is there."""
        return self.result().trials if Ledger.exists(self.study) else ()

    def stop(self) -> "Stop":
        return Stop.of(self.trials(), len(self.trained()))


class StudyProcess:
    """A study's driver, and the Ray that it started."""

    def __init__(self, command: list[str], environment: Mapping[str, str], folder: Path) -> None:
        self._log = folder / f"driver-{len(list(folder.glob('driver-*.out')))}"
        settings = {
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "RAY_worker_niceness": "0",
            "OMP_NUM_THREADS": "1",
            **environment,
        }
        with (
            self._log.with_suffix(".out").open("w") as out,
            self._log.with_suffix(".err").open("w") as err,
        ):
            # Not pipes: processes of Ray may outlive their driver and would hold them open.
            self._process = subprocess.Popen(
                command,
                env=settings,
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
            )

    @property
    def has_ended(self) -> bool:
        return self._process.poll() is not None

    @property
    def pid(self) -> int:
        return self._process.pid

    def ended(self) -> Ended:
        lines = self._log.with_suffix(".out").read_text().splitlines()
        return Ended(
            exit_code=self._process.wait(10),
            events=[json.loads(line) for line in lines if line.startswith("{")],
            errors=self._log.with_suffix(".err").read_text(),
        )

    def wait(self) -> Ended:
        try:
            self._process.wait(DEADLINE_S)
        except subprocess.TimeoutExpired:
            self.kill()
            raise
        return self.ended()

    def wait_until(self, condition: Callable[[], bool]) -> bool:
        """Wait for something to happen while the study runs; return whether it did."""
        return wait_until(lambda: condition() or self.has_ended) and condition()

    def kill(self) -> list[psutil.Process]:
        """Kill the driver alone, wait for what it had started, return what didn't end by itself."""
        family = descendants(self.pid)
        self._process.kill()
        self._process.wait(DEADLINE_S)
        wait_until(lambda: not any(map(is_alive, family)))
        left = [member for member in family if is_alive(member)]
        for member in left:
            member.kill()
        return left


def wait_until(condition: Callable[[], bool], timeout_s: float = DEADLINE_S) -> bool:
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def descendants(pid: int) -> list[psutil.Process]:
    try:
        return psutil.Process(pid).children(recursive=True)
    except psutil.NoSuchProcess:
        return []


def is_alive(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


@dataclass(frozen=True, kw_only=True)
class Stop:
    """What there was of a study when it was stopped."""

    trials: Mapping[int, TrialRecord]
    num_trained: int
    """Lines of the log of trained epochs."""

    @classmethod
    def of(cls, trials: tuple[TrialRecord, ...], num_trained: int) -> "Stop":
        return cls(trials={trial.number: trial for trial in trials}, num_trained=num_trained)

    def what_was_lost(self, later: tuple[TrialRecord, ...]) -> list[str]:
        """Say what the ledger held then and holds no more, or otherwise."""
        lost = []
        now = {trial.number: trial for trial in later}
        for number, before in self.trials.items():
            after = now.get(number)
            if after is None:
                lost.append(f"trial {number} is gone")
                continue
            if (before.params, before.config_hash) != (after.params, after.config_hash):
                lost.append(f"trial {number} has another configuration")
            if before.state not in ("running", after.state):
                lost.append(f"trial {number} was {before.state} and is {after.state}")
            if after.reports[: len(before.reports)] != before.reports:
                lost.append(f"trial {number}'s reports or decisions changed")
        return lost


def what_is_wrong(trials: tuple[TrialRecord, ...], num_trials: int) -> list[str]:
    """Say what no study may look like at its end, whatever happened to it."""
    wrong = []
    if [trial.number for trial in trials] != list(range(num_trials)):
        wrong.append(f"trials {[trial.number for trial in trials]}, expected {num_trials}")
    for trial in trials:
        epochs = [report.epoch for report in trial.reports]
        if epochs != list(range(1, len(epochs) + 1)):
            wrong.append(f"trial {trial.number} has the epochs {epochs}")
        if trial.state == "running":
            wrong.append(f"trial {trial.number} has not ended")
    hashes = Counter(trial.config_hash for trial in trials)
    wrong += [f"{count} trials are {name}" for name, count in hashes.items() if count > 1]
    return wrong


def trained_again(trained: list[tuple[int, int, int]]) -> int:
    """Count the epochs that were trained more often than once."""
    counts = Counter((number, epoch) for number, epoch, _pid in trained)
    return sum(count - 1 for count in counts.values())
