"""What augmentations are worth: the test metric of trials with each, and of trials with none.

    python tests/benchmarks/augmentation_value.py [--study FILE | --data HEADLINES]
        [--results FILE] [--quick]

For 500, 2,000 and all training rows, and three seeds, trials that tune the top two layers are
trained with each augmentation that needs no model of its own, with mixup, and with neither. A
trial's score is the ROC-AUC on the test split after its last epoch; the difference to the trial of
equal rows and seed without augmentation is averaged, with a 95 % interval from Student's t. Without
a table it is a simulated log. Scores are appended to the results file as they come, and those that
are there aren't computed again, so that a run may be broken off. One trial runs at a time. The last
line is JSON.
"""

import argparse
import dataclasses
import itertools
import json
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from measuring import THREADS, print_result, table_config, trial_setup
from scipy import stats

from search.study_config import load_study
from spaces.trial_config import TrialConfig
from trainables.augmentation import OPERATIONS
from trainables.augmentation.config import DEFAULTS
from trainables.checkpoint import load_model
from trainables.data.prepared import PreparedData, prepare
from trainables.data.table import ClickTable, load_clicks
from trainables.encoder import EncoderConfig
from trainables.fine_tune import fine_tune, predict_probabilities, score
from trainables.task import TaskConfig
from trainables.trial_setup import Worker

ENCODER = EncoderConfig(max_tokens=64)
METRIC = "roc_auc"
ALL_ROWS = 0
"""Stands for all training rows among the sizes."""
SIZES = (500, 2_000, ALL_ROWS)
SEEDS = (0, 1, 2)
RATE = 0.15
BASE = TrialConfig(tuned_layers=2, learning_rate=1e-3, epochs=4)
WITHOUT_MODEL = [name for name in OPERATIONS if not DEFAULTS.models(name)]
TRIALS = {
    "none": BASE,
    **{
        name: dataclasses.replace(BASE, augmentation=name, augmentation_rate=RATE)
        for name in WITHOUT_MODEL
    },
    "mixup": dataclasses.replace(BASE, mixup_alpha=0.2),
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Case:
    """A trial among all that are compared."""

    size: int
    """Training rows at most; 0: all."""
    name: str
    """Key of ``TRIALS``."""
    seed: int
    """The trial's."""
    epochs: int
    """The trial's."""

    @property
    def trial(self) -> TrialConfig:
        """What is trained."""
        return dataclasses.replace(TRIALS[self.name], seed=self.seed, epochs=self.epochs)


class Scores:
    """Scores by case, kept in a file of lines of JSON."""

    def __init__(self, path: Path | None, table: str) -> None:
        self._path = path
        self._table = table
        self._found: dict[str, float] = {}
        if path is not None and path.is_file():
            for line in path.read_text(encoding="utf-8").splitlines():
                record = json.loads(line)
                self._found[json.dumps(record["case"])] = record["score"]

    def _key(self, case: Case) -> list[object]:
        return [self._table, case.size, case.trial.effective()]

    def get(self, case: Case) -> float | None:
        return self._found.get(json.dumps(self._key(case)))

    def add(self, case: Case, value: float) -> None:
        self._found[json.dumps(self._key(case))] = value
        if self._path is not None:
            with self._path.open("a", encoding="utf-8") as file:
                file.write(json.dumps({"case": self._key(case), "score": value}) + "\n")


def with_fewer_rows(table: ClickTable, size: int) -> ClickTable:
    """Keep some training rows, the same for all trials, and the other splits as they are."""
    training = np.flatnonzero(table.split == 0)
    if size in (ALL_ROWS, len(training)):
        return table
    chosen = np.random.default_rng(0).permutation(training)[:size]
    rows = np.sort(np.concatenate([chosen, np.flatnonzero(table.split != 0)]))
    arrays = ("clicks", "impressions", "groups", "split", "row_ids")
    return dataclasses.replace(
        table,
        texts=tuple(column.take(rows) for column in table.texts),
        **{name: getattr(table, name)[rows] for name in arrays},
        fingerprint=f"{table.fingerprint[:8]}{size:08d}",
    )


def train_and_score(case: Case, data: PreparedData, folder: Path) -> float:
    """Train a trial and score the test split."""
    setup = trial_setup(data, ENCODER)
    worker = Worker(num_threads=THREADS)
    *_, last = fine_tune(case.trial, setup, worker, checkpoints=folder)
    assert last.checkpoint is not None
    rows = data.rows("test")
    model = load_model(Path(last.checkpoint.path))
    return score(predict_probabilities(model, rows), rows, setup)[METRIC]


def compare(scores: Scores, cases: list[Case]) -> Iterator[tuple[str, float, float]]:
    """Yield each size's and operation's mean difference to none, and half its interval."""
    for size in dict.fromkeys(case.size for case in cases):
        for name in TRIALS:
            if name == "none":
                continue
            apart = [
                _score(scores, case) - _score(scores, dataclasses.replace(case, name="none"))
                for case in cases
                if (case.size, case.name) == (size, name)
            ]
            error = float(np.std(apart, ddof=1)) / np.sqrt(len(apart))
            half = float(stats.t.ppf(0.975, len(apart) - 1)) * error
            yield f"{name}_{size or 'all'}", float(np.mean(apart)), half


def _score(scores: Scores, case: Case) -> float:
    value = scores.get(case)
    assert value is not None, case
    return value


def parse_arguments() -> argparse.Namespace:
    """Read what is compared, and where scores are kept."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--study", type=Path, help="a study file whose table is used")
    parser.add_argument("--data", type=Path, help="the headlines")
    parser.add_argument("--results", type=Path, help="keeps scores; a run goes on with them")
    parser.add_argument("--quick", action="store_true", help="100 rows, two seeds, one epoch")
    return parser.parse_args()


def all_cases(num_training: int, *, quick: bool) -> list[Case]:
    """List the trials, those of a size together and of a seed beside each other."""
    sizes = (100,) if quick else [size for size in SIZES if size < num_training]
    return [
        Case(size=size, name=name, seed=seed, epochs=1 if quick else BASE.epochs)
        for size in sizes
        for seed in (SEEDS[:2] if quick else SEEDS)
        for name in TRIALS
    ]


def train_all(cases: list[Case], table: ClickTable, scores: Scores, folder: Path) -> None:
    """Train what has no score yet."""
    for size, group in itertools.groupby(cases, key=lambda case: case.size):
        data = prepare(with_fewer_rows(table, size), ENCODER, folder / "data")
        for case in group:
            if scores.get(case) is None:
                scores.add(case, train_and_score(case, data, folder / "trial"))
            value = _score(scores, case)
            print(f"{size or 'all'} rows, {case.name}, seed {case.seed}: {value:.4f}", flush=True)


def main() -> None:
    arguments = parse_arguments()
    torch.set_num_threads(THREADS)
    with tempfile.TemporaryDirectory(prefix="clicktune-benchmark-") as name:
        folder = Path(name)
        if arguments.study is None:
            config = table_config(arguments.data, folder, 400 if arguments.quick else None)
        else:
            config = load_study(arguments.study).data
        table = load_clicks(config, TaskConfig())
        num_training = int((table.split == 0).sum())
        cases = all_cases(num_training, quick=arguments.quick)
        scores = Scores(arguments.results, table.fingerprint)
        train_all(cases, table, scores, folder)
    found = list(compare(scores, cases))
    for label, mean, half in found:
        print(f"{label}: {mean:+.4f} +- {half:.4f}")
    plain = {case: _score(scores, case) for case in cases if case.name == "none"}
    print_result(
        "augmentation_value",
        ratios={label: mean for label, mean, _ in found},
        details={
            "ratios_are": f"differences of the test {METRIC} to that without augmentation",
            "half_interval_95": {label: round(half, 4) for label, _, half in found},
            "without": {f"{c.size or 'all'}_seed_{c.seed}": round(v, 4) for c, v in plain.items()},
            "training_rows": num_training,
            "rate": RATE,
            "epochs": cases[0].epochs,
        },
    )


if __name__ == "__main__":
    main()
