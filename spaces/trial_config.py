"""One point, typed: all that a trial is told."""

import dataclasses
import sys
from dataclasses import dataclass
from typing import Any, Literal, Self, get_args

Augmentation = Literal["none", "synonym", "word_dropout"]
"""How training texts are varied; each is one file in ``trainables/augmentation``."""

Method = Literal["full", "lora"]
"""Which weights train: all of them, or low-rank adapters (Hu et al. 2021)."""


Inputs = Literal["all", "text", "fields"]
"""What of a row a model sees: everything that the table has, or its text or fields alone."""

Architecture = Literal["cross_encoder", "two_tower"]
"""How a model reads two segments. ``cross_encoder``: together; ``two_tower``: each by itself, so
that the vectors of a whole catalogue can be computed once and searched."""

Loss = Literal["pointwise", "pairwise", "listwise", "in_batch"]
"""What training minimizes. ``pointwise``: each row's own likelihood; ``pairwise``: which of two
rows of a group is clicked more often; ``listwise``: which row of a group is clicked; ``in_batch``:
which second segment of the batch belongs to the first one of a clicked row. All but the first are
for rankings; they leave the level of the probabilities to calibration."""

COMPARING_LOSSES: tuple[Loss, ...] = ("pairwise", "listwise")
"""Losses that compare the rows of a group, and so need whole groups in a batch."""

WHOLE_BATCH_LOSSES: tuple[Loss, ...] = (*COMPARING_LOSSES, "in_batch")
"""Losses that compare rows of a batch, which must not be divided then."""

TEXT_SETTINGS = (
    "learning_rate",
    "augmentation",
    "augmentation_rate",
    "method",
    "lora_rank",
    "tuned_layers",
)
"""What a trial without text ignores."""
FIELD_SETTINGS = ("field_units", "field_learning_rate")
"""What a trial without fields ignores."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TrialConfig:
    """Hyperparameters of one trial. The same configuration and data give the same model."""

    learning_rate: float = 3e-4
    """Peak learning rate of AdamW, reached after the warm-up."""
    batch_size: int = 32
    """Rows per optimizer step, over all workers together."""
    batch_tokens: int | None = None
    """Most tokens of an optimizer step, padding included, in place of ``batch_size`` rows: steps of
    short texts then have more rows, and all take about as long. Counted before augmentation. None:
    ``batch_size`` decides."""
    augmentation: Augmentation = "none"
    """Operation that varies the training texts."""
    augmentation_rate: float = 0.1
    """Share of words that the operation touches; unused without augmentation."""
    method: Method = "lora"
    """Which weights train; the task's head always does."""
    lora_rank: int = 8
    """Rank of the adapters; unused unless the method is lora."""
    tuned_layers: int | None = None
    """How many top layers of the encoder train, by adapters or in full; its embeddings and the
    layers below are frozen and run without dropout. None: all layers, and no such freezing."""
    inputs: Inputs = "all"
    """What of a row the model sees."""
    field_units: int = 32
    """Hidden units of the tower that joins fields and text; unused where a table has no fields."""
    field_learning_rate: float = 3e-3
    """Peak learning rate of that tower, which starts from nothing, unlike the encoder."""
    loss: Loss = "pointwise"
    """What training minimizes."""
    architecture: Architecture = "cross_encoder"
    """How the model reads two segments."""
    dropout: float = 0.1
    """Probability of dropping a hidden unit or attention weight while training."""
    weight_decay: float = 0.01
    """AdamW's decoupled weight decay."""
    warmup_fraction: float = 0.06
    """Share of all steps over which the learning rate rises from 0."""
    epochs: int = 3
    """Passes over the training rows; the learning rate falls to 0 at the end of the last."""
    seed: int = 0
    """Seeds the head's weights, row order, dropout and augmentation."""

    def __post_init__(self) -> None:
        for name in ("augmentation_rate", "dropout", "weight_decay", "warmup_fraction"):
            _check_number(name, getattr(self, name))
        for name in ("batch_size", "lora_rank", "field_units", "epochs", "seed"):
            value = getattr(self, name)
            _check_whole(name, value)
        for name in ("learning_rate", "field_learning_rate"):
            value = getattr(self, name)
            _check_number(name, value)
            _check_range(name, value, 0 < value <= 1, "in (0, 1]")
        for name in ("augmentation_rate", "dropout", "warmup_fraction"):
            value = getattr(self, name)
            _check_range(name, value, 0 <= value < 1, "in [0, 1)")
        _check_range("seed", self.seed, 0 <= self.seed < 2**63, "at least 0 and below 2**63")
        _check_range("weight_decay", self.weight_decay, self.weight_decay >= 0, "at least 0")
        for name in ("batch_size", "field_units", "epochs"):
            _check_range(name, getattr(self, name), getattr(self, name) >= 1, "at least 1")
        if self.lora_rank < 1:
            raise ValueError(
                f"lora_rank must be at least 1, got {self.lora_rank}; "
                "use method: full to train without adapters"
            )
        if self.batch_tokens is not None:
            _check_whole("batch_tokens", self.batch_tokens)
            _check_range("batch_tokens", self.batch_tokens, self.batch_tokens >= 1, "at least 1")
        if self.tuned_layers is not None:
            _check_whole("tuned_layers", self.tuned_layers)
            if self.tuned_layers < 1:
                raise ValueError(
                    f"tuned_layers must be at least 1, got {self.tuned_layers}; "
                    "leave it out to train all layers"
                )
        _check_option("augmentation", self.augmentation, get_args(Augmentation))
        _check_option("method", self.method, get_args(Method))
        _check_option("inputs", self.inputs, get_args(Inputs))
        _check_option("loss", self.loss, get_args(Loss))
        _check_option("architecture", self.architecture, get_args(Architecture))

    @property
    def batch_name(self) -> str:
        """The setting that decides how large a batch is: ``batch_size`` or ``batch_tokens``."""
        return "batch_size" if self.batch_tokens is None else "batch_tokens"

    @property
    def batch(self) -> int:
        """How large a batch is, in that setting's unit: rows or tokens."""
        return self.batch_size if self.batch_tokens is None else self.batch_tokens

    def with_batch(self, batch: int) -> Self:
        """Return the trial with another value of the setting that decides."""
        if self.batch_tokens is None:
            return dataclasses.replace(self, batch_size=batch)
        return dataclasses.replace(self, batch_tokens=batch)

    def effective(self) -> dict[str, Any]:
        """Return the settings that matter: what other settings make meaningless is left out.

        Two configurations with the same effective settings train the same model.
        """
        unused = {"batch_tokens" if self.batch_tokens is None else "batch_size"}
        if self.method != "lora":
            unused.add("lora_rank")
        if self.augmentation == "none":
            unused.add("augmentation_rate")
        if self.tuned_layers is None:
            unused.add("tuned_layers")
        if self.inputs == "fields":
            unused.update(TEXT_SETTINGS)
        if self.inputs == "text":
            unused.update(FIELD_SETTINGS)
        return {
            name: value for name, value in dataclasses.asdict(self).items() if name not in unused
        }


SEARCHABLE = tuple(
    field.name for field in dataclasses.fields(TrialConfig) if field.name not in ("epochs", "seed")
)
"""The fields that a space may vary; epochs and seed belong to the study's search section."""


def _check_number(name: str, value: object) -> None:
    # A comparison, because math.isfinite overflows on a huge int.
    finite = isinstance(value, int | float) and abs(value) <= sys.float_info.max
    if isinstance(value, bool) or not finite:
        hint = "; YAML reads 1e-5 as text, write 1.0e-5" if isinstance(value, str) else ""
        raise ValueError(f"{name} must be a finite number, got {value!r}{hint}")


def _check_whole(name: str, value: object) -> None:
    if isinstance(value, bool) or not isinstance(value, int):
        raise ValueError(f"{name} must be a whole number, got {value!r}")


def _check_range(name: str, value: object, inside: bool, allowed: str) -> None:
    if not inside:
        raise ValueError(f"{name} must be {allowed}, got {value!r}")


def _check_option(name: str, value: object, options: tuple[str, ...]) -> None:
    if value not in options:
        raise ValueError(f"{name} must be one of {', '.join(options)}, got {value!r}")
