"""What deciding costs: ten thousand trials over a thousand simulated slots, without training.

    python tests/benchmarks/scale.py [--quick]

The study's conductor (random points, ASHA over nine epochs, every decision in its ledger) is asked
for trials and told their reports as Ray Tune would, from a thousand slots of which one after the
other reports. No process trains: a score follows from the configuration. Beside it, in the same
run, Ray Tune's own OptunaSearch (random sampler) and AsyncHyperBandScheduler decide on the same
reports, with no record of them on disk.

- driver_ms_per_result: the conductor's time over the number of reports, at ten thousand trials.
- growth_1k_to_10k: that time per report over the same at a thousand trials.
- tune_ratio: the same over OptunaSearch and AsyncHyperBandScheduler.

The ledger's size and the process's peak of resident memory are among the details. The last line is
JSON.
"""

import argparse
import resource
import statistics
import tempfile
import time
from collections import deque
from pathlib import Path
from typing import Any

from measuring import print_result

from search.conductor import Assignment, Conductor
from search.ledger import Ledger
from search.ledger_file import LEDGER_FILE
from search.study_config import StudyConfig, parse_study
from spaces.trial_config import TrialConfig
from trainables.trial_setup import TrialSetup

SLOTS = 1_000
EPOCHS = 9
SIZES, QUICK_SIZES = (1_000, 10_000), (200, 1_000)
STUDY = f"""
name: scale
data: {{path: clicks.csv, columns: {{text: [title], label: clicked}}}}
space:
  learning_rate: {{log_uniform: [1.0e-5, 1.0e-2]}}
  dropout: {{uniform: [0.0, 0.5]}}
  batch_size: {{choice: [16, 32, 64]}}
search: {{algorithm: random, scheduler: asha, epochs: {EPOCHS}, confirm_trials: 0}}
"""
SETUP = TrialSetup(data_folder="", data_fingerprint="d", encoder_fingerprint="e")


def score(learning_rate: float, dropout: float, epoch: int) -> float:
    """Return what a trial would report."""
    return 0.5 + 0.2 * (1 - 0.5**epoch) - abs(learning_rate - 1e-3) - 0.1 * dropout


def measure_conductor(num_trials: int) -> dict[str, float]:
    """Run a study's decisions; return milliseconds a report, their number and the ledger's size."""
    config = parse_study(STUDY, [f"search.trials={num_trials}"])
    with tempfile.TemporaryDirectory(prefix="clicktune-benchmark-") as name:
        folder = Path(name)
        with Ledger.create(folder, {}) as ledger:
            started = time.perf_counter()
            num_reports = conduct(config, ledger, folder)
            seconds = time.perf_counter() - started
        size = sum(path.stat().st_size for path in folder.glob(f"{LEDGER_FILE}*"))
    return {"ms": seconds / num_reports * 1e3, "reports": num_reports, "ledger_mb": size / 1e6}


def conduct(config: StudyConfig, ledger: Ledger, folder: Path) -> int:
    """Play all slots; return the number of reports."""
    conductor = Conductor(config, SETUP, ledger, folder)
    live: deque[tuple[Assignment, int]] = deque()
    num_reports = 0
    hashes: dict[int, str] = {}
    while True:
        while len(live) < SLOTS and isinstance(step := conductor.ask(), Assignment):
            hashes[step.number] = SETUP.config_hash(step.config)
            live.append((step, 1))
        if not live:
            return num_reports
        assignment, epoch = live.popleft()
        num_reports += 1
        report = _report(assignment.config, epoch, hashes[assignment.number])
        if conductor.report(assignment.number, report) == "continue":
            live.append((assignment, epoch + 1))


def _report(trial: TrialConfig, epoch: int, config_hash: str) -> dict[str, Any]:
    value = score(trial.learning_rate, trial.dropout, epoch)
    return {
        "epoch": epoch,
        "metrics": {"roc_auc": value, "log_loss": 1 - value, "train_loss": 1 - value},
        "seconds": 1.0,
        "config_hash": config_hash,
        "checkpoint": None,
        "done": epoch == EPOCHS,
    }


def measure_tune(num_trials: int) -> dict[str, float]:
    """Let Tune's OptunaSearch and AsyncHyperBandScheduler decide; return milliseconds a report."""
    import optuna
    from ray.tune.experiment import Trial
    from ray.tune.schedulers import AsyncHyperBandScheduler, TrialScheduler
    from ray.tune.search.optuna import OptunaSearch

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    distributions = optuna.distributions
    searcher = OptunaSearch(
        {
            "learning_rate": distributions.FloatDistribution(1e-5, 1e-2, log=True),
            "dropout": distributions.FloatDistribution(0.0, 0.5),
            "batch_size": distributions.CategoricalDistribution((16, 32, 64)),
        },
        metric="roc_auc",
        mode="max",
        sampler=optuna.samplers.RandomSampler(seed=0),
    )
    scheduler = AsyncHyperBandScheduler(
        time_attr="training_iteration", max_t=EPOCHS, grace_period=1, reduction_factor=2
    )
    scheduler.set_search_properties("roc_auc", "max")
    live: deque[tuple[Trial, dict[str, Any], int]] = deque()
    asked = num_reports = 0
    started = time.perf_counter()
    while True:
        while len(live) < SLOTS and asked < num_trials:
            trial = Trial("none", stub=True)
            point = searcher.suggest(trial.trial_id)
            scheduler.on_trial_add(None, trial)
            live.append((trial, point, 1))
            asked += 1
        if not live:
            break
        trial, point, epoch = live.popleft()
        num_reports += 1
        value = score(point["learning_rate"], point["dropout"], epoch)
        result = {"roc_auc": value, "training_iteration": epoch, "trial_id": trial.trial_id}
        searcher.on_trial_result(trial.trial_id, result)
        decision = scheduler.on_trial_result(None, trial, result)
        if decision == TrialScheduler.CONTINUE and epoch < EPOCHS:
            live.append((trial, point, epoch + 1))
        else:
            scheduler.on_trial_complete(None, trial, result)
            searcher.on_trial_complete(trial.trial_id, result)
    return {"ms": (time.perf_counter() - started) / num_reports * 1e3, "reports": num_reports}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="fewer trials, one turn")
    quick = parser.parse_args().quick
    small, large = QUICK_SIZES if quick else SIZES
    found: dict[str, list[float]] = {"small": [], "large": [], "tune": []}
    details: dict[str, Any] = {"slots": SLOTS}
    for turn in range(1 if quick else 3):
        for name, measure, size in (
            ("small", measure_conductor, small),
            ("large", measure_conductor, large),
            ("tune", measure_tune, large),
        ):
            measured = measure(size)
            found[name].append(measured["ms"])
            details[name] = {"trials": size, **{k: round(v, 3) for k, v in measured.items()}}
            print(f"turn {turn + 1}, {name}: {measured['ms']:.3f} ms a report", flush=True)
    medians = {name: statistics.median(values) for name, values in found.items()}
    details["peak_mb"] = round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3)
    print_result(
        "scale",
        ratios={
            "driver_ms_per_result": medians["large"],
            "growth_1k_to_10k": medians["large"] / medians["small"],
            "tune_ratio": medians["large"] / medians["tune"],
        },
        at_most={"driver_ms_per_result": 5.0, "growth_1k_to_10k": 1.1},
        details=details,
        threads=1,
    )


if __name__ == "__main__":
    main()
