"""Prepared data holds the table's rows, is made once, and is complete or absent."""

import json
import multiprocessing
import shutil
import signal
from pathlib import Path

import numpy as np
import pytest

from trainables.data import prepared
from trainables.data.config import SPLIT_NAMES
from trainables.data.prepared import PreparedData, prepare
from trainables.data.table import ClickTable
from trainables.data.token_rows import segments
from trainables.encoder import EncoderConfig, find_encoder, load_tokenizer

ENCODER = EncoderConfig(max_tokens=16)


def make_table(num_rows: int = 40) -> ClickTable:
    rng = np.random.default_rng(0)
    return ClickTable(
        texts=(
            [f"query {number}" for number in range(num_rows)],
            [f"title {number} 沙发" for number in range(num_rows)],
        ),
        clicks=rng.integers(0, 3, num_rows).astype(np.float32),
        impressions=rng.integers(3, 9, num_rows).astype(np.float32),
        groups=np.arange(num_rows) // 2,
        split=rng.permutation(np.repeat([0, 1, 2], [num_rows - 20, 10, 10])).astype(np.int8),
        row_ids=np.arange(num_rows),
        num_source_rows=num_rows,
        fingerprint="0123456789abcdef",
    )


def test_each_split_holds_its_rows_in_the_tables_order(tmp_path: Path) -> None:
    table = make_table()
    data = prepare(table, ENCODER, tmp_path)
    tokenizer = load_tokenizer(find_encoder(ENCODER), max_tokens=16)

    for part, name in enumerate(SPLIT_NAMES):
        rows = data.rows(name)
        inside = np.flatnonzero(table.split == part)
        texts = [(table.texts[0][row], table.texts[1][row]) for row in inside]
        assert len(rows) == len(rows.tokens) == len(inside)
        assert rows.texts() == texts
        assert rows.clicks.tolist() == table.clicks[inside].tolist()
        assert rows.impressions.tolist() == table.impressions[inside].tolist()
        assert rows.groups.tolist() == table.groups[inside].tolist()
        columns = [list(column) for column in zip(*texts, strict=True)]
        for number, encoding in enumerate(tokenizer.encode_batch(segments(columns))):
            batch = rows.tokens.batch(np.array([number]))
            assert batch["input_ids"][0].tolist() == encoding.ids
            assert batch["token_type_ids"][0].tolist() == encoding.type_ids


def test_rates_are_those_of_the_training_rows(tmp_path: Path) -> None:
    table = make_table()
    training = table.split == 0

    data = prepare(table, ENCODER, tmp_path)

    expected = table.clicks[training].sum() / table.impressions[training].sum()
    assert data.base_rate == pytest.approx(expected)
    assert data.mean_impressions == pytest.approx(table.impressions[training].mean())


def test_a_second_preparation_opens_the_first(tmp_path: Path) -> None:
    first = prepare(make_table(), ENCODER, tmp_path)
    written = (first.folder / "ids.npy").stat().st_mtime_ns

    second = prepare(make_table(), ENCODER, tmp_path)

    assert second.folder == first.folder == tmp_path / first.fingerprint
    assert (second.folder / "ids.npy").stat().st_mtime_ns == written
    assert [entry.name for entry in tmp_path.iterdir()] == [first.fingerprint]


def test_another_token_limit_is_another_folder(tmp_path: Path) -> None:
    first = prepare(make_table(), ENCODER, tmp_path)

    assert prepare(make_table(), EncoderConfig(max_tokens=8), tmp_path).folder != first.folder


def test_arrays_are_read_from_disk_and_can_not_be_changed(tmp_path: Path) -> None:
    rows = prepare(make_table(), ENCODER, tmp_path).rows("train")

    with pytest.raises(ValueError, match="read-only"):
        rows.clicks[0] = 9


def prepare_in(root: str, barrier: object) -> None:
    barrier.wait()  # type: ignore[attr-defined]
    prepare(make_table(2_000), ENCODER, Path(root))


def test_processes_that_prepare_at_once_end_with_one_good_folder(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    barrier = context.Barrier(3)
    processes = [
        context.Process(target=prepare_in, args=(str(tmp_path), barrier)) for _ in range(3)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)

    assert [process.exitcode for process in processes] == [0, 0, 0]
    (folder,) = tmp_path.iterdir()
    assert sum(PreparedData.open(folder).num_rows) == 2_000


def kill_itself_while_writing(root: str) -> None:
    def killed(*_: object) -> None:
        signal.raise_signal(signal.SIGKILL)

    prepared.json.dumps = killed  # type: ignore[attr-defined]
    prepare(make_table(), ENCODER, Path(root))


def test_a_kill_while_writing_leaves_nothing_under_the_final_name(tmp_path: Path) -> None:
    process = multiprocessing.get_context("spawn").Process(
        target=kill_itself_while_writing, args=(str(tmp_path),)
    )
    process.start()
    process.join(60)

    assert process.exitcode == -signal.SIGKILL
    left = list(tmp_path.iterdir())
    assert [entry.name[0] for entry in left] == ["."]
    data = prepare(make_table(), ENCODER, tmp_path)
    assert PreparedData.open(data.folder).num_rows == (20, 10, 10)
    assert list(tmp_path.iterdir()) == [data.folder]


def test_a_failed_preparation_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full_disk(*_: object, **__: object) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr(prepared.np, "save", full_disk)

    with pytest.raises(OSError, match="no space left"):
        prepare(make_table(), ENCODER, tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.fixture(scope="module")
def good_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return prepare(make_table(), ENCODER, tmp_path_factory.mktemp("prepared")).folder


@pytest.mark.parametrize("name", ["ids.npy", "clicks.npy", "texts.parquet"])
def test_a_missing_or_shortened_file_is_named(good_folder: Path, tmp_path: Path, name: str) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(good_folder, folder)
    content = (folder / name).read_bytes()
    (folder / name).write_bytes(content[:-1])
    with pytest.raises(ValueError, match=f"{name} should have {len(content)} bytes, found"):
        PreparedData.open(folder)

    (folder / name).unlink()
    with pytest.raises(ValueError, match=f"{name} should have .* found no file"):
        PreparedData.open(folder)


def test_an_array_that_would_need_pickle_is_refused(good_folder: Path, tmp_path: Path) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(good_folder, folder)
    np.save(folder / "ids.npy", np.array([{}]), allow_pickle=True)
    description = json.loads((folder / "prepared.json").read_text())
    description["num_bytes"]["ids.npy"] = (folder / "ids.npy").stat().st_size
    (folder / "prepared.json").write_text(json.dumps(description))

    with pytest.raises(ValueError, match="made anew"):
        PreparedData.open(folder)


@pytest.mark.parametrize("content", [None, "", "[]", "{}", '{"format_version": 1}'])
def test_a_folder_without_a_description_is_refused(tmp_path: Path, content: str | None) -> None:
    if content is not None:
        (tmp_path / "prepared.json").write_text(content)

    with pytest.raises(ValueError, match="holds no prepared data"):
        PreparedData.open(tmp_path)


def test_another_format_version_is_refused(tmp_path: Path) -> None:
    (tmp_path / "prepared.json").write_text('{"format_version": 99, "num_bytes": {}}')

    with pytest.raises(ValueError, match="has data format 99, but this version reads 1"):
        PreparedData.open(tmp_path)
