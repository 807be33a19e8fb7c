"""How near texts are to each other in an encoder's own space."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from transformers import BertModel

    from trainables.data.token_rows import TokenRows


def similarities(
    originals: Sequence[str], variants: Sequence[str], encoder_folder: Path, *, max_tokens: int
) -> np.ndarray:
    """Compare texts pair by pair, on the CPU.

    Args:
        originals: n texts.
        variants: What became of each.
        encoder_folder: The encoder's files.
        max_tokens: Longest input; what comes later isn't seen.

    Returns:
        float32 (n,): cosine of the means of the encoder's output vectors, in [-1, 1].
    """
    from trainables.data.token_rows import concatenate, tokenize
    from trainables.encoder import load_bert, load_tokenizer

    if not originals:
        return np.empty(0, dtype=np.float32)
    tokenizer = load_tokenizer(encoder_folder, max_tokens=max_tokens)
    encoder = load_bert(encoder_folder, dropout=0.0, share_weights=True).eval()
    rows = concatenate([tokenize([list(texts)], tokenizer) for texts in (originals, variants)])
    means = _means(rows, encoder)
    means /= np.maximum(np.linalg.norm(means, axis=1, keepdims=True), 1e-12)
    cosines: np.ndarray = (means[: len(originals)] * means[len(originals) :]).sum(axis=1)
    return cosines


def _means(rows: "TokenRows", encoder: "BertModel") -> np.ndarray:
    import torch

    from trainables.data.batching import batches_in_order
    from trainables.trial_setup import evaluation_tokens

    means = np.empty((len(rows), encoder.config.hidden_size), dtype=np.float32)
    for indices in batches_in_order(rows.lengths, batch_tokens=evaluation_tokens("cpu")):
        batch = {name: torch.from_numpy(array) for name, array in rows.batch(indices).items()}
        mask = batch["attention_mask"][..., None]
        with torch.inference_mode():
            hidden = encoder(**batch).last_hidden_state
        means[indices] = ((hidden * mask).sum(1) / mask.sum(1)).numpy()
    return means
