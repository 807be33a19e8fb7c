"""Translate texts into another language and back (Sennrich et al. 2016, section 3)."""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from trainables.augmentation.config import AugmentationConfig
from trainables.augmentation.models import find_model, quiet_transformers
from trainables.augmentation.protection import Protection

NUM_BEAMS = 4
NUM_CANDIDATES = 10
"""Where the next piece is drawn, it is among so many likeliest ones."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Translator:
    """A model of one direction."""

    model: Any
    """An encoder with a decoder."""
    tokenizer: Any
    """Its tokenizer."""

    @property
    def longest(self) -> int:
        """Pieces of the longest text that it can read."""
        positions: int = getattr(self.model.config, "max_position_embeddings", 512)
        return positions

    def translate(self, texts: Sequence[str], *, sample: bool, seed: int) -> list[str | None]:
        """Translate texts; None stands for one that is too long.

        Args:
            texts: n texts.
            sample: Whether pieces are drawn; else it is a beam search.
            seed: Of the drawing.
        """
        import torch

        from trainables.data.batching import batches_in_order
        from trainables.trial_setup import evaluation_tokens

        result: list[str | None] = [None] * len(texts)
        with quiet_transformers():
            pieces = self.tokenizer(list(texts))["input_ids"] if texts else []
        lengths = np.array([len(row) for row in pieces], dtype=np.int64)
        short = np.flatnonzero((lengths > 0) & (lengths < self.longest))
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            # Beams multiply the rows.
            budget = max(1, evaluation_tokens("cpu") // NUM_BEAMS)
            for batch in batches_in_order(lengths[short], batch_tokens=budget):
                rows = short[batch].tolist()
                found = self._generate([texts[row] for row in rows], sample=sample)
                for row, text in zip(rows, found, strict=True):
                    result[row] = text
        return result

    def _generate(self, texts: list[str], *, sample: bool) -> list[str]:
        import torch

        how: dict[str, Any] = (
            {"do_sample": True, "top_k": NUM_CANDIDATES, "num_beams": 1}
            if sample
            else {"do_sample": False, "num_beams": NUM_BEAMS}
        )
        with torch.inference_mode(), quiet_transformers():
            batch = self.tokenizer(texts, return_tensors="pt", padding=True)
            most = min(2 * batch["input_ids"].shape[1] + 8, self.longest - 1)
            written = self.model.generate(
                input_ids=batch["input_ids"],
                attention_mask=batch["attention_mask"],
                max_new_tokens=most,
                **how,
            )
            decoded: list[str] = self.tokenizer.batch_decode(written, skip_special_tokens=True)
        return decoded


@lru_cache(maxsize=2)
def build_back_translation(encoder_folder: Path, config: AugmentationConfig) -> "BackTranslation":
    """Load the study's two translation models, once in a process."""
    del encoder_folder
    to, back = (
        _load(find_model("back_translation", key, name))
        for key, name in config.models("back_translation").items()
    )
    return BackTranslation(
        to=to,
        back=back,
        sample=config.translation.sample,
        protection=Protection.of(config.protected_words),
    )


def _load(folder: Path) -> Translator:
    import torch
    from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

    with quiet_transformers(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = AutoModelForSeq2SeqLM.from_pretrained(folder, dtype=torch.float32).eval()
        return Translator(model=model, tokenizer=AutoTokenizer.from_pretrained(folder))


@dataclass(frozen=True, kw_only=True, slots=True)
class BackTranslation:
    """Translates texts there and back; see :class:`Operation`."""

    to: Translator
    """Into the other language."""
    back: Translator
    """And from it."""
    sample: bool
    """Whether words are drawn, so that a text has several variants."""
    protection: Protection
    """What must be in a variant too."""

    def __call__(self, texts: Sequence[str], rate: float, rng: np.random.Generator) -> list[str]:
        """Translate each text with probability ``rate``.

        One that comes back without a protected word or tag, or empty, or that is too long for the
        models, stays as it is.
        """
        draws = rng.random(len(texts))
        seeds = rng.integers(2**63, size=2).tolist()
        rows = [row for row in np.flatnonzero(draws < rate).tolist() if texts[row].strip()]
        abroad = self.to.translate([texts[r] for r in rows], sample=self.sample, seed=seeds[0])
        there = [
            (row, text) for row, text in zip(rows, abroad, strict=True) if text and text.strip()
        ]
        home = self.back.translate([t for _, t in there], sample=self.sample, seed=seeds[1])
        result = list(texts)
        for (row, _), text in zip(there, home, strict=True):
            if text and text.strip() and self.protection.agree(texts[row], text):
                result[row] = text
        return result
