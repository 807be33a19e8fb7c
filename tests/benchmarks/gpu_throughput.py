"""How much of a GPU a trial uses, beside Hugging Face's Trainer, and what packing trials adds.

    python tests/benchmarks/gpu_throughput.py [--data TABLE] [--quick] [--repeats N] [--packed-only]
        [--device cpu]

Without a CUDA device it prints a line with "skipped" and ends well. With --device cpu it goes the
same way on the CPU, in float32: together with --quick, on small models, that tests the script.

Encoders: MiniLM-L6, and `base`, a BERT of 12 layers, 768 wide, with random weights and MiniLM's
tokenizer. Methods: all parameters (`full`), and adapters of rank 8 on query and value (`lora`).
Batches of 256 rows of like length, bf16 on a GPU.

- samples_per_s: fine_tune's training rows of a second epoch, since the first one loads a kernel for
  every new shape; data, model, engine and evaluation aren't timed. hf is Trainer, with the same
  texts, batch, method, dropout and precision (bf16=True: autocast over float32 weights, as in
  fine_tune), grouped by length. Both sides wait for the device before a time is taken.
- hf_trainer_ENCODER_METHOD: fine_tune's samples per second over Trainer's, a median of ratios.
- mfu_ENCODER_METHOD: the share of the device's peak that fine_tune's samples per second mean:
  tokens without padding x operations per token / dense bf16 peak. A forward pass takes 2
  operations for each weight of the layers' matrices, and 4 x length x width for attention in each
  layer; a backward pass twice as much with `full`, as much with `lora`, whose frozen weights need
  no gradient. Embeddings, adapters and the head are left out. The peak is the vendor's for devices
  in PEAKS, else (and on a CPU) that of a large matrix product, measured: see peak_source.
- packed_N: the samples per second of N processes that share the device, each with its own
  fine_tune (MiniLM-L6, lora), over those of one. They start their timed steps together; the sum of
  samples is divided by the time from the first one's start to the last one's end.

The numbers have no targets. The last line is JSON.
"""

import argparse
import dataclasses
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from measuring import (
    HEADLINES,
    alone_in_process,
    median_ratio,
    prepare_data,
    print_result,
    take_turns,
    trial_setup,
    write_random_encoder,
)

from spaces.trial_config import TrialConfig
from trainables.data.prepared import PreparedData
from trainables.deepspeed_config import DeepSpeedConfig
from trainables.encoder import EncoderConfig, find_encoder
from trainables.fine_tune import fine_tune
from trainables.losses import binomial_loss
from trainables.trial_setup import TrialSetup, Worker

PEAKS = {
    "H100 PCIe": 756e12,
    "H100": 989e12,
    "H200": 989e12,
    "A100": 312e12,
    "L40S": 362e12,
    "L4": 121e12,
    "RTX 4090": 165e12,
}
"""Part of a device's name to its dense bf16 operations per second; the first that fits counts."""
METHODS = ("full", "lora")
PACKED = (1, 2, 4, 8)
BATCH, QUICK_BATCH = 256, 16
EPOCHS = 2
"""All but the last warm up."""
PACKED_PART = "--packed"


def device_peak(device: torch.device) -> tuple[float, str]:
    """Return a device's operations per second and where the number is from."""
    if device.type == "cuda":
        name = torch.cuda.get_device_name(device)
        for part, peak in PEAKS.items():
            if part in name:
                return peak, "vendor"
    size, dtype = (8192, torch.bfloat16) if device.type == "cuda" else (1024, torch.float32)
    left, right = (torch.randn(size, size, device=device, dtype=dtype) for _ in range(2))
    speeds = []
    for _ in range(20):
        _wait(device)
        started = time.perf_counter()
        left @ right
        _wait(device)
        speeds.append(2 * size**3 / (time.perf_counter() - started))
    return max(speeds), "measured"


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def operations_per_row(encoder_folder: Path, lengths: np.ndarray, method: str) -> float:
    """Return the operations that a training step does for a row, on average."""
    text = (encoder_folder / "config.json").read_text(encoding="utf-8")
    config = json.loads(text)
    width, layers = config["hidden_size"], config["num_hidden_layers"]
    weights = layers * (4 * width**2 + 2 * width * config["intermediate_size"])
    lengths = lengths.astype(np.float64)
    forward = 2 * weights * lengths + 4 * layers * width * lengths**2
    return float(forward.mean()) * (3 if method == "full" else 2)


class Clock:
    """Takes the device's time when a last epoch's first step is done, and its last one."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._steps = 0
        self.started = self.ended = 0.0

    def on_step(self, done: int, total: int) -> None:
        """Note the end of the last epoch's first and last step."""
        self._steps = total // EPOCHS
        if is_measured(done, total):
            _wait(self._device)
            self.started, self.ended = self.ended, time.perf_counter()

    def speed(self, num_rows: int) -> float:
        """Return samples per second."""
        return measured_rows(num_rows, self._steps) / (self.ended - self.started)


def is_measured(done: int, total: int) -> bool:
    """Say whether the time counts when so many of all steps are done."""
    return done in (total - total // EPOCHS + 1, total)


def measured_rows(num_rows: int, steps: int) -> float:
    """Return how many rows an epoch's steps after the first have."""
    return num_rows * (steps - 1) / steps


@dataclasses.dataclass(frozen=True, kw_only=True)
class Side:
    """One encoder and method, to be trained by fine_tune or by Trainer."""

    data: PreparedData
    encoder: EncoderConfig
    method: str
    device: torch.device
    batch: int

    @property
    def trial(self) -> TrialConfig:
        """What is trained."""
        return TrialConfig(method=self.method, batch_size=self.batch, epochs=EPOCHS)  # type: ignore[arg-type]

    @property
    def setup(self) -> TrialSetup:
        """In bf16 on a GPU."""
        precision = "bf16" if self.device.type == "cuda" else "fp32"
        return dataclasses.replace(
            trial_setup(self.data, self.encoder),
            deepspeed=DeepSpeedConfig(precision=precision),  # type: ignore[arg-type]
        )

    def fine_tune(self) -> float:
        """Train by fine_tune; return samples per second."""
        clock = Clock(self.device)
        for _ in fine_tune(self.trial, self.setup, _worker(), on_step=clock.on_step):
            pass
        return clock.speed(self.data.num_rows[0])

    def hf_trainer(self) -> float:
        """Train by Hugging Face's Trainer; return samples per second."""
        from transformers import TrainerCallback

        clock = Clock(self.device)

        class Callback(TrainerCallback):
            def on_step_end(self, _: Any, state: Any, *__: Any, **___: Any) -> None:  # noqa: ANN401
                clock.on_step(state.global_step, state.max_steps)

        with (
            tempfile.TemporaryDirectory(prefix="clicktune-trainer-") as folder,
            alone_in_process(),
        ):
            self._trainer(Path(folder), Callback()).train()
        return clock.speed(self.data.num_rows[0])

    def _trainer(self, folder: Path, callback: Any) -> Any:  # noqa: ANN401
        from transformers import AutoTokenizer, DataCollatorWithPadding, Trainer, TrainingArguments
        from trial_throughput import TokenDataset

        arguments = TrainingArguments(
            output_dir=str(folder),
            per_device_train_batch_size=self.batch,
            num_train_epochs=EPOCHS,
            learning_rate=self.trial.learning_rate,
            weight_decay=self.trial.weight_decay,
            warmup_steps=self.trial.warmup_fraction,
            train_sampling_strategy="group_by_length",
            bf16=self.device.type == "cuda",
            use_cpu=self.device.type == "cpu",
            save_strategy="no",
            logging_strategy="no",
            report_to=[],
            disable_tqdm=True,
            dataloader_pin_memory=self.device.type == "cuda",
            label_names=["labels"],
        )
        folder_of_encoder = find_encoder(self.encoder)
        return Trainer(
            model=self._hf_model(folder_of_encoder),
            args=arguments,
            train_dataset=TokenDataset(self.data.rows("train")),
            data_collator=DataCollatorWithPadding(_tokenizer(AutoTokenizer, folder_of_encoder)),
            compute_loss_func=_click_loss,
            callbacks=[callback],
        )

    def _hf_model(self, folder: Path) -> torch.nn.Module:
        from peft import LoraConfig, get_peft_model
        from transformers import AutoModelForSequenceClassification
        from transformers.utils import logging

        logging.set_verbosity_error()
        logging.disable_progress_bar()
        model: torch.nn.Module = AutoModelForSequenceClassification.from_pretrained(
            folder, num_labels=1
        )
        if self.method == "full":
            return model
        rank = self.trial.lora_rank
        config = LoraConfig(
            task_type="SEQ_CLS",
            r=rank,
            lora_alpha=2 * rank,
            lora_dropout=self.trial.dropout,
            target_modules=["query", "value"],
        )
        adapted: torch.nn.Module = get_peft_model(model, config)
        return adapted


def _tokenizer(factory: Any, folder: Path) -> Any:  # noqa: ANN401
    # The random encoder has MiniLM's tokenizer, but not all the files that transformers wants.
    complete = (folder / "tokenizer_config.json").is_file()
    return factory.from_pretrained(folder if complete else find_encoder(EncoderConfig()))


def _click_loss(outputs: Any, labels: torch.Tensor, **_: Any) -> torch.Tensor:  # noqa: ANN401
    clicks, impressions = labels[:, 0], labels[:, 1]
    summed = binomial_loss(outputs.logits[:, 0], clicks=clicks, impressions=impressions)
    return summed / impressions.sum()


def _worker() -> Worker:
    return Worker(num_threads=torch.get_num_threads())


def run_packed(folder: str, device: str, batch: int) -> None:
    """Train MiniLM with adapters, waiting before the last epoch for the others; print the times."""
    torch.set_num_threads(1)
    side = Side(
        data=PreparedData.open(Path(folder)),
        encoder=EncoderConfig(max_tokens=64),
        method="lora",
        device=torch.device(device),
        batch=batch,
    )
    times: list[float] = []

    def on_step(done: int, total: int) -> None:
        if not is_measured(done, total):
            return
        _wait(side.device)
        if done < total:
            print("ready", flush=True)
            sys.stdin.readline()
        times.append(time.time())

    for _ in fine_tune(side.trial, side.setup, _worker(), on_step=on_step):
        pass
    print(json.dumps({"times": times}))


def measure_packed(side: Side, count: int) -> float:
    """Return the samples per second of some processes that share the device."""
    arguments = json.dumps([str(side.data.folder), side.device.type, side.batch])
    processes = [
        subprocess.Popen(
            [sys.executable, __file__, PACKED_PART, arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(count)
    ]
    try:
        for process in processes:
            assert process.stdout is not None
            if not any(line == "ready\n" for line in process.stdout):
                raise RuntimeError("a packed trial failed; its error is above")
        for process in processes:
            assert process.stdin is not None
            process.stdin.write("\n")
            process.stdin.flush()
        lines = [process.communicate()[0].strip().rpartition("\n")[2] for process in processes]
    finally:
        for process in processes:
            process.kill()
    times = [json.loads(line)["times"] for line in lines]
    seconds = max(ended for _, ended in times) - min(started for started, _ in times)
    num_rows = side.data.num_rows[0]
    return count * measured_rows(num_rows, -(-num_rows // side.batch)) / seconds


def measure_sides(
    sides: dict[str, Side], peak: float, repeats: int
) -> tuple[dict[str, float], dict[str, Any]]:
    """Let fine_tune and Trainer take turns on every side; return ratios and details."""
    ratios: dict[str, float] = {}
    details: dict[str, Any] = {}
    for name, side in sides.items():
        measures: dict[str, Callable[[], float]] = {
            f"{name} fine_tune": side.fine_tune,
            f"{name} hf": side.hf_trainer,
        }
        ours, theirs = take_turns(measures, repeats, "samples/s").values()
        ratios[f"hf_trainer_{name}"] = median_ratio(ours, theirs)
        per_row = operations_per_row(
            find_encoder(side.encoder), side.data.rows("train").tokens.lengths, side.method
        )
        ratios[f"mfu_{name}"] = statistics.median(ours) * per_row / peak
        details[name] = {
            "samples_per_s": round(statistics.median(ours), 1),
            "hf_samples_per_s": round(statistics.median(theirs), 1),
            "hf_mfu": round(statistics.median(theirs) * per_row / peak, 4),
            "gigaoperations_per_row": round(per_row / 1e9, 4),
        }
    return ratios, details


def parse() -> argparse.Namespace:
    """Read the arguments; the table is the headlines where they are."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, help="the headlines; without them a simulated log")
    parser.add_argument("--quick", action="store_true", help="little data, few repeats")
    parser.add_argument("--repeats", type=int, default=5, help="turns of all sides")
    parser.add_argument("--packed-only", action="store_true", help="leave Trainer out")
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda", help="cpu: a test")
    arguments = parser.parse_args()
    if arguments.data is None and HEADLINES.is_file():
        arguments.data = HEADLINES
    return arguments


def main() -> None:
    arguments = parse()
    # Of several devices Trainer would use all, and fine_tune one. Set before torch looks.
    os.environ.setdefault("CUDA_VISIBLE_DEVICES", "0")
    device = torch.device(arguments.device)
    if device.type == "cuda" and not torch.cuda.is_available():
        print(json.dumps({"benchmark": "gpu_throughput", "skipped": "no CUDA device"}))
        return
    quick = arguments.quick
    batch = QUICK_BATCH if quick else BATCH
    small = quick and device.type == "cpu"
    if small:
        torch.set_num_threads(1)
    with tempfile.TemporaryDirectory(prefix="clicktune-benchmark-") as name:
        folder = Path(name)
        write_random_encoder(
            folder / "base", num_layers=2 if small else 12, hidden_size=64 if small else 768
        )
        sides = {}
        for title, encoder in (
            ("minilm", EncoderConfig(max_tokens=64)),
            ("base", EncoderConfig(name=str(folder / "base"), max_tokens=64)),
        ):
            (folder / title).mkdir(exist_ok=True)
            data = prepare_data(arguments.data, folder / title, encoder, 150 if small else None)
            for method in METHODS:
                sides[f"{title}_{method}"] = Side(
                    data=data,
                    encoder=encoder,
                    method=method,
                    device=device,
                    batch=batch,
                )
        peak, source = device_peak(device)
        measured = {} if arguments.packed_only else sides
        ratios, details = measure_sides(measured, peak, 1 if quick else arguments.repeats)
        packed = {
            count: measure_packed(sides["minilm_lora"], count)
            for count in (PACKED[:2] if small else PACKED)
        }
        ratios |= {f"packed_{n}": speed / packed[1] for n, speed in packed.items() if n > 1}
        details["packed_samples_per_s"] = {n: round(speed, 1) for n, speed in packed.items()}
        details |= {"peak": peak, "peak_source": source, "batch": batch}
    threads = torch.get_num_threads()
    print_result("gpu_throughput", ratios=ratios, details=details, threads=threads)


if __name__ == "__main__":
    if sys.argv[1:2] == [PACKED_PART]:
        run_packed(*json.loads(sys.argv[2]))
    else:
        main()
