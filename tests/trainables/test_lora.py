"""Adapters start at nothing, train alone, and merge exactly."""

from pathlib import Path

import pytest
import torch

from spaces.trial_config import TrialConfig
from trainables.lora import add_adapters, merge_adapters
from trainables.model import ClickModel, build_text_model


def _logits(model: ClickModel) -> torch.Tensor:
    ids = torch.arange(5, 25).reshape(2, 10)
    with torch.no_grad():
        logits: torch.Tensor = model.eval()(ids, torch.ones_like(ids), torch.zeros_like(ids))
    return logits


@pytest.fixture
def model(tiny_encoder: Path) -> ClickModel:
    return build_text_model(tiny_encoder, TrialConfig(), num_segments=1)


def test_new_adapters_leave_the_output_unchanged(model: ClickModel) -> None:
    before = _logits(model)

    add_adapters(model, rank=4, dropout=0.1, seed=0)

    torch.testing.assert_close(_logits(model), before)


def test_only_adapters_and_head_train(model: ClickModel) -> None:
    add_adapters(model, rank=4, dropout=0.1, seed=0)

    trained = {name for name, weight in model.named_parameters() if weight.requires_grad}

    assert {"head.weight", "head.bias"} < trained
    assert all("lora_" in name for name in trained - {"head.weight", "head.bias"})
    # Two matrices for query and value of each of two layers.
    assert len(trained) == 2 + 2 * 2 * 2


def test_merging_keeps_the_trained_output_and_removes_every_adapter(model: ClickModel) -> None:
    add_adapters(model, rank=4, dropout=0.1, seed=0)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "lora_B" in name:
                weight.normal_(std=0.2)
    trained = _logits(model)

    merge_adapters(model)

    torch.testing.assert_close(_logits(model), trained, atol=1e-5, rtol=1e-4)
    assert not [name for name, _ in model.named_parameters() if "lora_" in name]
    assert all(weight.requires_grad for weight in model.parameters())


def test_merging_without_adapters_changes_nothing(model: ClickModel) -> None:
    before = _logits(model)

    merge_adapters(model)

    assert torch.equal(_logits(model), before)
