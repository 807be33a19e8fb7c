"""Whether text and fields together beat either alone, over seeds.

    python tests/benchmarks/fields_value.py [--study FILE [--set NAME=VALUE]...]
        [--seeds N] [--results FILE] [--quick]

Trials, equal but for `inputs` (all, text, fields) and the seed, are trained on a study's table
(walmart_amazon.yaml, say), all parameters, or, without one, on 10,000 impressions of a simulated
log, the top layer: its clicks depend on words, price, brand, segment, format, position, hour.
The score is the ROC-AUC on the test split after the last epoch; differences are by seed, with a
95 % interval from Student's t. Scores are appended to the results file as they come, and those that
are there aren't computed again, so that a run may be broken off. The last line is JSON.
"""

import argparse
import dataclasses
import statistics
import tempfile
from pathlib import Path

import torch
from comparing import (
    METRIC,
    Scores,
    add_arguments,
    paired_difference,
    rounded,
    study_of,
)
from measuring import THREADS, print_result

from spaces.trial_config import TrialConfig
from trainables.data.config import Columns, DataConfig, SplitConfig
from trainables.data.prepared import prepare
from trainables.data.simulate import SimulationConfig, simulate
from trainables.data.table import load_clicks
from trainables.encoder import EncoderConfig
from trainables.task import TaskConfig

SIDES = ("all", "text", "fields")
TRIAL = TrialConfig(method="full", learning_rate=1e-4, batch_size=32, field_units=16, epochs=3)
"""On a study's table."""
SIMULATED_TRIAL = dataclasses.replace(TRIAL, tuned_layers=1, learning_rate=5e-4)
QUICK_ROWS = 600
SIMULATED_ROWS = 10_000


def simulated_table(folder: Path, num_rows: int) -> DataConfig:
    """Write a log with text and fields, split by user."""
    log = simulate(SimulationConfig(num_impressions=num_rows, num_queries=120)).log
    log.to_parquet(folder / "log.parquet")
    columns = Columns(
        text=("query", "title"),
        label="label",
        group="user",
        categorical=("segment", "brand", "ad_format", "position"),
        numeric=("price",),
        timestamp="timestamp",
        time_features=("hour", "weekday"),
    )
    split = SplitConfig(by="group")
    return DataConfig(path=str(folder / "log.parquet"), columns=columns, split=split)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_arguments(parser)
    parser.add_argument("--seeds", type=int, default=5, help="trials of each kind")
    arguments = parser.parse_args()
    torch.set_num_threads(THREADS)
    study = study_of(arguments)
    quick = arguments.quick
    scores = Scores(arguments.results)
    found: dict[str, list[float]] = {side: [] for side in SIDES}
    with tempfile.TemporaryDirectory(prefix="clicktune-benchmark-") as name:
        folder = Path(name)
        if study is None:
            table = simulated_table(folder, QUICK_ROWS if quick else SIMULATED_ROWS)
            encoder, base = EncoderConfig(max_tokens=32), SIMULATED_TRIAL
        else:
            table, encoder, base = study.data, study.encoder, TRIAL
        data = prepare(load_clicks(table, TaskConfig()), encoder, folder / "data")
        for seed in range(2 if quick else arguments.seeds):
            for side in SIDES:
                trial = dataclasses.replace(
                    base,
                    inputs=side,  # type: ignore[arg-type]
                    seed=seed,
                    epochs=1 if quick else base.epochs,
                )
                found[side].append(scores.train(trial, data, encoder))
                print(f"{side}, seed {seed}: {found[side][-1]:.4f}", flush=True)
        num_training = data.num_rows[0]
    apart = {side: paired_difference(found["all"], found[side]) for side in SIDES[1:]}
    print_result(
        "fields_value",
        ratios={f"all_minus_{side}": mean for side, (mean, _) in apart.items()},
        at_least={f"all_minus_{side}": 0.0 for side in apart},
        details={
            "ratios_are": f"differences of the mean test {METRIC}",
            "half_interval_95": rounded({side: half for side, (_, half) in apart.items()}),
            "means": rounded({side: statistics.mean(values) for side, values in found.items()}),
            "training_rows": num_training,
            "seeds": len(found["all"]),
        },
    )


if __name__ == "__main__":
    main()
