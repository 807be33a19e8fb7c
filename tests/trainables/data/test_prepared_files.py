"""Files that grow block by block are those that NumPy would have written."""

from pathlib import Path

import numpy as np
import pytest

from tests.trainables.data.tables import ENCODER, make_table
from trainables.data import prepared_files, text_column
from trainables.data.prepared import PreparedData, prepare
from trainables.data.prepared_files import ArrayFile
from trainables.data.table import ClickTable


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
    for module in (prepared_files, text_column):
        monkeypatch.setattr(module, "BLOCK_ROWS", 8)
    monkeypatch.setattr("trainables.data.tokenization.BLOCK_ROWS", 8)

    blocks = prepare(table, ENCODER, tmp_path / "blocks")

    assert {path.name for path in blocks.folder.iterdir()} == {
        path.name for path in whole.folder.iterdir()
    }
    for path in whole.folder.glob("*.npy"):
        assert (blocks.folder / path.name).read_bytes() == path.read_bytes()
    assert every_text(blocks) == every_text(whole) == texts_by_split(table)


def every_text(data: PreparedData) -> list[tuple[str, ...]]:
    return [row for split in ("train", "validation", "test") for row in data.rows(split).texts()]


def texts_by_split(table: ClickTable) -> list[tuple[str, ...]]:
    rows = list(zip(*table.texts, strict=True))
    return [rows[row] for row in np.argsort(table.split, kind="stable")]


def test_some_rows_texts_can_be_read_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(text_column, "BLOCK_ROWS", 8)
    rows = prepare(make_table(60), ENCODER, tmp_path).rows("validation")

    assert rows.texts(np.array([9, 0])) == [rows.texts()[9], rows.texts()[0]]
