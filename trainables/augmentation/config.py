"""What a study says about augmentation beside the hyperparameters: words that must stay."""

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, kw_only=True, slots=True)
class AugmentationConfig:
    """How training texts may be varied, for all trials of a study."""

    protected_words: tuple[str, ...] = ()
    """Words that no operation touches, such as brands, beside numbers, colours, sizes, units and
    negations; of an entry of several words each one. Upper and lower case are the same."""

    def __post_init__(self) -> None:
        for word in self.protected_words:
            if not word.strip():
                raise ValueError(
                    f"augmentation.protected_words holds {word!r}; leave out what is blank"
                )

    def identity(self, augmentation: str) -> dict[str, Any]:
        """Return what of it decides about the variants of an operation, as JSON values."""
        if augmentation == "none":
            return {}
        return {"protected_words": sorted(self.protected_words)}


DEFAULTS = AugmentationConfig()
"""What a study has that says nothing about augmentation."""
