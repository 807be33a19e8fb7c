"""The bank varies about half of the rows, anew in each epoch, in their places."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from spaces.trial_config import TrialConfig
from trainables.array_cache import ArrayCache
from trainables.augmentation import OPERATIONS
from trainables.augmentation.bank import AugmentationBank
from trainables.augmentation.variants import EpochTokens
from trainables.data.prepared import TEXTS_FILE, PreparedData, prepare
from trainables.data.raw_fields import RawFields
from trainables.data.table import ClickTable
from trainables.data.text_column import TextColumn
from trainables.data.token_rows import TextLayout
from trainables.encoder import EncoderConfig, find_encoder, load_tokenizer

ENCODER = EncoderConfig(max_tokens=32)
NUM_ROWS = 2_000
WORDS = ["jacket", "shoes", "phone", "kids", "video", "couch", "laptop", "camera", "gift", "house"]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> PreparedData:
    rng = np.random.default_rng(0)
    texts = [" ".join(rng.choice(WORDS, 10)) + f" {row}; 16GB gift" for row in range(NUM_ROWS + 20)]
    table = ClickTable(
        texts=(TextColumn.of(["gift for kids"] * len(texts)), TextColumn.of(texts)),
        clicks=np.ones(len(texts), np.float32),
        impressions=np.full(len(texts), 2, np.float32),
        groups=np.arange(len(texts)),
        split=np.repeat([0, 1, 2], [NUM_ROWS, 10, 10]).astype(np.int8),
        row_ids=np.arange(len(texts)),
        num_source_rows=len(texts),
        fields=RawFields(),
        layout=TextLayout.of(2),
        fingerprint="0123456789abcdef",
    )
    return prepare(table, ENCODER, tmp_path_factory.mktemp("bank"))


WITHOUT_MODEL = sorted(set(OPERATIONS) - {"masked_word", "back_translation", "wordnet"})


def make_bank(data: PreparedData, augmentation: str, **settings: object) -> AugmentationBank:
    folder = find_encoder(ENCODER)
    trial = TrialConfig(augmentation=augmentation, **settings)  # type: ignore[arg-type]
    return AugmentationBank(data, trial, folder, max_tokens=32)


def epoch_tokens(data: PreparedData, bank: AugmentationBank, epoch: int) -> EpochTokens:
    return EpochTokens(original=data.rows("train").tokens, variants=bank.variants(epoch))


def texts_of(tokens: EpochTokens) -> list[list[int]]:
    """Return each row's token ids."""
    ids = tokens.batch(np.arange(len(tokens)))["input_ids"]
    return [row[:length].tolist() for row, length in zip(ids, tokens.lengths, strict=True)]


@pytest.mark.parametrize("settings", [{}, {"augmentation_rate": 0.0}])
def test_nothing_is_varied_without_augmentation_or_at_rate_zero(
    data: PreparedData, settings: dict[str, float]
) -> None:
    augmentation = "word_dropout" if settings else "none"

    assert make_bank(data, augmentation, **settings).variants(3) is None


@pytest.mark.parametrize("name", sorted(set(WITHOUT_MODEL) - {"description"}))
def test_about_half_of_the_rows_are_varied_and_each_stays_in_its_place(
    data: PreparedData, name: str
) -> None:
    original = texts_of(EpochTokens(original=data.rows("train").tokens))
    tokenizer = load_tokenizer(find_encoder(ENCODER), max_tokens=32)

    tokens = texts_of(epoch_tokens(data, make_bank(data, name, augmentation_rate=0.5), 0))

    changed = [one != other for one, other in zip(tokens, original, strict=True)]
    assert len(tokens) == NUM_ROWS
    # Four standard deviations of a share among 2,000 rows.
    assert np.mean(changed) == pytest.approx(0.5, abs=0.045)
    # The number in each title is protected, so it tells which row this is.
    for row in (0, 1, 2, 1_234, NUM_ROWS - 1):
        assert str(row) in tokenizer.decode(tokens[row]).split()


@pytest.mark.parametrize("name", WITHOUT_MODEL)
def test_the_variant_follows_from_seed_and_epoch(data: PreparedData, name: str) -> None:
    first, again = (make_bank(data, name).variants(1) for _ in range(2))
    others = [make_bank(data, name).variants(2), make_bank(data, name, seed=1).variants(1)]

    assert first is not None
    assert again is not None
    assert first.digest == again.digest
    for other in others:
        assert other is not None
        assert other.digest != first.digest


def test_variants_that_are_read_are_those_that_were_made(
    data: PreparedData, tmp_path: Path
) -> None:
    files = ArrayCache(tmp_path / "cache", budget_gb=1.0)
    in_memory = make_bank(data, "word_dropout").variants(1)

    made, read = (make_bank(data, "word_dropout").variants(1, files) for _ in range(2))

    assert len(list((tmp_path / "cache").iterdir())) == 1
    for found in (made, read):
        assert found is not None
        assert in_memory is not None
        assert found.digest == in_memory.digest
        np.testing.assert_array_equal(found.rows, in_memory.rows)
        np.testing.assert_array_equal(found.tokens.ids, in_memory.tokens.ids)


def test_variants_that_are_there_need_no_texts(data: PreparedData, tmp_path: Path) -> None:
    folder = tmp_path / "data"
    shutil.copytree(data.folder, folder)
    files = ArrayCache(tmp_path / "cache", budget_gb=1.0)
    bank = make_bank(PreparedData.open(folder), "word_dropout")
    made = bank.variants(1, files)
    (folder / TEXTS_FILE).unlink()

    read = bank.variants(1, files)

    assert made is not None
    assert read is not None
    assert read.digest == made.digest


@pytest.mark.parametrize(
    "settings",
    [
        {"augmentation_rate": 0.2},
        {"seed": 1},
        {"epoch": 2},
        {"augmentation": "synonym"},
        {"augmented_share": 0.3},
    ],
)
def test_other_variants_are_another_file(
    data: PreparedData, tmp_path: Path, settings: dict[str, Any]
) -> None:
    files = ArrayCache(tmp_path / "cache", budget_gb=1.0)
    for changes in ({}, settings):
        wanted = {"augmentation": "word_dropout", "epoch": 1, **changes}
        epoch = wanted.pop("epoch")
        make_bank(data, **wanted).variants(epoch, files)

    assert len(list((tmp_path / "cache").iterdir())) == 2


def test_a_file_with_a_changed_byte_is_made_anew(data: PreparedData, tmp_path: Path) -> None:
    files = ArrayCache(tmp_path / "cache", budget_gb=1.0)
    make_bank(data, "word_dropout").variants(1, files)
    (path,) = (tmp_path / "cache").iterdir()
    whole = path.read_bytes()
    middle = len(whole) // 2
    path.write_bytes(whole[:middle] + bytes([whole[middle] ^ 1]) + whole[middle + 1 :])

    make_bank(data, "word_dropout").variants(1, files)

    assert path.read_bytes() == whole


def test_without_room_variants_are_made_in_memory_and_that_is_said(
    data: PreparedData, tmp_path: Path
) -> None:
    files = ArrayCache(tmp_path / "cache", budget_gb=1e-6)
    expected = make_bank(data, "word_dropout").variants(1)

    with pytest.warns(RuntimeWarning, match=r"can't be kept .*encoder\.cache_gb allows"):
        found = make_bank(data, "word_dropout").variants(1, files)

    assert found is not None
    assert expected is not None
    assert found.digest == expected.digest


def test_a_bank_whose_draw_varies_no_row_varies_nothing(data: PreparedData) -> None:
    assert make_bank(data, "word_dropout", augmented_share=0.0).variants(1) is None


@pytest.mark.parametrize(
    ("schedule", "shares"), [("constant", [0.8, 0.8, 0.8]), ("fade_out", [0.8, 0.4, 0.0])]
)
def test_a_schedule_says_how_many_rows_an_epoch_varies(
    data: PreparedData, schedule: str, shares: list[float]
) -> None:
    settings = {"augmented_share": 0.8, "augmentation_schedule": schedule}
    bank = make_bank(data, "word_dropout", augmentation_rate=0.5, **settings)

    found = [bank.variants(epoch) for epoch in (1, 2, 3)]

    nums = [0 if variants is None else len(variants.rows) for variants in found]
    # Four standard deviations.
    assert [num / NUM_ROWS for num in nums] == pytest.approx(shares, abs=0.045)


def test_a_larger_share_varies_more_rows_and_none_in_less(data: PreparedData) -> None:
    few, many = (
        make_bank(data, "word_dropout", augmentation_rate=0.5, augmented_share=share).variants(1)
        for share in (0.2, 0.6)
    )

    assert few is not None
    assert many is not None
    # But for a few whose variant was rejected.
    assert len(set(few.rows.tolist()) - set(many.rows.tolist())) < 0.03 * len(few.rows)
    assert len(many.rows) > 2 * len(few.rows)


def test_rows_whose_variant_is_no_other_text_are_not_kept(
    data: PreparedData, tmp_path: Path
) -> None:
    files = ArrayCache(tmp_path / "cache", budget_gb=1.0)
    original = texts_of(EpochTokens(original=data.rows("train").tokens))

    made, read = (
        make_bank(data, "word_swap", augmentation_rate=0.02).variants(1, files) for _ in range(2)
    )

    assert made is not None
    assert read is not None
    assert 0 < len(made.rows) < NUM_ROWS / 4
    assert made.rows.tolist() == read.rows.tolist()
    varied = texts_of(EpochTokens(original=data.rows("train").tokens, variants=made))
    changed = [row for row, texts in enumerate(original) if texts != varied[row]]
    assert changed == made.rows.tolist()


def test_an_epoch_without_any_good_variant_varies_nothing(
    data: PreparedData, tmp_path: Path
) -> None:
    files = ArrayCache(tmp_path / "cache", budget_gb=1.0)
    bank = make_bank(data, "word_swap", augmentation_rate=1e-9)

    for _ in ("made", "read"):
        assert bank.variants(1, files) is None
    assert len(list((tmp_path / "cache").iterdir())) == 1
