"""How soon a study is as good as Hugging Face's search over the same space, on the same cores.

    python tests/benchmarks/time_to_quality.py [--data TABLE] [--rows N] [--trials N] [--seeds N]
        [--tuned-layers N] [--trials-per-gpu N] [--results FILE] [--quick]

Both sides search learning rate (1e-5 to 3e-3, logarithmic), batch size (16, 32, 64) and LoRA rank
(4, 8, 16) for three epochs, MiniLM-L6, the same rows and splits, as many trials at a time as this
process may use cores, with one thread each, or as many on a GPU as ``--trials-per-gpu`` says, in
bf16:

- hf: ``Trainer.hyperparameter_search(backend="ray")``, random trials, dynamic padding, an
  evaluation after each epoch.
- ours: a study with TPE and ASHA. It trains batches of like length, and adapters in the top layers
  alone on the frozen layers' cached output (``--tuned-layers``; 0 trains adapters in all layers, as
  the other side does). That many top layers are no further dimension of the search, but another
  model: fewer adapters.

Equal on both sides: the binomial loss, a head that starts at the log-odds of the base rate,
adapters on query and value with alpha twice the rank, dropout, AdamW, the linear schedule with
warm-up, and the validation ROC-AUC, weighted by impressions. Clocks run from the call until the
last trial ends, Ray's start included. Reading and tokenizing the table counts for ours alone. Ours
has as much time as hf took (`search.max_hours`), and trials enough to use it.

- speedup_to_hf_best: when hf reported its best, over when ours had reached that value; 0 where it
  never did. Of several seeds the median.
- ahead_at_equal_time: our best less theirs when the shorter of both searches ended.

What is compared is the best of a search on the validation split, which is higher the more often one
tries; the number of reports is among the details. A seed may take an hour: with ``--results`` each
side of it is kept in a file when it is done, and a later call goes on with what is missing. The
last line is JSON.
"""

import argparse
import dataclasses
import json
import math
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
import yaml
from comparing import Kept
from measuring import HEADLINES, ROOT, alone_in_process, print_result, table_config
from torch import nn
from trial_throughput import ENCODER, TokenDataset, _click_loss

from cluster.connect import connect
from cluster.resources import available_cpus, gpu_share
from search.events import StudyEvent
from search.study import Study
from search.study_config import parse_study
from spaces.trial_config import TrialConfig
from trainables.data.config import DataConfig
from trainables.data.prepared import PreparedData, prepare
from trainables.data.table import load_clicks
from trainables.encoder import find_encoder
from trainables.metrics import METRICS
from trainables.task import TaskConfig

METRIC = "roc_auc"
EPOCHS = 3
RATES, BATCHES, RANKS = (1e-5, 3e-3), (16, 32, 64), (4, 8, 16)
DEFAULTS = TrialConfig()
TRAINING_SHARE = 0.7
OUR_TRIALS = 20
"""Trials of ours for one of theirs at most: time ends the search first."""
AT_LEAST = {"speedup_to_hf_best": 5.0, "ahead_at_equal_time": 0.0}


@dataclass(frozen=True, kw_only=True, slots=True)
class Timeline:
    """What a search reported when."""

    reports: tuple[tuple[float, float], ...]
    """Seconds since its start and validation score of each report, in order."""
    seconds: float
    """When its last trial ended."""

    @classmethod
    def kept(cls, results: Kept, case: dict[str, Any], search: Callable[[], "Timeline"]) -> Self:
        """Return the timeline of a case, after searching unless the file has it."""
        found = results.of(case, lambda: dataclasses.asdict(search()))
        reports = tuple((at, score) for at, score in found["reports"])
        return cls(reports=reports, seconds=found["seconds"])

    def best_until(self, seconds: float) -> float:
        """Return the best score by then; minus infinity before the first report."""
        return max((score for at, score in self.reports if at <= seconds), default=-math.inf)

    @property
    def best_at(self) -> float:
        """When the final best was reported."""
        best = self.best_until(math.inf)
        return next(at for at, score in self.reports if score == best)

    def reached(self, score: float) -> float | None:
        """Return when a score was reached; None if it never was."""
        return next((at for at, found in self.reports if found >= score), None)

    def improvements(self) -> list[tuple[float, float]]:
        """Return the reports that were the best so far."""
        best, found = -math.inf, []
        for at, score in self.reports:
            if score > best:
                best = score
                found.append((round(at, 1), round(score, 4)))
        return found


def _build_model(trial: dict[str, Any] | None, base_rate: float) -> nn.Module:
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForSequenceClassification
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    # Trainer builds a model before it knows of a trial.
    rank = DEFAULTS.lora_rank if trial is None else trial["lora_rank"]
    model = AutoModelForSequenceClassification.from_pretrained(find_encoder(ENCODER), num_labels=1)
    nn.init.constant_(model.classifier.bias, math.log(base_rate / (1 - base_rate)))
    config = LoraConfig(
        task_type="SEQ_CLS",
        r=rank,
        lora_alpha=2 * rank,
        lora_dropout=DEFAULTS.dropout,
        target_modules=["query", "value"],
    )
    adapted: nn.Module = get_peft_model(model, config)
    return adapted


def _weighted_auc(prediction: Any) -> dict[str, float]:  # noqa: ANN401 - an EvalPrediction
    clicks, impressions = prediction.label_ids.T
    probabilities = 1 / (1 + np.exp(-prediction.predictions[:, 0].astype(np.float64)))
    rows = clicks, impressions, np.arange(len(clicks))
    return {METRIC: METRICS[METRIC].function(probabilities, *rows)}


def hf_search(
    data: PreparedData, folder: Path, *, trials: int, seed: int, per_gpu: int
) -> Timeline:
    """Let Trainer search; on CPUs where no trial shares a GPU."""
    from ray import tune
    from ray.tune.search.basic_variant import BasicVariantGenerator
    from transformers import (
        AutoTokenizer,
        DataCollatorWithPadding,
        Trainer,
        TrainingArguments,
    )

    reports: list[tuple[float, float]] = []
    base_rate = data.base_rate

    class Clock(tune.Callback):  # type: ignore[misc]
        def on_trial_result(self, iteration: int, trials: Any, trial: Any, result: Any) -> None:  # noqa: ANN401
            reports.append((time.perf_counter() - started, result["objective"]))
            print(f"hf, {reports[-1][0]:.0f} s: {reports[-1][1]:.4f}", flush=True)

    def model_init(trial: dict[str, Any] | None) -> nn.Module:
        return _build_model(trial, base_rate)

    def space(_trial: object) -> dict[str, Any]:
        return {
            "learning_rate": tune.loguniform(*RATES),
            "per_device_train_batch_size": tune.choice(BATCHES),
            "lora_rank": tune.choice(RANKS),
        }

    arguments = TrainingArguments(
        output_dir=str(folder / "trainer"),
        per_device_eval_batch_size=64,
        num_train_epochs=EPOCHS,
        weight_decay=DEFAULTS.weight_decay,
        warmup_steps=DEFAULTS.warmup_fraction,
        eval_strategy="epoch",
        save_strategy="no",
        logging_strategy="no",
        report_to=[],
        use_cpu=not per_gpu,
        bf16=per_gpu > 0,
        disable_tqdm=True,
        dataloader_pin_memory=per_gpu > 0,
        label_names=["labels"],
        seed=seed,
    )
    trainer = Trainer(
        model_init=model_init,
        args=arguments,
        train_dataset=TokenDataset(data.rows("train")),
        eval_dataset=TokenDataset(data.rows("validation")),
        data_collator=DataCollatorWithPadding(AutoTokenizer.from_pretrained(find_encoder(ENCODER))),
        compute_loss_func=_click_loss,
        compute_metrics=_weighted_auc,
    )
    started = time.perf_counter()
    with connect(None):
        trainer.hyperparameter_search(
            hp_space=space,
            compute_objective=lambda metrics: metrics[f"eval_{METRIC}"],
            n_trials=trials,
            direction="maximize",
            backend="ray",
            resources_per_trial={"cpu": 1, "gpu": gpu_share(per_gpu) if per_gpu else 0},
            search_alg=BasicVariantGenerator(random_state=seed),
            callbacks=[Clock()],
            storage_path=str(folder / "hf"),
            verbose=0,
        )
        ended = time.perf_counter() - started
    return Timeline(reports=tuple(reports), seconds=ended)


def our_search(
    table: DataConfig,
    folder: Path,
    *,
    trials: int,
    seed: int,
    tuned_layers: int,
    per_gpu: int,
    seconds: float,
) -> Timeline:
    """Let a study search; on CPUs where no trial shares a GPU."""
    columns = {
        key: list(value) if isinstance(value, tuple) else value
        for key, value in dataclasses.asdict(table.columns).items()
        if value
    }
    space: dict[str, Any] = {
        "method": "lora",
        "learning_rate": {"log_uniform": list(RATES)},
        "batch_size": {"choice": list(BATCHES)},
        "lora_rank": {"choice": list(RANKS)},
    }
    if tuned_layers:
        space["tuned_layers"] = tuned_layers
    study: dict[str, Any] = {
        "name": f"ours-{seed}",
        "data": {"path": table.path, "columns": columns, "split": {"by": "group"}},
        "encoder": {"name": "minilm-l6", "max_tokens": ENCODER.max_tokens},
        "space": space,
        "search": {
            "algorithm": "tpe",
            "scheduler": "asha",
            "epochs": EPOCHS,
            "trials": trials,
            "metric": METRIC,
            "seed": seed,
            "max_hours": seconds / 3600,
        },
        "resources": {
            "workers": 1,
            "cpus_per_worker": 1,
            "gpus_per_worker": gpu_share(per_gpu) if per_gpu else 0,
            "concurrent_trials": "auto",
        },
        "deepspeed": {"precision": "bf16" if per_gpu else "fp32"},
    }
    reports: list[tuple[float, float]] = []
    started = time.perf_counter()

    def on_event(event: StudyEvent) -> None:
        if event.kind == "reported" and event.trial is not None:
            score = event.trial.reports[-1].metrics[METRIC]
            reports.append((time.perf_counter() - started, score))
            print(f"ours, {reports[-1][0]:.0f} s: {score:.4f}", flush=True)

    # JSON's 1e-05 would be a text in YAML.
    config = parse_study(yaml.safe_dump(study))
    Study(config, out=folder / "ours").run(on_event=on_event)
    return Timeline(reports=tuple(reports), seconds=time.perf_counter() - started)


def compare(hf: Timeline, ours: Timeline) -> dict[str, Any]:
    """Return both ratios of a seed, and what they are made of."""
    best = hf.best_until(math.inf)
    reached = ours.reached(best)
    equal = min(hf.seconds, ours.seconds)
    return {
        "speedup_to_hf_best": 0.0 if reached is None else hf.best_at / reached,
        "ahead_at_equal_time": ours.best_until(equal) - hf.best_until(equal),
        "hf_best": round(best, 4),
        "hf_best_at_s": round(hf.best_at, 1),
        "ours_reached_it_at_s": None if reached is None else round(reached, 1),
        "seconds": [round(hf.seconds, 1), round(ours.seconds, 1)],
        "reports": [len(hf.reports), len(ours.reports)],
        "hf": hf.improvements(),
        "ours": ours.improvements(),
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, help="the headlines; without them a simulated log")
    parser.add_argument("--rows", type=int, help="training rows, about; validation in proportion")
    parser.add_argument("--trials", type=int, default=12, help="trials of hf")
    parser.add_argument("--seeds", type=int, default=3, help="searches of each side")
    parser.add_argument("--tuned-layers", type=int, default=2, help="of ours; 0: all")
    parser.add_argument("--trials-per-gpu", type=int, default=0, help="0: on CPUs")
    parser.add_argument("--results", type=Path, help="keeps each seed's; a run goes on with them")
    parser.add_argument("--quick", action="store_true", help="200 rows, three trials, one seed")
    arguments = parser.parse_args()
    rows, trials, seeds = arguments.rows, arguments.trials, arguments.seeds
    if arguments.quick:
        rows, trials, seeds = 200, 3, 1
    path = arguments.data or (HEADLINES if HEADLINES.is_file() else None)
    benchmarks = Path(__file__).resolve().parent
    os.environ.update(
        {
            "RAY_worker_niceness": "0",
            "RAY_USAGE_STATS_ENABLED": "0",
            "OMP_NUM_THREADS": "1",
            "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
            # The workers import this folder's files by name.
            "PYTHONPATH": os.pathsep.join(
                [str(benchmarks), str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
            ),
        }
    )
    torch.set_num_threads(1)
    found = []
    with tempfile.TemporaryDirectory(prefix="clicktune-benchmark-") as name:
        folder = Path(name)
        num_rows = None if rows is None else round(rows / TRAINING_SHARE)
        table = table_config(path, folder, num_rows)
        data = prepare(load_clicks(table, TaskConfig()), ENCODER, folder / "data")
        layers = arguments.tuned_layers
        per_gpu = arguments.trials_per_gpu
        case = {
            "data": data.fingerprint,
            "trials": trials,
            "cpus": available_cpus(),
            **({"per_gpu": per_gpu, "gpu": torch.cuda.get_device_name()} if per_gpu else {}),
        }
        results = Kept(arguments.results)

        def search_theirs(seed: int) -> Timeline:
            with alone_in_process():
                return hf_search(data, folder, trials=trials, seed=seed, per_gpu=per_gpu)

        for seed in range(seeds):
            hf = Timeline.kept(
                results, {**case, "side": "hf", "seed": seed}, partial(search_theirs, seed)
            )
            ours = Timeline.kept(
                results,
                {**case, "side": "ours", "tuned_layers": layers, "seed": seed},
                partial(
                    our_search,
                    table,
                    folder,
                    trials=OUR_TRIALS * trials,
                    seed=seed,
                    tuned_layers=layers,
                    per_gpu=per_gpu,
                    seconds=hf.seconds,
                ),
            )
            found.append(compare(hf, ours))
            print(f"seed {seed}: {json.dumps(found[-1])}", flush=True)
        num_rows_of = data.num_rows
    names = ("speedup_to_hf_best", "ahead_at_equal_time")
    print_result(
        "time_to_quality",
        ratios={name: statistics.median(each[name] for each in found) for name in names},
        at_least=AT_LEAST,
        details={
            "rows": num_rows_of,
            "hf_trials": trials,
            "tuned_layers": layers,
            "trials_at_a_time": per_gpu or available_cpus(),
            "gpu": torch.cuda.get_device_name() if per_gpu else None,
            "seeds": found,
        },
        threads=1,
    )


if __name__ == "__main__":
    main()
