"""Replace words by near neighbours in the encoder's own word embeddings."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

import numpy as np

from trainables.augmentation.config import DEFAULTS, AugmentationConfig
from trainables.augmentation.protection import Protection
from trainables.augmentation.words import FUNCTION_WORDS, is_protected

MIN_SIMILARITY = 0.55
"""Least cosine of a neighbour: below it, words share a topic rather than a meaning."""
MAX_NEIGHBOURS = 4
"""Most neighbours of a word."""
MIN_LETTERS = 3
"""Shorter pieces are abbreviations and endings rather than words."""
BLOCK_ROWS = 2_048
"""Words whose similarities are computed together."""
EMBEDDING_NAMES = (
    "embeddings.word_embeddings.weight",
    "bert.embeddings.word_embeddings.weight",
)

_WORD = re.compile(r"[^\W\d_]+(?:['\u2019-][^\W\d_]+)*")


@dataclass(frozen=True, slots=True)
class SynonymReplacement:
    """Replaces words that have neighbours; see :class:`Operation`."""

    neighbours: Mapping[str, tuple[str, ...]]
    """For each word, others that may stand for it, nearest first."""
    protection: Protection = field(default_factory=Protection)
    """What stays."""

    def __call__(self, texts: Sequence[str], rate: float, rng: np.random.Generator) -> list[str]:
        """Replace each word that has neighbours with probability ``rate``."""
        neighbours = self.neighbours
        found = [words_with_neighbours(text, neighbours, self.protection) for text in texts]
        draws = rng.random((sum(map(len, found)), 2))
        ends = np.cumsum([len(row) for row in found])
        hits = np.flatnonzero(draws[:, 0] < rate)
        result = list(texts)
        rows = np.searchsorted(ends, hits, side="right").tolist()
        # From the last word to the first, so that earlier positions in a text stay valid.
        for hit, row in zip(hits[::-1].tolist(), rows[::-1], strict=True):
            match = found[row][hit - int(ends[row])]
            options = neighbours[match[0].lower()]
            word = in_case_of(match[0], options[int(draws[hit, 1] * len(options))])
            result[row] = result[row][: match.start()] + word + result[row][match.end() :]
        return result


def words_with_neighbours(
    text: str, neighbours: Mapping[str, tuple[str, ...]], protection: Protection
) -> list[re.Match[str]]:
    """Find the words of a text that have neighbours and may be touched."""
    return [
        match
        for match in _WORD.finditer(text)
        if match[0].lower() in neighbours and protection.is_free(text, *match.span())
    ]


def in_case_of(original: str, word: str) -> str:
    """Write a word of lower case as the one that it stands for is written."""
    if original.isupper() and len(original) > 1:
        return word.upper()
    return word.capitalize() if original[0].isupper() else word


@lru_cache(maxsize=4)
def build_synonym(
    encoder_folder: Path, config: AugmentationConfig = DEFAULTS
) -> SynonymReplacement:
    """Build the table of neighbours from an encoder's files, once in a process."""
    protection = Protection.of(config.protected_words)
    neighbours = {}
    for word, others in _all_neighbours(encoder_folder).items():
        kept = tuple(other for other in others if not protection.covers(other))
        if kept and not protection.covers(word):
            neighbours[word] = kept
    return SynonymReplacement(neighbours, protection)


@lru_cache(maxsize=4)
def _all_neighbours(encoder_folder: Path) -> dict[str, tuple[str, ...]]:
    return find_neighbours(*_whole_words(encoder_folder))


def _whole_words(encoder_folder: Path) -> tuple[list[str], np.ndarray]:
    """Return the vocabulary's replaceable words and their embeddings, float32 (n, hidden)."""
    description = json.loads((encoder_folder / "tokenizer.json").read_text(encoding="utf-8"))
    numbers: dict[str, int] = {}
    for piece, number in description["model"]["vocab"].items():
        # A piece after ## continues a word; a cased vocabulary's Name is rarely a plain word.
        if len(piece) >= MIN_LETTERS and piece.isalpha() and piece.islower():
            numbers[piece] = number
    words = [word for word in numbers if word not in FUNCTION_WORDS and not is_protected(word)]
    return words, _embeddings(encoder_folder)[[numbers[word] for word in words]]


def _embeddings(encoder_folder: Path) -> np.ndarray:
    from safetensors import safe_open

    # Through torch, because numpy can't hold the bfloat16 of some encoders.
    with safe_open(encoder_folder / "model.safetensors", framework="pt") as file:
        names = [name for name in EMBEDDING_NAMES if name in file.keys()]  # noqa: SIM118
        if not names:
            raise ValueError(
                f"{encoder_folder / 'model.safetensors'} has none of {', '.join(EMBEDDING_NAMES)}; "
                "augmentation: synonym needs a BERT's word embeddings"
            )
        weights: np.ndarray = file.get_tensor(names[0]).float().numpy()
    return weights


def find_neighbours(words: Sequence[str], embeddings: np.ndarray) -> dict[str, tuple[str, ...]]:
    """Find each word's nearest others by cosine.

    Args:
        words: n distinct words.
        embeddings: float32 (n, hidden).

    Returns:
        For each word that has any, up to :data:`MAX_NEIGHBOURS` others of at least
        :data:`MIN_SIMILARITY`, nearest first.
    """
    lengths = np.linalg.norm(embeddings, axis=1, keepdims=True)
    unit = (embeddings / np.maximum(lengths, 1e-12)).astype(np.float32)
    pairs: list[tuple[float, int, int]] = []
    # The matrix is symmetric: each block is compared with itself and what comes after it.
    for start in range(0, len(words), BLOCK_ROWS):
        similar = unit[start : start + BLOCK_ROWS] @ unit[start:].T
        firsts, seconds = np.divmod(np.flatnonzero(similar > MIN_SIMILARITY), similar.shape[1])
        upper = seconds > firsts
        values = similar[firsts[upper], seconds[upper]].tolist()
        left, right = (firsts[upper] + start).tolist(), (seconds[upper] + start).tolist()
        pairs += [*zip(values, left, right, strict=True), *zip(values, right, left, strict=True)]
    # Rounded, so that another number of threads can't reorder words that are equally near.
    pairs.sort(key=lambda pair: (pair[1], -round(pair[0], 4), pair[2]))
    nearest: dict[str, tuple[str, ...]] = {}
    for _, word, other in pairs:
        found = nearest.get(words[word], ())
        if len(found) < MAX_NEIGHBOURS:
            nearest[words[word]] = (*found, words[other])
    return nearest
