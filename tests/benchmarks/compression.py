"""How small and fast winners become, and what it costs them, beside what most people would do.

    python tests/benchmarks/compression.py --out FOLDER [--data FOLDER] [--sets NAME ...] [--reuse]
        [--quick]

Winners on the headlines, on walmart_amazon and on a simulated log are trained once (``clicktune
trial``, all parameters, two epochs) and compressed with the default settings but the vocabulary,
which is trimmed; ``--out`` keeps winners, and with ``--reuse`` bundles, for another call. Then, on
one thread, in turns row by row:

- hf_eager: the uncompressed model in float32 in PyTorch, its encoder as transformers loads it.
- ort_fp32: the same as an ONNX graph in ONNX Runtime.
- whole_int8: that graph through ``quantize_dynamic`` with its default settings.
- bundle: the bundle's graph.

Latency is of one row at a time, unpadded, validation rows of all lengths; throughput of batches of
32 rows drawn at random, padded to their longest. Tokenization, equal on all sides, isn't counted.

- size: bytes of the uncompressed float32 weights over the bundle's files.
- p50_vs_hf_eager, p50_vs_whole_int8: medians of the latency over the bundle's.
- metric_drop: the uncompressed model's validation metric less the bundle's, the best of what was
  tried on those rows.
- test_worse: 1 if the paired bootstrap interval of the test metric's difference lies below zero.

Of several sets, the worst of each. The last line is JSON.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from measuring import HEADLINES, ROOT, print_result
from torch import nn

from search.study_config import StudyConfig, load_study
from trainables.bootstrap import bootstrap_difference
from trainables.bundle.manifest import MODEL_FILE, read_manifest
from trainables.bundle.predictor import Predictor, graph_inputs, open_graph, run_graph
from trainables.bundle.scoring import inputs_of
from trainables.checkpoint import load_model, read_checkpoint_info
from trainables.compression.config import CompressionConfig
from trainables.compression.graph import export_graph
from trainables.compression.measure import spread_over_lengths
from trainables.compression.pipeline import compress
from trainables.data.prepared import PreparedData, Rows
from trainables.data.row_inputs import RowInputs
from trainables.fine_tune import score
from trainables.hugging_face import export_hugging_face
from trainables.metrics import METRICS
from trainables.model import ClickModel

SIDES = ("hf_eager", "ort_fp32", "whole_int8", "bundle")
AT_LEAST = {"size": 10.0, "p50_vs_hf_eager": 8.0, "p50_vs_whole_int8": 2.0}
AT_MOST = {"metric_drop": 0.005, "test_worse": 0.0}
FREQUENT_PIECES = 16_000
"""Half of BERT's vocabulary stays in any case."""
NUM_ROWS, ROUNDS, NUM_BATCHES, BATCH = 100, 10, 20, 32

SIMULATED = """
name: simulated
data:
  path: {path}
  columns: {{text: [query, title], clicks: clicks, impressions: impressions, group: query}}
  split: {{by: group}}
space: {{method: full, learning_rate: 1.0e-4, batch_size: 32}}
search: {{epochs: 2}}
"""
SETS = {
    "headlines": ("headlines", ("learning_rate=5.0e-5", "batch_size=32")),
    "walmart_amazon": ("walmart_amazon", ("learning_rate=1.2e-4", "batch_size=32", "inputs=all")),
    "simulated": (None, ()),
}
"""Name to built-in study (None: the simulated log) and the trial's settings."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Measured:
    """One set's numbers."""

    milliseconds: dict[str, np.ndarray]
    """Of one row, by side."""
    rows_per_second: dict[str, float]
    """In batches, by side."""
    details: dict[str, Any]
    """What else there is to know."""
    ratios: dict[str, float]
    """The set's share of the result."""


def train(name: str, out: Path, data: Path, *, quick: bool) -> Path:
    """Train a winner, unless it is there; return its checkpoint."""
    folder = out / (f"{name}-quick" if quick else name)
    if not (found := sorted(folder.glob("epoch-[0-9]*[0-9]"))):
        study, settings = SETS[name]
        overrides = [*settings, "search.epochs=1" if quick else "search.epochs=2"]
        if study is None:
            log = out / ("simulated-log-quick" if quick else "simulated-log")
            impressions = "4000" if quick else "60000"
            if not log.is_dir():
                _clicktune(
                    "data", "simulate", str(log), "--impressions", impressions, "--aggregate"
                )
            study = str(out / "simulated.yaml")
            Path(study).write_text(SIMULATED.format(path=log / "log.parquet"), encoding="utf-8")
        else:
            table = "upworthy_headlines" if name == "headlines" else name
            overrides.append(f"data.path={data / table}.parquet")
        sets = [word for override in overrides for word in ("--set", override)]
        _clicktune("trial", study, *sets, "--out", str(folder))
        found = sorted(folder.glob("epoch-[0-9]*[0-9]"))
    return found[-1]


def _clicktune(*words: str) -> None:
    command = [sys.executable, "-c", "from search.cli import main; main()", *words]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    subprocess.run(command, check=True, env=environment, stdout=sys.stderr)


def bundle_of(checkpoint: Path, config: StudyConfig, data: PreparedData, *, reuse: bool) -> Path:
    """Compress a checkpoint; return the bundle."""
    bundle = checkpoint.parent / "bundle"
    if not (reuse and bundle.is_dir()):
        report = compress(
            checkpoint,
            config.compression,
            bundle,
            text_columns=config.data.columns.text,
            metric=config.search.metric,
            lineage={"benchmark": "compression"},
            num_threads=len(os.sched_getaffinity(0)),
            data_folder=data.folder,
        )
        for candidate in report.candidates:
            print(
                f"{candidate.name}: {report.metric} {candidate.metrics[report.metric]:.4f}, "
                f"{candidate.latency_ms:.2f} ms, {candidate.size_mb:.1f} MB",
                flush=True,
            )
        print(f"{report.reason} ({report.seconds:.0f} s)", flush=True)
        if report.bundle is None:
            raise SystemExit(f"{checkpoint}: no candidate keeps within the limits")
    return bundle


def hugging_face_model(checkpoint: Path, folder: Path) -> ClickModel:
    """Load a checkpoint with its encoder as transformers loads it."""
    from transformers import AutoModel

    export_hugging_face(checkpoint, folder)
    model = load_model(checkpoint)
    assert isinstance(model, ClickModel)
    model.encoder = AutoModel.from_pretrained(folder, add_pooling_layer=False).eval()
    return model


def export_others(model: nn.Module, data: PreparedData, max_tokens: int, folder: Path) -> None:
    """Write the graphs of ort_fp32 and whole_int8."""
    import onnx
    from onnxruntime.quantization import QuantType, quantize_dynamic

    assert isinstance(model, ClickModel)
    fields = data.fields.shapes if model.tower is not None else None
    export_graph(model, folder / "ort_fp32.onnx", max_tokens=max_tokens, fields=fields)
    graph = onnx.load(str(folder / "ort_fp32.onnx"))
    # Noted by the exporter of matrices before they were transposed; the quantizer infers them.
    del graph.graph.value_info[:]
    quantize_dynamic(graph, str(folder / "whole_int8.onnx"), weight_type=QuantType.QInt8)


def measure(checkpoint: Path, *, quick: bool, reuse: bool) -> Measured:
    """Compress a winner and measure all sides."""
    # The studies' own ladders are shorter than the default one.
    defaults = CompressionConfig(trim_vocabulary=True, frequent_pieces=FREQUENT_PIECES)
    config = replace(load_study(checkpoint.parent / "study.yaml"), compression=defaults)
    info = read_checkpoint_info(checkpoint)
    data = PreparedData.open(Path(info.setup.data_folder))
    bundle = bundle_of(checkpoint, config, data, reuse=reuse)
    predictor = Predictor(bundle, num_threads=1)
    with tempfile.TemporaryDirectory(prefix="clicktune-benchmark-") as work:
        folder = Path(work)
        export_others(load_model(checkpoint), data, info.setup.encoder.max_tokens, folder)
        model = hugging_face_model(checkpoint, folder / "model")
        graphs = {side: folder / f"{side}.onnx" for side in SIDES[1:3]}
        graphs["bundle"] = bundle / MODEL_FILE
        sessions = {side: open_graph(path, num_threads=1) for side, path in graphs.items()}
        validation, test = data.rows("validation"), data.rows("test")
        inputs = dict.fromkeys(SIDES, validation.inputs)
        inputs["bundle"] = inputs_of(predictor, validation)

        def runner(side: str, indices: np.ndarray) -> Callable[[], object]:
            if side == "hf_eager":
                batch = inputs[side].batch(indices)
                tensors = {key: torch.from_numpy(value) for key, value in batch.items()}
                return lambda: model(**tensors)
            feed = graph_inputs(sessions[side], inputs[side], indices)
            return lambda: sessions[side].run(None, feed)

        with torch.inference_mode():
            milliseconds = time_rows(runner, inputs["hf_eager"], quick=quick)
            rates = time_batches(runner, len(validation), quick=quick)

        def predict(rows: Rows) -> dict[str, np.ndarray]:
            found = {s: run_graph(sessions[s], rows.inputs) for s in SIDES[1:3]}
            return {**found, "bundle": predictor.predict_inputs(inputs_of(predictor, rows))}

        metric = METRICS[config.search.metric]
        found = {"validation": predict(validation), "test": predict(test)}
    rows_of = {"validation": validation, "test": test}
    metrics = {
        split: {
            side: score(given, rows_of[split], info.setup)[metric.name]
            for side, given in sides.items()
        }
        for split, sides in found.items()
    }
    sign = 1 if metric.higher_is_better else -1
    low, high = bootstrap_difference(
        metric,
        found["test"]["bundle"],
        found["test"]["ort_fp32"],
        test.clicks,
        test.impressions,
        test.groups,
        rng=np.random.default_rng(0),
    )
    low, high = (low, high) if sign > 0 else (-high, -low)
    weights = 4 * sum(parameter.numel() for parameter in model.parameters())
    manifest = read_manifest(bundle)
    medians = {side: float(np.median(values)) for side, values in milliseconds.items()}
    validated = metrics["validation"]
    return Measured(
        milliseconds=milliseconds,
        rows_per_second=rates,
        ratios={
            "size": weights / manifest.num_bytes(),
            "p50_vs_hf_eager": medians["hf_eager"] / medians["bundle"],
            "p50_vs_whole_int8": medians["whole_int8"] / medians["bundle"],
            "metric_drop": sign * (validated["ort_fp32"] - validated["bundle"]),
            "test_worse": float(high < 0),
        },
        details={
            "metric": metric.name,
            "bundle": manifest.compression["precision"],
            "shapes": manifest.compression["shapes"],
            "megabytes": round(manifest.num_bytes() / 1e6, 2),
            "metrics": {
                split: {side: round(value, 4) for side, value in sides.items()}
                for split, sides in metrics.items()
            },
            "test_difference": [round(low, 4), round(high, 4)],
        },
    )


def time_rows(
    runner: Callable[[str, np.ndarray], Callable[[], object]], inputs: RowInputs, *, quick: bool
) -> dict[str, np.ndarray]:
    """Time single rows, the sides in turn."""
    chosen = spread_over_lengths(inputs.tokens.lengths, NUM_ROWS)
    runs = {side: [runner(side, np.array([row])) for row in chosen] for side in SIDES}
    seconds: dict[str, list[float]] = {side: [] for side in SIDES}
    for turn in range(2 if quick else ROUNDS + 1):
        for place in range(len(chosen)):
            for side in SIDES:
                started = time.perf_counter()
                runs[side][place]()
                if turn:
                    seconds[side].append(time.perf_counter() - started)
    return {side: 1000 * np.array(values) for side, values in seconds.items()}


def time_batches(
    runner: Callable[[str, np.ndarray], Callable[[], object]], num_rows: int, *, quick: bool
) -> dict[str, float]:
    """Time batches of rows drawn at random, the sides in turn; return rows per second."""
    rng = np.random.default_rng(0)
    seconds: dict[str, list[float]] = {side: [] for side in SIDES}
    for _ in range(3 if quick else NUM_BATCHES):
        indices = rng.choice(num_rows, min(BATCH, num_rows), replace=False)
        for side in SIDES:
            run = runner(side, indices)
            started = time.perf_counter()
            run()
            seconds[side].append((time.perf_counter() - started) / len(indices))
    return {side: 1 / float(np.median(values)) for side, values in seconds.items()}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, help="keeps winners and bundles; default: nothing does")
    parser.add_argument("--data", type=Path, default=HEADLINES.parent, help="the tables' folder")
    parser.add_argument("--sets", nargs="+", choices=list(SETS), default=list(SETS))
    parser.add_argument("--reuse", action="store_true", help="take bundles of an earlier call")
    parser.add_argument("--quick", action="store_true", help="a small simulated log alone")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    found: dict[str, Measured] = {}
    with tempfile.TemporaryDirectory(prefix="clicktune-benchmark-") as temporary:
        out = (arguments.out or Path(temporary)).absolute()
        out.mkdir(parents=True, exist_ok=True)
        for name in ["simulated"] if arguments.quick else arguments.sets:
            checkpoint = train(name, out, arguments.data, quick=arguments.quick)
            found[name] = measure(checkpoint, quick=arguments.quick, reuse=arguments.reuse)
            for side, values in found[name].milliseconds.items():
                print(
                    f"{name}, {side}: p50 {np.median(values):.2f} ms, p99 "
                    f"{np.quantile(values, 0.99):.2f} ms, in batches "
                    f"{found[name].rows_per_second[side]:.0f} rows/s",
                    flush=True,
                )
    worst = {
        ratio: (min if ratio in AT_LEAST else max)(each.ratios[ratio] for each in found.values())
        for ratio in (*AT_LEAST, *AT_MOST)
    }
    print_result(
        "compression",
        ratios=worst,
        at_least=AT_LEAST,
        at_most=AT_MOST,
        details={
            name: {
                **each.details,
                "ratios": {ratio: round(value, 4) for ratio, value in each.ratios.items()},
                "p50_ms": {
                    side: round(float(np.median(values)), 3)
                    for side, values in each.milliseconds.items()
                },
                "p99_ms": {
                    side: round(float(np.quantile(values, 0.99)), 3)
                    for side, values in each.milliseconds.items()
                },
                "rows_per_second": {
                    side: round(value, 1) for side, value in each.rows_per_second.items()
                },
            }
            for name, each in found.items()
        },
        threads=1,
    )


if __name__ == "__main__":
    main()
