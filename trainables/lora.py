"""Add adapters; merge them back (the only importer of peft)."""

import torch
from peft import LoraConfig, inject_adapter_in_model
from peft.tuners.lora import LoraLayer

from trainables.dropout import replace_dropout
from trainables.model import ClickModel

ADAPTED_LAYERS = ("query", "value")
"""The projections that Hu et al. 2021, section 7.1, found to gain most for a given budget."""

SCALE = 2.0
"""alpha / rank; constant, so that the best learning rate depends little on the rank."""


def add_adapters(model: ClickModel, *, rank: int, dropout: float, seed: int) -> None:
    """Freeze the encoder and put low-rank adapters beside its query and value projections.

    Layers that :meth:`ClickModel.freeze_below` froze get none.

    An adapter starts at zero, so the model's output is unchanged (Hu et al. 2021, section 4.1,
    https://arxiv.org/abs/2106.09685). The head stays trainable.

    Args:
        model: Changed in place.
        rank: Inner size of an adapter, at least 1.
        dropout: Probability of dropping an adapter's input.
        seed: Seeds the down projections.
    """
    config = LoraConfig(
        r=rank,
        lora_alpha=SCALE * rank,
        lora_dropout=dropout,
        target_modules=list(ADAPTED_LAYERS),
        bias="none",
        layers_to_transform=list(range(model.num_frozen or 0, model.num_layers)),
        layers_pattern="layer",
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        inject_adapter_in_model(config, model.encoder)
    replace_dropout(model.encoder)


def merge_adapters(model: ClickModel) -> None:
    """Add each adapter into the layer beside it and remove it, in place; no-op without adapters."""
    adapted = [
        (name, module) for name, module in model.named_modules() if isinstance(module, LoraLayer)
    ]
    for name, module in adapted:
        module.merge()
        parent, _, attribute = name.rpartition(".")
        setattr(model.get_submodule(parent), attribute, module.get_base_layer())
    if adapted:
        model.requires_grad_(requires_grad=True)
