import dataclasses
import math
from typing import Any

import pytest

from spaces.trial_config import SEARCHABLE, Schedule, TrialConfig


def test_settings_that_a_method_ignores_do_not_count() -> None:
    full = [TrialConfig(method="full", lora_rank=rank).effective() for rank in (4, 8)]
    plain = [TrialConfig(augmentation_rate=rate).effective() for rate in (0.1, 0.2)]

    assert full[0] == full[1]
    assert plain[0] == plain[1]


@pytest.mark.parametrize(
    "change",
    [{"augmented_share": 0.2}, {"augmentation_schedule": "fade_out"}, {"augmentation_rate": 0.3}],
)
def test_how_texts_are_varied_counts_where_they_are(change: dict[str, Any]) -> None:
    varied = TrialConfig(augmentation="word_swap")

    assert dataclasses.replace(varied, **change).effective() != varied.effective()
    assert TrialConfig(**change).effective() == TrialConfig().effective()


@pytest.mark.parametrize(
    ("schedule", "epochs", "shares"),
    [
        ("constant", 3, [0.6, 0.6, 0.6]),
        ("fade_out", 3, [0.6, 0.3, 0.0]),
        ("fade_out", 1, [0.0]),
    ],
)
def test_the_share_of_varied_rows_follows_its_schedule(
    schedule: Schedule, epochs: int, shares: list[float]
) -> None:
    trial = TrialConfig(
        augmentation="synonym", augmented_share=0.6, augmentation_schedule=schedule, epochs=epochs
    )

    assert [trial.varied_share(epoch) for epoch in range(1, epochs + 1)] == pytest.approx(shares)


@pytest.mark.parametrize("change", [{"augmentation": "none"}, {"augmentation_rate": 0.0}])
def test_without_augmentation_no_row_is_varied(change: dict[str, Any]) -> None:
    trial = dataclasses.replace(TrialConfig(augmentation="synonym"), **change)

    assert trial.varied_share(1) == 0.0


@pytest.mark.parametrize("name", ["learning_rate", "batch_size", "seed", "epochs", "dropout"])
def test_settings_that_matter_count(name: str) -> None:
    changed = {"learning_rate": 0.5, "batch_size": 7, "seed": 9, "epochs": 9, "dropout": 0.3}

    assert TrialConfig(**{name: changed[name]}).effective() != TrialConfig().effective()


def test_rank_counts_for_lora_and_rate_for_augmentation() -> None:
    assert TrialConfig(lora_rank=4).effective() != TrialConfig(lora_rank=8).effective()
    assert (
        TrialConfig(augmentation="synonym", augmentation_rate=0.2).effective()
        != TrialConfig(augmentation="synonym", augmentation_rate=0.3).effective()
    )


def test_tuned_layers_count_and_none_is_as_if_they_were_not_there() -> None:
    assert TrialConfig(tuned_layers=1).effective() != TrialConfig(tuned_layers=2).effective()
    assert "tuned_layers" not in TrialConfig().effective()


def test_mixing_counts_and_none_is_as_if_it_was_not_there() -> None:
    assert TrialConfig(mixup_alpha=0.2).effective() != TrialConfig().effective()
    assert "mixup_alpha" not in TrialConfig().effective()


def test_a_space_may_not_vary_what_the_study_fixes() -> None:
    assert "epochs" not in SEARCHABLE
    assert "seed" not in SEARCHABLE


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("learning_rate", 0, r"learning_rate must be in \(0, 1\], got 0"),
        ("learning_rate", "1e-5", r"write 1\.0e-5"),
        ("learning_rate", math.nan, "finite number"),
        ("learning_rate", 10**400, "finite number"),
        ("learning_rate", True, "finite number, got True"),
        ("weight_decay", -0.1, "at least 0"),
        ("mixup_alpha", -0.1, "mixup_alpha must be at least 0"),
        ("dropout", 1.0, r"in \[0, 1\)"),
        ("warmup_fraction", -0.1, r"in \[0, 1\)"),
        ("batch_size", 0, "at least 1"),
        ("batch_size", 8.0, "whole number, got 8.0"),
        ("batch_size", True, "whole number, got True"),
        ("batch_tokens", 0, "batch_tokens must be at least 1, got 0"),
        ("lora_rank", 0, "use method: full"),
        ("tuned_layers", 0, "at least 1, got 0; leave it out"),
        ("tuned_layers", 2.0, "tuned_layers must be a whole number, got 2.0"),
        ("tuned_layers", True, "whole number, got True"),
        ("augmentation", "swap", "must be one of none, synonym, wordnet, word_dropout"),
        ("augmented_share", 1.1, r"augmented_share must be in \[0, 1\], got 1.1"),
        ("augmentation_schedule", "rise", "must be one of constant, fade_out"),
        ("method", "prefix", "must be one of full, lora"),
        ("epochs", 0, "at least 1"),
        ("seed", 0.5, "whole number"),
        ("seed", -1, "seed must be at least 0"),
        ("seed", 2**63, "below"),
    ],
)
def test_value_out_of_range_is_named(name: str, value: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TrialConfig(**{name: value})
