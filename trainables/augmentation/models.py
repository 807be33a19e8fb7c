"""Models and files that an augmentation needs beside the encoder, by name or folder."""

import importlib.util
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from trainables.augmentation.config import AugmentationConfig
from trainables.augmentation.wordnet import find_wordnet
from trainables.file_hashes import hash_files

PATTERNS = ["*.json", "*.safetensors", "*.txt", "*.spm", "*.model"]
"""What is fetched from the Hugging Face hub: no pickled weights."""


def check_models(augmentations: Iterable[str], config: AugmentationConfig) -> None:
    """Make sure that some operations have their models and files.

    Raises:
        ValueError: naming the first that isn't named, isn't there, or is of another kind.
    """
    for augmentation in augmentations:
        if augmentation == "wordnet":
            find_wordnet(config)
        for key, name in config.models(augmentation).items():
            find_model(augmentation, key, name)


def find_model(augmentation: str, key: str, name: str | None) -> Path:
    """Return the folder of a model that an operation needs.

    Args:
        augmentation: The operation.
        key: Where the study names the model.
        name: A folder, or a name on the Hugging Face hub.

    Raises:
        ValueError: if it can't be found, or isn't of the operation's kind.
    """
    if name is None:
        raise ValueError(_unnamed(augmentation, key))
    folder = Path(name).expanduser()
    if not folder.is_dir():
        if name.startswith((".", "/", "~")) or name.count("/") > 1:
            raise ValueError(f"{key}: the folder {name!r} does not exist")
        folder = _download(key, name)
    try:
        description = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ValueError(
            f"{key}: {folder} has no readable config.json ({error}); save a model and its "
            "tokenizer there with save_pretrained"
        ) from error
    _CHECKS[augmentation](key, folder, description)
    return folder.resolve()


def model_fingerprint(augmentation: str, key: str, name: str | None) -> str:
    """Hash a model's description and weights; arguments and errors as for :func:`find_model`."""
    return hash_files(find_model(augmentation, key, name), ("config.json", "model.safetensors"))


def name_missing(augmentations: Iterable[str], config: AugmentationConfig) -> str | None:
    """Return what to say if a study doesn't name a model that it may need; None if it does."""
    for augmentation in augmentations:
        for key, name in config.models(augmentation).items():
            if name is None:
                return f"space.augmentation may be {_unnamed(augmentation, key)}"
    return None


def _unnamed(augmentation: str, key: str) -> str:
    return f"{augmentation}, which needs {key}; give it a model's folder or name"


def _download(key: str, name: str) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(name, allow_patterns=PATTERNS))
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        raise ValueError(
            f"{key}: {name!r} is no folder and could not be fetched from the Hugging Face hub "
            f"({type(error).__name__}); check the name, or download it and give its folder"
        ) from error


def _check_masked(key: str, folder: Path, description: Mapping[str, Any]) -> None:
    architectures = description.get("architectures") or []
    if not any(name.endswith(("ForMaskedLM", "ForPreTraining")) for name in architectures):
        raise ValueError(
            f"{key}: {folder} holds {', '.join(architectures) or 'no known model'}, which can't "
            "fill in masked words; name one like BertForMaskedLM"
        )
    _require(key, folder, "tokenizer.json")


def _check_translation(key: str, folder: Path, description: Mapping[str, Any]) -> None:
    if not description.get("is_encoder_decoder"):
        raise ValueError(
            f"{key}: {folder} holds a {description.get('model_type')!r}, which can't translate; "
            "name a Marian model"
        )
    if not (folder / "source.spm").is_file():
        _require(key, folder, "tokenizer.json")
    elif importlib.util.find_spec("sentencepiece") is None:
        raise ValueError(
            f"{key}: the tokenizer in {folder} needs sentencepiece; "
            "pip install 'clicktune[augment]'"
        )


def _require(key: str, folder: Path, file: str) -> None:
    for name in (file, "model.safetensors"):
        if not (folder / name).is_file():
            raise ValueError(
                f"{key}: {folder} lacks {name}; save model and tokenizer with save_pretrained"
            )


_CHECKS: dict[str, Callable[[str, Path, Mapping[str, Any]], None]] = {
    "masked_word": _check_masked,
    "back_translation": _check_translation,
}


@contextmanager
def quiet_transformers() -> Iterator[None]:
    """Load and run a model without progress bars and advice."""
    import warnings

    from transformers.utils import logging

    verbosity = logging.get_verbosity()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.set_verbosity(verbosity)
