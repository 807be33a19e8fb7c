"""Trim an encoder's tables: word pieces that texts do without, and positions beyond the longest."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

if TYPE_CHECKING:
    from tokenizers import Tokenizer

    from trainables.model import ClickModel

CONTINUES = "##"
"""What begins a piece that continues a word."""
UNUSED = "[unused"
"""What begins BERT's places for pieces that never came."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TrimmedVocabulary:
    """A smaller vocabulary."""

    tokenizer: "Tokenizer"
    """Gives the new ids."""
    kept: np.ndarray
    """int64 (pieces,): the old id of each new one, rising."""


def trim_vocabulary(
    tokenizer: "Tokenizer", used: np.ndarray, *, num_frequent: int
) -> TrimmedVocabulary | None:
    """Leave out pieces that aren't used.

    WordPiece takes the longest piece that is a word's beginning, then goes on with the rest. So a
    word whose pieces are all kept is read as before; any other one is read in smaller pieces, at
    worst in single characters, all of which are kept.

    Args:
        tokenizer: As it was in training.
        used: Ids that occur in training texts.
        num_frequent: How many of the vocabulary's first pieces are kept in any case: BERT's are in
            the order of their frequency.

    Returns:
        None for a tokenizer of another kind, or where nothing can be left out.
    """
    description: dict[str, Any] = json.loads(tokenizer.to_str())
    model = description["model"]
    if model["type"] != "WordPiece" or not _can_renumber(description):
        return None
    vocabulary: dict[str, int] = model["vocab"]
    kept = {int(number) for number in used}
    kept |= {token["id"] for token in description["added_tokens"]}
    kept.add(vocabulary[model["unk_token"]])
    plain = [
        (number, piece)
        for piece, number in vocabulary.items()
        if not piece.startswith(UNUSED) or number in kept
    ]
    kept |= {number for number, piece in plain if len(piece.removeprefix(CONTINUES)) == 1}
    kept |= {number for number, _ in sorted(plain)[:num_frequent]}
    order = sorted(kept)
    if len(order) == len(vocabulary):
        return None
    new_ids = {old: new for new, old in enumerate(order)}
    model["vocab"] = {piece: new_ids[old] for piece, old in vocabulary.items() if old in new_ids}
    for token in description["added_tokens"]:
        token["id"] = new_ids[token["id"]]
    for token in _special_tokens(description):
        token["ids"] = [new_ids[old] for old in token["ids"]]
    if description["padding"] is not None:
        description["padding"]["pad_id"] = new_ids[description["padding"]["pad_id"]]
    return TrimmedVocabulary(
        tokenizer=type(tokenizer).from_str(json.dumps(description)),
        kept=np.array(order, dtype=np.int64),
    )


def _can_renumber(description: dict[str, Any]) -> bool:
    post_processor = description["post_processor"] or {}
    return bool(post_processor.get("type") == "TemplateProcessing")


def _special_tokens(description: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield from description["post_processor"]["special_tokens"].values()


def keep_embeddings(model: "ClickModel", kept: np.ndarray) -> None:
    """Leave out of a model the embeddings of pieces that aren't kept, in place.

    Args:
        model: Its encoder's table of word embeddings is replaced.
        kept: (pieces,) the rows that stay, in the order of their new ids.
    """
    embeddings = model.encoder.embeddings
    embeddings.word_embeddings = _take_rows(embeddings.word_embeddings, torch.from_numpy(kept))
    model.encoder.config.vocab_size = len(kept)


def keep_positions(model: "ClickModel", max_tokens: int) -> None:
    """Leave out of a model the positions that no text reaches, in place; nothing else changes.

    Args:
        model: Its encoder's table of position embeddings is replaced.
        max_tokens: Longest input, special tokens included.
    """
    embeddings = model.encoder.embeddings
    table = embeddings.position_embeddings
    if table.num_embeddings <= max_tokens:
        return
    embeddings.position_embeddings = _take_rows(table, torch.arange(max_tokens))
    model.encoder.config.max_position_embeddings = max_tokens


def _take_rows(table: nn.Embedding, rows: torch.Tensor) -> nn.Embedding:
    smaller = nn.Embedding(len(rows), table.embedding_dim)
    with torch.no_grad():
        smaller.weight.copy_(table.weight[rows])
    return smaller
