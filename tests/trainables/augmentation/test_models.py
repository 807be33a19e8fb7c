"""A model that an augmentation needs is found before a trial starts, or what to do is said."""

import dataclasses
import json
import shutil
from pathlib import Path

import pytest

from trainables.augmentation.config import AugmentationConfig, TranslationConfig
from trainables.augmentation.models import check_models, name_missing


def with_masked(name: str | None) -> AugmentationConfig:
    return AugmentationConfig(masked_language_model=name)


def test_models_that_are_there_are_accepted(augmentation_config: AugmentationConfig) -> None:
    check_models(["none", "synonym", "masked_word", "back_translation"], augmentation_config)


def test_what_is_not_needed_is_not_looked_for() -> None:
    check_models(["none", "word_swap"], with_masked("/nowhere"))


@pytest.mark.parametrize(
    ("augmentation", "key"),
    [
        ("masked_word", "augmentation.masked_language_model"),
        ("back_translation", "augmentation.translation.to"),
    ],
)
def test_a_model_that_is_not_named_is_missing(augmentation: str, key: str) -> None:
    said = name_missing(["none", augmentation], AugmentationConfig())

    assert said == (
        f"space.augmentation may be {augmentation}, which needs {key}; give it a model's folder or "
        "name"
    )
    with pytest.raises(ValueError, match=f"needs {key}"):
        check_models([augmentation], AugmentationConfig())


def test_a_study_that_is_moved_keeps_its_hash_and_one_with_another_model_does_not(
    tmp_path: Path, masked_language_model: Path
) -> None:
    # Alike in name or in what they hold.
    for name in ("moved", "copied", "changed"):
        shutil.copytree(masked_language_model, tmp_path / name / "model")
    description = tmp_path / "changed" / "model" / "config.json"
    description.write_text(description.read_text() + " ", encoding="utf-8")
    here, there, other = (
        with_masked(str(tmp_path / name / "model")) for name in ("moved", "copied", "changed")
    )

    assert here.identity("masked_word") == there.identity("masked_word")
    assert here.identity("masked_word") != other.identity("masked_word")
    assert here.identity("synonym") == other.identity("synonym")
    assert here.identity("none") == {}


def test_a_folder_is_found_from_anywhere_and_a_name_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "model").mkdir()
    monkeypatch.chdir(tmp_path)
    config = AugmentationConfig(
        masked_language_model="model", translation=TranslationConfig(to="hub/name")
    )

    found = config.with_absolute_folders()

    assert found.masked_language_model == str(tmp_path / "model")
    assert found.translation == TranslationConfig(to="hub/name")


def test_a_folder_that_does_not_exist_is_named() -> None:
    with pytest.raises(ValueError, match=r"masked_language_model: the folder '/no/where' does not"):
        check_models(["masked_word"], with_masked("/no/where"))


def test_a_name_that_the_hub_does_not_give_is_named() -> None:
    with pytest.raises(ValueError, match="'nosuch/model' is no folder and could not be fetched"):
        check_models(["masked_word"], with_masked("nosuch/model"))


def test_a_folder_without_a_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"has no readable config\.json"):
        check_models(["masked_word"], with_masked(str(tmp_path)))


def test_an_encoder_without_a_head_is_refused(tiny_encoder: Path) -> None:
    with pytest.raises(ValueError, match="holds BertModel, which can't fill in masked words"):
        check_models(["masked_word"], with_masked(str(tiny_encoder)))


def test_a_model_that_does_not_translate_is_refused(
    tiny_encoder: Path, augmentation_config: AugmentationConfig
) -> None:
    translation = TranslationConfig(to=augmentation_config.translation.to, back=str(tiny_encoder))
    config = dataclasses.replace(augmentation_config, translation=translation)

    with pytest.raises(ValueError, match=r"translation\.back: .* holds a 'bert', which can't tran"):
        check_models(["back_translation"], config)


def test_a_model_without_its_tokenizer_is_refused(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"architectures": ["BertForMaskedLM"]}))

    with pytest.raises(ValueError, match=r"lacks tokenizer\.json"):
        check_models(["masked_word"], with_masked(str(tmp_path)))
