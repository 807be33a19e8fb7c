"""Let a masked-language model put other words in (Kobayashi 2018, "contextual augmentation")."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from trainables.augmentation.config import AugmentationConfig
from trainables.augmentation.models import find_model, quiet_transformers
from trainables.augmentation.protection import Protection, is_chinese
from trainables.augmentation.synonym import MIN_LETTERS, in_case_of
from trainables.augmentation.words import FUNCTION_WORDS

if TYPE_CHECKING:
    from tokenizers import Encoding, Tokenizer

NUM_CANDIDATES = 16
"""A word is drawn among so many likeliest ones, as the model weighs them."""
MOST_TOKENS = 512
"""Longest input; words after it stay as they are."""
MASKS = ("[MASK]", "<mask>")
WORD_STARTS = ("\u0120", "\u2581")
"""What a piece begins with where it begins a word, in byte-level and in sentencepiece
vocabularies; in a WordPiece vocabulary it is all that doesn't begin with ##."""


@lru_cache(maxsize=2)
def build_masked_word(encoder_folder: Path, config: AugmentationConfig) -> "MaskedWordFill":
    """Load the study's masked-language model, once in a process."""
    del encoder_folder
    from trainables.encoder import load_tokenizer

    ((key, name),) = config.models("masked_word").items()
    folder = find_model("masked_word", key, name)
    protection = Protection.of(config.protected_words)
    description = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    # The positions of some models begin at 2.
    positions = description.get("max_position_embeddings", MOST_TOKENS) - 2
    tokenizer = load_tokenizer(folder, max_tokens=min(MOST_TOKENS, positions))
    words = fillable_words(tokenizer.get_vocab(), protection)
    if len(words) < NUM_CANDIDATES:
        raise ValueError(
            f"{key}: the vocabulary in {folder} has {len(words)} words that may be filled in, "
            f"fewer than {NUM_CANDIDATES}; name a model of whole words"
        )
    numbers = np.array(sorted(words))
    return MaskedWordFill(
        model=_load(folder),
        tokenizer=tokenizer,
        words=words,
        numbers=numbers,
        chinese=np.array([is_chinese(words[number]) for number in numbers.tolist()]),
        protection=protection,
    )


def _load(folder: Path) -> Any:  # noqa: ANN401 - transformers ships no types
    import torch
    from transformers import AutoModelForMaskedLM

    with quiet_transformers():
        return AutoModelForMaskedLM.from_pretrained(folder, dtype=torch.float32).eval()


def fillable_words(vocabulary: Mapping[str, int], protection: Protection) -> dict[int, str]:
    """Find the pieces of a vocabulary that are words which may come and go.

    Returns:
        Number of a piece to its word, in lower case.
    """
    start = next(
        (s for s in WORD_STARTS if any(piece[0] == s for piece in vocabulary if piece)), ""
    )
    words = {}
    for piece, number in vocabulary.items():
        word = piece.removeprefix(start)
        is_word = len(word) >= MIN_LETTERS and word.isalpha() and word.islower()
        if is_chinese(word) and len(word) == 1:
            is_word = True  # Beside a word of several letters, most of these are words as well.
        elif not piece.startswith(start) or word in FUNCTION_WORDS:
            is_word = False
        if is_word and not protection.covers(word):
            words[number] = word
    return words


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class MaskedWordFill:
    """Masks words and fills in others; see :class:`Operation`."""

    model: Any
    """The masked-language model."""
    tokenizer: "Tokenizer"
    """Its tokenizer."""
    words: Mapping[int, str]
    """Pieces that may go, and come in place of others."""
    numbers: np.ndarray
    """int64 (words,): their numbers, rising."""
    chinese: np.ndarray
    """bool (words,): which of them are Chinese characters."""
    protection: Protection
    """What stays."""

    def __call__(self, texts: Sequence[str], rate: float, rng: np.random.Generator) -> list[str]:
        """Replace each word that is one piece of the vocabulary with probability ``rate``."""
        encodings = self.tokenizer.encode_batch(list(texts))
        places = [self._places(*pair) for pair in zip(texts, encodings, strict=True)]
        chosen: list[tuple[int, int, float]] = []
        for row, free in enumerate(places):
            draws = rng.random((len(free), 2))
            chosen += [
                (row, place, float(draw[1]))
                for place, draw in zip(free, draws, strict=True)
                if draw[0] < rate
            ]
        result = list(texts)
        fills = self._fill(encodings, chosen)
        # From the last word to the first, so that earlier positions in a text stay valid.
        for (row, place, _), word in zip(reversed(chosen), reversed(fills), strict=True):
            start, end = _span(texts[row], encodings[row].offsets[place])
            word = in_case_of(texts[row][start:end], word)
            result[row] = result[row][:start] + word + result[row][end:]
        return result

    def _places(self, text: str, encoding: "Encoding") -> list[int]:
        """List the pieces of a text that are whole words and may change."""
        numbers = encoding.word_ids
        found = []
        for place, piece in enumerate(encoding.ids):
            number = numbers[place]
            around = [numbers[p] for p in (place - 1, place + 1) if 0 <= p < len(numbers)]
            if piece in self.words and number is not None and number not in around:
                start, end = _span(text, encoding.offsets[place])
                if self._is_free(text, start, end):
                    found.append(place)
        return found

    def _is_free(self, text: str, start: int, end: int) -> bool:
        if is_chinese(text[start:end]):
            return self.protection.is_free_character(text, start)
        # A vocabulary that keeps case and accents may hold a part of what is one word here.
        inside = (start > 0 and text[start - 1].isalnum()) or text[end : end + 1].isalnum()
        return start < end and not inside and self.protection.is_free(text, start, end)

    def _fill(
        self, encodings: Sequence["Encoding"], chosen: Sequence[tuple[int, int, float]]
    ) -> list[str]:
        """Choose a word for each (row, place, draw)."""
        from trainables.data.batching import batches_in_order
        from trainables.trial_setup import evaluation_tokens

        rows = sorted({row for row, _, _ in chosen})
        lengths = np.array([len(encodings[row].ids) for row in rows])
        found: dict[tuple[int, int], str] = {}
        by_row: dict[int, list[tuple[int, int, float]]] = {}
        for each in chosen:
            by_row.setdefault(each[0], []).append(each)
        for batch in batches_in_order(lengths, batch_tokens=evaluation_tokens("cpu")):
            masked = [each for index in batch.tolist() for each in by_row[rows[index]]]
            words = self._fill_batch([encodings[rows[i]] for i in batch.tolist()], masked)
            keys = [(row, place) for row, place, _ in masked]
            found.update(zip(keys, words, strict=True))
        return [found[row, place] for row, place, _ in chosen]

    def _fill_batch(
        self, encodings: Sequence["Encoding"], masked: Sequence[tuple[int, int, float]]
    ) -> list[str]:
        """Choose words for the masked places, which are in the order of the batch's rows."""
        import torch

        mask = next(n for n in map(self.tokenizer.token_to_id, MASKS) if n is not None)
        longest = max(len(encoding.ids) for encoding in encodings)
        ids = np.zeros((len(encodings), longest), dtype=np.int64)
        attention = np.zeros_like(ids)
        for line, encoding in enumerate(encodings):
            ids[line, : len(encoding.ids)] = encoding.ids
            attention[line, : len(encoding.ids)] = 1
        numbers = {row: line for line, row in enumerate(dict.fromkeys(row for row, _, _ in masked))}
        lines = np.array([numbers[row] for row, _, _ in masked])
        places = np.array([place for _, place, _ in masked])
        draws = np.array([draw for _, _, draw in masked])
        originals = ids[lines, places]
        ids[lines, places] = mask
        with torch.inference_mode(), quiet_transformers():
            logits = self.model(
                input_ids=torch.from_numpy(ids), attention_mask=torch.from_numpy(attention)
            ).logits[torch.from_numpy(lines), torch.from_numpy(places)]
        return self._draw(logits.numpy(), originals, draws)

    def _draw(self, logits: np.ndarray, originals: np.ndarray, draws: np.ndarray) -> list[str]:
        scores = logits[:, self.numbers].astype(np.float64)
        of_chinese = np.array([is_chinese(self.words[number]) for number in originals.tolist()])
        # A character stands for a character, and a word for another word.
        scores[self.chinese != of_chinese[:, None]] = -np.inf
        scores[self.numbers == originals[:, None]] = -np.inf
        count = min(NUM_CANDIDATES, scores.shape[1])
        best = np.sort(np.argpartition(-scores, count - 1, axis=1)[:, :count], axis=1)
        order = np.argsort(-np.take_along_axis(scores, best, axis=1), axis=1, kind="stable")
        best = np.take_along_axis(best, order, axis=1)
        kept = np.take_along_axis(scores, best, axis=1)
        weights = np.exp(kept - kept[:, :1])
        bounds = np.cumsum(weights / weights.sum(axis=1, keepdims=True), axis=1)
        picks = np.minimum((bounds <= draws[:, None]).sum(axis=1), best.shape[1] - 1)
        numbers = self.numbers[best[np.arange(len(best)), picks]]
        return [self.words[number] for number in numbers.tolist()]


def _span(text: str, offsets: tuple[int, int]) -> tuple[int, int]:
    start, end = offsets
    # Some vocabularies count the space before a word to it.
    while start < end and text[start].isspace():
        start += 1
    return start, end
