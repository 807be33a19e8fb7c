"""The quickstart's input: a simulated log, its study, and rows that the log doesn't hold."""

import csv
import itertools
from collections.abc import Sequence
from pathlib import Path

from search.study_config import StudyConfig, load_study
from trainables.data.simulate import SimulationConfig, simulate, write_simulation

NAME = "quickstart"
LOG = SimulationConfig(aggregate=True, num_queries=150, num_impressions=60_000)
"""The log that is searched over: as large as two cores search in a few minutes."""
UNSEEN = SimulationConfig(num_impressions=600, aggregate=True, seed=1)
"""Another marketplace of the same grammar, for rows to predict."""
NUM_UNSEEN = 8


def free_name(out: Path) -> str:
    """Return the first of quickstart, quickstart-2, ... that OUT has no folder of."""
    names = (NAME if number == 1 else f"{NAME}-{number}" for number in itertools.count(1))
    return next(name for name in names if not (out / name).exists())


def write_log(folder: Path) -> None:
    """Simulate the log into a folder, unless an earlier quickstart did.

    The last file to be written is ``model.json``; where it is missing, the log may be half there.
    """
    if not (folder / "model.json").is_file():
        write_simulation(simulate(LOG), folder)


def quickstart_study(
    study_file: Path, data: Path, name: str, overrides: Sequence[str] = ()
) -> StudyConfig:
    """Point the built-in study at the simulated log.

    Raises:
        ValueError: if an override is wrong.
    """
    pointed = [f"name={name}", f"data.path={data / 'log.parquet'}"]
    truth = f"data.truth={data / 'truth.parquet'}"
    return load_study(study_file, [*pointed, truth, *overrides])


def write_unseen(path: Path, columns: Sequence[str]) -> None:
    """Write a CSV file of a few queries and titles without clicks."""
    rows = simulate(UNSEEN).log.head(NUM_UNSEEN)
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        writer.writerows(rows[list(columns)].itertuples(index=False, name=None))
