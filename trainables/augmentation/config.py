"""What a study says about augmentation beside the hyperparameters: what must stay, what is good."""

from dataclasses import dataclass, field
from typing import Any

from spaces.trial_config import Augmentation


@dataclass(frozen=True, kw_only=True, slots=True)
class QualityConfig:
    """What a variant must be like; one that isn't is left out, and its row stays as it is."""

    length_ratio: tuple[float, float] = (0.2, 3.0)
    """Fewest and most characters of a variant, as a share of its original's."""
    min_similarity: float = 0.7
    """Least cosine of a variant and its original, as the mean of the encoder's output vectors."""
    similarity_of: tuple[Augmentation, ...] = ()
    """Operations whose variants are compared so, which takes two passes through the encoder."""

    def __post_init__(self) -> None:
        least, most = self.length_ratio
        if not 0 <= least <= 1 <= most:
            raise ValueError(
                f"augmentation.quality.length_ratio must be around 1, like [0.2, 3.0], got "
                f"[{least}, {most}]"
            )
        if not -1 <= self.min_similarity <= 1:
            raise ValueError(
                "augmentation.quality.min_similarity must be in [-1, 1], got "
                f"{self.min_similarity}; 1 keeps only what is the same"
            )


@dataclass(frozen=True, kw_only=True, slots=True)
class AugmentationConfig:
    """How training texts may be varied, for all trials of a study."""

    protected_words: tuple[str, ...] = ()
    """Words that no operation touches, such as brands, beside numbers, colours, sizes, units and
    negations; of an entry of several words each one. Upper and lower case are the same."""
    quality: QualityConfig = field(default_factory=QualityConfig)
    """Which variants are kept."""

    def __post_init__(self) -> None:
        for word in self.protected_words:
            if not word.strip():
                raise ValueError(
                    f"augmentation.protected_words holds {word!r}; leave out what is blank"
                )

    def compares(self, augmentation: str) -> bool:
        """Tell whether an operation's variants are compared with their originals' meaning."""
        return augmentation in self.quality.similarity_of

    def identity(self, augmentation: str) -> dict[str, Any]:
        """Return what of it decides about the variants of an operation, as JSON values."""
        if augmentation == "none":
            return {}
        identity: dict[str, Any] = {
            "protected_words": sorted(self.protected_words),
            "length_ratio": list(self.quality.length_ratio),
        }
        if self.compares(augmentation):
            identity["min_similarity"] = self.quality.min_similarity
        return identity


DEFAULTS = AugmentationConfig()
"""What a study has that says nothing about augmentation."""
