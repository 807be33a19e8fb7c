"""Adapters start at nothing, train alone, and merge exactly."""

from pathlib import Path
from typing import get_args

import pytest
import torch
from peft.tuners.lora import LoraLayer

from spaces.trial_config import Method, TrialConfig
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


every_method = pytest.mark.parametrize(
    "method", [method for method in get_args(Method) if method != "full"]
)


@every_method
def test_new_adapters_leave_the_output_unchanged(model: ClickModel, method: Method) -> None:
    before = _logits(model)

    add_adapters(model, method, rank=4, dropout=0.1, seed=0)

    torch.testing.assert_close(_logits(model), before)


@every_method
def test_only_adapters_and_head_train(model: ClickModel, method: Method) -> None:
    add_adapters(model, method, rank=4, dropout=0.1, seed=0)

    trained = {name for name, weight in model.named_parameters() if weight.requires_grad}

    assert {"head.weight", "head.bias"} < trained
    adapters = trained - {"head.weight", "head.bias"}
    assert all("lora_" in name or "ia3_" in name for name in adapters)
    # Of each of two layers: two matrices for query and value, a magnitude of each in dora; factors
    # of keys, values and inner units in ia3.
    assert len(adapters) == 2 * {"dora": 6, "ia3": 3}.get(method, 4)


@every_method
def test_frozen_layers_get_none(model: ClickModel, method: Method) -> None:
    model.freeze_below(1)
    add_adapters(model, method, rank=4, dropout=0.1, seed=0)

    trained = [name for name, weight in model.named_parameters() if weight.requires_grad]

    assert not [name for name in trained if "layer.0." in name]
    assert [name for name in trained if "layer.1." in name]


def test_the_scale_of_rslora_falls_with_the_root_of_the_rank(tiny_encoder: Path) -> None:
    scales = {}
    for rank in (4, 16):
        model = build_text_model(tiny_encoder, TrialConfig(), num_segments=1)
        add_adapters(model, "rslora", rank=rank, dropout=0.0, seed=0)
        layer = next(m for m in model.modules() if isinstance(m, LoraLayer))
        scales[rank] = layer.scaling["default"]

    assert scales[4] == pytest.approx(2 * scales[16])


@every_method
def test_merging_keeps_the_trained_output_and_removes_every_adapter(
    model: ClickModel, method: Method
) -> None:
    before = _logits(model)
    add_adapters(model, method, rank=4, dropout=0.1, seed=0)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "lora_B" in name or "magnitude" in name:
                weight.add_(torch.randn_like(weight) * 0.2)
            if "ia3_" in name:
                weight.mul_(1.5)
    trained = _logits(model)
    assert not torch.allclose(trained, before, atol=1e-4)

    merge_adapters(model)

    torch.testing.assert_close(_logits(model), trained, atol=1e-5, rtol=1e-4)
    left = [name for name, _ in model.named_parameters()]
    assert not [name for name in left if "lora_" in name or "ia3_" in name]
    assert all(weight.requires_grad for weight in model.parameters())


def test_merging_without_adapters_changes_nothing(model: ClickModel) -> None:
    before = _logits(model)

    merge_adapters(model)

    assert torch.equal(_logits(model), before)
