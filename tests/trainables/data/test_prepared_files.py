"""Files that grow block by block are those that NumPy would have written."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from tests.trainables.data.tables import ENCODER, make_table
from trainables.data import text_column, tokenization
from trainables.data.prepared import PreparedData, prepare
from trainables.data.prepared_files import ArrayFile
from trainables.data.table import ClickTable
from trainables.data.text_column import TextColumn
from trainables.data.token_rows import TextLayout


@pytest.mark.parametrize("sizes", [[], [0], [3, 0, 5], [1_000_000, 1]])
def test_an_array_that_grew_is_the_file_that_numpy_saves(tmp_path: Path, sizes: list[int]) -> None:
    parts = [np.arange(size, dtype=np.int32) for size in sizes]

    with ArrayFile(tmp_path / "grown.npy", np.dtype(np.int32)) as file:
        for part in parts:
            file.append(part)

    np.save(tmp_path / "whole.npy", np.concatenate([np.empty(0, np.int32), *parts]))
    assert (tmp_path / "grown.npy").read_bytes() == (tmp_path / "whole.npy").read_bytes()


def test_an_array_whose_writing_failed_reads_as_empty(tmp_path: Path) -> None:
    def interrupted() -> None:
        with ArrayFile(tmp_path / "ids.npy", np.dtype(np.int32)) as file:
            file.append(np.arange(3))
            raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        interrupted()

    assert len(np.load(tmp_path / "ids.npy")) == 0


@pytest.mark.parametrize("num_texts", [7, 60])
def test_blocks_and_repeated_texts_change_no_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, num_texts: int
) -> None:
    table = make_table(60, num_texts=num_texts)
    whole = prepare(table, ENCODER, tmp_path / "whole")
    for module in (text_column, tokenization):
        monkeypatch.setattr(module, "BLOCK_ROWS", 8)

    blocks = prepare(table, ENCODER, tmp_path / "blocks")

    assert {path.name for path in blocks.folder.iterdir()} == {
        path.name for path in whole.folder.iterdir()
    }
    for path in whole.folder.glob("*.npy"):
        assert (blocks.folder / path.name).read_bytes() == path.read_bytes()
    assert every_text(blocks) == every_text(whole) == texts_by_split(table)


@pytest.mark.parametrize("num_texts", [7, 60])
def test_a_text_is_stored_once_however_many_rows_have_it(tmp_path: Path, num_texts: int) -> None:
    repeated = prepare(make_table(60, num_texts=num_texts), ENCODER, tmp_path)
    once = prepare(make_table(60), ENCODER, tmp_path / "once")

    numbers = repeated.arrays["text_numbers"]
    assert sorted(set(numbers.tolist())) == list(range(num_texts))
    assert numbers.dtype == np.int32
    tokens, expected = repeated.first_tokens(60), once.first_tokens(60)
    # Titles and queries of both tables differ in their numbers alone, which are a token each.
    assert len(tokens.ids) * 60 == len(expected.ids) * num_texts
    assert tokens.lengths.tolist() == expected.lengths.tolist()


def test_columns_that_join_to_the_same_text_keep_their_rows(tmp_path: Path) -> None:
    table = dataclasses.replace(
        make_table(),
        texts=(
            TextColumn.of(["red", "red sofa"] * 20),
            TextColumn.of(["sofa bed", "bed"] * 20),
        ),
        layout=TextLayout(num_columns=2, num_first=2),
    )

    data = prepare(table, ENCODER, tmp_path)

    assert every_text(data) == texts_by_split(table)
    assert len(data.arrays["second_starts"]) == 1
    assert set(data.first_tokens(40).lengths.tolist()) == {5}


def every_text(data: PreparedData) -> list[tuple[str, ...]]:
    return [row for split in ("train", "validation", "test") for row in data.rows(split).texts()]


def texts_by_split(table: ClickTable) -> list[tuple[str, ...]]:
    rows = list(zip(*table.texts, strict=True))
    return [rows[row] for row in np.argsort(table.split, kind="stable")]


def test_some_rows_texts_can_be_read_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(text_column, "BLOCK_ROWS", 8)
    rows = prepare(make_table(60), ENCODER, tmp_path).rows("validation")

    assert rows.texts(np.array([9, 0])) == [rows.texts()[9], rows.texts()[0]]
