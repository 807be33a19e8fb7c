"""What makes two trials the same."""

import dataclasses

import pytest

from cluster.resources import TrialResources
from spaces.trial_config import TrialConfig
from trainables.augmentation.config import AugmentationConfig
from trainables.deepspeed_config import DeepSpeedConfig
from trainables.encoder import EncoderConfig
from trainables.trial_setup import TrialSetup

SETUP = TrialSetup(data_folder="a", data_fingerprint="1", encoder_fingerprint="2")


def test_settings_that_a_trial_ignores_do_not_change_its_hash() -> None:
    one = TrialConfig(method="full", lora_rank=4, augmentation_rate=0.3)
    other = TrialConfig(method="full", lora_rank=16, augmentation_rate=0.1)

    assert SETUP.config_hash(one) == SETUP.config_hash(other)


def test_where_the_data_lies_does_not_change_the_hash() -> None:
    moved = dataclasses.replace(SETUP, data_folder="b")

    assert moved.config_hash(TrialConfig()) == SETUP.config_hash(TrialConfig())


@pytest.mark.parametrize(
    "change",
    [
        {"data_fingerprint": "other"},
        {"encoder_fingerprint": "other"},
        {"encoder": EncoderConfig(max_tokens=32)},
        {"resources": TrialResources(workers=2)},
    ],
)
def test_what_changes_the_result_changes_the_hash(change: dict[str, object]) -> None:
    changed = dataclasses.replace(SETUP, **change)

    assert changed.config_hash(TrialConfig()) != SETUP.config_hash(TrialConfig())


@pytest.mark.parametrize("change", [{"lora_rank": 4}, {"epochs": 4}, {"seed": 1}])
def test_what_a_trial_is_told_changes_the_hash(change: dict[str, int]) -> None:
    assert SETUP.config_hash(TrialConfig(**change)) != SETUP.config_hash(TrialConfig())


def test_parts_of_a_batch_matter_to_a_trial_that_mixes_rows_within_them() -> None:
    parts = dataclasses.replace(SETUP, deepspeed=DeepSpeedConfig(micro_batch_rows=4))
    mixed = TrialConfig(mixup_alpha=0.2)

    assert parts.config_hash(mixed) != SETUP.config_hash(mixed)
    assert parts.config_hash(TrialConfig()) == SETUP.config_hash(TrialConfig())


def test_protected_words_matter_to_a_trial_that_varies_texts() -> None:
    changed = dataclasses.replace(SETUP, augmentation=AugmentationConfig(protected_words=("a",)))
    varied = TrialConfig(augmentation="synonym")

    assert changed.config_hash(varied) != SETUP.config_hash(varied)
    assert changed.config_hash(TrialConfig()) == SETUP.config_hash(TrialConfig())
