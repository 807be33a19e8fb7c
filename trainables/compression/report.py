"""What was tried on a winner, what it cost, and what was chosen."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

Precision = Literal["fp32", "fp16", "int8", "int8+int4", "int8+fp32"]
"""How weights are stored: as they were trained; in 16 bits, and computed with in 32; matrices and
tables in 8 bits; the same with word vectors in 4; or in 8 but for the layers that it hurts most."""


def say_layers(count: int) -> str:
    """Name a number of layers."""
    return "1 layer" if count == 1 else f"{count} layers"


@dataclass(frozen=True, kw_only=True, slots=True)
class Candidate:
    """One way to shrink a winner, measured on its exported graph."""

    keep_fraction: float
    """Share of attention heads and feed-forward units that was asked to stay."""
    precision: Precision
    """How weights are stored."""
    metrics: Mapping[str, float]
    """Validation metrics of the graph in ONNX Runtime."""
    metric_drop: float
    """How much worse the study's metric is than the uncompressed model's; below 0: better."""
    metric_drop_at_most: float
    """The same, as sure as ``compression.confidence`` asks: this is what the limit is about."""
    latency_ms: float
    """Median time of one row on one thread."""
    size_mb: float
    """Size of the bundle that it would make, in millions of bytes."""
    shapes: Mapping[str, list[int]]
    """Heads and feed-forward width of each layer that stays."""
    steps: tuple[tuple[str, Mapping[str, float]], ...]
    """(step, validation metrics) from the uncompressed model on."""

    @property
    def name(self) -> str:
        """What to call it in a sentence."""
        if not self.num_layers:
            return self.precision
        layers = say_layers(self.num_layers)
        return f"{layers} at {self.keep_fraction:.0%}, {self.precision}"

    @property
    def num_layers(self) -> int:
        """Layers of the encoder; 0 without one."""
        return len(self.shapes.get("heads", ()))


@dataclass(frozen=True, kw_only=True, slots=True)
class CompressionReport:
    """What became of one winner."""

    checkpoint: str
    """The winner's checkpoint."""
    metric: str
    """The metric that limits the choice."""
    baseline: Mapping[str, float]
    """Validation metrics of the uncompressed model."""
    candidates: tuple[Candidate, ...]
    """Everything that was tried."""
    chosen: int | None
    """Number of the candidate in the bundle; None where none was good enough."""
    bundle: str | None
    """The bundle's folder; None where none was good enough."""
    reason: str
    """Why that candidate, or how far the nearest one missed."""
    seconds: float
    """Time that it took."""

    def to_dict(self) -> dict[str, Any]:
        """Return the report as JSON values."""
        raw = dataclasses.asdict(self)
        raw["candidates"] = [
            {**candidate, "steps": [list(step) for step in candidate["steps"]]}
            for candidate in raw["candidates"]
        ]
        return raw

    @classmethod
    def from_dict(cls, raw: Mapping[str, Any]) -> "CompressionReport":
        """Read what :meth:`to_dict` wrote.

        Raises:
            TypeError: if a field is missing or unknown.
        """
        candidates = tuple(
            # Reports of the time before there was a confidence were of 0.5.
            Candidate(
                **{
                    "metric_drop_at_most": candidate["metric_drop"],
                    **candidate,
                    "steps": tuple((name, m) for name, m in candidate["steps"]),
                }
            )
            for candidate in raw["candidates"]
        )
        return cls(**{**raw, "candidates": candidates})
