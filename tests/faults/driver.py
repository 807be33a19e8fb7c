"""The process of a study that faults happen to: it runs the study and tells what happens.

python -m tests.faults.driver STUDY.yaml OUT TRAINABLE [--address A] [--kill-after REPORTS]
    [--fill-after REPORTS --ballast FILE]
"""

import argparse
import contextlib
import importlib
import json
import os
import signal
import sys
import traceback
from collections.abc import Iterator
from pathlib import Path

from cluster.connect import connect
from search import Study
from search.events import StudyEvent
from search.study_config import load_study
from tests.faults.faulty_trial import fill_disk

NUM_PLACES = 2
"""Trials at a time, however many cores the machine has."""
RAY_STARTS = 5
"""Ray waits for its own processes for 30 s, and has no setting for it."""


@contextlib.contextmanager
def ray_here() -> Iterator[None]:
    """Start a Ray on this machine, also where that is so busy that Ray gives up at first."""
    with contextlib.ExitStack() as stack:
        for attempt in range(1, RAY_STARTS + 1):
            try:
                stack.enter_context(connect(None, num_cpus=NUM_PLACES))
                break
            except Exception as error:
                if "timed out during startup" not in str(error) or attempt == RAY_STARTS:
                    raise
        yield


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("study")
    parser.add_argument("out", type=Path)
    parser.add_argument("trainable", help="MODULE:CLASS")
    parser.add_argument("--address")
    parser.add_argument("--kill-after", type=int, metavar="REPORTS")
    parser.add_argument("--fill-after", type=int, metavar="REPORTS")
    parser.add_argument("--ballast", type=Path)
    given = parser.parse_args()
    module, _, name = given.trainable.partition(":")
    trainable = getattr(importlib.import_module(module), name)
    num_reports = 0

    def tell(event: StudyEvent) -> None:
        nonlocal num_reports
        number = None if event.trial is None else event.trial.number
        line = {"kind": event.kind, "trial": number, "message": event.message}
        sys.stdout.write(json.dumps(line) + "\n")
        sys.stdout.flush()
        if event.kind != "reported":
            return
        num_reports += 1
        if num_reports == given.kill_after:
            os.kill(os.getpid(), signal.SIGKILL)
        if num_reports == given.fill_after:
            fill_disk(given.ballast)

    study = Study(load_study(given.study), out=given.out, trainable=trainable)
    try:
        with contextlib.nullcontext() if given.address else ray_here():
            result = study.run(resume=True, address=given.address, on_event=tell)
    except ValueError as error:
        # As the command does: before a trial started it's the user's mistake.
        sys.stderr.write(f"error: {error}\n")
        return 1 if num_reports else 2
    except Exception as error:  # noqa: BLE001 - whatever ends a study is what the case looks at
        traceback.print_exc()
        sys.stderr.write(f"error: {type(error).__name__}: {error}\n")
        return 1
    sys.stdout.write(json.dumps({"kind": "status", "trial": None, "message": result.status}) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
