"""What the benchmarks share: their table, their sides in turn, their line of JSON."""

import argparse
import contextlib
import json
import os
import platform
import shutil
import statistics
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from trainables.data.config import Columns, DataConfig, SplitConfig
from trainables.data.prepared import PreparedData, prepare
from trainables.data.simulate import SimulationConfig, simulate
from trainables.data.table import load_clicks
from trainables.deepspeed_config import DeepSpeedConfig
from trainables.encoder import EncoderConfig, encoder_fingerprint, find_encoder
from trainables.task import TaskConfig
from trainables.trial_setup import TrialSetup

ROOT = Path(__file__).resolve().parents[2]
HEADLINES = ROOT.parent / "shared" / "data" / "upworthy_headlines.parquet"
THREADS = 2
"""CPU threads of a side that has the machine to itself."""


def parse_arguments(description: str) -> argparse.Namespace:
    """Read ``--data`` (the headlines, or None) and ``--quick``."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, help="the headlines; without them a simulated log")
    parser.add_argument("--quick", action="store_true", help="little data, few repeats")
    arguments = parser.parse_args()
    if arguments.data is None and HEADLINES.is_file():
        arguments.data = HEADLINES
    return arguments


def table_config(path: Path | None, folder: Path, num_rows: int | None = None) -> DataConfig:
    """Write rows of the headlines, or of a simulated log, as the table of a benchmark.

    Args:
        path: The headlines; None: simulate a log.
        folder: Gets the table.
        num_rows: Rows at most, before identical ones are merged; None: all.
    """
    if path is None:
        log = simulate(SimulationConfig(aggregate=True)).log
        columns = Columns(
            text=("query", "title"), clicks="clicks", impressions="impressions", group="query"
        )
    else:
        log = pd.read_parquet(path)
        columns = Columns(
            text=("headline",), clicks="clicks", impressions="impressions", group="test_id"
        )
    if num_rows is not None:
        log = log.sample(min(num_rows, len(log)), random_state=0)
    log[list(columns.named())].to_parquet(folder / "table.parquet")
    split = SplitConfig(by="group")
    return DataConfig(path=str(folder / "table.parquet"), columns=columns, split=split)


def prepare_data(
    path: Path | None, folder: Path, encoder: EncoderConfig, num_rows: int | None = None
) -> PreparedData:
    """Tokenize :func:`table_config`'s table below a folder."""
    table = load_clicks(table_config(path, folder, num_rows), TaskConfig())
    return prepare(table, encoder, folder / "data")


def trial_setup(data: PreparedData, encoder: EncoderConfig) -> TrialSetup:
    """Describe a trial over prepared data, in float32."""
    return TrialSetup(
        data_folder=str(data.folder),
        data_fingerprint=data.fingerprint,
        encoder_fingerprint=encoder_fingerprint(find_encoder(encoder)),
        encoder=encoder,
        deepspeed=DeepSpeedConfig(precision="fp32"),
    )


def write_random_encoder(folder: Path, *, num_layers: int, hidden_size: int) -> None:
    """Write a BERT of random weights with MiniLM's tokenizer.

    Args:
        folder: Made; then an encoder's name.
        num_layers: Layers.
        hidden_size: Width; a head has 64 of it, or all if there is less.
    """
    import torch
    from safetensors.torch import save_file
    from transformers import BertConfig, BertModel

    folder.mkdir(parents=True)
    shutil.copy(find_encoder(EncoderConfig()) / "tokenizer.json", folder)
    settings = BertConfig(
        hidden_size=hidden_size,
        num_hidden_layers=num_layers,
        num_attention_heads=max(1, hidden_size // 64),
        intermediate_size=4 * hidden_size,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = BertModel(settings, add_pooling_layer=False)
    weights = {name: weight.contiguous() for name, weight in model.state_dict().items()}
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    description = {**settings.to_dict(), "architectures": ["BertModel"]}
    (folder / "config.json").write_text(json.dumps(description), encoding="utf-8")


@contextlib.contextmanager
def alone_in_process() -> Iterator[None]:
    """Hide the group of one that fine_tune leaves to its process: Trainer would wrap its model.

    Accelerate takes ``LOCAL_RANK`` for a launcher's and puts the model under
    DistributedDataParallel, which costs Trainer time in every turn after fine_tune's first.
    """
    rank = os.environ.pop("LOCAL_RANK", None)
    try:
        yield
    finally:
        if rank is not None:
            os.environ["LOCAL_RANK"] = rank


def take_turns(
    sides: Mapping[str, Callable[[], float]], repeats: int, unit: str
) -> dict[str, list[float]]:
    """Measure every side in turn, several times, so that what else the machine does hits all.

    Args:
        sides: Name to what measures it once.
        repeats: Turns.
        unit: Of the numbers, for the lines that are printed.
    """
    found: dict[str, list[float]] = {name: [] for name in sides}
    for turn in range(repeats):
        for name, measure in sides.items():
            found[name].append(measure())
            print(f"turn {turn + 1}, {name}: {found[name][-1]:.4g} {unit}", flush=True)
    return found


def median_ratio(over: list[float], under: list[float]) -> float:
    """Return the median of the turns' ratios."""
    return statistics.median(a / b for a, b in zip(over, under, strict=True))


def print_result(
    benchmark: str,
    *,
    ratios: Mapping[str, float],
    at_least: Mapping[str, float] | None = None,
    at_most: Mapping[str, float] | None = None,
    details: Mapping[str, Any] | None = None,
    threads: int = THREADS,
) -> None:
    """Print the benchmark's last line.

    Args:
        benchmark: Name of the script.
        ratios: What was measured.
        at_least: Targets that must be reached.
        at_most: Targets that must not be exceeded.
        details: More numbers, for the reader.
        threads: CPU threads of a side.
    """
    least, most = dict(at_least or {}), dict(at_most or {})
    holds = all(ratios[name] >= target for name, target in least.items() if name in ratios)
    holds &= all(ratios[name] <= target for name, target in most.items() if name in ratios)
    line = {
        "benchmark": benchmark,
        "ratios": {name: round(float(value), 4) for name, value in ratios.items()},
        "targets": {**least, **most},
        "holds": holds,
        "machine": describe_machine(threads),
        "details": dict(details or {}),
    }
    print(json.dumps(line))


def describe_machine(threads: int) -> dict[str, Any]:
    """Name the hardware and the versions that a number depends on."""
    import torch
    import transformers

    return {
        "cpu": _cpu_name(),
        "cores": os.cpu_count(),
        "threads": threads,
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
    }


def _cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()
