"""How many samples a second a trial trains, beside the usual loop and Hugging Face's Trainer.

    python tests/benchmarks/trial_throughput.py [--data TABLE] [--quick] [--quality]

Sides, one after the other in every turn, with two threads, MiniLM-L6, float32; tokenization, start
and evaluation aren't timed on any side:

- usual_loop: BertForSequenceClassification, every text padded to 128 tokens, batch 16, all
  parameters, AdamW.
- hf_trainer: Trainer with LoRA (rank 8, query and value, dropout 0.1), batch 32, dynamic padding,
  train_sampling_strategy="group_by_length".
- hf_trainer_top: the same with adapters in the top two layers alone.
- bare_step: the batches and the model of `trial`, built beforehand, in a loop of forward, backward,
  clipping and AdamW without ClickTune's loop and without DeepSpeed: the limit.
- trial: fine_tune with the same LoRA configuration and batch size as hf_trainer.
- trial_cached: fine_tune with tuned_layers=2, the frozen layers' output read from the cache, which
  was filled before (its time is in the details).

The ratios are medians of the turns' ratios. With --quality nothing is timed: hf_trainer and trial
train an epoch with three seeds, and the last line compares their validation ROC-AUC. The last
line is JSON.
"""

import json
import math
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from measuring import (
    THREADS,
    alone_in_process,
    median_ratio,
    parse_arguments,
    prepare_data,
    print_result,
    take_turns,
    trial_setup,
)
from torch import nn

from spaces.trial_config import TrialConfig
from trainables.array_cache import CACHE_FOLDER, ArrayCache
from trainables.batch_source import to_device
from trainables.data.batching import like_length_batches
from trainables.data.prepared import PreparedData, Rows
from trainables.encoder import EncoderConfig, find_encoder, num_layers
from trainables.fine_tune import fine_tune
from trainables.frozen_cache import FrozenLayers
from trainables.losses import binomial_loss
from trainables.metrics import METRICS
from trainables.model import build_model
from trainables.trial_setup import TrialSetup, Worker
from trainables.tuning import choose_trained

ENCODER = EncoderConfig(max_tokens=64)
TUNED_LAYERS = 2
USUAL_LENGTH, USUAL_BATCH = 128, 16
USUAL_STEPS = 4
AT_LEAST = {
    "usual_loop": 9.0,
    "usual_loop_cached": 30.0,
    "hf_trainer": 1.2,
    "hf_trainer_cached": 2.2,
    "bare_step": 0.95,
}
TRIAL = TrialConfig(epochs=1, learning_rate=1e-3, batch_size=32)
QUALITY_EPOCHS = 1
WARM_UP_STEPS = 2


class TokenDataset(torch.utils.data.Dataset[dict[str, Any]]):
    """Prepared rows as Trainer takes them."""

    def __init__(self, rows: Rows) -> None:
        self._items = []
        for row in range(len(rows)):
            batch = rows.tokens.batch(np.array([row]))
            self._items.append(
                {
                    "input_ids": batch["input_ids"][0].tolist(),
                    "token_type_ids": batch["token_type_ids"][0].tolist(),
                    "labels": [float(rows.clicks[row]), float(rows.impressions[row])],
                }
            )

    def __len__(self) -> int:
        return len(self._items)

    def __getitem__(self, row: int) -> dict[str, Any]:
        return self._items[row]


def _classifier(*, num_labels: int = 1) -> nn.Module:
    from transformers import AutoModelForSequenceClassification
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    model: nn.Module = AutoModelForSequenceClassification.from_pretrained(
        find_encoder(ENCODER), num_labels=num_labels
    )
    return model


def _hf_model(layers: list[int], base_rate: float) -> nn.Module:
    from peft import LoraConfig, get_peft_model

    config = LoraConfig(
        task_type="SEQ_CLS",
        r=TRIAL.lora_rank,
        lora_alpha=2 * TRIAL.lora_rank,
        lora_dropout=TRIAL.dropout,
        target_modules=["query", "value"],
        layers_to_transform=layers,
        layers_pattern="layer",
    )
    model = _classifier()
    # As a trial's: from log-odds of 0 adapters learn little in an epoch but that clicks are rare.
    nn.init.constant_(model.classifier.bias, math.log(base_rate / (1 - base_rate)))  # type: ignore[union-attr, arg-type]
    adapted: nn.Module = get_peft_model(model, config)
    return adapted


def _click_loss(outputs: Any, labels: torch.Tensor, **_: Any) -> torch.Tensor:  # noqa: ANN401
    clicks, impressions = labels[:, 0], labels[:, 1]
    summed = binomial_loss(outputs.logits[:, 0], clicks=clicks, impressions=impressions)
    return summed / impressions.sum()


def _hf_trainer(
    layers: list[int], data: PreparedData, folder: Path, *, epochs: int, seed: int
) -> tuple[Any, list[float]]:
    """Return a Trainer and the list that gets the time of every step's end."""
    from transformers import (
        AutoTokenizer,
        DataCollatorWithPadding,
        Trainer,
        TrainerCallback,
        TrainingArguments,
    )

    times: list[float] = []

    class Clock(TrainerCallback):
        def on_step_end(self, *_: Any, **__: Any) -> None:  # noqa: ANN401
            times.append(time.perf_counter())

    torch.manual_seed(seed)
    arguments = TrainingArguments(
        output_dir=str(folder / "trainer"),
        per_device_train_batch_size=TRIAL.batch_size,
        per_device_eval_batch_size=256,
        num_train_epochs=epochs,
        learning_rate=TRIAL.learning_rate,
        weight_decay=TRIAL.weight_decay,
        warmup_steps=TRIAL.warmup_fraction,
        train_sampling_strategy="group_by_length",
        save_strategy="no",
        logging_strategy="no",
        report_to=[],
        use_cpu=True,
        disable_tqdm=True,
        dataloader_pin_memory=False,
        label_names=["labels"],
        seed=seed,
    )
    trainer = Trainer(
        model=_hf_model(layers, data.base_rate),
        args=arguments,
        train_dataset=TokenDataset(data.rows("train")),
        data_collator=DataCollatorWithPadding(AutoTokenizer.from_pretrained(find_encoder(ENCODER))),
        compute_loss_func=_click_loss,
        callbacks=[Clock()],
    )
    return trainer, times


def _speed(times: list[float], rows: int, warm_up_rows: int) -> float:
    return (rows - warm_up_rows) / (times[-1] - times[WARM_UP_STEPS - 1])


class Sides:
    """What takes turns: each method trains for a while and returns samples a second."""

    def __init__(self, data: PreparedData, setup: TrialSetup, folder: Path) -> None:
        self._rows = data.rows("train")
        self._data = data
        self._setup = setup
        self._folder = folder
        self._dataset = TokenDataset(self._rows)
        self._layers = num_layers(find_encoder(ENCODER))
        rng = np.random.default_rng(0)
        batches = like_length_batches(self._rows.tokens.lengths, TRIAL.batch_size, rng)
        self._prebuilt = [self._inputs(batch) for batch in batches]

    def _inputs(
        self, batch: np.ndarray
    ) -> tuple[dict[str, torch.Tensor], torch.Tensor, torch.Tensor]:
        rows = self._rows
        inputs = to_device(rows.tokens.batch(batch), torch.device("cpu"))
        counts = (rows.clicks[batch], rows.impressions[batch])
        clicks, impressions = (torch.from_numpy(np.array(values)) for values in counts)
        return inputs, clicks, impressions

    def usual_loop(self) -> float:
        model = _classifier(num_labels=2).train()
        optimizer = torch.optim.AdamW(model.parameters(), lr=5e-5)
        rng = np.random.default_rng(0)
        times = []
        for _ in range(WARM_UP_STEPS + USUAL_STEPS):
            batch = rng.choice(len(self._rows), USUAL_BATCH, replace=False)
            ids = np.zeros((USUAL_BATCH, USUAL_LENGTH), np.int64)
            mask = np.zeros_like(ids)
            for place, row in enumerate(batch):
                tokens = self._dataset[int(row)]["input_ids"]
                ids[place, : len(tokens)], mask[place, : len(tokens)] = tokens, 1
            output = model(
                input_ids=torch.from_numpy(ids),
                attention_mask=torch.from_numpy(mask),
                labels=torch.from_numpy((self._rows.clicks[batch] > 0).astype(np.int64)),
            )
            output.loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            times.append(time.perf_counter())
        return _speed(times, len(times) * USUAL_BATCH, WARM_UP_STEPS * USUAL_BATCH)

    def hf_trainer(self) -> float:
        return self._hf(list(range(self._layers)))

    def hf_trainer_top(self) -> float:
        return self._hf(list(range(self._layers - TUNED_LAYERS, self._layers)))

    def _hf(self, layers: list[int]) -> float:
        with alone_in_process():
            trainer, times = _hf_trainer(layers, self._data, self._folder, epochs=1, seed=0)
            trainer.train()
        return _speed(times, len(self._dataset), WARM_UP_STEPS * TRIAL.batch_size)

    def bare_step(self) -> float:
        model = build_model(
            find_encoder(ENCODER),
            TRIAL,
            num_segments=self._data.num_segments,
            base_rate=self._data.base_rate,
        )
        choose_trained(model, TRIAL)
        model.train()
        trained = [weight for weight in model.parameters() if weight.requires_grad]
        optimizer = torch.optim.AdamW(
            trained, lr=TRIAL.learning_rate, weight_decay=TRIAL.weight_decay, fused=True
        )
        schedule = torch.optim.lr_scheduler.LambdaLR(
            optimizer, lambda step: 1 - step / (len(self._prebuilt) + 1)
        )
        times = []
        for inputs, clicks, impressions in self._prebuilt:
            loss = binomial_loss(model(**inputs), clicks=clicks, impressions=impressions)
            (loss / impressions.sum()).backward()  # type: ignore[no-untyped-call]
            nn.utils.clip_grad_norm_(trained, 1.0)
            optimizer.step()
            schedule.step()
            optimizer.zero_grad()
            times.append(time.perf_counter())
        return _speed(times, len(self._rows), WARM_UP_STEPS * TRIAL.batch_size)

    def trial(self) -> float:
        return self._trial(TRIAL)

    def trial_cached(self) -> float:
        return self._trial(TrialConfig(epochs=1, learning_rate=1e-3, tuned_layers=TUNED_LAYERS))

    def _trial(self, trial: TrialConfig) -> float:
        times: list[float] = []
        training = fine_tune(
            trial,
            self._setup,
            Worker(num_threads=THREADS),
            on_step=lambda _done, _all: times.append(time.perf_counter()),
        )
        next(training)
        training.close()
        return _speed(times, len(self._rows), WARM_UP_STEPS * trial.batch_size)


def _fill_cache(data: PreparedData) -> float:
    encoder = find_encoder(ENCODER)
    started = time.perf_counter()
    layers = FrozenLayers(
        encoder_folder=encoder,
        num_frozen=num_layers(encoder) - TUNED_LAYERS,
        device=torch.device("cpu"),
        files=ArrayCache(data.folder / CACHE_FOLDER, budget_gb=ENCODER.cache_gb),
    )
    assert layers.open_prepared(data) is not None
    return time.perf_counter() - started


def compare_speed(data: PreparedData, folder: Path, *, repeats: int) -> None:
    """Let all sides take turns and print their ratios."""
    build_s = _fill_cache(data)
    sides = Sides(data, trial_setup(data, ENCODER), folder)
    names = ("usual_loop", "hf_trainer", "hf_trainer_top", "bare_step", "trial", "trial_cached")
    speeds = take_turns({name: getattr(sides, name) for name in names}, repeats, "samples/s")
    ratios = {
        "usual_loop": median_ratio(speeds["trial"], speeds["usual_loop"]),
        "usual_loop_cached": median_ratio(speeds["trial_cached"], speeds["usual_loop"]),
        "hf_trainer": median_ratio(speeds["trial"], speeds["hf_trainer"]),
        "hf_trainer_cached": median_ratio(speeds["trial_cached"], speeds["hf_trainer_top"]),
        "bare_step": median_ratio(speeds["trial"], speeds["bare_step"]),
    }
    details = {
        "samples_per_s": {name: round(statistics.median(speeds[name]), 1) for name in names},
        "rows": data.num_rows[0],
        "cache_build_s": round(build_s, 2),
    }
    print_result("trial_throughput", ratios=ratios, at_least=AT_LEAST, details=details)


def compare_quality(data: PreparedData, folder: Path, *, seeds: int) -> None:
    """Train both sides for equal epochs and print their validation ROC-AUC."""
    setup = trial_setup(data, ENCODER)
    validation = TokenDataset(data.rows("validation"))
    found: dict[str, list[float]] = {"hf_trainer": [], "trial": []}
    for seed in range(seeds):
        trial = TrialConfig(epochs=QUALITY_EPOCHS, learning_rate=1e-3, seed=seed)
        *_, last = fine_tune(trial, setup, Worker(num_threads=THREADS))
        found["trial"].append(last.metrics["roc_auc"])
        with alone_in_process():
            trainer, _ = _hf_trainer(
                list(range(num_layers(find_encoder(ENCODER)))),
                data,
                folder,
                epochs=QUALITY_EPOCHS,
                seed=seed,
            )
            trainer.train()
            # In an order of its own: with lengths grouped, Trainer shuffles what it predicts too.
            predicted = trainer.predict(validation)
        clicks, impressions = predicted.label_ids.T
        probabilities = 1 / (1 + np.exp(-predicted.predictions[:, 0]))
        rows = clicks, impressions, np.arange(len(clicks))
        found["hf_trainer"].append(METRICS["roc_auc"].function(probabilities, *rows))
        values = {name: round(each[-1], 4) for name, each in found.items()}
        print(f"seed {seed}: {json.dumps(values)}", flush=True)
    behind = statistics.mean(found["hf_trainer"]) - statistics.mean(found["trial"])
    print_result(
        "trial_throughput_quality",
        ratios={"behind_hf_trainer": behind},
        at_most={"behind_hf_trainer": 0.005},
        details={"roc_auc": found, "epochs": QUALITY_EPOCHS},
    )


def main() -> None:
    quality = "--quality" in sys.argv
    sys.argv = [word for word in sys.argv if word != "--quality"]
    arguments = parse_arguments(__doc__ or "")
    torch.set_num_threads(THREADS)
    # All rows for quality; for speed as many as every side passes through in a few seconds.
    num_rows = (600 if arguments.quick else None) if quality else (500 if arguments.quick else 1800)
    with tempfile.TemporaryDirectory(prefix="clicktune-benchmark-") as name:
        folder = Path(name)
        data = prepare_data(arguments.data, folder, ENCODER, num_rows)
        if quality:
            compare_quality(data, folder, seeds=1 if arguments.quick else 3)
        else:
            compare_speed(data, folder, repeats=1 if arguments.quick else 7)


if __name__ == "__main__":
    main()
