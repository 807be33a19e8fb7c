"""What a study says about augmentation beside the hyperparameters: what must stay, what is good."""

import dataclasses
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from spaces.trial_config import Augmentation


@dataclass(frozen=True, kw_only=True, slots=True)
class QualityConfig:
    """What a variant must be like; one that isn't is left out, and its row stays as it is."""

    length_ratio: tuple[float, float] = (0.2, 3.0)
    """Fewest and most characters of a variant, as a share of its original's."""
    min_similarity: float = 0.7
    """Least cosine of a variant and its original, as the mean of the encoder's output vectors."""
    similarity_of: tuple[Augmentation, ...] = ("masked_word", "back_translation")
    """Operations whose variants are compared so, which takes two passes through the encoder: those
    that bring in words of a model's own. 1,000 headlines took 24 s of a busy core."""

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
class TranslationConfig:
    """The models of ``back_translation``."""

    to: str | None = None
    """Into another language: a folder with a Marian or other sequence-to-sequence model, or a name
    on the Hugging Face hub."""
    back: str | None = None
    """From that language."""
    sample: bool = True
    """Whether words are drawn, by the trial's seed, so that every epoch has other variants; else
    the likeliest translation is searched for, and all epochs have the same."""


@dataclass(frozen=True, kw_only=True, slots=True)
class AugmentationConfig:
    """How training texts may be varied, for all trials of a study."""

    protected_words: tuple[str, ...] = ()
    """Words that no operation touches, such as brands, beside numbers, colours, sizes, units and
    negations; of an entry of several words each one. Upper and lower case are the same."""
    masked_language_model: str | None = None
    """What ``masked_word`` fills words in with: a folder with a model like BertForMaskedLM, or a
    name on the Hugging Face hub. The packaged encoder is none."""
    wordnet: str | None = None
    """The folder of WordNet's database files, for ``wordnet``. None: what the extra ``wordnet``
    installs."""
    translation: TranslationConfig = field(default_factory=TranslationConfig)
    """What ``back_translation`` translates with."""
    quality: QualityConfig = field(default_factory=QualityConfig)
    """Which variants are kept."""

    def __post_init__(self) -> None:
        for word in self.protected_words:
            if not word.strip():
                raise ValueError(
                    f"augmentation.protected_words holds {word!r}; leave out what is blank"
                )

    def models(self, augmentation: str) -> dict[str, str | None]:
        """Return the models that an operation needs: a study's key to what it names."""
        if augmentation == "masked_word":
            return {"augmentation.masked_language_model": self.masked_language_model}
        if augmentation == "back_translation":
            return {
                "augmentation.translation.to": self.translation.to,
                "augmentation.translation.back": self.translation.back,
            }
        return {}

    def with_absolute_folders(self) -> Self:
        """Return the same, where a worker in another current folder finds the models too."""
        translation = dataclasses.replace(
            self.translation,
            to=_absolute(self.translation.to),
            back=_absolute(self.translation.back),
        )
        return dataclasses.replace(
            self,
            masked_language_model=_absolute(self.masked_language_model),
            wordnet=_absolute(self.wordnet),
            translation=translation,
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
        if models := self.models(augmentation):
            from trainables.augmentation.models import model_fingerprint

            # By what they hold: a study that is moved is the same study.
            identity["models"] = [
                model_fingerprint(augmentation, key, name) for key, name in models.items()
            ]
        if augmentation == "back_translation":
            identity["sample"] = self.translation.sample
        if augmentation == "wordnet":
            from trainables.augmentation.wordnet import wordnet_fingerprint

            identity["wordnet"] = wordnet_fingerprint(self)
        return identity


def _absolute(name: str | None) -> str | None:
    if name is None:
        return None
    folder = Path(name).expanduser()
    return str(folder.resolve()) if folder.is_dir() else name


DEFAULTS = AugmentationConfig()
"""What a study has that says nothing about augmentation."""
