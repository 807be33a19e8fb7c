"""How much faster a trial of the top layers is when it reads the frozen layers' output.

    python tests/benchmarks/frozen_prefix.py [--data TABLE] [--quick]

Trials of one epoch take turns: adapters in all layers; adapters in the top two, the frozen layers
computed in every step; the same, read from the cache; and the last two with half of the rows varied
by an augmentation. Optimizer steps are timed, without start and evaluation. The last line is JSON.
"""

import argparse
import dataclasses
import json
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from spaces.trial_config import TrialConfig
from trainables.array_cache import CACHE_FOLDER, ArrayCache
from trainables.data.config import Columns, DataConfig
from trainables.data.prepared import PreparedData, prepare
from trainables.data.simulate import SimulationConfig, simulate
from trainables.data.table import load_clicks
from trainables.encoder import EncoderConfig, encoder_fingerprint, find_encoder, num_layers
from trainables.engine import DeepSpeedConfig
from trainables.fine_tune import fine_tune
from trainables.frozen_cache import FrozenLayers
from trainables.task import TaskConfig
from trainables.trial_setup import TrialSetup, Worker

ROOT = Path(__file__).resolve().parents[2]
HEADLINES = ROOT.parent / "shared" / "data" / "upworthy_headlines.parquet"
THREADS = 2
TUNED_LAYERS = 2
TARGETS = {
    "cached_over_computed": 2.0,
    "cached_over_all_layers": 3.0,
    "varied_cached_over_computed": 2.0,
    "same_loss": 1.0,
}
LOSS_TOLERANCE = 1e-4
WARM_UP_STEPS = 2


def read_table(path: Path | None, num_rows: int, folder: Path) -> DataConfig:
    """Write some rows of the headlines, or of a simulated log, as the table of the benchmark."""
    if path is None:
        log = simulate(SimulationConfig(aggregate=True)).log
        columns = Columns(text=("query", "title"), clicks="clicks", impressions="impressions")
    else:
        log = pd.read_parquet(path)
        columns = Columns(text=("headline",), clicks="clicks", impressions="impressions")
    sample = log.sample(min(num_rows, len(log)), random_state=0)
    sample[[*columns.text, "clicks", "impressions"]].to_parquet(folder / "table.parquet")
    return DataConfig(path=str(folder / "table.parquet"), columns=columns)


def make_setup(data: PreparedData, encoder: EncoderConfig) -> TrialSetup:
    return TrialSetup(
        data_folder=str(data.folder),
        data_fingerprint=data.fingerprint,
        encoder_fingerprint=encoder_fingerprint(find_encoder(encoder)),
        encoder=encoder,
        deepspeed=DeepSpeedConfig(precision="fp32"),
    )


def time_epoch(trial: TrialConfig, setup: TrialSetup, num_rows: int) -> tuple[float, float]:
    """Train one epoch; return samples a second and the training loss."""
    times: list[float] = []
    training = fine_tune(
        trial,
        setup,
        Worker(num_threads=THREADS),
        on_step=lambda _done, _total: times.append(time.perf_counter()),
    )
    progress = next(training)
    training.close()
    timed_rows = num_rows - WARM_UP_STEPS * trial.batch_size
    return timed_rows / (times[-1] - times[WARM_UP_STEPS - 1]), progress.metrics["train_loss"]


def measure(
    trials: Mapping[str, tuple[TrialConfig, TrialSetup]], num_rows: int, repeats: int
) -> Iterator[tuple[str, float, float]]:
    for _ in range(repeats):
        for name, (trial, setup) in trials.items():
            speed, loss = time_epoch(trial, setup, num_rows)
            print(f"{name}: {speed:.1f} samples/s, loss {loss:.6f}", flush=True)
            yield name, speed, loss


def build_seconds(data: PreparedData, encoder_folder: Path) -> float:
    started = time.perf_counter()
    layers = FrozenLayers(
        encoder_folder=encoder_folder,
        num_frozen=num_layers(encoder_folder) - TUNED_LAYERS,
        device=torch.device("cpu"),
        files=ArrayCache(data.folder / CACHE_FOLDER, budget_gb=EncoderConfig().cache_gb),
    )
    assert layers.open_prepared(data) is not None
    return time.perf_counter() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, help="the headlines; without them a simulated log")
    parser.add_argument("--quick", action="store_true", help="few rows, one repeat")
    arguments = parser.parse_args()
    given = arguments.data or (HEADLINES if HEADLINES.is_file() else None)
    rows, repeats = (400, 1) if arguments.quick else (3_000, 5)
    torch.set_num_threads(THREADS)
    with tempfile.TemporaryDirectory(prefix="clicktune-benchmark-") as name:
        folder = Path(name)
        encoder = EncoderConfig(max_tokens=64)
        table = load_clicks(read_table(given, rows, folder), TaskConfig())
        data = prepare(table, encoder, folder / "data")
        report(data, encoder, repeats)


def report(data: PreparedData, encoder: EncoderConfig, repeats: int) -> None:
    seconds = build_seconds(data, find_encoder(encoder))
    size = sum(path.stat().st_size for path in (data.folder / CACHE_FOLDER).iterdir())
    print(f"cache: {seconds:.1f} s to compute, {size / 1e6:.1f} MB")
    top = TrialConfig(tuned_layers=TUNED_LAYERS, epochs=1)
    varied = dataclasses.replace(top, augmentation="word_dropout")
    setup = make_setup(data, encoder)
    without = dataclasses.replace(setup, encoder=dataclasses.replace(encoder, cache_gb=0.0))
    trials = {
        "all_layers": (TrialConfig(epochs=1), setup),
        "computed": (top, without),
        "cached": (top, setup),
        "varied_computed": (varied, without),
        "varied_cached": (varied, setup),
    }
    speeds: dict[str, list[float]] = {name: [] for name in trials}
    losses: dict[str, float] = {}
    for name, speed, loss in measure(trials, data.num_rows[0], repeats):
        speeds[name].append(speed)
        losses[name] = loss
    cached = np.array(speeds["cached"])
    apart = max(
        abs(losses[f"{kind}cached"] - losses[f"{kind}computed"]) for kind in ("", "varied_")
    )
    ratios = {
        "cached_over_computed": statistics.median(cached / np.array(speeds["computed"])),
        "cached_over_all_layers": statistics.median(cached / np.array(speeds["all_layers"])),
        "varied_cached_over_computed": statistics.median(
            np.array(speeds["varied_cached"]) / np.array(speeds["varied_computed"])
        ),
        "same_loss": float(apart <= LOSS_TOLERANCE),
    }
    result = {
        "benchmark": "frozen_prefix",
        "ratios": {name: round(float(value), 3) for name, value in ratios.items()},
        "targets": TARGETS,
        "holds": all(ratios[name] >= target for name, target in TARGETS.items()),
        "machine": {
            "cpu": platform.processor() or platform.machine(),
            "cores": os.cpu_count(),
            "threads": THREADS,
            "python": platform.python_version(),
            "torch": torch.__version__,
        },
        "details": {
            "samples_per_s": {k: round(statistics.median(v), 1) for k, v in speeds.items()},
            "build_s": round(seconds, 2),
            "cache_mb": round(size / 1e6, 1),
            "loss_difference": apart,
        },
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
