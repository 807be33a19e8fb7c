"""What a trial costs beside training: its start, and its share of a study's time.

    python tests/benchmarks/trial_overhead.py [--data TABLE] [--quick]

- one_worker_start_s, gang_start_s: from the moment that Tune takes a trial up (its searcher gives
  the configuration out) until the trial's first optimizer step begins, its data, model and engine
  ready. The median over the trials that found a warm process, for one worker and for a gang of two.
- nested_trainer_start_s (in the details): the same with one nested TorchTrainer for each trial, as
  Ray's documentation has it: a trainable that calls TorchTrainer.fit(), whose worker runs the same
  fine_tune. Its median is over all trials, because none finds warm processes.
- study_overhead: of a study of 24 trials of about ten seconds each, two at a time with one thread
  each, the share of the trials' time, from the call of Study.run() to its return, that is neither
  training nor evaluation. Preparing the data, the start of Ray and of its processes, Tune and the
  ledger are all in it.

The last line is JSON.
"""

import contextlib
import dataclasses
import json
import os
import statistics
import tempfile
import time
from collections.abc import Generator
from pathlib import Path
from typing import Any

from measuring import parse_arguments, print_result, table_config
from ray import tune

from search.events import StudyEvent
from search.study import Study
from search.study_config import StudyConfig, parse_study
from spaces.trial_config import TrialConfig
from trainables.data.config import DataConfig
from trainables.gang import GangTrial
from trainables.task import TASK_METRICS
from trainables.trial import OneWorkerTrial, trial_result
from trainables.trial_setup import Progress, TrialSetup, Worker

AT_MOST = {"one_worker_start_s": 0.1, "gang_start_s": 1.0, "study_overhead": 0.05}
FIRST_STEPS = "CLICKTUNE_FIRST_STEPS"
"""Environment variable with the file that gets a line for each trial's first step."""
NUM_TRIALS = 24
TRIALS_AT_A_TIME = 2
ROWS_OF_TEN_SECONDS = 900
"""Headlines that one thread trains on, in one epoch with adapters, in about ten seconds."""


def timed_fine_tune(
    trial: TrialConfig,
    setup: TrialSetup,
    worker: Worker,
    **settings: Any,  # noqa: ANN401 - passed on
) -> Generator[Progress, None, None]:
    """Run fine_tune and note when its first step begins, in which process."""
    from trainables import fine_tune as module

    forward = module.Engine.forward

    def noting_forward(*args: Any, **batch: Any) -> Any:  # noqa: ANN401
        module.Engine.forward = forward  # type: ignore[method-assign]
        line = [trial.learning_rate, os.getpid(), time.time()]
        with Path(os.environ[FIRST_STEPS]).open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
        return forward(*args, **batch)

    module.Engine.forward = noting_forward  # type: ignore[method-assign,assignment]
    yield from module.fine_tune(trial, setup, worker, **settings)


class TimedTrial(OneWorkerTrial):
    fine_tune = "trial_overhead:timed_fine_tune"


class TimedGangTrial(GangTrial):
    fine_tune = "trial_overhead:timed_fine_tune"


def study_config(
    table: DataConfig, name: str, *, trials: int, workers: int = 1, epochs: int = 1
) -> StudyConfig:
    columns = {key: value for key, value in dataclasses.asdict(table.columns).items() if value}
    study = {
        "name": name,
        "data": {"path": table.path, "columns": columns, "split": {"by": "group"}},
        "encoder": {"name": "minilm-l6", "max_tokens": 64},
        "space": {"learning_rate": {"log_uniform": [1e-4, 1e-3]}, "method": "lora"},
        "search": {
            "algorithm": "random",
            "scheduler": "none",
            "epochs": epochs,
            "trials": trials,
        },
        "resources": {
            "workers": workers,
            "cpus_per_worker": 1,
            "concurrent_trials": 1 if workers > 1 else TRIALS_AT_A_TIME,
        },
    }
    return parse_study(json.dumps(study))


def run_study(config: StudyConfig, folder: Path, trainable: type) -> dict[str, Any]:
    """Run a study; return its warm starts, wall time and the trials' time, in seconds."""
    steps_file = folder / f"{config.name}.jsonl"
    os.environ[FIRST_STEPS] = str(steps_file)
    taken_up: dict[float, float] = {}
    now = time.time()

    def on_event(event: StudyEvent) -> None:
        if event.kind == "started" and event.trial is not None:
            taken_up[event.trial.config.learning_rate] = time.time()

    result = Study(config, out=folder, trainable=trainable).run(on_event=on_event)
    wall_s = time.time() - now
    steps = [json.loads(line) for line in steps_file.read_text(encoding="utf-8").splitlines()]
    seen: set[int] = set()
    starts, cold = [], []
    for rate, pid, began in sorted(steps, key=lambda step: step[2]):
        (starts if pid in seen else cold).append(began - taken_up[rate])
        seen.add(pid)
    trained_s = sum(report.seconds for trial in result.trials for report in trial.reports)
    return {"starts": starts, "cold": cold, "wall_s": wall_s, "trained_s": trained_s}


class NestedTrial(tune.Trainable):  # type: ignore[misc]
    """One TorchTrainer of one worker for each trial, which ends after the first step."""

    def setup(self, config: dict[str, Any]) -> None:
        self._config = config

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        self._config = new_config
        return True

    def step(self) -> dict[str, Any]:
        from ray.train import RunConfig, ScalingConfig
        from ray.train.torch import TorchTrainer

        config = self._config
        trial, setup = TrialConfig(**config["trial"]), config["setup"]
        TorchTrainer(
            train_nested,
            train_loop_config={"trial": trial, "setup": setup},
            scaling_config=ScalingConfig(num_workers=1, resources_per_worker={"CPU": 1}),
            run_config=RunConfig(storage_path=str(Path(config["checkpoints"]).parent / "nested")),
        ).fit()
        # Only its start is of interest; the study wants a result all the same.
        progress = Progress(
            epoch=1,
            metrics=dict.fromkeys((*TASK_METRICS[setup.task.kind], "train_loss"), 0.5),
            seconds=0.0,
            evaluate_seconds=0.0,
            config_hash=setup.config_hash(trial),
            done=True,
            checkpoint=None,
        )
        return trial_result(config["number"], progress, [os.getpid()])


def train_nested(config: dict[str, Any]) -> None:
    training = timed_fine_tune(config["trial"], config["setup"], Worker(), on_step=_stop)
    with contextlib.suppress(InterruptedError):
        next(training)


def _stop(done: int, total: int) -> None:
    raise InterruptedError("the first step is done")


def main() -> None:
    arguments = parse_arguments(__doc__ or "")
    os.environ.update(
        {
            "RAY_worker_niceness": "0",
            "RAY_USAGE_STATS_ENABLED": "0",
            "OMP_NUM_THREADS": "1",
            # The workers import this file by its name.
            "PYTHONPATH": str(Path(__file__).resolve().parent),
        }
    )
    few, many = (4, 4) if arguments.quick else (8, NUM_TRIALS)
    rows = 200 if arguments.quick else ROWS_OF_TEN_SECONDS
    with tempfile.TemporaryDirectory(prefix="clicktune-benchmark-") as name:
        folder = Path(name)
        table = table_config(arguments.data, folder, rows)
        whole = run_study(study_config(table, "whole", trials=many), folder, TimedTrial)
        print(f"study: {json.dumps(whole)}", flush=True)
        (folder / "small").mkdir()
        small = table_config(arguments.data, folder / "small", 200)
        gang = run_study(study_config(small, "gang", trials=few, workers=2), folder, TimedGangTrial)
        print(f"gang: {json.dumps(gang)}", flush=True)
        # Two workers in the study, so that the trial's own process leaves the nested one a CPU.
        nested_config = study_config(small, "nested", trials=3, workers=2)
        nested = run_study(nested_config, folder, NestedTrial)
        print(f"nested: {json.dumps(nested)}", flush=True)
    slots_s = TRIALS_AT_A_TIME * whole["wall_s"]
    ratios = {
        "one_worker_start_s": statistics.median(whole["starts"]),
        "gang_start_s": statistics.median(gang["starts"]),
        "study_overhead": 1 - whole["trained_s"] / slots_s,
    }
    details = {
        "study_wall_s": round(whole["wall_s"], 1),
        "trial_s": round(whole["trained_s"] / many, 2),
        "cold_start_s": [round(start, 2) for start in whole["cold"]],
        "gang_cold_start_s": [round(start, 2) for start in gang["cold"]],
        "nested_trainer_start_s": statistics.median(nested["starts"] + nested["cold"]),
    }
    print_result("trial_overhead", ratios=ratios, at_most=AT_MOST, details=details, threads=1)


if __name__ == "__main__":
    main()
