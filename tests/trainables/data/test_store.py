"""Studies on the same data share what was prepared, and each is whole without the others."""

import errno
import os
import shutil
from pathlib import Path

import pytest

from tests.trainables.data.tables import ENCODER, make_table
from trainables.data import prepared_files
from trainables.data.prepared import PreparedData
from trainables.data.store import DATA_FOLDER, STORE, prepare_shared


def stamps(folder: Path) -> dict[str, tuple[int, int]]:
    return {
        path.name: (path.stat().st_ino, path.stat().st_mtime_ns)
        for path in folder.iterdir()
        if path.is_file()
    }


@pytest.fixture
def no_tokenizer(monkeypatch: pytest.MonkeyPatch) -> None:
    """From here on tokenizing anything fails."""

    def refuse(*_: object) -> None:
        raise AssertionError("the table was tokenized again")

    monkeypatch.setattr(prepared_files, "token_blocks", refuse)


def test_a_second_study_reads_what_the_first_prepared(
    tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    first = prepare_shared(make_table(), ENCODER, tmp_path / "first")
    before = stamps(first.folder)
    request.getfixturevalue("no_tokenizer")

    second = prepare_shared(make_table(), ENCODER, tmp_path / "second")

    assert first.folder == second.folder == tmp_path / STORE / first.fingerprint
    assert stamps(second.folder) == before


@pytest.mark.parametrize("study", ["first", "second"])
def test_a_studys_own_files_are_the_stores(tmp_path: Path, study: str) -> None:
    for name in ("first", "second"):
        data = prepare_shared(make_table(), ENCODER, tmp_path / name)

    assert stamps(tmp_path / study / DATA_FOLDER / data.fingerprint) == stamps(data.folder)


def test_what_trials_keep_beside_the_store_is_not_linked(tmp_path: Path) -> None:
    data = prepare_shared(make_table(), ENCODER, tmp_path / "first")
    (data.folder / "frozen").mkdir()

    prepare_shared(make_table(), ENCODER, tmp_path / "second")

    assert not (tmp_path / "second" / DATA_FOLDER / data.fingerprint / "frozen").exists()


def test_a_moved_study_keeps_its_data_without_the_store(tmp_path: Path) -> None:
    data = prepare_shared(make_table(), ENCODER, tmp_path / "study")
    moved = (tmp_path / "study").rename(tmp_path / "elsewhere")
    shutil.rmtree(tmp_path / STORE)

    kept = PreparedData.open(moved / DATA_FOLDER / data.fingerprint)

    assert kept.num_rows == (20, 10, 10)
    assert len(kept.rows("train").texts()) == 20


def test_a_deleted_store_is_made_of_the_studys_own_files(
    tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    first = prepare_shared(make_table(), ENCODER, tmp_path / "study")
    before = stamps(first.folder)
    shutil.rmtree(tmp_path / STORE)
    request.getfixturevalue("no_tokenizer")

    again = prepare_shared(make_table(), ENCODER, tmp_path / "study")

    assert stamps(again.folder) == before


def test_a_deleted_store_is_made_anew_where_the_studys_files_are_damaged(tmp_path: Path) -> None:
    data = prepare_shared(make_table(), ENCODER, tmp_path / "study")
    mine = tmp_path / "study" / DATA_FOLDER / data.fingerprint
    content = (mine / "ids.npy").read_bytes()
    shutil.rmtree(tmp_path / STORE)
    (mine / "ids.npy").write_bytes(content[:-4])

    again = prepare_shared(make_table(), ENCODER, tmp_path / "study")

    assert (again.folder / "ids.npy").read_bytes() == content
    assert (mine / "ids.npy").read_bytes() == content
    assert [path.name for path in mine.parent.iterdir()] == [data.fingerprint]


def test_a_damaged_store_is_made_anew_and_other_studies_get_it_when_they_ask(
    tmp_path: Path,
) -> None:
    data = prepare_shared(make_table(), ENCODER, tmp_path / "study")
    clicks = data.rows("train").clicks.tolist()
    file = data.folder / "clicks.npy"
    content = file.read_bytes()
    file.unlink()
    file.write_bytes(content[:-1])
    shutil.rmtree(tmp_path / "study" / DATA_FOLDER)

    again = prepare_shared(make_table(), ENCODER, tmp_path / "study")

    assert again.rows("train").clicks.tolist() == clicks
    assert (tmp_path / "study" / DATA_FOLDER / data.fingerprint / "clicks.npy").samefile(file)


def test_without_links_a_study_has_copies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))

    monkeypatch.setattr("os.link", refuse)

    data = prepare_shared(make_table(), ENCODER, tmp_path / "study")

    mine = tmp_path / "study" / DATA_FOLDER / data.fingerprint
    assert not (mine / "ids.npy").samefile(data.folder / "ids.npy")
    assert PreparedData.open(mine).rows("test").texts() == data.rows("test").texts()


def test_where_there_can_be_no_store_a_study_has_the_data_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = Path.mkdir

    def refuse(path: Path, *arguments: object, **settings: object) -> None:
        if path.name == STORE:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
        made(path, *arguments, **settings)  # type: ignore[arg-type]

    monkeypatch.setattr(Path, "mkdir", refuse)

    data = prepare_shared(make_table(), ENCODER, tmp_path / "study")

    assert data.folder == tmp_path / "study" / DATA_FOLDER / data.fingerprint
    assert [path.name for path in tmp_path.iterdir()] == ["study"]
