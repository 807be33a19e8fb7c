"""What a study says of DeepSpeed is checked, and settled by the hardware."""

import pytest
import torch

from trainables.deepspeed_config import DeepSpeedConfig, settle_precision


def test_precision_follows_the_hardware() -> None:
    assert settle_precision(DeepSpeedConfig(), use_gpu=False).precision == "fp32"
    fixed = DeepSpeedConfig(precision="fp32")
    assert settle_precision(fixed, use_gpu=False) == fixed


def test_bf16_is_refused_where_it_would_be_emulated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx2": True})

    with pytest.raises(ValueError, match="this machine has no bf16 arithmetic"):
        settle_precision(DeepSpeedConfig(precision="bf16"), use_gpu=False)


def test_negative_clipping_is_refused() -> None:
    with pytest.raises(ValueError, match="gradient_clipping must be 0 or more, got -1"):
        DeepSpeedConfig(gradient_clipping=-1)
