"""Every fault that a study has to survive: what is done to it, and what has to come of it."""

import contextlib
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import psutil
import pytest

from search.trial_record import TrialRecord
from tests.cluster.head import start_head, start_node
from tests.faults.faulty_trial import Fault, as_environment
from tests.faults.study_process import (
    PLAIN,
    ROOT,
    Ended,
    Stop,
    StudyPlace,
    StudyProcess,
    descendants,
    is_alive,
    trained_again,
    wait_until,
    what_is_wrong,
)

REAL_TRIAL = "trainables.trial:OneWorkerTrial"
LOCKED_S = 5.0
"""How long another program keeps the ledger to itself."""


@dataclass
class Findings:
    """What happened, and what of it shouldn't have."""

    happened: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    not_run: str = ""
    """Why the case can't be run here."""

    def note(self, text: str) -> None:
        self.happened.append(text)

    def expect(self, condition: bool, otherwise: str) -> None:
        if not condition:
            self.problems.append(otherwise)

    def expect_end(self, ended: Ended, status: str = "completed") -> None:
        otherwise = f"the study ended with {ended.status}, not {status}: {ended.last_error}"
        self.expect(ended.status == status, otherwise)

    def expect_whole(
        self, place: StudyPlace, num_trials: int, *, failed: tuple[int, ...] = ()
    ) -> None:
        """Expect that each trial ended once and well, but for those that can't."""
        trials = place.trials()
        self.problems += what_is_wrong(trials, num_trials)
        found = tuple(trial.number for trial in trials if trial.state == "failed")
        self.expect(found == failed, f"failed trials {found}, expected {failed}")

    def expect_kept(self, stop: Stop, trials: tuple[TrialRecord, ...]) -> None:
        self.problems += stop.what_was_lost(trials)


@dataclass(frozen=True, kw_only=True)
class Case:
    """One fault."""

    name: str
    done: str
    """What is done."""
    expected: str
    run: Callable[[StudyPlace, Findings], None]


def driver_killed(place: StudyPlace, found: Findings) -> None:
    place = replace(place, environment={"FAKE_EPOCH_S": "0.5"})
    place.write(trials=6)
    process = place.start()
    found.expect(
        process.wait_until(lambda: len(place.trained()) >= 5), "the study ended before the kill"
    )
    left = process.kill()
    stop = place.stop()
    ended = place.run()
    again = trained_again(place.trained())
    found.note(f"{len(stop.trials)} trials known at the kill, {again} epochs trained again")
    found.note(f"then {ended.status}")
    found.expect(not left, f"{[p.pid for p in left]} lived on after their driver")
    found.expect_end(ended)
    found.expect_whole(place, 6)
    found.expect_kept(stop, place.trials())
    found.expect(again <= 2, f"{again} epochs were trained again, at most 2 were in flight")


def worker_killed(place: StudyPlace, found: Findings) -> None:
    place = replace(place, environment={"FAKE_EPOCH_S": "0.5"})
    place.write(trials=4)
    process = place.start()
    ready = process.wait_until(lambda: any(epoch == 2 for _, epoch, _ in place.trained()))
    found.expect(ready, "the study ended before the kill")
    if ready:
        psutil.Process(place.trained()[-1][2]).kill()
    ended = process.wait()
    retried = [trial for trial in place.trials() if trial.failures]
    found.note(f"then {ended.status}, {trained_again(place.trained())} epochs trained again")
    found.note(f"told: {last_line(*ended.messages('retried'))}")
    found.expect_end(ended)
    found.expect_whole(place, 4)
    found.expect(
        [(trial.failures, trial.starts) for trial in retried] == [(1, 2)],
        "not exactly one trial was tried again",
    )
    found.expect(trained_again(place.trained()) <= 1, "more than the running epoch was repeated")


def node_killed(place: StudyPlace, found: Findings) -> None:
    place.write(trials=6, epochs=4)
    place.folder.joinpath("cluster").mkdir()
    cluster = {"PYTHONPATH": str(ROOT), "FAKE_EPOCH_S": "1.0"}
    with (
        start_head(place.folder / "cluster", num_cpus=1, environment=cluster) as head,
        start_node(place.folder / "cluster", head, environment=cluster) as raylet,
    ):
        process = place.start(
            "--address", head.gcs, environment={"RAY_AUTH_TOKEN_PATH": str(head.token)}
        )

        def works_there() -> bool:
            there = {child.pid for child in descendants(raylet.pid)}
            return any(pid in there and epoch >= 2 for _, epoch, pid in place.trained())

        ready = process.wait_until(works_there)
        found.expect(ready, "no trial ran on the second node")
        workers = descendants(raylet.pid)
        raylet.kill()
        ended = process.wait()
        gone = wait_until(lambda: not any(map(is_alive, workers)))
    found.note(f"then {ended.status}, {trained_again(place.trained())} epochs trained again")
    found.note(f"told: {last_line(*ended.messages('retried'))}")
    found.expect(gone, "workers of the dead node lived on")
    found.expect_end(ended)
    found.expect_whole(place, 6)
    found.expect(bool(ended.messages("retried")), "no trial was tried again")
    found.expect(trained_again(place.trained()) <= 1, "more than the running epoch was repeated")


def diverging(place: StudyPlace, found: Findings) -> None:
    place = replace(place, environment=as_environment(Fault(kind="nan", trial=1)))
    place.write(trials=4)
    ended = place.run()
    failed = place.trials()[1]
    found.note(f"{ended.status}; trial 1 {failed.state} after {failed.failures} failures")
    found.note(f"told: {last_line(*ended.messages('failed', 1))}")
    found.expect_end(ended)
    found.expect_whole(place, 4, failed=(1,))
    found.expect((failed.starts, failed.last_epoch) == (1, 1), "it was tried again")
    found.expect(str(failed.error).startswith("diverged"), f"the reason is {failed.error}")


def raising(place: StudyPlace, found: Findings) -> None:
    place = replace(place, environment=as_environment(Fault(kind="raise", trial=1)))
    place.write(trials=4)
    first = place.run()
    before = place.stop()
    # More trials, so that there is something to ask for: not the failed one.
    place.write(trials=5)
    second = place.run()
    failed = place.trials()[1]
    found.note(f"{first.status}; trial 1 {failed.state} after {failed.failures} failures")
    found.note(f"told: {last_line(*first.messages('failed', 1))}; resumed: {second.status}")
    found.expect_end(first)
    found.expect_end(second)
    found.expect_whole(place, 5, failed=(1,))
    found.expect_kept(before, place.trials())
    found.expect((failed.starts, failed.last_epoch) == (2, 1), "it wasn't tried twice")
    found.expect(second.messages("started", 1) == [], "the failed trial was started again")


def out_of_memory(place: StudyPlace, found: Findings) -> None:
    faults = [Fault(kind="memory", trial=1), Fault(kind="gpu_memory", trial=2)]
    place = replace(place, environment=as_environment(*faults))
    place.write(trials=4)
    ended = place.run()
    failed = place.trials()[1:3]
    found.note(f"{ended.status}; failures {[trial.failures for trial in failed]}")
    found.note(f"told: {last_line(*ended.messages('failed'))}")
    found.expect_end(ended)
    found.expect_whole(place, 4, failed=(1, 2))
    found.expect(all(1 <= trial.failures <= 2 for trial in failed), "retries aren't bounded")
    found.expect(all(trial.last_epoch == 1 for trial in failed), "reports are lost")


def killed_for_memory(place: StudyPlace, found: Findings) -> None:
    faults = [Fault(kind="kill", trial=0, tries=1), Fault(kind="kill", trial=1)]
    place = replace(place, environment=as_environment(*faults))
    place.write(trials=4)
    ended = place.run()
    once, always = place.trials()[:2]
    found.note(f"{ended.status}; failures {once.failures} and {always.failures}")
    found.note(f"told: {last_line(*ended.messages('retried', 0))}")
    found.expect_end(ended)
    found.expect_whole(place, 4, failed=(1,))
    found.expect((once.failures, always.failures) == (1, 2), "failures aren't 1 and 2")
    found.expect(trained_again(place.trained()) == 0, "reported epochs were trained again")
    found.expect("memory" in last_line(str(always.error)), f"the reason is {always.error}")


def hanging(place: StudyPlace, found: Findings) -> None:
    faults = [Fault(kind="sleep", trial=0, tries=1), Fault(kind="freeze", trial=1)]
    place = replace(place, environment=as_environment(*faults))
    place.write(trials=4, search=f"{PLAIN}, max_epoch_minutes: 0.2")
    ended = place.run()
    trials = place.trials()
    found.note(f"{ended.status}; trial 1 {trials[1].state} after {trials[1].failures} failures")
    found.note(f"told: {last_line(*ended.messages('retried', 0))}")
    found.expect_end(ended)
    found.expect_whole(place, 4, failed=(1,))
    found.expect((trials[0].failures, trials[1].failures) == (1, 2), "retries aren't 1 and 2")
    found.expect(trained_again(place.trained()) == 0, "reported epochs were trained again")
    told = "had not reported for 0.2 minutes"
    found.expect(told in str(trials[1].error), f"the reason is {trials[1].error}")
    pids = {pid for _, _, pid in place.trained()}
    found.expect(not [pid for pid in pids if psutil.pid_exists(pid)], "a process lives on")


@contextlib.contextmanager
def small_disk(folder: Path, size: str = "48m") -> Iterator[None]:
    """Put a file system of its own size on a folder.

    Raises:
        PermissionError: where this user may not.
    """
    folder.mkdir(parents=True)
    command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
    try:
        subprocess.run(command, check=True, capture_output=True, text=True)
    except (OSError, subprocess.CalledProcessError) as error:
        raise PermissionError("mounting a small tmpfs takes the rights of root") from error
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def full_disk(place: StudyPlace, found: Findings, *arguments: str) -> None:
    """Run a study whose disk fills up, make room, and go on."""
    ballast = place.study.parent / "ballast"
    first = place.run(*arguments)
    stop = place.stop()
    full = ballast.exists()
    ballast.unlink(missing_ok=True)
    second = place.run()
    found.note(f"exit code {first.exit_code}: {first.last_error}")
    found.note(f"with room: {second.status}")
    found.expect(full, "the disk was never full")
    found.expect(first.exit_code == 1, "the full disk didn't end the study")
    found.expect("disk is full" in first.last_error, f"no clear reason: {first.last_error}")
    found.expect_end(second)
    found.expect_whole(place, 4)
    found.expect_kept(stop, place.trials())


def disk_full_for_checkpoints(place: StudyPlace, found: Findings) -> None:
    place = replace(place, trainable=REAL_TRIAL)
    try:
        with small_disk(place.study.parent):
            place.write(trials=4)
            ballast = place.study.parent / "ballast"
            full_disk(place, found, "--fill-after", "2", "--ballast", str(ballast))
    except PermissionError as error:
        found.not_run = str(error)


def disk_full_for_the_ledger(place: StudyPlace, found: Findings) -> None:
    ballast = str(place.study.parent / "ballast")
    fault = Fault(kind="fill_disk", trial=1, epoch=2, tries=1, ballast=ballast)
    place = replace(place, environment=as_environment(fault))
    try:
        with small_disk(place.study.parent):
            place.write(trials=4)
            full_disk(place, found)
    except PermissionError as error:
        found.not_run = str(error)


def truncate(file: Path) -> None:
    """Cut a file in half."""
    content = file.read_bytes()
    file.write_bytes(content[: len(content) // 2])


def overwrite(file: Path) -> None:
    """Replace a file's middle, its size unchanged."""
    content = bytearray(file.read_bytes())
    third = len(content) // 3
    content[third : 2 * third] = bytes(byte ^ 0x5A for byte in content[third : 2 * third])
    file.write_bytes(content)


def damaged_checkpoint(
    damage: Callable[[Path], None],
) -> Callable[[StudyPlace, Findings], None]:
    """Return a case that damages what a killed trial would go on from."""

    def run(place: StudyPlace, found: Findings) -> None:
        place = replace(place, trainable=REAL_TRIAL)
        place.write(trials=2, places=1)
        place.run("--kill-after", "2")
        stop = place.stop()
        last = stop.trials[0].checkpoints[-1]
        damage(max((last.path / "training").rglob("*.pt"), key=lambda path: path.stat().st_size))
        ended = place.run()
        trials = place.trials()
        told = [*ended.messages("warning"), *ended.messages("retried", 0)]
        found.note(f"{ended.status}; told: {last_line(*told)}")
        found.expect(last.epoch == 2, f"the damaged checkpoint was of epoch {last.epoch}, not 2")
        found.expect_end(ended)
        found.expect_whole(place, 2)
        found.expect_kept(stop, trials)
        found.expect("damaged" in " ".join(told), f"the damage wasn't told: {told}")
        found.expect(trials[0].failures == 0, "the damage counted as the trial's failure")
        found.expect(
            scores(trials[0]) == pytest.approx(undisturbed_scores(trials[0]), abs=1e-6),
            "the trial scored otherwise than an undisturbed one",
        )

    return run


def scores(trial: TrialRecord) -> list[float]:
    return [report.metrics["roc_auc"] for report in trial.reports]


def undisturbed_scores(trial: TrialRecord) -> list[float]:
    """Train a trial's configuration here, from its beginning to its end."""
    from trainables.checkpoint import read_checkpoint_info
    from trainables.fine_tune import fine_tune
    from trainables.trial_setup import Worker

    setup = read_checkpoint_info(trial.checkpoints[-1].path).setup
    return [progress.metrics["roc_auc"] for progress in fine_tune(trial.config, setup, Worker())]


def ledger_locked(place: StudyPlace, found: Findings) -> None:
    place = replace(place, environment={"FAKE_EPOCH_S": "0.2"})
    place.write(trials=8)
    process = place.start()
    found.expect(
        process.wait_until(lambda: len(place.trained()) >= 3), "the study ended before the lock"
    )
    with contextlib.closing(sqlite3.connect(place.study / "ledger.db", timeout=60)) as other:
        other.execute("BEGIN EXCLUSIVE")
        before = len(place.trained())
        # Not for how long it takes, but so that the study surely meets the lock.
        wait_until(lambda: False, LOCKED_S)
        during = len(place.trained()) - before
        other.rollback()
    ended = process.wait()
    found.note(f"{during} epochs trained in {LOCKED_S:g} s of lock, then {ended.status}")
    found.expect(during <= 2, "the study went on without its ledger")
    found.expect_end(ended)
    found.expect_whole(place, 8)
    found.expect(trained_again(place.trained()) == 0, "epochs were trained again")


def started_twice(place: StudyPlace, found: Findings) -> None:
    place = replace(place, environment={"FAKE_EPOCH_S": "0.5"})
    place.write(trials=4)
    # At the same moment, before there is a ledger.
    both = [place.start(), place.start()]
    ended = [process.wait() for process in both]
    codes = sorted(end.exit_code for end in ended)
    refused = max(ended, key=lambda end: end.exit_code)
    found.note(f"at once: exit codes {codes}, the second told: {refused.last_error}")
    found.expect(codes == [0, 2], f"exit codes {codes}, expected 0 and 2")
    found.expect_whole(place, 4)
    found.expect(trained_again(place.trained()) == 0, "epochs were trained twice")
    place.write(trials=8)
    process = place.start()
    process.wait_until(lambda: len(place.trials()) > 4)
    command = [sys.executable, "-m", "search.cli", "search", str(place.config), "--resume"]
    second = StudyProcess([*command, "--out", str(place.study.parent)], {}, place.folder).wait()
    found.expect_end(process.wait())
    found.note(f"by clicktune search: exit code {second.exit_code}, {second.last_error}")
    found.expect(second.exit_code == 2, f"exit code {second.exit_code}, expected 2")
    found.expect("is running already" in second.last_error, "no clear reason")
    found.expect_whole(place, 8)


def last_line(*texts: str) -> str:
    lines = [line for text in texts for line in text.strip().splitlines()]
    return lines[-1].strip() if lines else "nothing"


CASES = (
    Case(
        name="driver killed",
        done="SIGKILL to the driver alone in the middle, then a resume",
        expected="Ray's processes end; the rest is run, reported epochs not again",
        run=driver_killed,
    ),
    Case(
        name="worker killed",
        done="SIGKILL to a trial's process from outside",
        expected="the trial goes on from its last checkpoint, one failure is noted",
        run=worker_killed,
    ),
    Case(
        name="node killed",
        done="SIGKILL to the raylet of the second of two nodes",
        expected="its trial goes on on the other node",
        run=node_killed,
    ),
    Case(
        name="NaN",
        done="a trial's metric is NaN",
        expected="failed at once with its reason, not tried again; the others end",
        run=diverging,
    ),
    Case(
        name="error",
        done="a trial raises at each try; then the study is resumed with one trial more",
        expected="failed after max_failures + 1 tries, not asked for by the resume",
        run=raising,
    ),
    Case(
        name="hang",
        done="one trial sleeps for ever once, the process of another is stopped at each try",
        expected="processes ended after max_epoch_minutes; the first ends well, the second fails",
        run=hanging,
    ),
    Case(
        name="out of memory",
        done="trials raise MemoryError and torch.OutOfMemoryError at each try",
        expected="failed after bounded tries; the others end",
        run=out_of_memory,
    ),
    Case(
        name="killed for memory",
        done="SIGKILL, as the kernel sends it, in one trial once and in another at each try",
        expected="the first goes on from its last checkpoint; the second fails, with what helps",
        run=killed_for_memory,
    ),
    Case(
        name="disk full, checkpoints",
        done="a tmpfs is filled to the last byte; the real trial can't write its checkpoint",
        expected="the study ends with the reason, no trial is lost; with room a resume ends it",
        run=disk_full_for_checkpoints,
    ),
    Case(
        name="disk full, ledger",
        done="a tmpfs is filled between a trial's checkpoint and its report",
        expected="the study ends with the reason, no trial is lost; with room a resume ends it",
        run=disk_full_for_the_ledger,
    ),
    Case(
        name="checkpoint truncated",
        done="driver killed, the real trial's last checkpoint cut in half, then a resume",
        expected="told; an earlier checkpoint or none is gone on from; scores as undisturbed",
        run=damaged_checkpoint(truncate),
    ),
    Case(
        name="checkpoint overwritten",
        done="driver killed, bytes of the real trial's last checkpoint changed, then a resume",
        expected="told; an earlier checkpoint or none is gone on from; scores as undisturbed",
        run=damaged_checkpoint(overwrite),
    ),
    Case(
        name="ledger locked",
        done=f"another program holds SQLite's exclusive lock for {LOCKED_S:g} s",
        expected="the study waits, then goes on; no epoch is lost or repeated",
        run=ledger_locked,
    ),
    Case(
        name="started twice",
        done="two starts at the same moment, and a clicktune search of a running study",
        expected="one runs, the other is refused with exit code 2",
        run=started_twice,
    ),
)
