"""Prepared data holds the table's rows, is made once, and is complete or absent."""

import errno
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.trainables.data.tables import ENCODER, make_table
from trainables.data import prepared
from trainables.data.config import SPLIT_NAMES
from trainables.data.prepared import PreparedData, prepare
from trainables.data.token_rows import TextLayout
from trainables.encoder import EncoderConfig, find_encoder, load_tokenizer


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
        for number, encoding in enumerate(
            tokenizer.encode_batch(TextLayout.of(2).segments(columns))
        ):
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


def folders(root: Path) -> list[Path]:
    return [path for path in root.iterdir() if path.is_dir()]


def test_a_second_preparation_opens_the_first(tmp_path: Path) -> None:
    first = prepare(make_table(), ENCODER, tmp_path)
    written = (first.folder / "ids.npy").stat().st_mtime_ns

    second = prepare(make_table(), ENCODER, tmp_path)

    assert second.folder == first.folder == tmp_path / first.fingerprint
    assert (second.folder / "ids.npy").stat().st_mtime_ns == written
    assert folders(tmp_path) == [first.folder]


def test_another_token_limit_is_another_folder(tmp_path: Path) -> None:
    first = prepare(make_table(), ENCODER, tmp_path)

    assert prepare(make_table(), EncoderConfig(max_tokens=8), tmp_path).folder != first.folder


def test_arrays_are_read_from_disk_and_can_not_be_changed(tmp_path: Path) -> None:
    rows = prepare(make_table(), ENCODER, tmp_path).rows("train")

    with pytest.raises(ValueError, match="read-only"):
        rows.clicks[0] = 9


PREPARE = """
import sys
from pathlib import Path
from tests.trainables.data.tables import ENCODER, make_table
from trainables.data import prepared_files
from trainables.data.prepared import prepare

tokenized = prepared_files.token_blocks
def told(*given):
    print("tokenizing", flush=True)
    {while_writing}
    return tokenized(*given)
prepared_files.token_blocks = told
print("ready", flush=True)
sys.stdin.readline()
{before}
try:
    data = prepare(make_table(2_000), ENCODER, Path(sys.argv[1]))
except OSError as error:
    sys.exit(f"{{type(error).__name__}}: {{error}}")
print(sum(data.num_rows), flush=True)
"""


def start(root: Path, *, before: str = "", while_writing: str = "") -> "subprocess.Popen[str]":
    """Start a process that prepares a table as soon as it is sent a line."""
    process = subprocess.Popen(
        [
            sys.executable,
            "-c",
            PREPARE.format(before=before, while_writing=while_writing),
            str(root),
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


def go(process: "subprocess.Popen[str]") -> None:
    assert process.stdin is not None
    process.stdin.write("\n")
    process.stdin.flush()


def test_of_processes_that_prepare_at_once_one_does_and_the_others_wait(tmp_path: Path) -> None:
    processes = [start(tmp_path) for _ in range(3)]

    for process in processes:
        go(process)
    outputs = [process.communicate(timeout=120)[0].split() for process in processes]

    assert [process.returncode for process in processes] == [0, 0, 0]
    assert sorted(outputs) == [["2000"], ["2000"], ["tokenizing", "2000"]]
    (folder,) = folders(tmp_path)
    assert sum(PreparedData.open(folder).num_rows) == 2_000


def test_a_process_killed_while_it_writes_leaves_nothing_under_the_final_name(
    tmp_path: Path,
) -> None:
    process = start(tmp_path, while_writing="import time; time.sleep(600)")
    go(process)
    assert process.stdout is not None
    assert process.stdout.readline() == "tokenizing\n"

    process.kill()
    process.communicate(timeout=60)

    assert [folder.name[0] for folder in folders(tmp_path)] == ["."]
    data = prepare(make_table(2_000), ENCODER, tmp_path)
    assert PreparedData.open(data.folder).num_rows == (1_980, 10, 10)
    assert folders(tmp_path) == [data.folder]


def test_whoever_waits_takes_over_from_a_process_that_is_killed(tmp_path: Path) -> None:
    first = start(tmp_path, while_writing="import time; time.sleep(600)")
    go(first)
    assert first.stdout is not None
    assert first.stdout.readline() == "tokenizing\n"
    second = start(tmp_path)
    go(second)

    first.kill()
    first.communicate(timeout=60)

    assert second.communicate(timeout=120)[0].split() == ["tokenizing", "2000"]
    assert len(folders(tmp_path)) == 1


@pytest.mark.parametrize("room", [2_000, 60_000])
def test_without_room_nothing_is_left(tmp_path: Path, room: int) -> None:
    # The largest size of a file stands for a full disk: writing fails in the middle of one.
    limit = f"import resource; resource.setrlimit(resource.RLIMIT_FSIZE, ({room}, {room}))"
    process = start(tmp_path, before=limit)
    go(process)
    _, errors = process.communicate(timeout=120)

    assert process.returncode == 1
    assert f"no room for the prepared data in {tmp_path} (File too large); free some" in errors
    assert folders(tmp_path) == []


def test_where_locks_are_ignored_the_first_to_finish_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unsupported(*_: object) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    write = prepared.write_prepared

    def overtaken(*arguments: object) -> None:
        write(*arguments)  # type: ignore[arg-type]
        monkeypatch.setattr(prepared, "write_prepared", write)
        prepare(make_table(), ENCODER, tmp_path)

    monkeypatch.setattr(prepared.fcntl, "flock", unsupported)
    monkeypatch.setattr(prepared, "write_prepared", overtaken)

    data = prepare(make_table(), ENCODER, tmp_path)

    assert data.num_rows == (20, 10, 10)
    assert folders(tmp_path) == [data.folder]


def test_a_damaged_folder_is_made_anew(tmp_path: Path) -> None:
    first = prepare(make_table(), ENCODER, tmp_path)
    tokens = (first.folder / "ids.npy").read_bytes()
    (first.folder / "ids.npy").write_bytes(tokens[:-1])

    second = prepare(make_table(), ENCODER, tmp_path)

    assert (second.folder / "ids.npy").read_bytes() == tokens
    assert folders(tmp_path) == [second.folder]


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

    with pytest.raises(ValueError, match="has data format 99, but this version reads 3"):
        PreparedData.open(tmp_path)
