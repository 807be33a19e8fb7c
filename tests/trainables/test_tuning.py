"""A trial that tunes the top layers trains those alone, and the same with the cache as without."""

import dataclasses
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from spaces.trial_config import TrialConfig
from trainables.array_cache import CACHE_FOLDER
from trainables.checkpoint import load_model
from trainables.data.config import Columns, DataConfig
from trainables.data.prepared import PreparedData, prepare
from trainables.data.table import load_clicks
from trainables.deepspeed_config import DeepSpeedConfig
from trainables.fine_tune import fine_tune, predict_probabilities, score
from trainables.model import ClickModel, build_text_model
from trainables.task import TaskConfig
from trainables.trial_setup import Progress, TrialSetup, Worker
from trainables.tuning import choose_trained

TRIAL = TrialConfig(tuned_layers=1, learning_rate=3e-3, batch_size=16, epochs=2)


@pytest.fixture
def setup(tiny_setup: TrialSetup, tmp_path: Path) -> TrialSetup:
    """The setup over a copy of the data of this test alone."""
    folder = tmp_path / "data"
    shutil.copytree(tiny_setup.data_folder, folder, ignore=shutil.ignore_patterns(CACHE_FOLDER))
    return dataclasses.replace(tiny_setup, data_folder=str(folder))


@pytest.fixture
def pair_setup(tiny_setup: TrialSetup, tmp_path: Path) -> TrialSetup:
    """A setup of two text columns."""
    return setup_of_pairs(tiny_setup, tmp_path, num_pairs=120)


def setup_of_pairs(tiny_setup: TrialSetup, tmp_path: Path, *, num_pairs: int) -> TrialSetup:
    """Make a setup of 120 rows of two text columns, over so many pairs of texts."""
    rng = np.random.default_rng(0)
    words = ["red", "soft", "new", "old", "cheap", "blue", "sofa", "lamp"]
    pairs = [
        tuple(" ".join(rng.choice(words, rng.integers(1, 6))) for _ in range(2))
        for _ in range(num_pairs)
    ]
    rows = [(*pairs[number % num_pairs], number // 2 % 2) for number in range(120)]
    path = tmp_path / "pairs.parquet"
    pd.DataFrame(rows, columns=["query", "title", "clicked"]).to_parquet(path)
    columns = Columns(text=("query", "title"), label="clicked")
    table = load_clicks(DataConfig(path=str(path), columns=columns), TaskConfig())
    data = prepare(table, tiny_setup.encoder, tmp_path)
    return dataclasses.replace(
        tiny_setup, data_folder=str(data.folder), data_fingerprint=data.fingerprint
    )


def uncached(setup: TrialSetup) -> TrialSetup:
    return with_cache_gb(setup, 0.0)


def with_cache_gb(setup: TrialSetup, cache_gb: float) -> TrialSetup:
    return dataclasses.replace(setup, encoder=dataclasses.replace(setup.encoder, cache_gb=cache_gb))


def run(trial: TrialConfig, setup: TrialSetup, resume_from: Path | None = None) -> list[Progress]:
    return list(fine_tune(trial, setup, Worker(), resume_from=resume_from))


def trained_names(model: ClickModel) -> set[str]:
    return {name for name, weight in model.named_parameters() if weight.requires_grad}


@pytest.mark.parametrize("method", ["full", "lora"])
def test_only_the_top_layer_and_the_head_train(tiny_encoder: Path, method: str) -> None:
    trial = TrialConfig(method=method, tuned_layers=1)  # type: ignore[arg-type]
    model = build_text_model(tiny_encoder, trial, num_segments=1)

    choose_trained(model, trial)

    names = trained_names(model)
    assert {"head.weight", "head.bias"} < names
    assert all("layer.1." in name for name in names - {"head.weight", "head.bias"})
    assert not [
        name for name, _ in model.named_parameters() if "layer.0" in name and "lora" in name
    ]


def test_frozen_layers_have_no_dropout_in_training(tiny_encoder: Path) -> None:
    trial = TrialConfig(method="full", tuned_layers=1, dropout=0.5)
    model = build_text_model(tiny_encoder, trial, num_segments=1)
    choose_trained(model, trial)
    ids = torch.arange(5, 25).reshape(2, 10)
    batch = (ids, torch.ones_like(ids), torch.zeros_like(ids))

    model.eval().train()

    assert torch.equal(model.frozen_states(*batch), model.frozen_states(*batch))
    assert not torch.equal(model(*batch), model(*batch))


def test_a_frozen_model_computes_what_it_did_before(tiny_encoder: Path) -> None:
    model = build_text_model(tiny_encoder, TrialConfig(), num_segments=1).eval()
    ids = torch.arange(5, 25).reshape(2, 10)
    mask = torch.ones_like(ids)
    mask[1, 6:] = 0
    with torch.no_grad():
        before = model(ids, mask, torch.zeros_like(ids))

        model.freeze_below(1)
        frozen = model(ids, mask, torch.zeros_like(ids))
        model.unfreeze()
        after = model(ids, mask, torch.zeros_like(ids))

    # The frozen layers' output is rounded to float16.
    torch.testing.assert_close(frozen, before, atol=2e-3, rtol=0)
    assert torch.equal(after, before)


def test_more_layers_than_the_encoder_has_are_refused(tiny_encoder: Path) -> None:
    model = build_text_model(tiny_encoder, TrialConfig(), num_segments=1)

    with pytest.raises(ValueError, match="tuned_layers is 3, but the encoder has 2 layers"):
        model.freeze_below(3)


def cache_files(setup: TrialSetup) -> set[str]:
    return {path.name for path in (Path(setup.data_folder) / CACHE_FOLDER).iterdir()}


@pytest.mark.parametrize("augmentation", ["none", "word_swap", "word_dropout"])
@pytest.mark.parametrize("method", ["full", "lora"])
def test_cached_and_uncached_training_give_the_same_losses(
    setup: TrialSetup, method: str, augmentation: str
) -> None:
    trial = dataclasses.replace(TRIAL, method=method, augmentation=augmentation)  # type: ignore[arg-type]
    computed = run(trial, uncached(setup))

    cached = run(trial, setup)

    # Variants and their states, for each epoch.
    assert len(cache_files(setup)) == (1 if augmentation == "none" else 1 + 2 * TRIAL.epochs)
    assert "below-layer-1-v1.npy" in cache_files(setup)
    for one, other in zip(cached, computed, strict=True):
        assert one.metrics == pytest.approx(other.metrics, abs=1e-5)


def test_a_trial_without_room_says_so_and_trains_alike(setup: TrialSetup) -> None:
    with pytest.warns(RuntimeWarning, match=r"trials compute what would be in it") as warned:
        short = run(TRIAL, with_cache_gb(setup, 1e-6))

    assert len(warned) == 1
    assert [p.metrics for p in short] == [p.metrics for p in run(TRIAL, uncached(setup))]


def test_a_trial_with_room_for_some_epochs_variants_trains_alike(setup: TrialSetup) -> None:
    trial = dataclasses.replace(TRIAL, augmentation="word_dropout", epochs=3)
    computed = run(trial, uncached(setup))
    run(dataclasses.replace(trial, epochs=1), setup)
    folder = Path(setup.data_folder) / CACHE_FOLDER
    sizes = {path.name: path.stat().st_size for path in folder.iterdir()}
    originals = sizes.pop("below-layer-1-v1.npy")
    shutil.rmtree(folder)

    # How many rows have a variant differs a little from epoch to epoch.
    cached = run(trial, with_cache_gb(setup, (originals + 1.5 * sum(sizes.values())) / 1e9))

    # The last epochs' files took the room of those before.
    assert len(cache_files(setup)) < 1 + 2 * trial.epochs
    assert "below-layer-1-v1.npy" in cache_files(setup)
    for one, other in zip(cached, computed, strict=True):
        assert one.metrics == pytest.approx(other.metrics, abs=1e-5)


def test_trials_with_equal_augmentation_share_its_variants(setup: TrialSetup) -> None:
    trial = dataclasses.replace(TRIAL, augmentation="word_dropout")
    run(trial, setup)
    files = cache_files(setup)

    run(dataclasses.replace(trial, learning_rate=1e-3, batch_size=8), setup)

    assert cache_files(setup) == files


@pytest.mark.parametrize("augmentation", ["none", "word_dropout"])
def test_two_segments_are_cached_too(pair_setup: TrialSetup, augmentation: str) -> None:
    trial = dataclasses.replace(TRIAL, augmentation=augmentation)  # type: ignore[arg-type]
    computed = run(trial, uncached(pair_setup))

    cached = run(trial, pair_setup)

    for one, other in zip(cached, computed, strict=True):
        assert one.metrics == pytest.approx(other.metrics, abs=1e-5)


@pytest.mark.parametrize("augmentation", ["none", "word_dropout"])
def test_rows_of_equal_text_train_alike_from_what_was_computed_once(
    tiny_setup: TrialSetup, tmp_path: Path, augmentation: str
) -> None:
    setup = setup_of_pairs(tiny_setup, tmp_path, num_pairs=10)
    trial = dataclasses.replace(TRIAL, augmentation=augmentation)  # type: ignore[arg-type]
    computed = run(trial, uncached(setup))

    cached = run(trial, setup)

    for one, other in zip(cached, computed, strict=True):
        assert one.metrics == pytest.approx(other.metrics, abs=1e-5)
    data = PreparedData.open(Path(setup.data_folder))
    texts = dict(zip(data.rows("train").texts(), data.rows("train").tokens.lengths, strict=True))
    assert len(texts) == 10
    size = (data.folder / CACHE_FOLDER / "below-layer-1-v1.npy").stat().st_size
    bytes_per_token = 32 * 2
    assert size // bytes_per_token == sum(texts.values()) + 2  # The header takes two tokens' room.


@pytest.mark.parametrize("augmentation", ["none", "word_dropout"])
def test_every_zero_stage_trains_from_the_cache(setup: TrialSetup, augmentation: str) -> None:
    trial = dataclasses.replace(TRIAL, augmentation=augmentation)  # type: ignore[arg-type]
    metrics = [
        run(trial, dataclasses.replace(setup, deepspeed=config))[-1].metrics
        for config in (
            DeepSpeedConfig(precision="fp32"),
            DeepSpeedConfig(precision="fp32", zero_stage=3),
        )
    ]

    assert metrics[1] == pytest.approx(metrics[0], abs=1e-3)


@pytest.mark.parametrize("augmentation", ["none", "word_dropout"])
@pytest.mark.parametrize("method", ["full", "lora"])
def test_a_resumed_trial_ends_as_one_left_alone(
    setup: TrialSetup, tmp_path: Path, method: str, augmentation: str
) -> None:
    trial = dataclasses.replace(TRIAL, method=method, augmentation=augmentation, epochs=3)  # type: ignore[arg-type]
    running = fine_tune(trial, setup, Worker(), checkpoints=tmp_path)
    _, *rest = (dict(progress.metrics) for progress in running)

    resumed = run(trial, setup, resume_from=tmp_path / "epoch-0001")

    assert [dict(progress.metrics) for progress in resumed] == rest


@pytest.mark.parametrize("method", ["full", "lora"])
def test_a_loaded_checkpoint_predicts_what_was_evaluated(
    setup: TrialSetup, tmp_path: Path, method: str
) -> None:
    trial = dataclasses.replace(TRIAL, method=method)  # type: ignore[arg-type]
    progress = next(fine_tune(trial, setup, Worker(), checkpoints=tmp_path))
    assert progress.checkpoint is not None

    model = load_model(Path(progress.checkpoint.path))

    rows = PreparedData.open(Path(setup.data_folder)).rows("validation")
    metrics = score(predict_probabilities(model, rows), rows, setup)
    assert metrics["log_loss"] == pytest.approx(progress.metrics["log_loss"], abs=1e-4)
    assert trained_names(model) == {name for name, _ in model.named_parameters()}


def test_all_layers_may_be_tuned_over_frozen_embeddings(setup: TrialSetup) -> None:
    trial = dataclasses.replace(TRIAL, method="full", tuned_layers=2)

    assert run(trial, setup)[-1].done
    # To look embeddings up costs nothing, so they aren't kept.
    assert not (Path(setup.data_folder) / CACHE_FOLDER).exists()
