"""Trimmed tables: seen words are read as before, all other words in smaller pieces."""

import dataclasses

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, models

from spaces.trial_config import TrialConfig
from tests.trainables.compression.conftest import logits_of
from trainables.compression.vocabulary import keep_embeddings, keep_positions, trim_vocabulary
from trainables.data.prepared import Rows
from trainables.data.token_rows import tokenize
from trainables.encoder import EncoderConfig, find_encoder, load_tokenizer
from trainables.model import ClickModel, build_text_model

ENCODER = find_encoder(EncoderConfig())
SEEN = [
    "Waterproof jacket, navy, 120 cm",
    "red couch with armrests",
    "沙发 红色 三人座",
    "Kettle 😀 1.7L çay",
]


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return load_tokenizer(ENCODER, max_tokens=32)


def trimmed(
    tokenizer: Tokenizer, texts: list[str], num_frequent: int = 0
) -> tuple[Tokenizer, np.ndarray]:
    used = tokenize([texts], tokenizer).used_ids()
    found = trim_vocabulary(tokenizer, used, num_frequent=num_frequent)
    assert found is not None
    return found.tokenizer, found.kept


def old_ids(tokenizer: Tokenizer, kept: np.ndarray, text: str) -> list[int]:
    return [int(kept[number]) for number in tokenizer.encode(text).ids]


def test_seen_texts_are_read_as_before(tokenizer: Tokenizer) -> None:
    small, kept = trimmed(tokenizer, SEEN)

    assert len(kept) < 3_000
    assert small.get_vocab_size() == len(kept)
    for text in SEEN:
        assert old_ids(small, kept, text) == tokenizer.encode(text).ids
    pair = small.encode("red couch", "navy jacket")
    before = tokenizer.encode("red couch", "navy jacket")
    assert [int(kept[number]) for number in pair.ids] == before.ids
    assert pair.type_ids == before.type_ids


@given(
    words=st.lists(
        st.sampled_from([word for text in SEEN for word in text.split()]), min_size=1, max_size=9
    )
)
def test_any_text_of_seen_words_is_read_as_before(tokenizer: Tokenizer, words: list[str]) -> None:
    small, kept = trimmed(tokenizer, SEEN)
    text = " ".join(words)

    assert old_ids(small, kept, text) == tokenizer.encode(text).ids


@given(text=st.text(st.characters(exclude_categories=["Cs"]), max_size=40))
def test_what_could_be_read_still_can(tokenizer: Tokenizer, text: str) -> None:
    small, kept = trimmed(tokenizer, SEEN)
    unknown = tokenizer.token_to_id("[UNK]")

    before, after = tokenizer.encode(text).ids, old_ids(small, kept, text)

    # Word by word: WordPiece gives a word up as a whole.
    assert after.count(unknown) <= before.count(unknown)


def test_an_unseen_word_is_read_in_smaller_pieces(tokenizer: Tokenizer) -> None:
    small, _ = trimmed(tokenizer, SEEN)

    pieces = small.encode("trampoline").tokens[1:-1]

    assert len(pieces) > 1
    assert "".join(piece.removeprefix("##") for piece in pieces) == "trampoline"


def test_frequent_pieces_stay(tokenizer: Tokenizer) -> None:
    small, kept = trimmed(tokenizer, SEEN, num_frequent=8_000)

    assert 8_000 <= len(kept) < 11_000
    assert small.encode("the house").tokens == ["[CLS]", "the", "house", "[SEP]"]
    # BERT's empty places are of no use.
    assert "[unused5]" not in small.get_vocab()


def test_truncation_stays_as_it_was(tokenizer: Tokenizer) -> None:
    small, _ = trimmed(tokenizer, SEEN)

    assert len(small.encode("couch " * 100).ids) == 32
    assert small.padding is None


def test_a_model_of_the_kept_pieces_gives_the_same() -> None:
    tokenizer = load_tokenizer(ENCODER, max_tokens=32)
    whole, small = (
        build_text_model(ENCODER, TrialConfig(encoder_layers=1), num_segments=1).eval()
        for _ in range(2)
    )
    small.load_state_dict(whole.state_dict())
    reduced, kept = trimmed(tokenizer, SEEN)

    keep_embeddings(small, kept)

    for text in SEEN:
        outputs = []
        for model, reader in ((whole, tokenizer), (small, reduced)):
            ids = torch.tensor([reader.encode(text).ids])
            with torch.no_grad():
                outputs.append(model(ids, torch.ones_like(ids), torch.zeros_like(ids)))
        assert torch.equal(outputs[0], outputs[1])
    assert sum(p.numel() for p in small.parameters()) < sum(p.numel() for p in whole.parameters())


def test_tokenizers_of_other_kinds_are_left_alone() -> None:
    words = Tokenizer(models.WordLevel({"<unk>": 0, "sofa": 1}, unk_token="<unk>"))

    assert trim_vocabulary(words, np.array([1]), num_frequent=0) is None


def test_nothing_to_leave_out_is_told(tokenizer: Tokenizer) -> None:
    everything = np.arange(tokenizer.get_vocab_size())

    assert trim_vocabulary(tokenizer, everything, num_frequent=0) is None


def test_used_ids_are_those_of_the_rows_alone(tokenizer: Tokenizer) -> None:
    rows = tokenize([["red couch", "navy jacket", "red couch"]], tokenizer)

    first = rows.take(np.array([0, 2])).used_ids()

    assert set(first) == set(tokenizer.encode("red couch").ids)
    assert dataclasses.replace(rows).used_ids().size > first.size


def test_positions_that_no_text_reaches_change_nothing(model: ClickModel, rows: Rows) -> None:
    before = logits_of(model, rows)

    keep_positions(model, 14)
    keep_positions(model, 500)

    assert model.encoder.embeddings.position_embeddings.num_embeddings == 14
    assert torch.equal(logits_of(model, rows), before)
