"""Write a description as another shop would: parts reordered, units, case, a shorter end."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from trainables.augmentation.config import AugmentationConfig
from trainables.augmentation.protection import Protection
from trainables.augmentation.units import spell_units

if TYPE_CHECKING:
    from trainables.augmentation import Operation

_PART_END = re.compile(r"(\s*[;|]\s+)")
_WORD = re.compile(r"\S+")


def build_description(encoder_folder: Path, config: AugmentationConfig) -> "Operation":
    """Return the operation; it doesn't depend on the encoder."""
    del encoder_folder
    return DescriptionTransforms(Protection.of(config.protected_words))


@dataclass(frozen=True, slots=True)
class DescriptionTransforms:
    """Writes texts differently; see :class:`Operation`."""

    protection: Protection
    """What stays."""

    def __call__(self, texts: Sequence[str], rate: float, rng: np.random.Generator) -> list[str]:
        """Make each of the four changes to each text with probability ``rate``.

        They are the order of parts between ``;`` or ``|``, the spelling of units (16GB, 16 gb, 16
        gigabytes; 5", 5 inch), the case of free words, and up to half of the text's words left out
        at its end, as far as they are free.
        """
        # A row's draws are used whether or not its text needs them, so rows don't disturb others.
        hits = rng.random((len(texts), 4)) < rate
        choices = rng.random((len(texts), 3))
        result = list(texts)
        for row in np.flatnonzero(hits.any(axis=1)).tolist():
            own = np.random.default_rng(int(choices[row, 0] * 2**53))
            reorders, respells, recases, shortens = hits[row].tolist()
            text = texts[row]
            if reorders:
                text = _reorder(text, own)
            if respells:
                text = spell_units(text, own.random)
            if shortens:
                text = self._shorten(text, float(choices[row, 1]))
            if recases:
                text = self._change_case(text, float(choices[row, 2]))
            result[row] = text
        return result

    def _shorten(self, text: str, chance: float) -> str:
        words = list(_WORD.finditer(text))
        fixed = self.protection.fixed(text)
        num_free = sum(1 for _ in takewhile(lambda stays: not stays, reversed(fixed)))
        most = min(num_free, len(words) // 2)
        left_out = int(chance * (most + 1))
        return text[: words[-left_out - 1].end()] if left_out else text

    def _change_case(self, text: str, chance: float) -> str:
        change = (str.lower, str.upper, str.capitalize)[int(chance * 3)]
        fixed = iter(self.protection.fixed(text))

        def recase(word: re.Match[str]) -> str:
            changed = change(word[0])
            # A few letters have no pair: the capital of the sharp s is two letters.
            same = changed.lower() == word[0].lower() and not self.protection.covers(changed)
            return word[0] if next(fixed) or not same else changed

        return _WORD.sub(recase, text)


def _reorder(text: str, rng: np.random.Generator) -> str:
    if "&" in text or "<" in text:
        return text  # A semicolon may end &amp; and stand inside a tag.
    parts = _PART_END.split(text)
    contents = parts[::2]
    parts[::2] = [contents[place] for place in rng.permutation(len(contents))]
    return "".join(parts)
