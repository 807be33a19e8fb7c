"""One trial of a study outside of any search: its hyperparameters and its setup."""

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from search.study_config import StudyConfig
from spaces.trial_config import TrialConfig
from trainables.augmentation.models import check_models
from trainables.deepspeed_config import settle_precision
from trainables.encoder import encoder_fingerprint, find_encoder, num_layers
from trainables.trial_setup import TrialSetup

if TYPE_CHECKING:
    from trainables.data.prepared import PreparedData

HYPERPARAMETERS = tuple(field.name for field in dataclasses.fields(TrialConfig))
"""What ``clicktune trial --set`` takes by its bare name."""


def single_trial(config: StudyConfig, chosen: Mapping[str, Any]) -> TrialConfig:
    """Decide the hyperparameters of a trial that no algorithm proposed.

    Args:
        config: Gives the epochs and the seed, and the space's constants.
        chosen: Hyperparameters by name, which win over all else.

    Raises:
        ValueError: if a value is out of its range, or the encoder has fewer layers than are tuned.
    """
    constants = {
        name: parameter.choices[0]
        for name, parameter in config.space.parameters.items()
        if parameter.choices is not None and len(parameter.choices) == 1 and not parameter.when
    }
    values = {"epochs": config.search.epochs, "seed": config.search.seed, **constants, **chosen}
    trial = TrialConfig(**values)
    check_models([trial.augmentation], config.augmentation)
    for name in ("encoder_layers", "tuned_layers"):
        value, layers = getattr(trial, name), num_layers(find_encoder(config.encoder))
        if value is not None and value > layers:
            raise ValueError(
                f"{name} is {value}, but encoder {config.encoder.name!r} has {layers} layers; use "
                f"at most {layers}, or leave it out to take all"
            )
    return trial


def single_trial_setup(config: StudyConfig, data: "PreparedData") -> TrialSetup:
    """Describe what the trial runs on: this process alone, however many workers the study has."""
    import torch

    return TrialSetup(
        data_folder=str(data.folder.resolve()),
        data_fingerprint=data.fingerprint,
        encoder_fingerprint=encoder_fingerprint(find_encoder(config.encoder)),
        task=config.task,
        encoder=config.encoder,
        augmentation=config.augmentation.with_absolute_folders(),
        deepspeed=settle_precision(config.deepspeed, use_gpu=torch.cuda.is_available()),
        resources=dataclasses.replace(config.resources, workers=1),
    )
