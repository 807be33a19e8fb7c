"""Which of a model's weights a trial trains."""

from spaces.trial_config import TrialConfig
from trainables.lora import add_adapters
from trainables.model import FieldModel, Model


def choose_trained(model: Model, trial: TrialConfig) -> None:
    """Freeze what a trial doesn't train and add its adapters, in place.

    Raises:
        ValueError: if the encoder has fewer layers than the trial tunes.
    """
    if isinstance(model, FieldModel):
        return
    if trial.top_layers is not None:
        model.freeze_below(trial.top_layers)
    if trial.method != "full":
        add_adapters(
            model, trial.method, rank=trial.lora_rank, dropout=trial.dropout, seed=trial.seed
        )


def own_trained_weights(model: Model) -> None:
    """Give what trains memory of its own, where a model shares weights with others."""
    for weight in model.parameters():
        if weight.requires_grad:
            weight.data = weight.data.clone()
