"""Tiny random models that fill in words or translate, and a study's section that names them."""

from pathlib import Path

import pytest

from tests.trainables.augmentation.tiny_models import write_masked_model, write_translator
from tests.trainables.augmentation.tiny_wordnet import write_wordnet
from trainables.augmentation.config import AugmentationConfig, TranslationConfig
from trainables.encoder import EncoderConfig, find_encoder


@pytest.fixture(scope="session")
def encoder_folder() -> Path:
    return find_encoder(EncoderConfig())


@pytest.fixture(scope="session")
def masked_language_model(tmp_path_factory: pytest.TempPathFactory, tiny_encoder: Path) -> Path:
    return write_masked_model(tmp_path_factory.mktemp("masked"), tiny_encoder)


@pytest.fixture(scope="session")
def augmentation_config(
    tmp_path_factory: pytest.TempPathFactory, masked_language_model: Path
) -> AugmentationConfig:
    """What a study says that may use every operation."""
    folder = tmp_path_factory.mktemp("translation")
    return AugmentationConfig(
        protected_words=("Harbor", "Acme Tools", "华为"),
        masked_language_model=str(masked_language_model),
        wordnet=str(write_wordnet(tmp_path_factory.mktemp("wordnet") / "dict")),
        translation=TranslationConfig(
            to=str(write_translator(folder / "to", 0)),
            back=str(write_translator(folder / "back", 1)),
        ),
    )
