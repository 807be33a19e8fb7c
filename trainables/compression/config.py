"""How far a winner may be shrunk, and how hard to try."""

from dataclasses import dataclass

from trainables.calibration import CalibrationKind


@dataclass(frozen=True, kw_only=True, slots=True)
class CompressionConfig:
    """How far a winner may be shrunk before export."""

    max_metric_drop: float = 0.005
    """Largest loss of the study's metric on the validation split, absolute."""
    confidence: float = 0.5
    """How sure it has to be, by the paired bootstrap of the validation rows, that no more is lost,
    from 0.5, where the loss that was measured counts, to 0.99. The smallest of many candidates that
    measure well enough lost more than it seems; where a loss matters, ask for 0.95. Each graph that
    measures well enough is then drawn a thousand times, a minute and more for 200,000 rows."""
    max_latency_ms: float | None = None
    """Largest median latency of one row on one thread, in milliseconds; None: no limit."""
    max_size_mb: float | None = None
    """Largest size of the bundle on disk, in megabytes; None: no limit."""
    trim_vocabulary: bool = False
    """Whether pieces of words are left out that no training text has, which takes up to half of an
    int8 bundle. Exact for texts of words that were seen; others are read in smaller pieces, which
    the validation rows measure as far as they have such words (docs/measurements.md)."""
    frequent_pieces: int = 8_000
    """The first pieces of the vocabulary, which stay in any case; BERT's most frequent ones."""
    layer_fractions: tuple[float, ...] = (1.0, 0.67, 0.5)
    """Shares of the encoder's layers that may be kept."""
    keep_fractions: tuple[float, ...] = (1.0, 0.75, 0.5, 0.35, 0.25, 0.15)
    """Shares of those layers' attention heads and feed-forward units that may be kept. From the
    largest model on, the search takes a step down either list as long as the metric allows."""
    recovery_epochs: int = 1
    """Passes over the training rows after each step, distilled from the winner; 0: none."""
    recovery_rows: int = 20_000
    """Most training rows that a pass of recovery reads; a larger table is sampled."""
    recovery_learning_rate: float = 1e-4
    """Learning rate at the start of recovery; it falls to 0 at the end."""
    importance_rows: int = 512
    """Training rows that the importance of layers, heads and units is measured on."""
    calibration: CalibrationKind = "platt"
    """How the bundle's probabilities are brought to the validation rows' click rates: none,
    temperature, platt or isotonic. The limits above hold before it; isotonic may give equal
    probabilities to rows that differed."""
    seed: int = 0
    """Seeds the rows that importance is measured on, and recovery."""

    def __post_init__(self) -> None:
        if not 0 <= self.max_metric_drop < 1:
            raise ValueError(
                f"compression.max_metric_drop must be in [0, 1), got {self.max_metric_drop}; "
                "use 0 to allow no loss at all"
            )
        if not 0.5 <= self.confidence <= 0.99:
            raise ValueError(
                f"compression.confidence must be from 0.5 to 0.99, got {self.confidence}; 0.5 "
                "takes a loss for what was measured"
            )
        for name in ("max_latency_ms", "max_size_mb"):
            limit = getattr(self, name)
            # Written so that a NaN, which no size exceeds, is no limit to set.
            if limit is not None and not limit > 0:
                raise ValueError(f"compression.{name} must be above 0 or null, got {limit}")
        for name in ("layer_fractions", "keep_fractions"):
            shares = getattr(self, name)
            if not shares or not all(0 < share <= 1 for share in shares):
                raise ValueError(
                    f"compression.{name} must list shares in (0, 1], got {list(shares)}; "
                    "1.0 leaves nothing out"
                )
        smallest = {
            "frequent_pieces": 0,
            "recovery_epochs": 0,
            "recovery_rows": 1,
            "importance_rows": 1,
            "seed": 0,
        }
        for name, least in smallest.items():
            if getattr(self, name) < least:
                raise ValueError(
                    f"compression.{name} must be at least {least}, got {getattr(self, name)}"
                )
        if not 0 < self.recovery_learning_rate <= 1:
            raise ValueError(
                "compression.recovery_learning_rate must be in (0, 1], "
                f"got {self.recovery_learning_rate}"
            )
