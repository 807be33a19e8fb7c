"""A response surface for benchmarks of search: every point of a grid, really trained, in a table.

The table holds the validation metrics of each epoch of each configuration of ``LEVELS``: MiniLM-L6,
the top layers on the frozen ones' cached output, nine epochs on the pairs of a simulated log. Its
pairs are few, so that a configuration takes seconds, and each has hundreds of impressions, so that
their click rates, and with them the surface, aren't only noise. Pairs are split at random.

Everything but the learning rate has in the space only values that were trained. Between two
learning rates that were, a point's scores are those of both, epoch by epoch, weighted by its
distance from them in the logarithm. So no point is better than the better one of two trainings, and
their noise stays in the surface: a fitted surrogate, such as a Gaussian process, would be smoother
than training is and flatter the methods that expect that, and with the nearest of eight rates alone
a few draws would find the best one.

A table that was broken off answers for a smaller space: the values of ``LEVELS`` that it has with
all others.
"""

import bisect
import csv
import itertools
import math
import tempfile
from collections.abc import Container, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from measuring import trial_setup

from spaces.space import Space
from spaces.trial_config import TrialConfig
from trainables.data.config import Columns, DataConfig, SplitConfig
from trainables.data.prepared import PreparedData, prepare
from trainables.data.simulate import SimulationConfig, simulate
from trainables.data.table import load_clicks
from trainables.encoder import EncoderConfig
from trainables.fine_tune import fine_tune
from trainables.task import TaskConfig
from trainables.trial_setup import Worker

TABLE = Path(__file__).resolve().parent / "data" / "surface.csv"
EPOCHS = 9
"""Of every configuration; three rungs for a reduction factor of three."""
METRICS = ("roc_auc", "log_loss")
LEARNING_RATES = (3.16e-5, 7.2e-5, 1.64e-4, 3.73e-4, 8.48e-4, 1.93e-3, 4.39e-3, 1e-2)
LEVELS: dict[str, tuple[Any, ...]] = {
    # The last ones change slowest, so that a table that was broken off lacks whole levels.
    "learning_rate": LEARNING_RATES,
    "method": ("full", "lora"),
    "lora_rank": (4, 16),
    "batch_size": (16, 64),
    "dropout": (0.0, 0.2),
    "tuned_layers": (1, 2),
}
ENCODER = EncoderConfig(max_tokens=16)
LOG = SimulationConfig(aggregate=True, num_queries=40, num_products=240, num_impressions=200_000)
SPLIT = SplitConfig(by="random", fractions=(0.4, 0.35, 0.25))

Key = tuple[Any, ...]


def configurations(levels: Mapping[str, tuple[Any, ...]] = LEVELS) -> Iterator[TrialConfig]:
    """Yield every configuration of a table once, those of the last level's first value first."""
    seen = set()
    for values in itertools.product(*reversed(levels.values())):
        trial = TrialConfig(**dict(zip(reversed(levels), values, strict=True)), epochs=EPOCHS)
        if trial.effective_key() not in seen:
            seen.add(trial.effective_key())
            yield trial


def key_of(trial: TrialConfig) -> Key:
    """Return the table's key of a configuration that it may hold."""
    rank = trial.lora_rank if trial.method == "lora" else None
    choices = (trial.batch_size, trial.tuned_layers, trial.method, rank, trial.dropout)
    return (trial.learning_rate, *choices)


@dataclass(frozen=True, kw_only=True, slots=True)
class Surface:
    """What every configuration reported."""

    curves: Mapping[Key, Mapping[str, tuple[float, ...]]]
    """Metrics by epoch."""
    seconds: float
    """What training them took."""
    levels: Mapping[str, tuple[Any, ...]]
    """Values that the table has, each with all values of the others."""

    @classmethod
    def read(cls, path: Path = TABLE) -> "Surface":
        """Read the table.

        Raises:
            ValueError: if it lacks configurations of the first levels.
        """
        curves, seconds = {}, {}
        with path.open(encoding="utf-8", newline="") as file:
            for row in csv.DictReader(file):
                seconds[_row_key(row)] = float(row["seconds"])
                curves[_row_key(row)] = {
                    name: tuple(float(row[f"{name}_{epoch}"]) for epoch in range(1, EPOCHS + 1))
                    for name in METRICS
                }
        levels = _complete(curves)
        kept = {key: curves[key] for key in map(key_of, configurations(levels))}
        return cls(curves=kept, seconds=sum(map(seconds.__getitem__, kept)), levels=levels)

    def space(self) -> Space:
        """Return the space that the table answers for."""
        space: dict[str, Any] = {
            name: {"choice": list(values)} if len(values) > 1 else values[0]
            for name, values in self.levels.items()
        }
        space["learning_rate"] = {"log_uniform": [LEARNING_RATES[0], LEARNING_RATES[-1]]}
        space["lora_rank"]["when"] = {"method": "lora"}
        return Space.parse(space)

    def metrics(self, trial: TrialConfig, epoch: int) -> dict[str, float]:
        """Return what a trial reports after an epoch."""
        place = bisect.bisect_left(LEARNING_RATES, trial.learning_rate)
        above = min(max(place, 1), len(LEARNING_RATES) - 1)
        low, high = LEARNING_RATES[above - 1], LEARNING_RATES[above]
        share = math.log(trial.learning_rate / low) / math.log(high / low)
        _, *choices = key_of(trial)
        lower, upper = self.curves[(low, *choices)], self.curves[(high, *choices)]
        return {
            name: (1 - share) * lower[name][epoch - 1] + share * upper[name][epoch - 1]
            for name in METRICS
        }

    def best(self, metric: str = "roc_auc") -> float:
        """Return the best value of a metric that any configuration has after any epoch."""
        return max(max(curves[metric]) for curves in self.curves.values())


def _complete(curves: Container[Key]) -> dict[str, tuple[Any, ...]]:
    """Return the levels, without the last values of the slowest ones that aren't all there."""
    levels = dict(LEVELS)
    for name in reversed(LEVELS):
        missing = [key for key in map(key_of, configurations(levels)) if key not in curves]
        if not missing:
            return levels
        levels[name] = levels[name][:1]
    raise ValueError(
        f"the table lacks {missing[0]}; python tests/benchmarks/search_quality.py --make trains it"
    )


def _row_key(row: Mapping[str, str]) -> Key:
    return (
        float(row["learning_rate"]),
        int(row["batch_size"]),
        int(row["tuned_layers"]),
        row["method"],
        int(row["lora_rank"]) if row["lora_rank"] else None,
        float(row["dropout"]),
    )


FIELDS = (
    "learning_rate",
    "batch_size",
    "tuned_layers",
    "method",
    "lora_rank",
    "dropout",
    "seconds",
    *(f"{metric}_{epoch}" for metric in METRICS for epoch in range(1, EPOCHS + 1)),
)


def make(path: Path = TABLE, *, threads: int = 1) -> None:
    """Train every configuration that the table doesn't have yet, and append it."""
    done = set()
    if path.is_file():
        with path.open(encoding="utf-8", newline="") as file:
            done = {_row_key(row) for row in csv.DictReader(file)}
    with tempfile.TemporaryDirectory(prefix="clicktune-benchmark-") as name:
        data = _prepare(Path(name))
        print(f"rows: {data.num_rows}", flush=True)
        for trial in configurations():
            if key_of(trial) not in done:
                _append(path, train(trial, data, threads=threads))


def _prepare(folder: Path) -> PreparedData:
    simulate(LOG).log.to_parquet(folder / "log.parquet")
    columns = Columns(text=("query", "title"), clicks="clicks", impressions="impressions")
    config = DataConfig(path=str(folder / "log.parquet"), columns=columns, split=SPLIT)
    return prepare(load_clicks(config, TaskConfig()), ENCODER, folder / "data")


def train(trial: TrialConfig, data: PreparedData, *, threads: int) -> dict[str, Any]:
    """Train a configuration and return its row of the table."""
    row: dict[str, Any] = dict(zip(FIELDS, key_of(trial), strict=False))
    row["seconds"] = 0.0
    for progress in fine_tune(trial, trial_setup(data, ENCODER), Worker(num_threads=threads)):
        row["seconds"] += progress.seconds
        for metric in METRICS:
            row[f"{metric}_{progress.epoch}"] = f"{progress.metrics[metric]:.5f}"
    row["seconds"] = f"{row['seconds']:.2f}"
    print(
        ", ".join(f"{name} {row[name]}" for name in (*FIELDS[:7], f"roc_auc_{EPOCHS}")), flush=True
    )
    return row


def _append(path: Path, row: Mapping[str, Any]) -> None:
    path.parent.mkdir(exist_ok=True)
    is_new = not path.is_file()
    with path.open("a", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, FIELDS)
        if is_new:
            writer.writeheader()
        writer.writerow(row)
