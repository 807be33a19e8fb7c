"""Add adapters; merge them back (the only importer of peft)."""

import torch
from peft import IA3Config, LoraConfig, PeftConfig, inject_adapter_in_model
from peft.tuners.ia3 import IA3Layer
from peft.tuners.lora import LoraLayer

from spaces.trial_config import Method
from trainables.dropout import replace_dropout
from trainables.model import ClickModel

ADAPTED_LAYERS = ("query", "value")
"""The projections that Hu et al. 2021, section 7.1, found to gain most for a given budget."""

SCALE = 2.0
"""alpha / rank of lora and dora; constant, so that the best learning rate depends little on the
rank."""
USUAL_RANK = 8
"""Rank at which rslora's scale, which falls with the root of the rank, is that of its paper's
examples: alpha is :data:`SCALE` times this."""

FEED_FORWARD = "output.dense"
SCALED_LAYERS = ("attention.self.key", "attention.self.value", FEED_FORWARD)
"""What IA3 rescales: keys, values and what the feed-forward part's inner units give (Liu et al.
2022, section 3.3)."""


def add_adapters(
    model: ClickModel, method: Method, *, rank: int, dropout: float, seed: int
) -> None:
    """Freeze the encoder and put adapters into its layers.

    Layers that :meth:`ClickModel.freeze_below` froze get none. The head stays trainable. An adapter
    starts as nothing, so the model's output is unchanged.

    Hu et al. 2021, section 4.1, https://arxiv.org/abs/2106.09685; Kalajdzievski 2023,
    https://arxiv.org/abs/2312.03732; Liu et al. 2024, https://arxiv.org/abs/2402.09353; Liu et al.
    2022, https://arxiv.org/abs/2205.05638

    Args:
        model: Changed in place.
        method: Any but ``full``.
        rank: Inner size of a low-rank adapter, at least 1.
        dropout: Probability of dropping a low-rank adapter's input.
        seed: Seeds the down projections.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        inject_adapter_in_model(_config(model, method, rank, dropout), model.encoder)
    replace_dropout(model.encoder)


def _config(model: ClickModel, method: Method, rank: int, dropout: float) -> PeftConfig:
    layers = range(model.num_frozen or 0, model.num_layers)
    if method == "ia3":
        return IA3Config(
            target_modules=[
                f"encoder.layer.{layer}.{name}" for layer in layers for name in SCALED_LAYERS
            ],
            feedforward_modules=[f"encoder.layer.{layer}.{FEED_FORWARD}" for layer in layers],
        )
    return LoraConfig(
        r=rank,
        lora_alpha=SCALE * (USUAL_RANK if method == "rslora" else rank),
        lora_dropout=dropout,
        use_rslora=method == "rslora",
        use_dora=method == "dora",
        target_modules=list(ADAPTED_LAYERS),
        bias="none",
        layers_to_transform=list(layers),
        layers_pattern="layer",
    )


def merge_adapters(model: ClickModel) -> None:
    """Add each adapter into the layer beside it and remove it, in place; no-op without adapters."""
    adapted = [
        (name, module)
        for name, module in model.named_modules()
        if isinstance(module, LoraLayer | IA3Layer)
    ]
    for name, module in adapted:
        module.merge()
        parent, _, attribute = name.rpartition(".")
        setattr(model.get_submodule(parent), attribute, module.get_base_layer())
    if adapted:
        model.requires_grad_(requires_grad=True)
