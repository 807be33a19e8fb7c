"""A small bundle of two text columns, and how to damage a copy of it."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from spaces.trial_config import TrialConfig
from trainables.bundle.export import (
    library_versions,
    record_baseline,
    record_parity,
    seal_bundle,
    stage_bundle,
    utc_now,
)
from trainables.bundle.features import Features
from trainables.bundle.manifest import BundleManifest, Latency, Step, file_record
from trainables.compression.graph import export_graph
from trainables.compression.quantization import quantize_graph
from trainables.data.token_rows import TextLayout, TokenRows, tokenize
from trainables.encoder import load_tokenizer
from trainables.model import ClickModel, build_text_model

MAX_TOKENS = 16
ROWS = [
    {"query": "red sofa", "title": "the best couch, in red", "price": "3"},
    {"query": "boot", "title": "black boot for kids", "price": "4"},
    {"query": "mug", "title": "cup", "price": ""},
    {"query": "phone with a very long name of letters", "title": "small phone " * 9, "price": "5"},
    {"query": "", "title": "lamp", "price": "6"},
]
"""Rows of unequal length; the fourth is truncated, the fifth has an empty text."""


@pytest.fixture(scope="session")
def pair_model(tiny_encoder: Path) -> ClickModel:
    """A model of two segments whose predictions differ clearly from row to row."""
    model = build_text_model(tiny_encoder, TrialConfig(), num_segments=2)
    model.set_base_rate(0.2)
    model.head.weight.data *= 20
    return model.eval()


@pytest.fixture(scope="session")
def pair_tokens(tiny_encoder: Path) -> TokenRows:
    """The rows, tokenized as in training."""
    texts = [[row[name] for row in ROWS] for name in ("query", "title")]
    return tokenize(texts, load_tokenizer(tiny_encoder, max_tokens=MAX_TOKENS))


@pytest.fixture(scope="session")
def graphs(pair_model: ClickModel, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The model as ONNX, by precision."""
    folder = tmp_path_factory.mktemp("graphs")
    paths = {precision: folder / f"{precision}.onnx" for precision in ("fp32", "int8")}
    export_graph(pair_model, paths["fp32"], max_tokens=MAX_TOKENS)
    quantize_graph(paths["fp32"], paths["int8"])
    return paths


def write_bundle(
    output: Path, graph: Path, encoder: Path, *, precision: str, uncompressed: np.ndarray
) -> BundleManifest:
    """Write a bundle of a graph, with made-up measurements."""
    features = Features(text=("query", "title"), max_tokens=MAX_TOKENS, layout=TextLayout.of(2))
    staging = output.with_name(f"{output.name}-staging")
    tokenizer = load_tokenizer(encoder, max_tokens=MAX_TOKENS)
    scorer = stage_bundle(staging, graph=graph, tokenizer=tokenizer, features=features)
    rows = [{name: row[name] for name in features.text} for row in ROWS]
    inputs = scorer.encode({name: [row[name] for row in rows] for name in features.text})
    record_baseline(staging, scorer, inputs, scorer.predict(rows))
    draft = BundleManifest(
        name=output.name,
        created=utc_now(),
        task={"kind": "ctr"},
        columns=features.to_columns(),
        encoder={"name": "tiny", "fingerprint": "e" * 16, "max_tokens": MAX_TOKENS},
        trial={"learning_rate": 1e-3},
        config_hash="c" * 16,
        data_fingerprint="d" * 16,
        libraries=library_versions(),
        compression={"keep_fraction": 1.0, "precision": precision},
        metric="roc_auc",
        steps=(Step(name="uncompressed", metrics={"roc_auc": 0.61}),),
        parity=record_parity(scorer, rows, uncompressed, precision=precision),
        latency=Latency(median_ms=1.5, num_rows=5, num_threads=1, machine="a machine"),
        lineage={"study": "tiny", "trial": 7},
        files={},
    )
    return seal_bundle(staging, draft, output)


@pytest.fixture(scope="session")
def uncompressed(pair_model: ClickModel, pair_tokens: TokenRows) -> np.ndarray:
    """What the torch model gives for the rows, one at a time."""
    import torch

    with torch.no_grad():
        logits = [
            pair_model(
                **{k: torch.from_numpy(v) for k, v in pair_tokens.batch(np.array([i])).items()}
            ).item()
            for i in range(len(ROWS))
        ]
    probabilities: np.ndarray = 1 / (1 + np.exp(-np.array(logits)))
    return probabilities


@pytest.fixture(scope="session")
def shared_bundles(
    graphs: dict[str, Path],
    tiny_encoder: Path,
    uncompressed: np.ndarray,
    tmp_path_factory: pytest.TempPathFactory,
) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("bundles")
    for precision, graph in graphs.items():
        write_bundle(
            folder / precision, graph, tiny_encoder, precision=precision, uncompressed=uncompressed
        )
    return {precision: folder / precision for precision in graphs}


@pytest.fixture
def bundle(shared_bundles: dict[str, Path], tmp_path: Path) -> Path:
    """A copy of the float32 bundle, to do with as one likes."""
    return Path(shutil.copytree(shared_bundles["fp32"], tmp_path / "bundles" / "trial-0007"))


@pytest.fixture
def int8_bundle(shared_bundles: dict[str, Path], tmp_path: Path) -> Path:
    """A copy of the int8 bundle."""
    return Path(shutil.copytree(shared_bundles["int8"], tmp_path / "bundles" / "trial-0008"))


EditManifest = Callable[[Path, Callable[[dict[str, Any]], object]], None]


@pytest.fixture
def edit_manifest() -> EditManifest:
    """Change a manifest's JSON in place, and make its hashes agree with the files again."""

    def edit(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
        path = folder / "manifest.json"
        raw = json.loads(path.read_text())
        for name in raw["files"]:
            record = file_record(folder / name)
            raw["files"][name] = {"sha256": record.sha256, "num_bytes": record.num_bytes}
        change(raw)
        path.write_text(json.dumps(raw))

    return edit
