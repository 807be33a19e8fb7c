"""What a model of some shape will cost once it is exported, measured before it is trained."""

import tempfile
from dataclasses import dataclass
from pathlib import Path

from spaces.trial_config import TrialConfig
from trainables.compression.graph import export_graph
from trainables.compression.measure import LatencyTimer
from trainables.compression.quantization import quantize_graph
from trainables.data.prepared import PreparedData
from trainables.encoder import EncoderConfig, find_encoder
from trainables.model import build_model


@dataclass(frozen=True, kw_only=True, slots=True)
class ShapeCost:
    """What a shape costs."""

    latency_ms: float
    """Median of one validation row on one thread, over their lengths."""
    size_mb: float
    """The graph and the tokenizer's file."""


def measure_shapes(
    shapes: list[TrialConfig], data: PreparedData, encoder: EncoderConfig
) -> list[ShapeCost]:
    """Export untrained models in int8 and time them in turns; weights' values don't matter.

    Takes some 20 s of a core for each shape of MiniLM's size, nearly all of it torch's exporter.

    Args:
        shapes: Trials, of which the shape alone counts.
        data: Rows to predict.
        encoder: The study's.
    """
    folder = find_encoder(encoder)
    timer = LatencyTimer(data.rows("validation").inputs)
    tokenizer_bytes = (folder / "tokenizer.json").stat().st_size
    costs = []
    with tempfile.TemporaryDirectory(prefix="clicktune-shapes-") as work:
        for number, trial in enumerate(shapes):
            whole, small = (Path(work) / f"{number}-{kind}.onnx" for kind in ("fp32", "int8"))
            model = build_model(
                folder, trial, num_segments=data.layout.num_segments, fields=data.fields.shapes
            )
            fields = data.fields.shapes if trial.inputs != "text" else None
            export_graph(model, whole, max_tokens=encoder.max_tokens, fields=fields)
            quantize_graph(whole, small)
            whole.unlink()
            (latency,) = timer.measure([small])
            size = (small.stat().st_size + tokenizer_bytes) / 1e6
            costs.append(ShapeCost(latency_ms=latency, size_mb=size))
            if small != timer.reference:
                small.unlink()
    return costs
