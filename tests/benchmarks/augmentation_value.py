"""What augmentations are worth: the test metric of trials with each, and of trials with none.

    python tests/benchmarks/augmentation_value.py [--study FILE [--set NAME=VALUE]...]
        [--data TABLE] [--sizes N...] [--results FILE] [--quick]

For 500, 2,000 and all training rows, and three seeds, trials that tune the top two layers are
trained with each augmentation that needs no files of its own, with mixup, and with neither. A
trial's score is the ROC-AUC on the test split after its last epoch; the difference to the trial of
equal rows and seed without augmentation is averaged, with a 95 % interval from Student's t. The
table is that of a study, the headlines, or a simulated log. Scores are appended to the results file
as they come, and those that are there aren't computed again, so that a run may be broken off. One
trial runs at a time. The last line is JSON.
"""

import argparse
import dataclasses
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from comparing import (
    METRIC,
    Scores,
    add_arguments,
    paired_difference,
    rounded,
    study_of,
)
from measuring import THREADS, print_result, table_config

from spaces.trial_config import TrialConfig
from trainables.augmentation import OPERATIONS
from trainables.augmentation.config import DEFAULTS
from trainables.data.prepared import prepare
from trainables.data.table import ClickTable, load_clicks
from trainables.encoder import EncoderConfig
from trainables.task import TaskConfig

ENCODER = EncoderConfig(max_tokens=64)
ALL_ROWS = 0
"""Stands for all training rows among the sizes."""
SIZES = (500, 2_000, ALL_ROWS)
SEEDS = (0, 1, 2)
RATE = 0.15
BASE = TrialConfig(tuned_layers=2, learning_rate=1e-3, epochs=4)
WITHOUT_MODEL = [name for name in OPERATIONS if name != "wordnet" and not DEFAULTS.models(name)]
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
    """Training rows at most; ALL_ROWS: all."""
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


def with_fewer_rows(table: ClickTable, size: int) -> ClickTable:
    """Keep some training rows, the same for all trials, and the other splits as they are."""
    training = np.flatnonzero(table.split == 0)
    if size in (ALL_ROWS, len(training)):
        return table
    chosen = np.random.default_rng(0).permutation(training)[:size]
    rows = np.sort(np.concatenate([chosen, np.flatnonzero(table.split != 0)]))
    return table.take(rows, f"{table.fingerprint[:8]}{size:08d}")


def all_cases(num_training: int, sizes: Sequence[int], *, quick: bool) -> list[Case]:
    """List the trials, those of a size together and of a seed beside each other."""
    sizes = (100,) if quick else [size for size in sizes if size < num_training]
    return [
        Case(size=size, name=name, seed=seed, epochs=1 if quick else BASE.epochs)
        for size in sizes
        for seed in (SEEDS[:2] if quick else SEEDS)
        for name in TRIALS
    ]


def compare(found: dict[Case, float]) -> dict[str, tuple[float, float]]:
    """Return each operation's and size's mean difference to none, and half its interval."""
    scores: dict[tuple[str, int], list[float]] = {}
    for case, value in found.items():
        scores.setdefault((case.name, case.size), []).append(value)
    return {
        f"{name}_{size or 'all'}": paired_difference(values, scores["none", size])
        for (name, size), values in scores.items()
        if name != "none"
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_arguments(parser)
    parser.add_argument("--data", type=Path, help="the headlines")
    parser.add_argument(
        "--sizes", type=int, nargs="+", default=SIZES, help="training rows at most; 0: all"
    )
    arguments = parser.parse_args()
    torch.set_num_threads(THREADS)
    study = study_of(arguments)
    scores = Scores(arguments.results)
    found: dict[Case, float] = {}
    with tempfile.TemporaryDirectory(prefix="clicktune-benchmark-") as name:
        folder = Path(name)
        if study is None:
            config = table_config(arguments.data, folder, 400 if arguments.quick else None)
            encoder = ENCODER
        else:
            config, encoder = study.data, study.encoder
        table = load_clicks(config, TaskConfig())
        num_training = int((table.split == 0).sum())
        for case in all_cases(num_training, arguments.sizes, quick=arguments.quick):
            data = prepare(with_fewer_rows(table, case.size), encoder, folder / "data")
            found[case] = scores.train(case.trial, data, encoder)
            print(
                f"{case.size or 'all'} rows, {case.name}, seed {case.seed}: {found[case]:.4f}",
                flush=True,
            )
    apart = compare(found)
    for label, (mean, half) in apart.items():
        print(f"{label}: {mean:+.4f} +- {half:.4f}")
    print_result(
        "augmentation_value",
        ratios={label: mean for label, (mean, _) in apart.items()},
        details={
            "ratios_are": f"differences of the test {METRIC} to that without augmentation",
            "half_interval_95": rounded({label: half for label, (_, half) in apart.items()}),
            "without": rounded(
                {
                    f"{case.size or 'all'}_seed_{case.seed}": value
                    for case, value in found.items()
                    if case.name == "none"
                }
            ),
            "training_rows": num_training,
            "rate": RATE,
            "epochs": next(iter(found)).epochs,
        },
    )


if __name__ == "__main__":
    main()
