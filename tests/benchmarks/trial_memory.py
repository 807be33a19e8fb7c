"""What memory a further trial costs, and what a log of five million rows needs.

    python tests/benchmarks/trial_memory.py [--data TABLE] [--quick]

One to four processes train at a time, each one trial of fine_tune with MiniLM-L6, one thread and
float32: `cached`, adapters in the top two layers above the frozen layers' cache, and `full`, all
parameters. 5 % of the rows train, nearly all others are scored, so that a trial passes through all
tokens and cached states. All processes stop at two points, and are read there:

- evaluation: inside the last layer of the largest validation batch of epoch 1, between the product
  and the activation function's return, where most of an evaluation's numbers exist;
- step: in epoch 2, between the forward and the backward pass of the largest batch.

A process's memory is its proportional set size (Pss in /proc/PID/smaps_rollup): a page that several
have mapped is divided among them. The sum includes this script's own process, which shares
libraries with the trials. The cost of a further trial is a third of what that sum grows by from one
trial to four, at the point where it grows more. It may be at most 1.1 times what a further trial
can't do without, which is

- process: the cost of a further process, found the same way, that trains a BERT of one layer, 16
  units wide, on the same texts: interpreter, torch, transformers, DeepSpeed, and what they allocate
  for themselves;
- weights: 4 bytes, optimizer: 8 bytes for each parameter that trains, counted from the model;
- activations: the most bytes that torch's allocator had handed out at a time, beyond those before,
  in the step or the evaluation batch at which the trials are stopped, whichever is more. A step's
  gradients are in it. Counted by torch's profiler in a process of its own: tensors, not pages.

further_trial_cached, further_trial_full are the ratios. copies is, with four trials at the step,
the Pss of all mappings of the cached states, tokens and the encoder's file over the resident pages
of that file in the process that has most of them: 1 where they are in memory once. `written`
(details) is how much of these mappings has become private to a process.

five_million_rows_gb: the peak resident size, in 10^9 bytes, of one process that reads a simulated
log of five million impressions (Parquet, one row each; with --quick 200,000), prepares it, trains
40 steps with adapters and computes the metrics of its validation rows. It is VmHWM, which counts
the pages of mapped files too, though the kernel could take these back. Other processes that use
the same libraries make the Pss smaller: run it on a machine that does nothing else. The last line
is JSON.
"""

import contextlib
import dataclasses
import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, NoReturn

import numpy as np
from measuring import (
    parse_arguments,
    print_result,
    table_config,
    trial_setup,
    write_random_encoder,
)

from spaces.trial_config import TrialConfig
from trainables.data.config import Columns, DataConfig, SplitConfig
from trainables.data.prepared import PreparedData, prepare
from trainables.data.simulate import SimulationConfig, simulate, write_simulation
from trainables.data.table import load_clicks
from trainables.encoder import EncoderConfig
from trainables.task import TaskConfig
from trainables.trial_setup import Worker

FURTHER_TRIAL = 1.10
AT_MOST = {
    "further_trial_cached": FURTHER_TRIAL,
    "further_trial_full": FURTHER_TRIAL,
    "copies": 1.02,
    "five_million_rows_gb": 3.0,
}
POINTS = ("evaluation", "step")
MOST_TRIALS = 4
TRIALS = {
    "cached": TrialConfig(learning_rate=1e-3, tuned_layers=2, epochs=2),
    "full": TrialConfig(learning_rate=5e-5, method="full", epochs=2),
    "process": TrialConfig(learning_rate=1e-3, epochs=2),
}
FRACTIONS = (0.05, 0.90, 0.05)
ROWS = {"cached": None, "full": 2_000, "process": 2_000}
QUICK_ROWS = {"cached": 2_000, "full": 600, "process": 600}
FIVE_MILLION, QUICK_LOG = 5_000_000, 200_000
STEPS_OF_LOG = 40
SHARED_FILES = {"states": "below-layer-", "tokens": "ids.npy", "encoder": "model.safetensors"}
MEGABYTE = 1e6


def prepare_folder(folder: Path, kind: str, data: Path | None, num_rows: int | None) -> None:
    """Write the table of a kind of trial, its prepared data and its cache below a folder."""
    import torch

    from trainables.array_cache import CACHE_FOLDER, ArrayCache
    from trainables.encoder import find_encoder, num_layers
    from trainables.frozen_cache import FrozenLayers

    folder.mkdir()
    encoder = _encoder(folder, kind)
    if kind == "process":
        write_random_encoder(Path(encoder.name), num_layers=1, hidden_size=16)
    config = table_config(data, folder, num_rows)
    config = dataclasses.replace(config, split=SplitConfig(by="group", fractions=FRACTIONS))
    prepared = prepare(load_clicks(config, TaskConfig()), encoder, folder / "data")
    tuned = TRIALS[kind].tuned_layers
    if tuned is not None:
        encoder_folder = find_encoder(encoder)
        layers = FrozenLayers(
            encoder_folder=encoder_folder,
            num_frozen=num_layers(encoder_folder) - tuned,
            device=torch.device("cpu"),
            files=ArrayCache(prepared.folder / CACHE_FOLDER, budget_gb=encoder.cache_gb),
        )
        assert layers.open_prepared(prepared) is not None


def _encoder(folder: Path, kind: str) -> EncoderConfig:
    if kind == "process":
        return EncoderConfig(name=str(folder / "encoder"), max_tokens=64)
    return EncoderConfig(max_tokens=64)


class EnoughError(Exception):
    """What was to be measured is measured."""


class Stops:
    """Where a trial is stopped: knows its largest batches and is called at each pass."""

    def __init__(self, data: PreparedData, trial: TrialConfig) -> None:
        import torch

        from trainables.augmentation.variants import EpochTokens
        from trainables.fine_tune import evaluation_batches, plan_epoch

        rows = data.rows("train")
        tokens = rows.tokens
        batches = plan_epoch(trial, 2, EpochTokens(original=tokens), rows.groups)
        lengths = tokens.lengths
        sizes = [len(batch) * int(lengths[batch].max()) for batch in batches]
        self.step_of_epoch_2 = int(np.argmax(sizes)) + 1
        first = plan_epoch(trial, 1, EpochTokens(original=tokens), rows.groups)
        self.steps_before = len(first)
        validation = data.rows("validation")
        lengths = validation.tokens.lengths
        self.evaluation_size = max(
            len(batch) * int(lengths[batch].max())
            for batch in evaluation_batches(validation, torch.device("cpu"))
        )
        self.passes = 0

    def is_largest(self, *, training: bool, size: int) -> bool:
        """Count a pass through the model; tell whether it is one to stop at."""
        if not training:
            return size == self.evaluation_size
        self.passes += 1
        return self.passes == self.steps_before + self.step_of_epoch_2


def run_held(folder: Path, kind: str) -> None:
    """Train a trial and wait, at both points, until a line comes in."""
    from trainables import fine_tune as module
    from trainables.model import ClickModel

    data, trial = _open(folder), TRIALS[kind]
    stops = Stops(data, trial)
    forward, backward = module.Engine.forward, module.Engine.backward
    held: list[str] = []

    def hold(point: str) -> None:
        held.append(point)
        print(point, flush=True)
        sys.stdin.readline()

    def holding_forward(engine: Any, **batch: Any) -> Any:  # noqa: ANN401
        model: ClickModel = engine.module
        is_largest = stops.is_largest(training=model.training, size=batch["attention_mask"].numel())
        if model.training or not is_largest or "evaluation" in held:
            engine.holds = is_largest
            return forward(engine, **batch)
        activation = model.encoder.encoder.layer[-1].intermediate.intermediate_act_fn
        hook = activation.register_forward_hook(lambda *_: hold("evaluation"))
        try:
            return forward(engine, **batch)
        finally:
            hook.remove()

    def holding_backward(engine: Any, loss: Any) -> None:  # noqa: ANN401
        if engine.holds:
            hold("step")
            raise EnoughError
        backward(engine, loss)

    module.Engine.forward = holding_forward  # type: ignore[method-assign]
    module.Engine.backward = holding_backward  # type: ignore[method-assign]
    with contextlib.suppress(EnoughError):
        for _ in module.fine_tune(trial, trial_setup(data, _encoder(folder, kind)), Worker()):
            pass
    assert tuple(held) == POINTS, held


def count_needs(folder: Path, kind: str) -> None:
    """Print the bytes of a trial's trained weights, optimizer and activations."""
    from trainables import fine_tune as module

    data, trial = _open(folder), TRIALS[kind]
    stops = Stops(data, trial)
    forward, step = module.Engine.forward, module.Engine.step
    trained: list[int] = []
    rises: dict[str, int] = {}
    profilers: list[Any] = []

    def counting_forward(engine: Any, **batch: Any) -> Any:  # noqa: ANN401
        training = engine.module.training
        if not stops.is_largest(training=training, size=batch["attention_mask"].numel()):
            return forward(engine, **batch)
        inputs = sum(tensor.nbytes for tensor in batch.values() if tensor is not None)
        profilers.append(_allocations())
        profilers[-1].start()
        output = forward(engine, **batch)
        if not training:
            rises["evaluation"] = inputs + _largest_rise(profilers.pop(), folder)
        else:
            rises["step"] = inputs
        return output

    def counting_step(engine: Any) -> None:  # noqa: ANN401
        step(engine)
        if profilers:
            rises["step"] += _largest_rise(profilers.pop(), folder)
            weights = engine.module.parameters()
            trained.extend(weight.numel() for weight in weights if weight.requires_grad)
            raise EnoughError

    module.Engine.forward = counting_forward  # type: ignore[method-assign]
    module.Engine.step = counting_step  # type: ignore[method-assign]
    with contextlib.suppress(EnoughError):
        for _ in module.fine_tune(trial, trial_setup(data, _encoder(folder, kind)), Worker()):
            pass
    needs = {"weights": 4 * sum(trained), "optimizer": 8 * sum(trained)}
    print(json.dumps({**needs, **{f"activations_{point}": rises[point] for point in POINTS}}))


def _allocations() -> Any:  # noqa: ANN401 - torch's profiler has no useful type
    from torch.profiler import ProfilerActivity, profile

    return profile(activities=[ProfilerActivity.CPU], profile_memory=True)


def _largest_rise(profiler: Any, folder: Path) -> int:  # noqa: ANN401
    """End a profile; return the most bytes that were allocated and not freed within it."""
    profiler.stop()
    trace = folder / "trace.json"
    profiler.export_chrome_trace(str(trace))
    events = json.loads(trace.read_text(encoding="utf-8"))["traceEvents"]
    changes = [(e["ts"], e["args"]["Bytes"]) for e in events if e["name"] == "[memory]"]
    return int(np.cumsum([change for _, change in sorted(changes)]).max())


def _open(folder: Path) -> PreparedData:
    (prepared,) = (path for path in (folder / "data").iterdir() if path.is_dir())
    return PreparedData.open(prepared)


def write_log(file: Path, num_rows: int) -> None:
    """Simulate a log of single impressions."""
    write_simulation(simulate(SimulationConfig(num_impressions=num_rows)), file.parent)


def train_log(file: Path) -> None:
    """Prepare a log, train for some steps, and print the process's largest size in bytes."""
    from trainables.fine_tune import fine_tune, score

    columns = Columns(text=("query", "title"), label="label", group="query")
    config = DataConfig(path=str(file), columns=columns, split=SplitConfig(by="group"))
    encoder = EncoderConfig(max_tokens=64)
    data = prepare(load_clicks(config, TaskConfig()), encoder, file.parent / "data")
    prepared = _peak_bytes()
    setup = trial_setup(data, encoder)

    def stop(done: int, _: int) -> None:
        if done == STEPS_OF_LOG:
            raise EnoughError

    with contextlib.suppress(EnoughError):
        next(fine_tune(TrialConfig(epochs=1), setup, Worker(), on_step=stop))
    rows = data.rows("validation")
    score(np.random.default_rng(0).random(len(rows)), rows, setup)
    print(
        json.dumps({"rows": data.num_rows, "prepared_bytes": prepared, "peak_bytes": _peak_bytes()})
    )


def _peak_bytes() -> int:
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    (kilobytes,) = re.findall(r"VmHWM:\s+(\d+) kB", status)
    return int(kilobytes) * 1024


PARTS = {
    "prepare": lambda folder, kind, data, rows: prepare_folder(
        Path(folder), kind, None if data is None else Path(data), rows
    ),
    "held": lambda folder, kind: run_held(Path(folder), kind),
    "needs": lambda folder, kind: count_needs(Path(folder), kind),
    "write_log": lambda file, rows: write_log(Path(file), rows),
    "train_log": lambda file: train_log(Path(file)),
}
"""What a process of this script does in place of :func:`main`."""
PART = "--part"


def _start(part: str, *arguments: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, __file__, PART, part, json.dumps(arguments)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )


def _run(part: str, *arguments: object) -> str:
    """Run a part in a process of its own and return the last line that it prints."""
    process = _start(part, *arguments)
    output, _ = process.communicate()
    if process.returncode:
        _fail(part)
    return output.strip().rpartition("\n")[2]


def _fail(part: str) -> NoReturn:
    raise RuntimeError(f"the process that ran {part} failed; its error is above")


@dataclass(frozen=True, kw_only=True, slots=True)
class Reading:
    """The memory of some processes at one point, in bytes."""

    pss: int
    """Of all, with this script's own."""
    anonymous: int
    """Private to the trials' processes and in no file: their mean."""
    pss_file: int
    """Of mapped files, of all trials' processes."""
    copies: dict[str, float]
    """Of each shared file that is mapped."""
    written: int
    """Pages of shared files that have become private."""


def measure_processes(folder: Path, kind: str, count: int) -> dict[str, Reading]:
    """Let some processes train a trial each and read their memory at both points."""
    processes = [_start("held", str(folder), kind) for _ in range(count)]
    found = {}
    try:
        for point in POINTS:
            for process in processes:
                _wait_for(point, process.stdout)
            found[point] = _read_memory([process.pid for process in processes])
            for process in processes:
                assert process.stdin is not None
                process.stdin.write("\n")
                process.stdin.flush()
        for process in processes:
            if process.wait():
                _fail("held")
    finally:
        for process in processes:
            process.kill()
            process.communicate()
    return found


def _wait_for(point: str, output: IO[str] | None) -> None:
    assert output is not None
    for line in output:
        if line.strip() == point:
            return
    _fail("held")


def _read_memory(pids: list[int]) -> Reading:
    rollups = [_sizes(Path(f"/proc/{pid}/smaps_rollup").read_text("utf-8")) for pid in pids]
    own = _sizes(Path("/proc/self/smaps_rollup").read_text("utf-8"))
    mappings = [list(_mappings(pid)) for pid in pids]
    copies, written = {}, 0
    for name, part in SHARED_FILES.items():
        mine = [[sizes for path, sizes in listed if part in path] for listed in mappings]
        resident = max(sum(sizes["Rss"] for sizes in listed) for listed in mine)
        if resident:
            shares = sum(sizes["Pss"] for listed in mine for sizes in listed)
            copies[name] = shares / resident
        written += sum(sizes["Anonymous"] for listed in mine for sizes in listed)
    return Reading(
        pss=own["Pss"] + sum(rollup["Pss"] for rollup in rollups),
        anonymous=sum(rollup["Anonymous"] for rollup in rollups) // len(pids),
        pss_file=sum(rollup["Pss_File"] for rollup in rollups),
        copies=copies,
        written=written,
    )


def _mappings(pid: int) -> Iterator[tuple[str, dict[str, int]]]:
    text = Path(f"/proc/{pid}/smaps").read_text("utf-8")
    for mapping in re.split(r"\n(?=[0-9a-f]+-[0-9a-f]+ )", text):
        head, _, rest = mapping.partition("\n")
        yield head, _sizes(rest)


def _sizes(text: str) -> dict[str, int]:
    return {name: int(size) * 1024 for name, size in re.findall(r"(\w+):\s+(\d+) kB", text)}


def further_costs(readings: list[dict[str, Reading]]) -> dict[str, list[int]]:
    """Return what each further process added to the sum, in bytes, at both points."""
    return {
        point: np.diff([reading[point].pss for reading in readings]).tolist() for point in POINTS
    }


def measure_kind(
    kind: str, data: Path | None, folder: Path, num_rows: int | None
) -> list[dict[str, Reading]]:
    """Prepare a kind of trial and read 1, 2, 3 and 4 of them."""
    _run("prepare", str(folder / kind), kind, None if data is None else str(data), num_rows)
    readings = []
    for count in range(1, MOST_TRIALS + 1):
        readings.append(measure_processes(folder / kind, kind, count))
        megabytes = {p: round(r.pss / MEGABYTE) for p, r in readings[-1].items()}
        print(f"{kind}, {count} at a time: {json.dumps(megabytes)} MB", flush=True)
    return readings


def describe_kind(
    readings: list[dict[str, Reading]], needs: dict[str, int], process: int
) -> tuple[float, dict[str, Any]]:
    """Return a kind's ratio and, in megabytes, what it is made of."""
    costs = further_costs(readings)
    own = process + needs["weights"] + needs["optimizer"]
    activations = {point: needs[f"activations_{point}"] for point in POINTS}
    cost = max(np.mean(costs[point]) for point in POINTS)
    need = own + max(activations.values())
    last = readings[-1]
    details = {
        "sum_pss": {p: [round(r[p].pss / MEGABYTE) for r in readings] for p in POINTS},
        "further": {p: [round(c / MEGABYTE) for c in costs[p]] for p in POINTS},
        "needs": {name: round(size / MEGABYTE, 1) for name, size in needs.items()},
        "need": round(need / MEGABYTE),
        "over_need_of_the_point": {
            point: round(np.mean(costs[point]) / (own + activations[point]), 3) for point in POINTS
        },
        "anonymous": {point: round(last[point].anonymous / MEGABYTE) for point in POINTS},
        "pss_file": {point: round(last[point].pss_file / MEGABYTE) for point in POINTS},
        "copies": {name: round(value, 3) for name, value in last["step"].copies.items()},
        "written": max(last[point].written for point in POINTS) / MEGABYTE,
    }
    return float(cost / need), details


def main() -> None:
    arguments = parse_arguments(__doc__ or "")
    rows = QUICK_ROWS if arguments.quick else ROWS
    ratios: dict[str, float] = {}
    details: dict[str, Any] = {"unit": "MB"}
    with tempfile.TemporaryDirectory(prefix="clicktune-benchmark-") as name:
        folder = Path(name)
        tiny = further_costs(measure_kind("process", arguments.data, folder, rows["process"]))
        # At the step, where the small model has all that a process keeps, and the least noise.
        process = int(np.mean(tiny["step"]))
        details["process"] = round(process / MEGABYTE)
        copies = []
        for kind in ("cached", "full"):
            readings = measure_kind(kind, arguments.data, folder, rows[kind])
            needs = json.loads(_run("needs", str(folder / kind), kind))
            ratios[f"further_trial_{kind}"], details[kind] = describe_kind(readings, needs, process)
            copies += readings[-1]["step"].copies.values()
            print(f"{kind}: {json.dumps(details[kind])}", flush=True)
        ratios["copies"] = max(copies)
        log = folder / "log" / "log.parquet"
        _run("write_log", str(log), QUICK_LOG if arguments.quick else FIVE_MILLION)
        details["log"] = json.loads(_run("train_log", str(log)))
        ratios["five_million_rows_gb"] = details["log"]["peak_bytes"] / 1e9
    print_result("trial_memory", ratios=ratios, at_most=AT_MOST, details=details, threads=1)


if __name__ == "__main__":
    if sys.argv[1:2] == [PART]:
        PARTS[sys.argv[2]](*json.loads(sys.argv[3]))
    else:
        main()
