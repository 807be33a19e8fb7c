"""A batch reads what the cache holds and computes what an augmentation varied, row by row."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch

from spaces.trial_config import TrialConfig
from trainables.augmentation.bank import AugmentationBank
from trainables.batch_source import BatchSource, CachedStates
from trainables.data.prepared import PreparedData
from trainables.encoder import load_tokenizer
from trainables.frozen_cache import FrozenCache
from trainables.model import ClickModel, build_model
from trainables.trial_setup import TrialSetup

CPU = torch.device("cpu")
MARK = 7.0


@pytest.fixture
def model(tiny_encoder: Path) -> ClickModel:
    model = build_model(tiny_encoder, TrialConfig(), num_segments=1)
    model.freeze_below(1)
    return model


@pytest.fixture
def bank(tiny_setup: TrialSetup, tiny_encoder: Path) -> AugmentationBank:
    trial = TrialConfig(augmentation="word_dropout", augmentation_rate=0.5)
    tokenizer = load_tokenizer(tiny_encoder, max_tokens=16)
    return AugmentationBank(
        PreparedData.open(Path(tiny_setup.data_folder)), trial, tokenizer, tiny_encoder
    )


@pytest.fixture
def marked(tiny_setup: TrialSetup, model: ClickModel, bank: AugmentationBank) -> BatchSource:
    """Training rows of epoch 1 over a cache that holds the same mark for every token."""
    rows = PreparedData.open(Path(tiny_setup.data_folder)).rows("train")
    states = np.full((len(rows.tokens.ids), 32), MARK, dtype=np.float16)
    cached = CachedStates(
        cache=FrozenCache(states=states),
        originals=rows.tokens,
        varied=bank.varied(1),
        compute=model.frozen_states,
    )
    varied_rows = dataclasses.replace(rows, tokens=bank.tokens(1))
    return BatchSource(rows=varied_rows, device=CPU, cached=cached)


def test_varied_rows_are_computed_and_the_others_read(
    marked: BatchSource, model: ClickModel, bank: AugmentationBank
) -> None:
    indices = np.arange(24)
    varied = torch.from_numpy(bank.varied(1)[indices])
    tokens = {k: torch.from_numpy(v) for k, v in marked.rows.tokens.batch(indices).items()}
    inside = tokens["attention_mask"].bool()

    batch = marked.batch(indices)

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


@pytest.mark.parametrize("kind", [True, False])
def test_batches_of_one_kind_work_too(
    marked: BatchSource, bank: AugmentationBank, kind: bool
) -> None:
    indices = np.flatnonzero(bank.varied(1) == kind)[:5]

    batch = marked.batch(indices)

    assert batch["states"] is not None
    assert batch["states"].shape[:2] == batch["attention_mask"].shape
    assert bool((batch["states"] == MARK).any()) is not kind


def test_rows_that_are_not_varied_keep_their_tokens(
    tiny_setup: TrialSetup, bank: AugmentationBank
) -> None:
    original = PreparedData.open(Path(tiny_setup.data_folder)).rows("train").tokens
    kept = np.flatnonzero(~bank.varied(2))

    varied = bank.tokens(2)

    assert 0 < len(kept) < len(original)
    np.testing.assert_array_equal(varied.take(kept).ids, original.take(kept).ids)
