"""An upper bound of the memory that a trial takes, from the shapes of its encoder alone."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from spaces.trial_config import TrialConfig
from trainables.trial_setup import GPU_EVALUATION_TOKENS

PROCESS_BYTES = 0.9e9
"""A process with torch, transformers, DeepSpeed and Ray loaded: 0.38 GB measured, and room for what
the allocator doesn't give back between trials."""

GPU_PROCESS_BYTES = 1.2e9
"""CUDA's context and the workspaces of its libraries, which torch doesn't count."""


@dataclass(frozen=True, kw_only=True, slots=True)
class EncoderShape:
    """The sizes that memory depends on."""

    layers: int
    """Transformer layers."""
    hidden: int
    """Numbers of a token's state."""
    intermediate: int
    """Units of a layer's feed-forward part."""
    heads: int
    """Attention heads of a layer."""
    embedding_rows: int
    """Words, positions and segments."""

    @classmethod
    def read(cls, folder: Path) -> Self:
        """Read the shape of the encoder in a checked folder; BERT's sizes where it is silent."""
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        return cls(
            layers=config.get("num_hidden_layers", 12),
            hidden=config.get("hidden_size", 768),
            intermediate=config.get("intermediate_size", 3072),
            heads=config.get("num_attention_heads", 12),
            embedding_rows=config.get("vocab_size", 30_522)
            + config.get("max_position_embeddings", 512)
            + config.get("type_vocab_size", 2),
        )

    @property
    def layer_weights(self) -> int:
        """Weights of one layer: four projections, the feed-forward part, two LayerNorms."""
        inner = 4 * self.hidden * (self.hidden + 1) + 2 * self.hidden * self.intermediate
        return inner + self.intermediate + 5 * self.hidden

    @property
    def weights(self) -> int:
        """All weights of the encoder; the embeddings have a LayerNorm of their own."""
        return (self.embedding_rows + 2) * self.hidden + self.layers * self.layer_weights

    def trained_weights(self, trial: TrialConfig) -> int:
        """Return an upper bound of how many weights a trial trains."""
        head = 4 * self.hidden + 1
        layers = self.layers if trial.tuned_layers is None else trial.tuned_layers
        if trial.method == "ia3":
            # A factor for each key, value and inner unit.
            return layers * (2 * self.hidden + self.intermediate) + head
        if trial.method != "full":
            # Two matrices beside each of two projections, and in dora a magnitude for each output.
            magnitudes = 2 * self.hidden if trial.method == "dora" else 0
            return layers * (4 * trial.lora_rank * self.hidden + magnitudes) + head
        if trial.tuned_layers is None:
            return self.weights + head
        return layers * self.layer_weights + head

    def row_bytes(self, trial: TrialConfig, num_tokens: int) -> float:
        """Return an upper bound of what one row of a training batch takes, in fp32.

        For the backward pass a layer keeps of each token about 9 vectors of the hidden size and 2
        of the feed-forward size, dropout masks, and attention weights; the bound has a third more,
        for gradients on their way. Measured for MiniLM-L6 with 44 tokens: 9.1 MB with all
        parameters, 7.6 with adapters; the bound is 14.

        Args:
            trial: How many layers it trains.
            num_tokens: Tokens that the row is padded to.
        """
        layers = self.layers if trial.tuned_layers is None else trial.tuned_layers + 1
        token = 4 * (12 * self.hidden + 3 * self.intermediate) + 16 * self.heads * num_tokens
        return float((layers + 1) * token * num_tokens)

    def training_bytes(self, trial: TrialConfig) -> float:
        """Return an upper bound of what training takes beside weights and batch.

        Of each weight that trains: gradient, AdamW's two moments, and copies that DeepSpeed
        flattens, keeps in fp32 or gathers for a checkpoint.
        """
        return float(24 * self.trained_weights(trial))

    def evaluation_bytes(self, num_tokens: int) -> float:
        """Return an upper bound of what an evaluation's batch takes."""
        token = 4 * (8 * self.hidden + 3 * self.intermediate) + 8 * self.heads * num_tokens
        # A GPU takes more at once; the bound holds for both.
        return float(max(GPU_EVALUATION_TOKENS, num_tokens) * token)


def bound_memory(shape: EncoderShape, trial: TrialConfig, *, rows: int, num_tokens: int) -> float:
    """Return more bytes than a worker's tensors take, in any precision, on a CPU or a GPU.

    Add ``PROCESS_BYTES`` or ``GPU_PROCESS_BYTES`` for the process around them.

    Args:
        shape: The encoder's.
        trial: What trains.
        rows: Rows of a batch that the worker takes at a time.
        num_tokens: Tokens of the longest row.
    """
    # Weights are there twice while they are loaded. Evaluation's room counts beside a step's: the
    # allocator doesn't always give back what another shape of batch could not use.
    fixed = 8 * shape.weights + shape.training_bytes(trial) + shape.evaluation_bytes(num_tokens)
    return fixed + rows * shape.row_bytes(trial, num_tokens)


def most_rows(trial: TrialConfig, *, num_tokens: int, workers: int = 1) -> int:
    """Return how many of the longest rows take no less than a worker's share of any batch.

    Args:
        trial: Gives the size of a batch, in rows or tokens.
        num_tokens: Tokens of the longest row, or more.
        workers: How many share a batch.
    """
    if trial.batch_tokens is None:
        return -(-trial.batch_size // workers)
    rows = -(-trial.batch_tokens // num_tokens)
    # A batch of short rows has more of them, which are shared as wholes: up to a row above average.
    return -(-rows // workers) + (workers > 1)


def largest_batch(
    shape: EncoderShape, trial: TrialConfig, *, available: float, num_tokens: int
) -> int:
    """Return how many rows surely fit into some bytes, once the model is loaded; 0: none."""
    left = available - shape.training_bytes(trial)
    return max(0, int(left // shape.row_bytes(trial, num_tokens)))
