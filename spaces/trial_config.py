"""One point, typed: all that a trial is told."""

import dataclasses
import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, Self, get_args

Augmentation = Literal[
    "none",
    "synonym",
    "wordnet",
    "word_dropout",
    "word_swap",
    "word_insertion",
    "description",
    "masked_word",
    "back_translation",
]
"""How training texts are varied; each is one file in ``trainables/augmentation``."""

Schedule = Literal["constant", "fade_out"]
"""How the share of varied rows goes on: the same in all epochs, or down to none in the last."""

Method = Literal["full", "lora", "rslora", "dora", "ia3"]
"""Which weights train: all of them, or adapters. ``lora``: low-rank ones (Hu et al. 2021);
``rslora``: scaled by the root of the rank (Kalajdzievski 2023); ``dora``: beside a magnitude of
each output's own (Liu et al. 2024); ``ia3``: factors of keys, values and inner units alone (Liu et
al. 2022)."""

RANKED_METHODS: tuple[Method, ...] = ("lora", "rslora", "dora")
"""Methods that have a rank."""

Inputs = Literal["all", "text", "fields"]
"""What of a row a model sees: everything that the table has, or its text or fields alone."""

AUGMENTATION_SETTINGS = ("augmentation_rate", "augmented_share", "augmentation_schedule")
"""What a trial without augmentation ignores."""
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
    *AUGMENTATION_SETTINGS,
    "method",
    "lora_rank",
    "encoder_layers",
    "tuned_layers",
)
"""What a trial without text ignores."""
RECORD_SETTINGS = ("category_swap", "category_dropout", "timestamp_jitter")
"""How much fields are varied in training; 0 is not at all."""
FIELD_SETTINGS = ("field_units", "field_learning_rate", *RECORD_SETTINGS)
"""What a trial without fields ignores."""


NUMBER_RANGES: tuple[tuple[tuple[str, ...], Callable[[float], bool], str], ...] = (
    (("learning_rate", "field_learning_rate"), lambda value: 0 < value <= 1, "in (0, 1]"),
    (
        ("augmentation_rate", "category_swap", "category_dropout", "dropout", "warmup_fraction"),
        lambda value: 0 <= value < 1,
        "in [0, 1)",
    ),
    (("augmented_share",), lambda value: 0 <= value <= 1, "in [0, 1]"),
    (("weight_decay", "mixup_alpha", "timestamp_jitter"), lambda value: value >= 0, "at least 0"),
)
"""Names of settings, what they may be, and how an error says so."""

OPTIONS: dict[str, tuple[str, ...]] = {
    "augmentation": get_args(Augmentation),
    "augmentation_schedule": get_args(Schedule),
    "method": get_args(Method),
    "inputs": get_args(Inputs),
    "loss": get_args(Loss),
    "architecture": get_args(Architecture),
}
"""The values of settings that choose by name."""


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
    """Share of words that the operation touches; for ``description`` the chance of each of its
    changes, for ``back_translation`` that a text is translated. Unused without augmentation."""
    augmented_share: float = 0.5
    """Share of the training rows that an epoch varies, other ones in each; the others stay as they
    are, so that a model also sees what it will predict on. Unused without augmentation."""
    augmentation_schedule: Schedule = "constant"
    """constant: that share in every epoch; fade_out: in the first, and from there down to 0 in the
    last, in equal steps. Unused without augmentation."""
    mixup_alpha: float = 0.0
    """Mixes the pooled rows of each batch in pairs, and their losses, by a share drawn from
    Beta(alpha, alpha): 0.2 mixes few rows much, 1 all shares alike. 0: no mixing."""
    method: Method = "lora"
    """Which weights train; the task's head always does."""
    lora_rank: int = 8
    """Rank of the adapters; unused by the methods ``full`` and ``ia3``."""
    encoder_layers: int | None = None
    """How many layers of the encoder the model has, the lowest ones; without the others it is
    smaller and faster, in training and in serving. None: all."""
    tuned_layers: int | None = None
    """How many top layers of the model's encoder train, by adapters or in full; its embeddings and
    the layers below are frozen and run without dropout. As many as ``encoder_layers``, or more,
    tune all of these with frozen embeddings. None: all layers, and no such freezing."""
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
    category_swap: float = 0.0
    """Probability that a category is another row's while training, such as another ad format
    where the format isn't part of a placement."""
    category_dropout: float = 0.0
    """Probability of hiding a category while training, so that the model learns to do without; what
    is hidden looks missing."""
    timestamp_jitter: float = 0.0
    """Hours, as a standard deviation, by which rows are moved in time while training."""
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
        for names, inside, allowed in NUMBER_RANGES:
            for name in names:
                _check_number(name, getattr(self, name))
                _check_range(name, getattr(self, name), inside(getattr(self, name)), allowed)
        for name in ("batch_size", "batch_tokens", "field_units", "epochs"):
            if (value := getattr(self, name)) is None and name == "batch_tokens":
                continue
            _check_whole(name, value)
            _check_range(name, value, value >= 1, "at least 1")
        _check_whole("seed", self.seed)
        _check_range("seed", self.seed, 0 <= self.seed < 2**63, "at least 0 and below 2**63")
        self._check_layers()
        for name, options in OPTIONS.items():
            _check_option(name, getattr(self, name), options)

    def _check_layers(self) -> None:
        _check_whole("lora_rank", self.lora_rank)
        if self.lora_rank < 1:
            raise ValueError(
                f"lora_rank must be at least 1, got {self.lora_rank}; "
                "use method: full to train without adapters"
            )
        for name, all_layers in (("encoder_layers", "have"), ("tuned_layers", "train")):
            value = getattr(self, name)
            if value is not None:
                _check_whole(name, value)
                if value < 1:
                    raise ValueError(
                        f"{name} must be at least 1, got {value}; "
                        f"leave it out to {all_layers} all layers"
                    )

    @property
    def top_layers(self) -> int | None:
        """How many layers train, of those that the model has; None: all, with the embeddings."""
        if self.tuned_layers is None or self.encoder_layers is None:
            return self.tuned_layers
        return min(self.tuned_layers, self.encoder_layers)

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

    def varied_share(self, epoch: int) -> float:
        """Return the share of the training rows that an epoch, from 1, varies."""
        if self.augmentation == "none" or self.augmentation_rate == 0 or self.inputs == "fields":
            return 0.0
        if self.augmentation_schedule == "constant":
            return self.augmented_share
        left = (self.epochs - epoch) / max(1, self.epochs - 1)
        return self.augmented_share * min(1.0, left)

    def effective(self) -> dict[str, Any]:
        """Return the settings that matter: what other settings make meaningless is left out.

        Two configurations with the same effective settings train the same model.
        """
        unused = {"batch_tokens" if self.batch_tokens is None else "batch_size"}
        if self.method not in RANKED_METHODS:
            unused.add("lora_rank")
        if self.augmentation == "none":
            unused.update(AUGMENTATION_SETTINGS)
        unused.update(
            name for name in ("mixup_alpha", *RECORD_SETTINGS) if getattr(self, name) == 0
        )
        for name in ("encoder_layers", "tuned_layers"):
            if getattr(self, name) is None:
                unused.add(name)
        if self.inputs == "fields":
            unused.update(TEXT_SETTINGS)
        if self.inputs == "text":
            unused.update(FIELD_SETTINGS)
        settings = {**dataclasses.asdict(self), "tuned_layers": self.top_layers}
        return {name: value for name, value in settings.items() if name not in unused}

    def effective_key(self) -> str:
        """Return the effective settings as text: equal keys train equal models."""
        return json.dumps(self.effective(), sort_keys=True)


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
