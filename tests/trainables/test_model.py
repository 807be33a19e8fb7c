"""The pooled model: what its features and its starting point are."""

import math
from pathlib import Path

import pytest
import torch

from spaces.trial_config import TrialConfig
from trainables.model import build_text_model


def _batch(num_rows: int, first: int, second: int) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    length = first + second
    ids = torch.randint(5, 40, (num_rows, length), generator=generator)
    types = (torch.arange(length) >= first).long().expand(num_rows, length)
    return {
        "input_ids": ids,
        "attention_mask": torch.ones_like(ids),
        "token_type_ids": types.contiguous(),
    }


@pytest.mark.parametrize("num_segments", [1, 2])
def test_padding_does_not_change_a_rows_logit(tiny_encoder: Path, num_segments: int) -> None:
    model = build_text_model(tiny_encoder, TrialConfig(), num_segments=num_segments).eval()
    batch = _batch(3, first=4, second=3 if num_segments == 2 else 0)
    padded = {name: torch.nn.functional.pad(value, (0, 5)) for name, value in batch.items()}

    with torch.no_grad():
        torch.testing.assert_close(model(**batch), model(**padded), atol=1e-6, rtol=1e-5)


def test_head_starts_at_the_base_rate(tiny_encoder: Path) -> None:
    model = build_text_model(tiny_encoder, TrialConfig(), num_segments=1)
    model.set_base_rate(0.05)

    assert model.head.bias.item() == pytest.approx(math.log(0.05 / 0.95))


def test_the_same_seed_builds_the_same_head(tiny_encoder: Path) -> None:
    first, again, other = (
        build_text_model(tiny_encoder, TrialConfig(seed=seed), num_segments=2).head.weight
        for seed in (1, 1, 2)
    )

    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_building_leaves_the_callers_random_state_alone(tiny_encoder: Path) -> None:
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)

    build_text_model(tiny_encoder, TrialConfig(), num_segments=1)

    assert torch.equal(torch.rand(3), expected)


def test_two_segments_compare_query_and_title(tiny_encoder: Path) -> None:
    model = build_text_model(tiny_encoder, TrialConfig(), num_segments=2)
    hidden = torch.randn(2, 6, 32, generator=torch.Generator().manual_seed(0))
    mask = torch.ones(2, 6, dtype=torch.long)
    types = torch.tensor([[0, 0, 0, 1, 1, 1]] * 2)

    first, second, difference, product = model.pool(hidden, mask, types).split(32, dim=-1)

    torch.testing.assert_close(first, hidden[:, :3].mean(1))
    torch.testing.assert_close(second, hidden[:, 3:].mean(1))
    torch.testing.assert_close(difference, (first - second).abs())
    torch.testing.assert_close(product, first * second)


def test_three_segments_are_refused(tiny_encoder: Path) -> None:
    with pytest.raises(ValueError, match="one or two segments, got 3"):
        build_text_model(tiny_encoder, TrialConfig(), num_segments=3)
