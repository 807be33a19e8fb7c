"""Rows of a batch are mixed in pairs, the same after a resume and by one share on all workers."""

from pathlib import Path

import numpy as np
import pytest
import torch

from spaces.trial_config import TrialConfig
from trainables.losses import binomial_loss
from trainables.mixup import Mixing, Mixup
from trainables.model import build_model

MIXUP = Mixup(alpha=0.4, seed=1, epoch=2)


def test_without_alpha_there_is_no_mixing() -> None:
    assert Mixup.of(TrialConfig(), 1) is None
    assert Mixup.of(TrialConfig(mixup_alpha=0.4, seed=1), 2) == MIXUP


def test_partners_are_a_permutation_and_follow_from_the_place() -> None:
    first, again, other = (MIXUP.draw(16, step=s, rank=0, part=1) for s in (3, 3, 4))

    assert sorted(first.partners.tolist()) == list(range(16))
    assert first.partners.tolist() == again.partners.tolist()
    assert first.own_share == again.own_share
    assert first.own_share != other.own_share
    assert first.partners.tolist() != other.partners.tolist()


def test_all_workers_and_parts_of_a_step_have_one_share() -> None:
    draws = [MIXUP.draw(8, step=3, rank=rank, part=part) for rank in (0, 1) for part in (1, 2)]

    assert len({draw.own_share for draw in draws}) == 1
    assert len({tuple(draw.partners.tolist()) for draw in draws}) > 1


@pytest.mark.parametrize("alpha", [0.2, 1.0, 5.0])
def test_shares_are_drawn_from_the_beta_distribution(alpha: float) -> None:
    mixup = Mixup(alpha=alpha, seed=0, epoch=1)

    shares = [mixup.draw(1, step=step, rank=0, part=1).own_share for step in range(2_000)]

    assert np.mean(shares) == pytest.approx(0.5, abs=0.04)
    assert np.var(shares) == pytest.approx(1 / (4 * (2 * alpha + 1)), rel=0.1)


def test_the_loss_of_mixed_counts_is_the_mixed_loss() -> None:
    rng = np.random.default_rng(0)
    impressions = rng.integers(1, 9, 6).astype(np.float32)
    clicks = np.minimum(rng.integers(0, 9, 6), impressions).astype(np.float32)
    mixing = Mixing(partners=np.array([3, 1, 0, 5, 2, 4]), own_share=0.7)
    logits = torch.from_numpy(rng.normal(size=6).astype(np.float32))

    def loss(clicks: np.ndarray, impressions: np.ndarray) -> float:
        counts = {"clicks": clicks, "impressions": impressions}
        return float(binomial_loss(logits, **{k: torch.from_numpy(v) for k, v in counts.items()}))

    partners = mixing.partners
    expected = 0.7 * loss(clicks, impressions) + 0.3 * loss(clicks[partners], impressions[partners])
    mixed = loss(mixing.counts(clicks), mixing.counts(impressions))
    assert mixed == pytest.approx(expected, rel=1e-5)
    assert mixing.counts(impressions).sum() == pytest.approx(impressions.sum())
    assert mixing.counts(clicks).dtype == np.float32


def test_the_head_sees_the_mixture_of_two_rows(tiny_encoder: Path) -> None:
    model = build_model(tiny_encoder, TrialConfig(), num_segments=1).eval()
    ids = torch.tensor([[2, 40, 41, 3], [2, 60, 61, 3]])
    batch = {
        "input_ids": ids,
        "attention_mask": torch.ones_like(ids),
        "token_type_ids": torch.zeros_like(ids),
    }

    with torch.no_grad():
        alone = model(**batch)
        mixed = model(**batch, partners=torch.tensor([1, 0]), own_share=0.75)

    # The head is linear.
    torch.testing.assert_close(mixed, 0.75 * alone + 0.25 * alone.flip(0))
