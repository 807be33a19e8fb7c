"""One point, typed: all that a trial is told."""

import dataclasses
import sys
from dataclasses import dataclass
from typing import Any, Literal, Self, get_args

Augmentation = Literal[
    "none",
    "synonym",
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

Method = Literal["full", "lora"]
"""Which weights train: all of them, or low-rank adapters (Hu et al. 2021)."""


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
    """Rank of the adapters; unused unless the method is lora."""
    tuned_layers: int | None = None
    """How many top layers of the encoder train, by adapters or in full; its embeddings and the
    layers below are frozen and run without dropout. None: all layers, and no such freezing."""
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
        for name in ("learning_rate", "augmentation_rate", "augmented_share"):
            _check_number(name, getattr(self, name))
        for name in ("dropout", "weight_decay", "warmup_fraction", "mixup_alpha"):
            _check_number(name, getattr(self, name))
        for name in ("batch_size", "lora_rank", "epochs", "seed"):
            value = getattr(self, name)
            _check_whole(name, value)
        _check_range("learning_rate", self.learning_rate, 0 < self.learning_rate <= 1, "in (0, 1]")
        for name in ("augmentation_rate", "dropout", "warmup_fraction"):
            value = getattr(self, name)
            _check_range(name, value, 0 <= value < 1, "in [0, 1)")
        share = self.augmented_share
        _check_range("augmented_share", share, 0 <= share <= 1, "in [0, 1]")
        _check_range("seed", self.seed, 0 <= self.seed < 2**63, "at least 0 and below 2**63")
        _check_range("weight_decay", self.weight_decay, self.weight_decay >= 0, "at least 0")
        _check_range("mixup_alpha", self.mixup_alpha, self.mixup_alpha >= 0, "at least 0")
        for name in ("batch_size", "epochs"):
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
        _check_option("augmentation_schedule", self.augmentation_schedule, get_args(Schedule))
        _check_option("method", self.method, get_args(Method))

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
        if self.augmentation == "none" or self.augmentation_rate == 0:
            return 0.0
        if self.augmentation_schedule == "constant":
            return self.augmented_share
        left = (self.epochs - epoch) / max(1, self.epochs - 1)
        return self.augmented_share * min(1.0, left)

    def effective(self) -> dict[str, Any]:
        """Return the settings that matter: what the method or augmentation ignores is left out.

        Two configurations with the same effective settings train the same model.
        """
        settings = dataclasses.asdict(self)
        if self.method != "lora":
            del settings["lora_rank"]
        if self.augmentation == "none":
            for name in ("augmentation_rate", "augmented_share", "augmentation_schedule"):
                del settings[name]
        if self.mixup_alpha == 0:
            del settings["mixup_alpha"]
        if self.tuned_layers is None:
            del settings["tuned_layers"]
        del settings["batch_tokens" if self.batch_tokens is None else "batch_size"]
        return settings


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
