"""Distillation: a smaller model learns to answer as the model that it was made from."""

import copy
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import nn

from trainables.compression.config import CompressionConfig
from trainables.data.batching import like_length_batches
from trainables.losses import binomial_loss

if TYPE_CHECKING:
    from trainables.data.prepared import Rows
    from trainables.model import ClickModel

BATCH_SIZE = 32

SOFT_SHARE = 0.5
"""Weight of the teacher's probability against the observed clicks."""

FEATURE_WEIGHT = 1.0
"""Weight of the features' distance against the loss of the clicks."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Teaching:
    """What the uncompressed model says about some training rows; shared by all shapes."""

    indices: np.ndarray
    """(m,) the rows' numbers."""
    probabilities: np.ndarray
    """float32 (m,) click probabilities."""
    features: np.ndarray
    """float32 (m, features) what the head sees: the pooled token vectors."""

    def some(self, count: int, seed: Sequence[int]) -> "Teaching":
        """Return what is said about so many of the rows at most, drawn by the seed."""
        drawn = np.random.default_rng(list(seed)).permutation(len(self.indices))[:count]
        places = np.sort(drawn)
        return Teaching(
            indices=self.indices[places],
            probabilities=self.probabilities[places],
            features=self.features[places],
        )


def ask_teacher(model: "ClickModel", rows: "Rows", indices: np.ndarray) -> Teaching:
    """Run the uncompressed model over rows, once."""
    order = indices[np.argsort(rows.tokens.lengths[indices], kind="stable")]
    probabilities, features = [], []
    for logits, pooled in _run_all(model, rows, order):
        probabilities.append(torch.sigmoid(logits.float()).numpy())
        features.append(pooled.numpy())
    return Teaching(
        indices=order,
        probabilities=np.concatenate(probabilities),
        features=np.concatenate(features),
    )


def distance_to(model: "ClickModel", rows: "Rows", teaching: Teaching) -> float:
    """Return how far a model's features are from the teacher's, relative to the teacher's size."""
    squares, place = 0.0, 0
    for _, pooled in _run_all(model, rows, teaching.indices):
        wanted = torch.from_numpy(teaching.features[place : place + len(pooled)])
        squares += float((pooled - wanted).square().sum())
        place += len(pooled)
    return squares / max(float(np.square(teaching.features).sum()), 1e-12)


def _run_all(
    model: "ClickModel", rows: "Rows", order: np.ndarray
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    model.eval()
    with torch.inference_mode():
        for start in range(0, len(order), 256):
            yield _run(model, rows, order[start : start + 256])


def recover(
    model: "ClickModel",
    rows: "Rows",
    teaching: Teaching,
    config: CompressionConfig,
    evaluate: Callable[["ClickModel"], float],
    *,
    before: float,
) -> float:
    """Train a smaller model to give the teacher's probabilities and features, in place.

    Clicks are mixed with the teacher's probabilities (Hinton et al. 2015,
    https://arxiv.org/abs/1503.02531, at temperature 1), and the pooled token vectors are drawn to
    the teacher's, which say far more about a row than one probability. Dropout stays off: the
    teacher regularizes. Word vectors stay as they are, since pruning doesn't touch them.

    Args:
        model: The smaller model; ends with the weights of its best epoch, or those it came with.
        rows: Training rows.
        teaching: The uncompressed model's answers for some of them.
        config: Number of epochs, learning rate and seed.
        evaluate: Gives a model's validation metric; higher is better.
        before: That metric of the model as it comes.

    Returns:
        The metric of the weights that the model ends with.
    """
    best, best_weights = before, copy.deepcopy(model.state_dict())
    model.requires_grad_(requires_grad=True)
    model.encoder.embeddings.requires_grad_(requires_grad=False)
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    steps = config.recovery_epochs * -(-len(teaching.indices) // BATCH_SIZE)
    optimizer = torch.optim.Adam(trained, lr=config.recovery_learning_rate, fused=True)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 - step / max(steps, 1))
    for epoch in range(config.recovery_epochs):
        rng = np.random.default_rng([config.seed, 1, epoch])
        lengths = rows.tokens.lengths[teaching.indices]
        for positions in like_length_batches(lengths, BATCH_SIZE, rng):
            loss = _loss(model, rows, teaching, positions)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            nn.utils.clip_grad_norm_(trained, 1.0)
            optimizer.step()
            schedule.step()
        if (value := evaluate(model)) > best:
            best, best_weights = value, copy.deepcopy(model.state_dict())
    model.requires_grad_(requires_grad=True)
    model.load_state_dict(best_weights)
    model.eval()
    return best


def _loss(
    model: "ClickModel", rows: "Rows", teaching: Teaching, positions: np.ndarray
) -> torch.Tensor:
    indices = teaching.indices[positions]
    impressions = torch.from_numpy(np.array(rows.impressions[indices]))
    clicks = torch.from_numpy(np.array(rows.clicks[indices]))
    soft = torch.from_numpy(teaching.probabilities[positions]) * impressions
    logits, pooled = _run(model, rows, indices)
    # The likelihood is linear in the clicks, so mixing targets is mixing losses.
    mixed = SOFT_SHARE * soft + (1 - SOFT_SHARE) * clicks
    task = binomial_loss(logits, clicks=mixed, impressions=impressions) / impressions.sum()
    wanted = torch.from_numpy(teaching.features[positions])
    # Relative to the features' own size, which differs from encoder to encoder.
    distance = (pooled - wanted).square().mean() / wanted.square().mean().clamp(min=1e-12)
    return task + FEATURE_WEIGHT * distance


def _run(
    model: "ClickModel", rows: "Rows", indices: np.ndarray
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the logits, (b,), and the head's inputs, (b, features)."""
    batch = {name: torch.from_numpy(array) for name, array in rows.inputs.batch(indices).items()}
    seen: list[torch.Tensor] = []
    handle = model.head.register_forward_pre_hook(lambda _module, inputs: seen.append(inputs[0]))
    try:
        logits: torch.Tensor = model(**batch)
    finally:
        handle.remove()
    return logits, seen[0]
