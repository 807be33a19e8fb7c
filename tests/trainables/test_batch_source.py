"""A batch reads what the cache holds and computes variants that it doesn't hold, row by row."""

import dataclasses
import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from spaces.trial_config import TrialConfig
from trainables.array_cache import CACHE_FOLDER
from trainables.augmentation.bank import AugmentationBank
from trainables.augmentation.variants import EpochTokens, Variants
from trainables.batch_source import BatchSource, CachedStates, TrialSources
from trainables.data.prepared import PreparedData
from trainables.deepspeed_config import DeepSpeedConfig
from trainables.engine import Engine, open_engine
from trainables.frozen_cache import FrozenCache
from trainables.model import ClickModel, build_text_model
from trainables.trial_setup import TrialSetup, Worker
from trainables.tuning import choose_trained

CPU = torch.device("cpu")
MARK, VARIANT_MARK = 7.0, 3.0

WORKER = """
import json, sys
import torch
from spaces.trial_config import TrialConfig
from trainables.encoder import EncoderConfig
from trainables.deepspeed_config import DeepSpeedConfig
from trainables.fine_tune import fine_tune
from trainables.trial_setup import TrialSetup, Worker

given = json.loads(sys.argv[1])
torch.distributed.init_process_group(
    "gloo", init_method=given["meeting"], rank=given["rank"], world_size=2
)
setup = TrialSetup(
    **given["setup"],
    encoder=EncoderConfig(**given["encoder"]),
    deepspeed=DeepSpeedConfig(precision="fp32", zero_stage=given["zero_stage"]),
)
trial = TrialConfig(
    tuned_layers=1, learning_rate=3e-3, batch_size=16, epochs=2, augmentation="word_dropout"
)
for progress in fine_tune(trial, setup, Worker(rank=given["rank"], world_size=2)):
    print("metrics", json.dumps(dict(progress.metrics)), flush=True)
# Gloo's threads, where they outlive the interpreter, abort the process.
torch.distributed.destroy_process_group()
"""
TRIAL = TrialConfig(
    method="full", tuned_layers=1, augmentation="word_dropout", augmentation_rate=0.5
)


@pytest.fixture
def model(tiny_encoder: Path) -> ClickModel:
    model = build_text_model(tiny_encoder, TRIAL, num_segments=1)
    choose_trained(model, TRIAL)
    return model


@pytest.fixture
def data(tiny_setup: TrialSetup) -> PreparedData:
    return PreparedData.open(Path(tiny_setup.data_folder))


@pytest.fixture
def bank(data: PreparedData, tiny_encoder: Path) -> AugmentationBank:
    return AugmentationBank(data, TRIAL, tiny_encoder, max_tokens=16)


@pytest.fixture
def variants(bank: AugmentationBank) -> Variants:
    variants = bank.variants(1)
    assert variants is not None
    return variants


def states(num_tokens: int, mark: float) -> FrozenCache:
    """A cache that holds the same mark for every token."""
    return FrozenCache(states=np.full((num_tokens, 32), mark, dtype=np.float16))


def source_of(
    data: PreparedData, variants: Variants, model: ClickModel, *, with_variants: bool
) -> BatchSource:
    """Training rows of epoch 1 over marked states."""
    rows = data.rows("train")
    cached = CachedStates(
        original=states(len(rows.tokens.ids), MARK),
        variants=states(len(variants.tokens.ids), VARIANT_MARK) if with_variants else None,
        compute=model.frozen_states,
    )
    tokens = EpochTokens(original=rows.tokens, variants=variants)
    return BatchSource(rows=rows, tokens=tokens, device=CPU, cached=cached)


def test_variants_without_states_are_computed_and_the_other_rows_read(
    data: PreparedData, variants: Variants, model: ClickModel
) -> None:
    source = source_of(data, variants, model, with_variants=False)
    indices = np.arange(24)
    varied = torch.from_numpy(np.isin(indices, variants.rows))
    tokens = {k: torch.from_numpy(v) for k, v in source.tokens.batch(indices).items()}
    inside = tokens["attention_mask"].bool()

    batch = source.batch(indices)

    assert varied.any()
    assert not varied.all()
    states = batch["states"]
    assert states is not None
    assert batch["input_ids"] is None
    assert torch.equal(batch["attention_mask"], tokens["attention_mask"])
    assert (states[inside & ~varied[:, None]] == MARK).all()
    computed = inside & varied[:, None]
    torch.testing.assert_close(
        states[computed].float(), model.frozen_states(**tokens)[computed].float(), atol=2e-3, rtol=0
    )


def test_variants_with_states_are_read(
    data: PreparedData, variants: Variants, model: ClickModel
) -> None:
    indices = np.arange(24)

    batch = source_of(data, variants, model, with_variants=True).batch(indices)

    assert batch["states"] is not None
    assert batch["attention_mask"] is not None
    for row, index in enumerate(indices):
        found = batch["states"][row][batch["attention_mask"][row].bool()]
        assert set(found.flatten().tolist()) == {VARIANT_MARK if index in variants.rows else MARK}
    assert batch["states"].isfinite().all()


@pytest.mark.parametrize("with_variants", [True, False])
@pytest.mark.parametrize("kind", [True, False])
def test_batches_of_one_kind_work_too(
    data: PreparedData, variants: Variants, model: ClickModel, kind: bool, with_variants: bool
) -> None:
    source = source_of(data, variants, model, with_variants=with_variants)
    rows = np.arange(len(source.tokens))
    indices = rows[np.isin(rows, variants.rows) == kind][:5]

    batch = source.batch(indices)

    assert batch["states"] is not None
    assert batch["attention_mask"] is not None
    assert batch["states"].shape[:2] == batch["attention_mask"].shape
    assert bool((batch["states"] == MARK).any()) is not kind


@pytest.fixture
def engine(model: ClickModel) -> Iterator[Engine]:
    config = DeepSpeedConfig(precision="fp32")
    with open_engine(model, TRIAL, config, Worker(), total_steps=10) as engine:
        yield engine


def setup_of(tiny_setup: TrialSetup, *, zero_stage: int = 0, cache_gb: float = 1.0) -> TrialSetup:
    return dataclasses.replace(
        tiny_setup,
        deepspeed=DeepSpeedConfig(precision="fp32", zero_stage=zero_stage),  # type: ignore[arg-type]
        encoder=dataclasses.replace(tiny_setup.encoder, cache_gb=cache_gb),
    )


@pytest.fixture
def own_data(data: PreparedData, tmp_path: Path) -> PreparedData:
    """A copy of the data without a cache."""
    folder = tmp_path / "data"
    shutil.copytree(data.folder, folder, ignore=shutil.ignore_patterns(CACHE_FOLDER))
    return PreparedData.open(folder)


@pytest.mark.parametrize("zero_stage", [0, 3])
def test_an_augmented_epoch_reads_all_its_states(
    own_data: PreparedData,
    bank: AugmentationBank,
    engine: Engine,
    tiny_setup: TrialSetup,
    tiny_encoder: Path,
    zero_stage: int,
) -> None:
    setup = setup_of(tiny_setup, zero_stage=zero_stage)

    source = TrialSources(own_data, bank, engine, setup, tiny_encoder).train(1)

    assert source.cached is not None
    assert source.cached.variants is not None


@pytest.mark.parametrize(("zero_stage", "reads_originals"), [(0, True), (3, False)])
def test_without_room_for_its_variants_an_epoch_reads_what_it_may(
    own_data: PreparedData,
    bank: AugmentationBank,
    engine: Engine,
    tiny_setup: TrialSetup,
    tiny_encoder: Path,
    zero_stage: int,
    reads_originals: bool,
) -> None:
    TrialSources(own_data, bank, engine, setup_of(tiny_setup), tiny_encoder)
    (original,) = (own_data.folder / CACHE_FOLDER).iterdir()
    room_gb = (original.stat().st_size + 100) / 1e9
    setup = setup_of(tiny_setup, zero_stage=zero_stage, cache_gb=room_gb)

    sources = TrialSources(own_data, bank, engine, setup, tiny_encoder)
    with pytest.warns(RuntimeWarning, match=r"encoder\.cache_gb allows") as warned:
        epochs = [sources.train(epoch) for epoch in (1, 2)]

    assert len(warned) == 1
    for source in epochs:
        assert (source.cached is not None) is reads_originals
        if source.cached is not None:
            assert source.cached.variants is None
    assert sources.validation().cached is not None


def train_with_two_workers(
    setup: TrialSetup, meeting: Path, zero_stage: int, budgets_gb: tuple[float, float]
) -> list[dict[str, float]]:
    """Train an augmented trial; each worker has its own budget, so that not all may have files."""
    processes = []
    for rank, cache_gb in enumerate(budgets_gb):
        given = {
            "rank": rank,
            "meeting": f"file://{meeting}",
            "zero_stage": zero_stage,
            "setup": {
                "data_folder": setup.data_folder,
                "data_fingerprint": setup.data_fingerprint,
                "encoder_fingerprint": setup.encoder_fingerprint,
            },
            "encoder": {**dataclasses.asdict(setup.encoder), "cache_gb": cache_gb},
        }
        command = [sys.executable, "-c", WORKER, json.dumps(given)]
        processes.append(subprocess.Popen(command, stdout=subprocess.PIPE, text=True))
    outputs = [process.communicate(timeout=120)[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0]
    found = [
        [json.loads(line[8:]) for line in output.splitlines() if line.startswith("metrics ")]
        for output in outputs
    ]
    assert found[0] == found[1]
    return found[0]


@pytest.mark.slow
@pytest.mark.parametrize("zero_stage", [0, 3])
def test_two_workers_train_alike_whether_both_or_one_or_none_has_states(
    tiny_setup: TrialSetup, own_data: PreparedData, tmp_path: Path, zero_stage: int
) -> None:
    setup = dataclasses.replace(tiny_setup, data_folder=str(own_data.folder))
    folder = own_data.folder / CACHE_FOLDER
    computed = train_with_two_workers(setup, tmp_path / "none", zero_stage, (0.0, 0.0))
    assert not folder.exists()

    for name, budgets_gb in (("one", (1e-6, 1.0)), ("little", (1e-6, 1e-6)), ("both", (1.0, 1.0))):
        shutil.rmtree(folder, ignore_errors=True)
        cached = train_with_two_workers(setup, tmp_path / name, zero_stage, budgets_gb)

        for one, other in zip(cached, computed, strict=True):
            assert one == pytest.approx(other, abs=1e-5)
    # The prepared rows' states, and each epoch's variants with theirs.
    assert len(list(folder.iterdir())) == 5
