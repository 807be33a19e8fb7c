"""Whether a row costs the same in a table of ten thousand rows and in one of five million.

    python tests/benchmarks/growth.py [--data TABLE] [--quick] [--repeats N]

Sizes grow eightfold, so that hash tables, which double, are equally full at each. Each is measured
in processes of its own with two threads, sizes in turns, and medians are compared:

- ``prepare_seconds_per_row``: reading, checking, splitting, tokenizing and writing a table whose
  rows all differ, less the same for a table of 100 rows, by row. The largest of all sizes over
  that of the smallest.
- ``prepare_bytes_per_row``: by how much the process's peak anonymous memory rises from one size to
  the next, by row that the next has more. The last step over the one before; the first steps are
  lost in the buffers for one block of rows, which don't grow.
- ``train_seconds_per_sample``: an optimizer step of MiniLM-L6 with LoRA by row of its batch, plus
  what comes before an epoch's first step (planning it above all), less the same at the smallest
  size, by row of the epoch. The largest of all sizes over that of the smallest.
- ``train_peak_memory``: the process's peak anonymous memory, all of it. The largest size's over the
  smallest's.
- ``five_million_rss_gb``: peak resident memory of preparing the largest table, and as many single
  impressions of a simulated log, whichever is more. Not with ``--quick``.

With ``--rows 50000000`` one thing is measured instead: ``rows_rss_gb``, peak resident memory of
loading and preparing a log of so many single impressions, from a folder of Parquet files or, with
``--csv``, from one CSV file.

All of them hold at or below their targets. ``--data`` is a table whose ``headline``s are repeated
with a number of their own; without it titles of a simulated log are. The last line is JSON.
"""

import argparse
import itertools
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

ROOT = Path(__file__).resolve().parents[2]
THREADS = 2
SIZES = (10_000, 80_000, 640_000, 5_120_000)
QUICK_SIZES = (1_000, 8_000, 64_000)
FIXED_ROWS = 100
PART_ROWS = 640_000
MAX_TOKENS = 32
BATCH_SIZE = 32
WARM_UP_STEPS = 3
STEPS = 40
QUICK_STEPS = 10
POLL_S = 0.005
TARGETS = {
    "prepare_seconds_per_row": 1.1,
    "prepare_bytes_per_row": 1.1,
    "train_seconds_per_sample": 1.1,
    "train_peak_memory": 1.1,
    "five_million_rss_gb": 3.0,
    "rows_rss_gb": 3.0,
}


def write_table(rows: int, folder: Path, data: Path | None = None) -> None:
    """Write a table whose rows all differ, and are as long in a large one as in a small one."""
    from trainables.data.simulate import SimulationConfig, simulate

    if data is None:
        pairs = simulate(SimulationConfig()).log[["query", "title"]]
    else:
        headlines = pd.read_parquet(data, columns=["test_id", "headline"])
        pairs = headlines.set_axis(["query", "title"], axis=1)
    folder.mkdir()
    rng = np.random.default_rng(0)
    for start in range(0, rows, PART_ROWS):
        numbers = np.arange(start, min(start + PART_ROWS, rows))
        part = pairs.iloc[rng.integers(len(pairs), size=len(numbers))].reset_index(drop=True)
        # A bijection, so that the codes differ; of seven digits, so that they are equally long.
        codes = pd.Series(numbers * 7_654_321 % 10_000_000).astype("str").str.zfill(7)
        part["title"] = part["title"] + " " + codes
        part["impressions"] = rng.integers(1, 40, len(numbers))
        part["clicks"] = rng.binomial(part["impressions"], 0.1)
        part.to_parquet(folder / f"part-{start:09d}.parquet")


def write_impressions(rows: int, folder: Path) -> None:
    from trainables.data.simulate import SimulationConfig, simulate, write_simulation

    write_simulation(simulate(SimulationConfig(num_impressions=rows + 5)), folder)


def write_log(rows: int, path: Path) -> None:
    """Write a log of any length in little memory: impressions of a simulated one, drawn again."""
    from trainables.data.simulate import SimulationConfig, simulate

    log = simulate(SimulationConfig()).log[["query", "title", "label"]]
    rng = np.random.default_rng(0)
    if path.suffix != ".csv":
        path.mkdir()
    for start in range(0, rows, PART_ROWS):
        part = log.iloc[rng.integers(len(log), size=min(PART_ROWS, rows - start))]
        if path.suffix == ".csv":
            part.to_csv(path, mode="a", header=start == 0, index=False)
        else:
            part.to_parquet(path / f"part-{start:09d}.parquet", index=False)


def prepare_table(path: Path, out: Path, *, single: bool = False) -> dict[str, float]:
    """Prepare a table of counts, or of single impressions; return the seconds that it took."""
    from trainables.data.config import Columns, DataConfig, SplitConfig
    from trainables.data.prepared import prepare
    from trainables.data.table import load_clicks
    from trainables.encoder import EncoderConfig
    from trainables.task import TaskConfig

    outcome = {"label": "label"} if single else {"clicks": "clicks", "impressions": "impressions"}
    config = DataConfig(
        path=str(path),
        columns=Columns(text=("query", "title"), group="query", **outcome),
        split=SplitConfig(by="group"),
    )
    started = time.perf_counter()
    table = load_clicks(config, TaskConfig())
    loaded = time.perf_counter()
    prepare(table, EncoderConfig(max_tokens=MAX_TOKENS), out)
    done = time.perf_counter()
    return {"load_s": loaded - started, "prepare_s": done - loaded, "seconds": done - started}


class Done(Exception):  # noqa: N818
    """Enough steps were taken."""


def train(out: Path, num_steps: int) -> dict[str, float]:
    """Take some steps; return the seconds of one, and those before the first."""
    from spaces.trial_config import TrialConfig
    from trainables.data.prepared import PreparedData
    from trainables.deepspeed_config import DeepSpeedConfig
    from trainables.encoder import EncoderConfig, encoder_fingerprint, find_encoder
    from trainables.fine_tune import fine_tune
    from trainables.trial_setup import TrialSetup, Worker

    (folder,) = (path for path in out.iterdir() if path.is_dir())
    data = PreparedData.open(folder)
    encoder = EncoderConfig(max_tokens=MAX_TOKENS)
    setup = TrialSetup(
        data_folder=str(folder),
        data_fingerprint=data.fingerprint,
        encoder_fingerprint=encoder_fingerprint(find_encoder(encoder)),
        encoder=encoder,
        deepspeed=DeepSpeedConfig(precision="fp32"),
    )
    times: list[float] = []

    def on_step(done: int, _total: int) -> None:
        times.append(time.perf_counter())
        if done == num_steps:
            raise Done

    trial = TrialConfig(method="lora", augmentation="none", batch_size=BATCH_SIZE, epochs=1)
    started = time.perf_counter()
    training = fine_tune(trial, setup, Worker(num_threads=THREADS), on_step=on_step)
    try:
        next(training)
    except Done:
        training.close()
    steps = np.diff(times)[WARM_UP_STEPS:]
    return {
        "before_s": times[0] - started,
        "step_s": float(np.median(steps)),
        "rows": data.num_rows[0],
    }


def child(what: str, arguments: Sequence[str]) -> None:
    """Do one measurement in this process, and print it."""
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:THREADS])
    if what == "table":
        write_table(int(arguments[0]), Path(arguments[1]), *map(Path, arguments[2:]))
    elif what == "impressions":
        write_impressions(int(arguments[0]), Path(arguments[1]))
    elif what == "prepare":
        small, table, out = map(Path, arguments)
        with tempfile.TemporaryDirectory(dir=out.parent) as first:
            # Imports, and what a library does when it is first called.
            prepare_table(small, Path(first))
        fixed = []
        for _ in range(3):
            with tempfile.TemporaryDirectory(dir=out.parent) as again:
                fixed.append(prepare_table(small, Path(again))["seconds"])
        seconds = prepare_table(table, out, single=table.suffix == ".parquet")["seconds"]
        print(json.dumps({"seconds": seconds - statistics.median(fixed)}))
    elif what == "log":
        write_log(int(arguments[0]), Path(arguments[1]))
    elif what == "prepare-log":
        print(json.dumps(prepare_table(Path(arguments[0]), Path(arguments[1]), single=True)))
    else:
        print(json.dumps(train(Path(arguments[0]), int(arguments[1]))))


def run(what: str, *arguments: object) -> dict[str, float]:
    """Measure in a process of its own; adds its peak memory, anonymous and resident, in bytes."""
    threads = {f"{name}_NUM_THREADS": str(THREADS) for name in ("OMP", "MKL", "RAYON")}
    process = subprocess.Popen(
        [sys.executable, __file__, "--child", what, *map(str, arguments)],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, **threads, "PYTHONPATH": str(ROOT)},
    )
    status = Path(f"/proc/{process.pid}/status")
    peaks = {"anonymous": 0, "resident": 0}
    while process.poll() is None:
        lines = dict(line.split(":", 1) for line in status.read_text().splitlines())
        for name, key in (("anonymous", "RssAnon"), ("resident", "VmHWM")):
            # A process that has ended and isn't waited for yet has no memory.
            peaks[name] = max(peaks[name], 1024 * int(lines.get(key, "0").split()[0]))
        time.sleep(POLL_S)
    assert process.stdout is not None
    output = process.stdout.read().splitlines()
    if process.returncode:
        raise RuntimeError(f"measuring {what} failed with exit code {process.returncode}")
    measured: dict[str, float] = json.loads(output[-1]) if output else {}
    return {**measured, **peaks}


def measure(sizes: Sequence[int], repeats: int, folder: Path, data: Path | None) -> dict[str, Any]:
    """Return the medians of every size's measurements."""
    given = [] if data is None else [data]
    for size in (FIXED_ROWS, *sizes):
        run("table", size, folder / f"table-{size}", *given)
    num_steps = STEPS if sizes == SIZES else QUICK_STEPS
    found: dict[tuple[str, int], list[dict[str, float]]] = {}
    for _ in range(repeats):
        for size in sizes:
            out = folder / f"prepared-{size}"
            shutil.rmtree(out, ignore_errors=True)
            small, table = folder / f"table-{FIXED_ROWS}", folder / f"table-{size}"
            for what, arguments in (("prepare", (small, table, out)), ("train", (out, num_steps))):
                measured = run(what, *arguments)
                print(f"{what} {size:,} rows: {json.dumps(measured)}", flush=True)
                found.setdefault((what, size), []).append(measured)
    return {
        what: {
            size: {
                name: statistics.median(each[name] for each in found[what, size])
                for name in found[what, size][0]
            }
            for size in sizes
        }
        for what in ("prepare", "train")
    }


def compare(sizes: Sequence[int], medians: dict[str, Any]) -> tuple[dict[str, float], Any]:
    """Return the ratios, and what they were computed from."""
    prepared, trained = medians["prepare"], medians["train"]
    first, last = sizes[0], sizes[-1]
    row_s = {size: prepared[size]["seconds"] / size for size in sizes}
    row_bytes = {
        large: (prepared[large]["anonymous"] - prepared[small]["anonymous"]) / (large - small)
        for small, large in itertools.pairwise(sizes)
    }
    sample_s = {
        size: trained[size]["step_s"] / BATCH_SIZE
        + (trained[size]["before_s"] - trained[first]["before_s"]) / trained[size]["rows"]
        for size in sizes
    }
    ratios = {
        "prepare_seconds_per_row": max(row_s.values()) / row_s[first],
        "prepare_bytes_per_row": row_bytes[last] / row_bytes[sizes[-2]],
        "train_seconds_per_sample": max(sample_s.values()) / sample_s[first],
        "train_peak_memory": trained[last]["anonymous"] / trained[first]["anonymous"],
    }
    details = {
        "prepare_us_per_row": {size: round(1e6 * value, 1) for size, value in row_s.items()},
        "prepare_bytes_per_row": {size: round(value) for size, value in row_bytes.items()},
        "prepare_peak_rss_mb": {size: round(prepared[size]["resident"] / 1e6) for size in sizes},
        "train_ms_per_sample": {size: round(1e3 * value, 3) for size, value in sample_s.items()},
        "train_peak_mb": {size: round(trained[size]["anonymous"] / 1e6) for size in sizes},
    }
    return ratios, details


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, help="a table with test_id and headline")
    parser.add_argument("--quick", action="store_true", help="small tables, one repeat")
    parser.add_argument("--repeats", type=int, default=3, help="rounds over all sizes")
    parser.add_argument("--child", nargs="+", help=argparse.SUPPRESS)
    parser.add_argument("--rows", type=int, help="measure a log of so many impressions alone")
    parser.add_argument("--csv", action="store_true", help="of one CSV file")
    arguments = parser.parse_args()
    if arguments.child:
        child(arguments.child[0], arguments.child[1:])
        return
    if arguments.rows:
        with tempfile.TemporaryDirectory(prefix="clicktune-benchmark-") as name:
            log = Path(name) / ("log.csv" if arguments.csv else "log")
            run("log", arguments.rows, log)
            measured = run("prepare-log", log, Path(name) / "prepared")
        details = {"rows": arguments.rows, "csv": arguments.csv, **measured}
        print(json.dumps(result({"rows_rss_gb": measured["resident"] / 1e9}, details)))
        return
    sizes = QUICK_SIZES if arguments.quick else SIZES
    with tempfile.TemporaryDirectory(prefix="clicktune-benchmark-") as name:
        folder = Path(name)
        repeats = 1 if arguments.quick else arguments.repeats
        medians = measure(sizes, repeats, folder, arguments.data)
        ratios, details = compare(sizes, medians)
        if not arguments.quick:
            run("impressions", sizes[-1], folder / "impressions")
            log = folder / "impressions" / "log.parquet"
            single = run("prepare", folder / f"table-{FIXED_ROWS}", log, folder / "single")
            print(f"prepare {sizes[-1]:,} impressions: {json.dumps(single)}", flush=True)
            peak = max(single["resident"], medians["prepare"][sizes[-1]]["resident"])
            ratios["five_million_rss_gb"] = peak / 1e9
            details["impressions"] = single
    print(json.dumps(result(ratios, details)))


def result(ratios: dict[str, float], details: Any) -> dict[str, Any]:  # noqa: ANN401
    targets = {name: TARGETS[name] for name in ratios}
    return {
        "benchmark": "growth",
        "ratios": {name: round(value, 3) for name, value in ratios.items()},
        "targets": targets,
        "holds": all(ratios[name] <= target for name, target in targets.items()),
        "machine": {
            "cpu": platform.processor() or platform.machine(),
            "cores": os.cpu_count(),
            "threads": THREADS,
            "python": platform.python_version(),
        },
        "details": details,
    }


if __name__ == "__main__":
    main()
