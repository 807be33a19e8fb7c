"""The bank varies about half of the rows, anew in each epoch, in their places."""

import time

import numpy as np
import pytest

from spaces.trial_config import TrialConfig
from trainables.augmentation import OPERATIONS
from trainables.augmentation.bank import VARIED_SHARE, AugmentationBank
from trainables.data.prepared import PreparedData, prepare
from trainables.data.table import ClickTable
from trainables.data.token_rows import TokenRows
from trainables.encoder import EncoderConfig, find_encoder, load_tokenizer

ENCODER = EncoderConfig(max_tokens=32)
NUM_ROWS = 2_000
WORDS = ["jacket", "shoes", "phone", "kids", "video", "couch", "laptop", "camera", "gift", "house"]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> PreparedData:
    rng = np.random.default_rng(0)
    texts = [" ".join(rng.choice(WORDS, 10)) + f" {row}" for row in range(NUM_ROWS + 20)]
    table = ClickTable(
        texts=(["gift for kids"] * len(texts), texts),
        clicks=np.ones(len(texts), np.float32),
        impressions=np.full(len(texts), 2, np.float32),
        groups=np.arange(len(texts)),
        split=np.repeat([0, 1, 2], [NUM_ROWS, 10, 10]).astype(np.int8),
        row_ids=np.arange(len(texts)),
        num_source_rows=len(texts),
        fingerprint="0123456789abcdef",
    )
    return prepare(table, ENCODER, tmp_path_factory.mktemp("bank"))


def make_bank(data: PreparedData, augmentation: str, **settings: object) -> AugmentationBank:
    folder = find_encoder(ENCODER)
    trial = TrialConfig(augmentation=augmentation, **settings)  # type: ignore[arg-type]
    return AugmentationBank(data, trial, load_tokenizer(folder, max_tokens=32), folder)


def same_rows(first: TokenRows, second: TokenRows) -> np.ndarray:
    return np.array(
        [
            np.array_equal(
                first.ids[first.offsets[row] : first.offsets[row + 1]],
                second.ids[second.offsets[row] : second.offsets[row + 1]],
            )
            for row in range(len(first))
        ]
    )


def test_without_augmentation_rows_stay_as_they_are(data: PreparedData) -> None:
    tokens = make_bank(data, "none").tokens(3)

    assert same_rows(tokens, data.rows("train").tokens).all()


@pytest.mark.parametrize("name", OPERATIONS)
def test_about_half_of_the_rows_are_varied_and_each_stays_in_its_place(
    data: PreparedData, name: str
) -> None:
    original = data.rows("train").tokens
    tokenizer = load_tokenizer(find_encoder(ENCODER), max_tokens=32)

    tokens = make_bank(data, name, augmentation_rate=0.5).tokens(0)

    assert len(tokens) == NUM_ROWS
    # Four standard deviations of a share among 2,000 rows.
    assert 1 - same_rows(tokens, original).mean() == pytest.approx(VARIED_SHARE, abs=0.045)
    # The number at the end of each title is protected, so it tells which row this is.
    for row in (0, 1, 2, 1_234, NUM_ROWS - 1):
        text = tokenizer.decode(tokens.ids[tokens.offsets[row] : tokens.offsets[row + 1]].tolist())
        assert text.split()[-1] == str(row)


@pytest.mark.parametrize("name", OPERATIONS)
def test_the_variant_follows_from_seed_and_epoch(data: PreparedData, name: str) -> None:
    first = make_bank(data, name).tokens(1)

    assert same_rows(make_bank(data, name).tokens(1), first).all()
    assert not same_rows(make_bank(data, name).tokens(2), first).all()
    assert not same_rows(make_bank(data, name, seed=1).tokens(1), first).all()


def test_rate_zero_varies_nothing(data: PreparedData) -> None:
    tokens = make_bank(data, "word_dropout", augmentation_rate=0.0).tokens(0)

    assert same_rows(tokens, data.rows("train").tokens).all()


@pytest.mark.parametrize("name", OPERATIONS)
def test_two_thousand_rows_take_less_than_three_tenths_of_a_second(
    data: PreparedData, name: str
) -> None:
    bank = make_bank(data, name)

    started = time.process_time()
    bank.tokens(0)

    assert time.process_time() - started < 0.3
