"""How much faster a trial of the top layers is when it reads the frozen layers' output.

    python tests/benchmarks/frozen_prefix.py [--data TABLE] [--quick]

Trials of one epoch take turns: adapters in all layers; adapters in the top two, the frozen layers
computed in every step; the same, read from the cache; and the last two with half of the rows varied
by an augmentation. Optimizer steps are timed, without start and evaluation. The last line is JSON.
"""

import dataclasses
import statistics
import tempfile
import time
from pathlib import Path

import torch
from measuring import (
    THREADS,
    median_ratio,
    parse_arguments,
    prepare_data,
    print_result,
    take_turns,
    trial_setup,
)

from spaces.trial_config import TrialConfig
from trainables.array_cache import CACHE_FOLDER
from trainables.encoder import EncoderConfig
from trainables.fine_tune import fine_tune
from trainables.trial_setup import TrialSetup, Worker

ENCODER = EncoderConfig(max_tokens=64)
TOP = TrialConfig(tuned_layers=2, epochs=1)
VARIED = dataclasses.replace(TOP, augmentation="word_dropout")
AT_LEAST = {
    "cached_over_computed": 2.0,
    "cached_over_all_layers": 3.0,
    "varied_cached_over_computed": 2.0,
}
AT_MOST = {"loss_difference": 1e-4}
WARM_UP_STEPS = 2


class Side:
    """A trial that takes turns with the others."""

    def __init__(self, trial: TrialConfig, setup: TrialSetup, num_rows: int) -> None:
        self._trial = trial
        self._setup = setup
        self._num_rows = num_rows
        self.loss = 0.0

    def train(self) -> float:
        """Train one epoch and return samples a second."""
        times: list[float] = []
        training = fine_tune(
            self._trial,
            self._setup,
            Worker(num_threads=THREADS),
            on_step=lambda _done, _total: times.append(time.perf_counter()),
        )
        self.loss = next(training).metrics["train_loss"]
        training.close()
        timed_rows = self._num_rows - WARM_UP_STEPS * self._trial.batch_size
        return timed_rows / (times[-1] - times[WARM_UP_STEPS - 1])


def main() -> None:
    arguments = parse_arguments(__doc__ or "")
    rows, repeats = (400, 1) if arguments.quick else (2_000, 5)
    torch.set_num_threads(THREADS)
    with tempfile.TemporaryDirectory(prefix="clicktune-benchmark-") as name:
        data = prepare_data(arguments.data, Path(name), ENCODER, rows)
        setup = trial_setup(data, ENCODER)
        uncached = trial_setup(data, dataclasses.replace(ENCODER, cache_gb=0.0))
        trials = {
            "all_layers": (TrialConfig(epochs=1), setup),
            "computed": (TOP, uncached),
            "cached": (TOP, setup),
            "varied_computed": (VARIED, uncached),
            "varied_cached": (VARIED, setup),
        }
        sides = {key: Side(*trial, data.num_rows[0]) for key, trial in trials.items()}
        # The first trial that needs a file of the cache makes it.
        for key in ("cached", "varied_cached"):
            sides[key].train()
        speeds = take_turns({key: side.train for key, side in sides.items()}, repeats, "samples/s")
        size = sum(path.stat().st_size for path in (data.folder / CACHE_FOLDER).iterdir())
    apart = [
        abs(sides[f"{kind}cached"].loss - sides[f"{kind}computed"].loss) for kind in ("", "varied_")
    ]
    print_result(
        "frozen_prefix",
        ratios={
            "cached_over_computed": median_ratio(speeds["cached"], speeds["computed"]),
            "cached_over_all_layers": median_ratio(speeds["cached"], speeds["all_layers"]),
            "varied_cached_over_computed": median_ratio(
                speeds["varied_cached"], speeds["varied_computed"]
            ),
            "loss_difference": max(apart),
        },
        at_least=AT_LEAST,
        at_most=AT_MOST,
        details={
            "samples_per_s": {k: round(statistics.median(v), 1) for k, v in speeds.items()},
            "cache_mb": round(size / 1e6, 1),
        },
    )


if __name__ == "__main__":
    main()
