"""Dropout with cheap random numbers does what torch's does."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from transformers.integrations.sdpa_attention import sdpa_attention_forward

from trainables.dropout import Dropout, attention, drop, keep_mask, replace_dropout


@pytest.mark.parametrize("probability", [0.05, 0.1, 0.5, 0.9])
def test_numbers_are_dropped_with_the_given_probability(probability: float) -> None:
    torch.manual_seed(0)

    kept = keep_mask((1000, 400), probability)

    assert float(kept.mean()) == pytest.approx(1 - probability, abs=0.004)
    # The four lanes of a draw are equally likely: a sign bit that never varies would show here.
    for lane in range(4):
        assert float(kept.view(-1)[lane::4].mean()) == pytest.approx(1 - probability, abs=0.008)


def test_neighbours_are_dropped_independently() -> None:
    torch.manual_seed(0)

    kept = keep_mask((400_000,), 0.5).double()

    for distance in (1, 2, 3, 4, 5):
        pairs = torch.stack([kept[:-distance], kept[distance:]])
        assert abs(float(torch.corrcoef(pairs)[0, 1])) < 0.01


@given(
    shape=st.lists(st.integers(0, 5), min_size=1, max_size=4).map(tuple),
    probability=st.floats(0, 0.99),
    seed=st.integers(0, 2**31),
)
def test_what_stays_is_scaled_and_the_seed_decides(
    shape: tuple[int, ...], probability: float, seed: int
) -> None:
    values = torch.arange(1.0, 1 + torch.Size(shape).numel()).view(shape)
    torch.manual_seed(seed)
    dropped = drop(values, probability)

    torch.manual_seed(seed)
    torch.testing.assert_close(drop(values, probability), dropped, rtol=0, atol=0)
    stays = dropped != 0
    torch.testing.assert_close(dropped[stays], values[stays] / (1 - probability))


def test_the_gradient_passes_where_numbers_stay() -> None:
    torch.manual_seed(0)
    values = torch.ones(50, 50, requires_grad=True)

    dropped = drop(values, 0.25)
    dropped.sum().backward()

    torch.testing.assert_close(values.grad, dropped.detach())


def test_bf16_numbers_are_scaled_as_exactly_as_they_can_be() -> None:
    values = torch.full((1000,), 3.0, dtype=torch.bfloat16)

    dropped = drop(values, 0.1)

    assert dropped.dtype == torch.bfloat16
    assert set(dropped.unique().tolist()) == {0.0, float(torch.tensor(3 / 0.9).bfloat16())}


def test_nothing_is_dropped_outside_of_training() -> None:
    values = torch.ones(10, 10)

    assert Dropout(0.5).eval()(values) is values
    assert Dropout(0.0).train()(values) is values


def test_every_dropout_of_a_model_is_replaced() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.Dropout(0.3), nn.ModuleDict({"a": nn.Dropout(0.2)}))

    replace_dropout(model)

    found = [module for module in model.modules() if isinstance(module, nn.Dropout)]
    assert [(type(module), module.p) for module in found] == [(Dropout, 0.3), (Dropout, 0.2)]


@pytest.mark.parametrize("masked", [False, True])
def test_attention_is_sdpa_up_to_the_dropped_weights(masked: bool) -> None:
    torch.manual_seed(0)
    query, key, value = (torch.randn(3, 2, 7, 8) for _ in range(3))
    lengths = torch.tensor([7, 4, 1])
    mask = (torch.arange(7) < lengths[:, None])[:, None, None, :] if masked else None
    layer = nn.Identity()
    layer.is_causal = False
    expected, _ = sdpa_attention_forward(layer, query, key, value, mask)

    without, _ = attention(layer, query, key, value, mask)
    draws = [attention(layer, query, key, value, mask, dropout=0.2)[0] for _ in range(3000)]

    torch.testing.assert_close(without, expected)
    torch.testing.assert_close(torch.stack(draws).mean(0), expected, atol=0.07, rtol=0)
    # One token that sees only itself is dropped, or scaled, as a whole.
    if masked:
        alone = torch.stack(draws)[:, 2, 0] / expected[2, 0]
        assert bool(
            torch.isclose(alone, torch.tensor(0.0))
            .logical_or(alone.isclose(torch.tensor(1.25)))
            .all()
        )
