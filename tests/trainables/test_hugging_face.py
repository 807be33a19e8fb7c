"""A checkpoint as a Hugging Face folder gives what the trained model gives."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from spaces.trial_config import TrialConfig
from trainables.checkpoint import load_model
from trainables.data.prepared import PreparedData
from trainables.fine_tune import fine_tune, predict_probabilities
from trainables.hugging_face import export_hugging_face
from trainables.trial_setup import TrialSetup, Worker


@pytest.fixture(scope="module")
def train(
    tiny_setup: TrialSetup, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[TrialConfig], Path]:
    """Train a trial, and return its last checkpoint."""

    def run(trial: TrialConfig) -> Path:
        *_, last = fine_tune(
            trial, tiny_setup, Worker(), checkpoints=tmp_path_factory.mktemp("trial")
        )
        assert last.checkpoint is not None
        return Path(last.checkpoint.path)

    return run


@pytest.mark.parametrize("method", ["full", "lora"])
def test_transformers_loads_what_was_trained(
    train: Callable[[TrialConfig], Path], tiny_setup: TrialSetup, tmp_path: Path, method: str
) -> None:
    from safetensors.torch import load_file
    from transformers import AutoModel

    checkpoint = train(
        TrialConfig(method=method, learning_rate=3e-3, batch_size=16, epochs=1)  # type: ignore[arg-type]
    )
    output = tmp_path / "out" / "model"

    export_hugging_face(checkpoint, output)

    encoder = AutoModel.from_pretrained(output, add_pooling_layer=False).eval()
    head = load_file(output / "head.safetensors")
    rows = PreparedData.open(Path(tiny_setup.data_folder)).rows("validation")
    first = np.arange(8)
    batch = {name: torch.from_numpy(array) for name, array in rows.inputs.batch(first).items()}
    with torch.inference_mode():
        hidden = encoder(**batch).last_hidden_state
        mask = batch["attention_mask"][..., None]
        pooled = (hidden * mask).sum(1) / mask.sum(1)
        logits = pooled @ head["head.weight"][0] + head["head.bias"]
    expected = predict_probabilities(load_model(checkpoint), rows)[first]
    np.testing.assert_allclose(torch.sigmoid(logits).numpy(), expected, atol=1e-5)
    names = {path.name for path in output.iterdir()}
    assert {"config.json", "model.safetensors", "tokenizer.json", "README.md"} <= names
    assert not any(path.suffix in (".bin", ".pt", ".pkl") for path in output.iterdir())
    assert [path.name for path in output.parent.iterdir()] == ["model"]


def test_a_taken_folder_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()

    with pytest.raises(ValueError, match="model exists; choose a folder that doesn't"):
        export_hugging_face(tmp_path / "checkpoint", tmp_path / "model")


def test_what_is_no_checkpoint_leaves_no_folder(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="holds no checkpoint"):
        export_hugging_face(tmp_path, tmp_path / "model")
    assert not (tmp_path / "model").exists()
