"""What benchmarks of quality share: trials by seed, their scores in a file, differences."""

import argparse
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from measuring import THREADS, trial_setup
from scipy import stats

from search.study_config import StudyConfig, load_study
from spaces.trial_config import TrialConfig
from trainables.checkpoint import load_model
from trainables.data.prepared import PreparedData
from trainables.encoder import EncoderConfig
from trainables.fine_tune import fine_tune, predict_probabilities, score
from trainables.trial_setup import Worker

METRIC = "roc_auc"


class Kept:
    """Results by what they are of, in a file of lines of JSON: a run may be broken off."""

    def __init__(self, path: Path | None) -> None:
        """Read what there is; the file is there from now on.

        Args:
            path: The file; None: nothing is kept.
        """
        self._path = path
        self._found: dict[str, Any] = {}
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
            for line in path.read_text(encoding="utf-8").splitlines():
                record = json.loads(line)
                self._found[json.dumps(record["case"])] = record["result"]

    def of(self, case: Any, compute: Callable[[], Any]) -> Any:  # noqa: ANN401 - JSON values
        """Return the result of a case, after computing it unless the file has it."""
        key = json.dumps(case)
        if key not in self._found:
            # As it would be read again: tuples are lists.
            self._found[key] = json.loads(json.dumps(compute()))
            if self._path is not None:
                with self._path.open("a", encoding="utf-8") as file:
                    file.write(json.dumps({"case": case, "result": self._found[key]}) + "\n")
        return self._found[key]


class Scores:
    """Trials' scores, kept in a file."""

    def __init__(self, path: Path | None) -> None:
        self._kept = Kept(path)

    def train(self, trial: TrialConfig, data: PreparedData, encoder: EncoderConfig) -> float:
        """Return a trial's METRIC on the test split, after training it unless the file has it."""
        score: float = self._kept.of(
            [data.fingerprint, trial.effective()], lambda: train_and_score(trial, data, encoder)
        )
        return score


def train_and_score(trial: TrialConfig, data: PreparedData, encoder: EncoderConfig) -> float:
    """Train a trial and return METRIC of its last epoch on the test split."""
    setup = trial_setup(data, encoder)
    folder = data.folder.parent / "trial"
    *_, last = fine_tune(trial, setup, Worker(num_threads=THREADS), checkpoints=folder)
    assert last.checkpoint is not None
    rows = data.rows("test")
    model = load_model(Path(last.checkpoint.path))
    return score(predict_probabilities(model, rows), rows, setup)[METRIC]


def paired_difference(left: Sequence[float], right: Sequence[float]) -> tuple[float, float]:
    """Return the mean of left minus right by seed, and half its 95 % interval (Student's t)."""
    apart = np.subtract(left, right)
    error = float(np.std(apart, ddof=1)) / np.sqrt(len(apart))
    return float(np.mean(apart)), float(stats.t.ppf(0.975, len(apart) - 1)) * error


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what says which table is used and where scores are kept."""
    parser.add_argument("--study", type=Path, help="a study file whose table and encoder are used")
    parser.add_argument(
        "--set", action="append", default=[], metavar="NAME=VALUE", help="change the study file"
    )
    parser.add_argument("--results", type=Path, help="keeps scores; a run goes on with them")
    parser.add_argument("--quick", action="store_true", help="few rows, two seeds, one epoch")


def study_of(arguments: argparse.Namespace) -> StudyConfig | None:
    """Read the study file that was named, if one was."""
    return None if arguments.study is None else load_study(arguments.study, arguments.set)


def rounded(values: Mapping[str, float]) -> dict[str, float]:
    """Round scores for the line of JSON."""
    return {name: round(value, 4) for name, value in values.items()}
