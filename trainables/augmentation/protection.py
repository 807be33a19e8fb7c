"""What of a text an augmentation must leave as it is."""

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import Self

from trainables.augmentation.units import spell_shortly
from trainables.augmentation.words import (
    OPENING_NEGATIONS,
    PROTECTED_CHARACTERS,
    bare_word,
    is_protected,
)

CHINESE = "\u3400-\u9fff\U00020000-\U0003ffff"
"""Characters that are words of their own, as a range of a regular expression."""

_TAG = re.compile(r"<[^<>]*>|&#?\w+;")
_TOKEN = re.compile(r"\S+")
_CHINESE = re.compile(f"[{CHINESE}]")
_NOT_CHINESE = re.compile(rf"[^\W{CHINESE}]+")

_is_protected = lru_cache(maxsize=100_000)(is_protected)


@dataclass(frozen=True, slots=True)
class Protection:
    """Words that an augmentation doesn't touch: those of ``words.py`` and a study's own."""

    names: frozenset[str] = frozenset()
    """The study's own, in lower case."""

    @classmethod
    def of(cls, words: Iterable[str]) -> Self:
        """Protect more words; of an entry of several words each one."""
        parts = (bare_word(part) for word in words for part in word.split())
        return cls(frozenset(part for part in parts if part))

    def covers(self, word: str) -> bool:
        """Tell whether a word must stay, with punctuation around it or not."""
        if _is_protected(word, self.names):
            return True
        if not _CHINESE.search(word):
            return False
        others = _NOT_CHINESE.findall(word)
        return bool(self._inside(word)) or any(_is_protected(p, self.names) for p in others)

    def _inside(self, word: str) -> list[str]:
        """Find the names in a word of Chinese, where no space sets them off."""
        if not self.names or not _CHINESE.search(word):
            return []
        return [name for name in self.names for _ in range(word.lower().count(name))]

    def fixed(self, text: str) -> list[bool]:
        """Tell for each word of a text whether it must stay in its place.

        Those are the protected ones, what comes after a negation, and the parts of HTML tags.
        """
        words = text.split()
        fixed = [self.covers(word) for word in words]
        for place, word in enumerate(words[:-1]):
            if fixed[place] and bare_word(word) in OPENING_NEGATIONS:
                fixed[place + 1] = True
        if tags := _tags(text):
            for place, token in enumerate(_TOKEN.finditer(text)):
                fixed[place] |= any(s < token.end() and token.start() < e for s, e in tags)
        return fixed

    def is_free(self, text: str, start: int, end: int) -> bool:
        """Tell whether a part of a text may change: it is in no protected word and in no tag."""
        if any(first < end and start < last for first, last in _tags(text)):
            return False
        while start > 0 and not text[start - 1].isspace():
            start -= 1
        while end < len(text) and not text[end].isspace():
            end += 1
        return not self.covers(text[start:end])

    def is_free_character(self, text: str, place: int) -> bool:
        """Tell whether a Chinese character may change: it is in no name and no tag."""
        if text[place] in PROTECTED_CHARACTERS:
            return False
        spans = _tags(text)
        for name in self.names:
            spans += [(m.start(), m.end()) for m in re.finditer(re.escape(name), text.lower())]
        return not any(start <= place < end for start, end in spans)

    def agree(self, original: str, variant: str) -> bool:
        """Tell whether two texts have the same protected words and tags."""
        tags = [[text[start:end] for start, end in _tags(text)] for text in (original, variant)]
        return tags[0] == tags[1] and self.count(original) == self.count(variant)

    def count(self, text: str) -> Counter[str]:
        """Count the protected words of a text, whatever their case and the spelling of units."""
        found: Counter[str] = Counter()
        for word in spell_shortly(text).split():
            if _CHINESE.search(word):
                found.update(self._inside(word))
                found.update(c for c in word if c in PROTECTED_CHARACTERS)
                found.update(bare_word(p) for p in _NOT_CHINESE.findall(word) if self.covers(p))
            elif self.covers(word):
                found[bare_word(word)] += 1
        return found


def is_chinese(text: str) -> bool:
    """Tell whether there is a Chinese character in a text."""
    return _CHINESE.search(text) is not None


def _tags(text: str) -> list[tuple[int, int]]:
    if "<" not in text and "&" not in text:
        return []
    return [tag.span() for tag in _TAG.finditer(text)]
