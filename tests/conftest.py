"""What tests share: a quiet machine, one Ray a module, a BERT that loads in no time."""

import json
import os
import random
import string
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import numpy as np
import pytest

# The same examples in every run, so that no change fails for what another one broke; `explore`
# draws others. No deadline: how long an example takes says more about the machine than the code.
hypothesis.settings.register_profile("clicktune", deadline=None, derandomize=True)
hypothesis.settings.register_profile("explore", deadline=None)
hypothesis.settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "clicktune"))

ROOT = Path(__file__).resolve().parent.parent

# Set before torch, Ray or a tokenizer is imported, and inherited by every process of Ray.
os.environ.update(
    {
        "OMP_NUM_THREADS": "1",
        "MKL_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
        "TOKENIZERS_PARALLELISM": "false",
        # Workers run at nice 15 otherwise, and every other process of the machine comes first.
        "RAY_worker_niceness": "0",
        "RAY_USAGE_STATS_ENABLED": "0",
        "HF_HUB_OFFLINE": "1",
        "MPLBACKEND": "agg",
        # Ray's workers import what tests define, such as tests.trainables.counting_trial.
        "PYTHONPATH": os.pathsep.join(
            path for path in (str(ROOT), os.environ.get("PYTHONPATH")) if path
        ),
    }
)
for _name in ("RAY_ADDRESS", "RAY_API_SERVER_ADDRESS"):
    os.environ.pop(_name, None)

TINY_WORDS = [
    *["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"],
    *string.ascii_lowercase,
    *string.digits,
    *(f"##{piece}" for piece in string.ascii_lowercase + string.digits),
    *".,-'!?",
    *["the", "of", "and", "for", "with", "in", "on", "to", "not", "no", "without", "best", "new"],
    *["red", "blue", "green", "black", "white", "small", "large", "cheap", "kids", "men", "women"],
    *["sofa", "couch", "chair", "table", "lamp", "shoe", "boot", "shirt", "dress", "phone"],
    *["laptop", "cup", "mug", "bag", "old", "soft"],
]
"""Vocabulary of the tiny encoder: special pieces, letters, digits and some words of a shop."""


@pytest.fixture
def rng() -> random.Random:
    return random.Random(0)


@pytest.fixture
def np_rng() -> np.random.Generator:
    return np.random.default_rng(0)


@pytest.fixture(scope="module")
def ray_local() -> Iterator[None]:
    """A Ray on this machine with two CPUs, for the tests of one module."""
    from cluster.connect import connect

    with connect(None, num_cpus=2):
        yield


@pytest.fixture(scope="session")
def headlines_path() -> Path:
    """The real click log that measurements use; it is too large for the repository."""
    path = ROOT.parent / "shared" / "data" / "upworthy_headlines.parquet"
    if not path.is_file():
        pytest.skip(f"the headlines table is not at {path}")
    return path


@pytest.fixture(scope="session")
def tiny_encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a random BERT of 2 layers and 32 hidden units, and its tokenizer."""
    folder = tmp_path_factory.mktemp("tiny-encoder")
    write_tiny_encoder(folder)
    return folder


def write_tiny_encoder(folder: Path) -> None:
    """Write a random BERT of 2 layers and 32 hidden units, and its tokenizer."""
    import torch
    from safetensors.torch import save_file
    from transformers import BertConfig, BertModel

    settings = BertConfig(
        vocab_size=len(TINY_WORDS),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=128,
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = BertModel(settings, add_pooling_layer=False)
    weights = {name: weight.contiguous() for name, weight in model.state_dict().items()}
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    description = {**settings.to_dict(), "architectures": ["BertModel"]}
    (folder / "config.json").write_text(json.dumps(description), encoding="utf-8")
    _write_tokenizer(folder / "tokenizer.json")


def _write_tokenizer(path: Path) -> None:
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

    vocabulary = {word: number for number, word in enumerate(TINY_WORDS)}
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.BertProcessing(
        ("[SEP]", vocabulary["[SEP]"]), ("[CLS]", vocabulary["[CLS]"])
    )
    tokenizer.save(str(path))
