"""The training loop: it learns, resumes exactly, and says when it diverges."""

import dataclasses
import errno
import gc
import resource
import shutil
import signal
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pandas as pd
import pytest
import torch

from spaces.trial_config import Loss, TrialConfig
from tests.trainables.conftest import DISLIKED, LIKED
from trainables.batch_source import to_device
from trainables.checkpoint import (
    DamagedCheckpointError,
    hand_over,
    load_model,
    read_checkpoint_info,
)
from trainables.data.config import Columns, DataConfig, SplitConfig
from trainables.data.prepared import PreparedData, prepare
from trainables.data.table import load_clicks
from trainables.deepspeed_config import DeepSpeedConfig
from trainables.encoder import EncoderConfig, encoder_fingerprint, load_bert
from trainables.fine_tune import (
    TrainingDivergedError,
    fine_tune,
    predict_probabilities,
    score,
)
from trainables.task import TASK_METRICS, TaskConfig
from trainables.trial_setup import Progress, TrialSetup, Worker

TRIAL = TrialConfig(method="full", learning_rate=3e-3, batch_size=16, epochs=3, dropout=0.1)


def _run(trial: TrialConfig, setup: TrialSetup, resume_from: Path | None = None) -> list[Progress]:
    return list(fine_tune(trial, setup, Worker(), resume_from=resume_from))


def _first_checkpoint(setup: TrialSetup, folder: Path, trial: TrialConfig = TRIAL) -> Path:
    checkpoint = next(fine_tune(trial, setup, Worker(), checkpoints=folder)).checkpoint
    assert checkpoint is not None
    return Path(checkpoint.path)


def test_a_trial_learns_what_the_words_say(tiny_setup: TrialSetup) -> None:
    progress = _run(TRIAL, tiny_setup)

    assert [p.epoch for p in progress] == [1, 2, 3]
    assert [p.done for p in progress] == [False, False, True]
    # Half of the titles are clicked at 50 %, half at 10 %: no model can exceed 0.738.
    assert progress[-1].metrics["roc_auc"] > 0.65
    assert progress[-1].metrics["train_loss"] < progress[0].metrics["train_loss"]


def test_a_trial_that_mixes_rows_learns_too_and_otherwise(tiny_setup: TrialSetup) -> None:
    plain, mixed = (
        _run(dataclasses.replace(TRIAL, mixup_alpha=alpha), tiny_setup) for alpha in (0.0, 0.4)
    )

    assert mixed[-1].metrics["roc_auc"] > 0.6
    assert mixed[-1].metrics["train_loss"] != plain[-1].metrics["train_loss"]


def test_the_same_trial_gives_the_same_numbers(tiny_setup: TrialSetup) -> None:
    first, second = (_run(TRIAL, tiny_setup)[-1].metrics for _ in range(2))

    assert first == second


@pytest.mark.parametrize(
    ("augmentation", "mixup_alpha"), [("none", 0.0), ("word_dropout", 0.0), ("none", 0.4)]
)
@pytest.mark.parametrize("method", ["full", "lora"])
def test_a_resumed_trial_ends_as_one_left_alone(
    tiny_setup: TrialSetup, tmp_path: Path, method: str, augmentation: str, mixup_alpha: float
) -> None:
    trial = TrialConfig(
        method=method,  # type: ignore[arg-type]
        augmentation=augmentation,  # type: ignore[arg-type]
        mixup_alpha=mixup_alpha,
        learning_rate=1e-3,
        batch_size=16,
        epochs=3,
    )
    running = fine_tune(trial, tiny_setup, Worker(), checkpoints=tmp_path)
    _, *rest = (dict(progress.metrics) for progress in running)

    resumed = _run(trial, tiny_setup, resume_from=tmp_path / "epoch-0001")

    assert [dict(progress.metrics) for progress in resumed] == rest


@pytest.mark.parametrize("method", ["full", "lora"])
def test_a_loaded_checkpoint_predicts_what_was_evaluated(
    tiny_setup: TrialSetup, tmp_path: Path, method: str
) -> None:
    trial = TrialConfig(method=method, learning_rate=3e-3, batch_size=16)  # type: ignore[arg-type]
    progress = next(fine_tune(trial, tiny_setup, Worker(), checkpoints=tmp_path))
    record = progress.checkpoint
    assert record is not None

    rows = PreparedData.open(Path(tiny_setup.data_folder)).rows("validation")
    metrics = score(predict_probabilities(load_model(Path(record.path)), rows), rows, tiny_setup)

    assert metrics["roc_auc"] == pytest.approx(progress.metrics["roc_auc"], abs=1e-6)
    assert metrics["log_loss"] == pytest.approx(progress.metrics["log_loss"], abs=1e-6)
    info = read_checkpoint_info(Path(record.path))
    assert (info.trial, info.setup, info.epoch) == (trial, tiny_setup, 1)
    assert info.config_hash == progress.config_hash == tiny_setup.config_hash(trial)


def test_an_epoch_reports_what_its_rows_define(tiny_setup: TrialSetup) -> None:
    metrics = _run(dataclasses.replace(TRIAL, epochs=1), tiny_setup)[0].metrics

    # Each row of this table is a group of its own.
    defined = set(TASK_METRICS["ctr"]) - {"gauc"}
    assert set(metrics) == {*defined, "train_loss"}


@pytest.fixture(scope="module")
def ranking_setup(tiny_encoder: Path, tmp_path_factory: pytest.TempPathFactory) -> TrialSetup:
    """Queries with one fitting title among six, however much the query is clicked at all."""
    rng = np.random.default_rng(0)
    rows = [
        (f"{' '.join(rng.choice(list('abcdefgh'), size=3))} {word}", query, int(place == 0))
        for query in range(60)
        for place, word in enumerate(rng.choice(words) for words in (LIKED, *[DISLIKED] * 5))
    ]
    path = tmp_path_factory.mktemp("ranking") / "rows.parquet"
    pd.DataFrame(rows, columns=["title", "query", "label"]).to_parquet(path)
    config = DataConfig(
        path=str(path),
        columns=Columns(text=("title",), label="label", group="query"),
        split=SplitConfig(by="group"),
    )
    encoder = EncoderConfig(name=str(tiny_encoder), max_tokens=16)
    task = TaskConfig(kind="recommendation")
    data = prepare(load_clicks(config, task), encoder, tmp_path_factory.mktemp("prepared"))
    return TrialSetup(
        data_folder=str(data.folder),
        data_fingerprint=data.fingerprint,
        encoder_fingerprint=encoder_fingerprint(tiny_encoder),
        task=task,
        encoder=encoder,
        deepspeed=DeepSpeedConfig(precision="fp32"),
    )


@pytest.mark.parametrize("batch", [{"batch_size": 18}, {"batch_tokens": 120}])
@pytest.mark.parametrize("loss", sorted({*get_args(Loss)} - {"in_batch"}))
def test_every_loss_learns_to_rank(
    ranking_setup: TrialSetup, loss: Loss, batch: dict[str, Any]
) -> None:
    trial = dataclasses.replace(TRIAL, loss=loss, **batch)
    steps: list[tuple[int, int]] = []

    progress = list(fine_tune(trial, ranking_setup, Worker(), on_step=lambda *at: steps.append(at)))

    # A random order of one in six has an NDCG of 0.55.
    assert progress[-1].metrics["ndcg@10"] > 0.8
    assert progress[-1].metrics["train_loss"] < progress[0].metrics["train_loss"]
    total = steps[-1][1]
    assert steps == [(step, total) for step in range(1, total + 1)]


def test_a_loss_that_compares_rows_refuses_batches_in_parts(ranking_setup: TrialSetup) -> None:
    deepspeed = dataclasses.replace(ranking_setup.deepspeed, micro_batch_rows=4)
    setup = dataclasses.replace(ranking_setup, deepspeed=deepspeed)

    with pytest.raises(ValueError, match="loss is listwise, which compares the rows of a batch"):
        next(fine_tune(dataclasses.replace(TRIAL, loss="listwise"), setup, Worker()))


def test_steps_are_counted_over_all_epochs(tiny_setup: TrialSetup) -> None:
    steps: list[tuple[int, int]] = []

    for _ in fine_tune(TRIAL, tiny_setup, Worker(), on_step=lambda *at: steps.append(at)):
        pass

    total = steps[-1][1]
    assert steps == [(step, total) for step in range(1, total + 1)]


def test_divergence_is_named(tiny_setup: TrialSetup, monkeypatch: pytest.MonkeyPatch) -> None:
    # The loss of a finite model can't be made infinite by an allowed learning rate on so small an
    # encoder, so its own weights are: what is tested is that the loop notices.
    from trainables import fine_tune as module

    build = module.build_model

    def build_broken(*args: object, **settings: object) -> torch.nn.Module:
        model = build(*args, **settings)  # type: ignore[arg-type]
        torch.nn.init.constant_(model.head.weight, float("nan"))
        return model

    monkeypatch.setattr(module, "build_model", build_broken)
    with pytest.raises(TrainingDivergedError, match=r"became nan in epoch 1; learning_rate 0\.003"):
        next(fine_tune(TRIAL, tiny_setup, Worker()))


@pytest.mark.parametrize("what", ["data", "encoder"])
def test_another_machines_input_is_noticed(tiny_setup: TrialSetup, what: str) -> None:
    changes: dict[str, Any] = {f"{what}_fingerprint": "0123456789abcdef"}
    setup = dataclasses.replace(tiny_setup, **changes)

    with pytest.raises(RuntimeError, match=f"the {what} on .* is not the study's"):
        next(fine_tune(TRIAL, setup, Worker()))


def test_another_trials_checkpoint_is_refused(tiny_setup: TrialSetup, tmp_path: Path) -> None:
    checkpoint = _first_checkpoint(tiny_setup, tmp_path)
    other = dataclasses.replace(TRIAL, seed=1)

    with pytest.raises(RuntimeError, match="holds another trial"):
        next(fine_tune(other, tiny_setup, Worker(), resume_from=checkpoint))


def _hand_over(donor: Path, folder: Path, setup: TrialSetup, trial: TrialConfig) -> Path:
    return Path(hand_over(donor, folder / "epoch-0001", trial, setup.config_hash(trial)).path)


@pytest.mark.parametrize("method", ["full", "lora"])
def test_a_handed_over_checkpoint_is_trained_on_with_the_other_configuration(
    tiny_setup: TrialSetup, tmp_path: Path, method: str
) -> None:
    donor = dataclasses.replace(TRIAL, method=method)  # type: ignore[arg-type]
    kept = _first_checkpoint(tiny_setup, tmp_path / "donor", donor)
    # At such a rate nothing moves, unless the donor's own rate is still in the optimizer.
    still = dataclasses.replace(donor, learning_rate=1e-12, field_learning_rate=1e-12, dropout=0.3)
    handed = _hand_over(kept, tmp_path / "other", tiny_setup, still)

    (second, third) = _run(still, tiny_setup, resume_from=handed)

    info = read_checkpoint_info(kept)
    assert (second.epoch, third.epoch) == (2, 3)
    assert second.metrics["roc_auc"] == info.metrics["roc_auc"]
    assert second.metrics["log_loss"] == pytest.approx(info.metrics["log_loss"], abs=1e-6)
    assert _run(still, tiny_setup)[0].metrics["log_loss"] != pytest.approx(
        info.metrics["log_loss"], abs=1e-3
    )


def test_a_trial_handed_over_to_itself_ends_as_one_left_alone(
    tiny_setup: TrialSetup, tmp_path: Path
) -> None:
    kept = _first_checkpoint(tiny_setup, tmp_path / "donor")
    handed = _hand_over(kept, tmp_path / "other", tiny_setup, TRIAL)

    resumed = _run(TRIAL, tiny_setup, resume_from=handed)

    assert [p.metrics for p in resumed] == [p.metrics for p in _run(TRIAL, tiny_setup)[1:]]


def test_a_handed_over_checkpoint_outlives_the_donors(
    tiny_setup: TrialSetup, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = _first_checkpoint(tiny_setup, tmp_path / "donor")
    other = dataclasses.replace(TRIAL, weight_decay=0.1)
    linked = _hand_over(kept, tmp_path / "linked", tiny_setup, other)
    # It replaces what a kill left there.
    linked = _hand_over(kept, tmp_path / "linked", tiny_setup, other)
    files = [f.relative_to(kept) for f in kept.rglob("*") if f.is_file() and f.suffix != ".json"]
    assert len(files) > 1
    assert all((linked / file).samefile(kept / file) for file in files)

    def refuse(source: str, target: str) -> None:
        raise OSError(errno.EXDEV, "Invalid cross-device link")

    monkeypatch.setattr("os.link", refuse)
    copied = _hand_over(kept, tmp_path / "copied", tiny_setup, other)
    assert not any((copied / file).samefile(kept / file) for file in files)
    assert read_checkpoint_info(kept).trial == TRIAL
    shutil.rmtree(kept)
    for folder in (linked, copied):
        info = read_checkpoint_info(folder)
        assert (info.trial, info.config_hash) == (other, tiny_setup.config_hash(other))
        assert next(fine_tune(other, tiny_setup, Worker(), resume_from=folder)).epoch == 2


def test_a_checkpoint_whose_bytes_changed_is_refused_as_damaged(
    tiny_setup: TrialSetup, tmp_path: Path
) -> None:
    checkpoint = _first_checkpoint(tiny_setup, tmp_path)
    states = (checkpoint / "training").rglob("*.pt")
    largest = max(states, key=lambda path: path.stat().st_size)
    content = bytearray(largest.read_bytes())
    third = len(content) // 3
    content[third : 2 * third] = bytes(byte ^ 0x5A for byte in content[third : 2 * third])
    largest.write_bytes(content)

    with pytest.raises(DamagedCheckpointError, match=r"epoch-0001 is damaged \("):
        next(fine_tune(TRIAL, tiny_setup, Worker(), resume_from=checkpoint))


def test_closing_a_trial_frees_the_process_for_the_next(tiny_setup: TrialSetup) -> None:
    dropped = fine_tune(TRIAL, tiny_setup, Worker())
    next(dropped)
    dropped.close()

    assert _run(TRIAL, tiny_setup)[-1].done


def test_probabilities_come_back_in_the_rows_order(tiny_setup: TrialSetup, tmp_path: Path) -> None:
    model = load_model(_first_checkpoint(tiny_setup, tmp_path))
    rows = PreparedData.open(Path(tiny_setup.data_folder)).rows("validation")

    together = predict_probabilities(model, rows)
    cpu = torch.device("cpu")
    with torch.inference_mode():
        singles = [rows.tokens.batch(np.array([row])) for row in range(len(rows))]
        alone = torch.cat([model(**to_device(single, cpu)) for single in singles])

    np.testing.assert_allclose(together, torch.sigmoid(alone), atol=1e-6)


@pytest.mark.parametrize("augmentation", ["none", "word_dropout"])
def test_a_token_budget_takes_the_announced_steps(
    tiny_setup: TrialSetup, augmentation: str
) -> None:
    trial = dataclasses.replace(TRIAL, batch_tokens=96, augmentation=augmentation)
    steps: list[tuple[int, int]] = []

    last = list(fine_tune(trial, tiny_setup, Worker(), on_step=lambda *at: steps.append(at)))[-1]

    total = steps[-1][1]
    assert steps == [(step, total) for step in range(1, total + 1)]
    # About seven tokens a row and 144 rows in three epochs.
    assert 20 <= total <= 60
    assert last.metrics["roc_auc"] > 0.6


@pytest.mark.parametrize("zero_stage", [0, 2, 3])
def test_a_batch_in_parts_trains_as_one_at_once(tiny_setup: TrialSetup, zero_stage: int) -> None:
    trial = dataclasses.replace(TRIAL, dropout=0.0, batch_size=32, epochs=1)
    deepspeed = dataclasses.replace(tiny_setup.deepspeed, zero_stage=zero_stage)
    losses = []
    for rows in (None, 5, 1):
        parts = dataclasses.replace(deepspeed, micro_batch_rows=rows)
        setup = dataclasses.replace(tiny_setup, deepspeed=parts)
        losses.append([p.metrics["train_loss"] for p in _run(trial, setup)])

    assert losses[1] == pytest.approx(losses[0], abs=1e-5)
    assert losses[2] == pytest.approx(losses[0], abs=1e-5)


@pytest.mark.parametrize("zero_stage", [1, 2, 3])
def test_an_offloaded_optimizer_trains_alike(tiny_setup: TrialSetup, zero_stage: int) -> None:
    losses = []
    for offload in (False, True):
        deepspeed = dataclasses.replace(
            tiny_setup.deepspeed, zero_stage=zero_stage, offload_optimizer=offload
        )
        setup = dataclasses.replace(tiny_setup, deepspeed=deepspeed)
        losses.append([p.metrics["train_loss"] for p in _run(TRIAL, setup)])

    assert losses[1] == pytest.approx(losses[0], abs=1e-4)


def test_a_trial_leaves_the_shared_encoder_as_it_was(tiny_setup: TrialSetup) -> None:
    folder = Path(tiny_setup.encoder.name)
    before = {name: w.clone() for name, w in load_bert(folder, dropout=0.0).state_dict().items()}

    for zero_stage in (0, 3):
        deepspeed = dataclasses.replace(tiny_setup.deepspeed, zero_stage=zero_stage)
        setup = dataclasses.replace(tiny_setup, deepspeed=deepspeed)
        for method in ("full", "lora"):
            _run(dataclasses.replace(TRIAL, method=method, epochs=1), setup)

    after = load_bert(folder, dropout=0.0).state_dict()
    assert all(torch.equal(after[name], before[name]) for name in before)


@pytest.mark.parametrize("zero_stage", [0, 1, 2, 3])
def test_trials_don_t_pile_up_in_memory(tiny_setup: TrialSetup, zero_stage: int) -> None:
    deepspeed = dataclasses.replace(tiny_setup.deepspeed, zero_stage=zero_stage)
    setup = dataclasses.replace(tiny_setup, deepspeed=deepspeed)
    gc.collect()
    gc.disable()
    try:
        _run(dataclasses.replace(TRIAL, epochs=1), setup)
        before = _tensor_bytes()
        for _ in range(3):
            _run(dataclasses.replace(TRIAL, epochs=1), setup)
        after = _tensor_bytes()
    finally:
        gc.enable()
    # One trial's weights are 60 kB.
    assert after - before < 30_000


def _tensor_bytes() -> int:
    # Not subclasses: what an export left behind, such as a FakeTensor, has no memory.
    kinds = (torch.Tensor, torch.nn.Parameter)
    tensors = [item for item in gc.get_objects() if type(item) in kinds]
    storages = {t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in tensors}
    return sum(storages.values())


@pytest.mark.parametrize("method", ["full", "lora"])
def test_a_checkpoint_that_can_t_be_written_fails_the_trial(
    tiny_setup: TrialSetup, tmp_path: Path, method: str
) -> None:
    trial = dataclasses.replace(TRIAL, method=method)
    next(fine_tune(trial, tiny_setup, Worker(), checkpoints=tmp_path / "first"))
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limit[1]))
    try:
        with pytest.raises(OSError, match=r"can't write .*; is the disk full\?"):
            next(fine_tune(trial, tiny_setup, Worker(), checkpoints=tmp_path / "second"))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
    # Neither the checkpoint nor a part of it is left, which would keep the disk full.
    assert list((tmp_path / "second").iterdir()) == []
