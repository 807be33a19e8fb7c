"""A variant is kept if it is another text that says what its original does."""

from pathlib import Path

import numpy as np
import pytest

from trainables.augmentation import OPERATIONS
from trainables.augmentation.config import AugmentationConfig, QualityConfig
from trainables.augmentation.quality import FATES, VariedRows, vary_rows
from trainables.augmentation.similarity import similarities
from trainables.encoder import EncoderConfig, find_encoder


def vary(
    monkeypatch: pytest.MonkeyPatch,
    columns: list[list[str]],
    answers: dict[str, str],
    *,
    encoder: Path = Path(),
    **settings: object,
) -> VariedRows:
    """Vary rows by an operation that says what it is told to."""
    monkeypatch.setitem(
        OPERATIONS,
        "synonym",
        lambda _folder, _config: lambda texts, _rate, _rng: [answers.get(t, t) for t in texts],
    )
    config = AugmentationConfig(
        protected_words=("Harbor",),
        quality=QualityConfig(**settings),  # type: ignore[arg-type]
    )
    return vary_rows(
        columns,
        "synonym",
        0.5,
        np.random.default_rng(0),
        encoder_folder=encoder,
        max_tokens=32,
        config=config,
    )


@pytest.mark.parametrize(
    ("original", "variant", "fate"),
    [
        ("soft sofa", "soft couch", "varied"),
        ("soft sofa", "soft sofa", "unchanged"),
        ("soft  sofa", "soft sofa", "unchanged"),
        ("soft sofa", "a", "too short or too long"),
        ("sofa", "sofa " * 9, "too short or too long"),
        ("red sofa", "soft sofa", "lost a protected word"),
        ("red sofa", "red blue sofa", "lost a protected word"),
        ("Harbor sofa", "good sofa", "lost a protected word"),
    ],
)
def test_a_rows_fate_is_what_became_of_it(
    monkeypatch: pytest.MonkeyPatch, original: str, variant: str, fate: str
) -> None:
    varied = vary(monkeypatch, [[original, "other"]], {original: variant})

    assert [FATES[place] for place in varied.fates] == [fate, "unchanged"]
    assert varied.kept.tolist() == ([0] if fate == "varied" else [])
    assert varied.counts() == {name: (name == fate) + (name == "unchanged") for name in FATES}


def test_a_row_of_two_texts_is_as_bad_as_the_worse_one(monkeypatch: pytest.MonkeyPatch) -> None:
    columns = [["sofa", "sofa", "lamp"], ["red lamp", "cup", "cup"]]

    varied = vary(monkeypatch, columns, {"sofa": "couch", "red lamp": "lamp"})

    assert [FATES[p] for p in varied.fates] == ["lost a protected word", "varied", "unchanged"]


def test_a_variant_that_means_something_else_is_rejected(monkeypatch: pytest.MonkeyPatch) -> None:
    texts = ["soft sofa for the house", "video of a kitten"]
    answers = {texts[0]: "soft couch for the house", texts[1]: "stock market report"}
    encoder = find_encoder(EncoderConfig())

    varied = vary(monkeypatch, [texts], answers, encoder=encoder, similarity_of=("synonym",))

    assert [FATES[place] for place in varied.fates] == ["varied", "too far from the original"]


def test_similarity_is_one_for_equal_texts_and_in_the_order_of_the_rows() -> None:
    originals = ["soft sofa", "a phone for kids with a long name", "cup"]

    found = similarities(
        originals, ["soft sofa", "cup", "cup"], find_encoder(EncoderConfig()), max_tokens=32
    )

    assert found[[0, 2]] == pytest.approx(1.0, abs=1e-5)
    assert found[1] < 0.6
    assert len(similarities([], [], Path(), max_tokens=32)) == 0


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"length_ratio": (1.2, 3.0)}, "must be around 1"),
        ({"min_similarity": 1.5}, r"must be in \[-1, 1\], got 1.5"),
    ],
)
def test_limits_out_of_range_are_named(settings: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        QualityConfig(**settings)  # type: ignore[arg-type]
