"""Tables are read alike from every format, and unreadable ones are named."""

import gzip
from pathlib import Path

import fsspec
import pandas as pd
import pyarrow
import pyarrow.parquet
import pytest

from trainables.data import table_files
from trainables.data.read import read_table

FRAME = pd.DataFrame(
    {
        "title": ["NA", "null", 'a "quoted", comma', "沙发 😀", "two\nlines", "007"],
        "clicks": [0, 1, 2, 3, 4, 5],
        "ignored": [1.5] * 6,
    }
)


def write(frame: pd.DataFrame, file: Path) -> Path:
    if file.suffix == ".parquet":
        frame.to_parquet(file)
    else:
        frame.to_csv(file, index=False)
    return file


@pytest.mark.parametrize("name", ["a.csv", "a.csv.gz", "a.parquet"])
def test_texts_come_back_as_written(tmp_path: Path, name: str) -> None:
    file = write(FRAME, tmp_path / name)

    frame = read_table(str(file), ["title", "clicks"]).frame

    assert frame["title"].tolist() == FRAME["title"].tolist()
    assert frame["clicks"].astype(int).tolist() == [0, 1, 2, 3, 4, 5]
    assert list(frame.columns) == ["title", "clicks"]


def test_a_folder_is_read_in_the_order_of_its_names(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    write(FRAME[4:], tmp_path / "sub" / "c.csv.gz")
    write(FRAME[2:4], tmp_path / "b.parquet")
    write(FRAME[:2], tmp_path / "a.csv")
    (tmp_path / "_SUCCESS.csv").touch()
    (tmp_path / "notes.txt").write_text("not a table")

    source = read_table(str(tmp_path), ["title"])

    assert source.frame["title"].tolist() == FRAME["title"].tolist()
    assert source.first_rows == (0, 2, 4)
    assert source.locate([3])[0] == f"row 1 of {tmp_path / 'b.parquet'}"
    assert source.locate([1])[0] == f"row 1 of {tmp_path / 'a.csv'} (line 3)"


def test_an_fsspec_url_is_read() -> None:
    with fsspec.open("memory://shop/log.csv", "w") as file:
        file.write("title,clicks\nsofa,1\n")

    assert read_table("memory://shop/log.csv", ["title"]).frame["title"].tolist() == ["sofa"]


def test_lines_count_texts_that_span_several(tmp_path: Path) -> None:
    file = tmp_path / "a.csv"
    file.write_text('title\n"one\ntwo"\n\nthree\n', encoding="utf-8")

    source = read_table(str(file), ["title"])

    assert source.locate([0, 1]) == ["row 0 (line 2)", "row 1 (line 5)"]


def test_a_byte_order_mark_is_not_part_of_the_first_column(tmp_path: Path) -> None:
    file = tmp_path / "a.csv"
    file.write_text("title,clicks\nsofa,1\n", encoding="utf-8-sig")

    assert read_table(str(file), ["title"]).frame["title"].tolist() == ["sofa"]


def test_a_column_that_pandas_wrote_as_index_is_found(tmp_path: Path) -> None:
    FRAME.set_index("title").to_parquet(tmp_path / "a.parquet")

    frame = read_table(str(tmp_path / "a.parquet"), ["title"]).frame

    assert frame["title"].tolist() == FRAME["title"].tolist()


@pytest.mark.parametrize("name", ["a.csv", "a.parquet"])
def test_a_missing_column_is_named_with_the_nearest(tmp_path: Path, name: str) -> None:
    file = write(FRAME, tmp_path / name)

    with pytest.raises(
        ValueError,
        match=r"has no column 'titel' \(did you mean 'title'\?\), no column 'xyz'; it has",
    ):
        read_table(str(file), ["titel", "xyz", "clicks"])


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.csv", b"", "is empty"),
        ("a.parquet", b"", "is empty"),
        ("a.parquet", b"title,clicks\n", "can't read .*a.parquet"),
        ("a.csv", "title\ncafé\n".encode("latin-1"), "is not UTF-8 text"),
        ("a.csv", b'title\n"never closed\n', "is not a well-formed CSV table"),
        ("a.csv.gz", b"title\nsofa\n", "is not a complete gzip file"),
        (
            "a.csv.gz",
            gzip.compress(b"title\nsofa\n" * 99, mtime=0)[:-9],
            "is not a complete gzip file",
        ),
        ("a.xlsx", b"PK", r"ends in .csv, .csv.gz or .parquet"),
    ],
)
def test_what_can_not_be_read_is_named(
    tmp_path: Path, name: str, content: bytes, message: str
) -> None:
    file = tmp_path / name
    file.write_bytes(content)

    with pytest.raises(ValueError, match=message):
        read_table(str(file), ["title"])


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("/no/such/log.csv", "/no/such/log.csv does not exist"),
        ("nonsense://bucket/log.csv", "can't open nonsense://bucket/log.csv"),
    ],
)
def test_a_path_without_anything_behind_it_is_named(path: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read_table(path, ["title"])


def test_a_folder_without_tables_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="holds no file that ends in"):
        read_table(str(tmp_path), ["title"])


@pytest.mark.parametrize("name", ["a.csv", "a.csv.gz"])
def test_a_file_read_in_parts_is_numbered_through(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr(table_files, "CHUNK_ROWS", 4)
    table = read_table(str(write(FRAME, tmp_path / name)), ["title", "clicks"])

    assert table.frame["title"].tolist() == FRAME["title"].tolist()
    assert table.frame.index.tolist() == list(range(6))


@pytest.mark.parametrize("chunk_rows", [2, 100])
@pytest.mark.parametrize("long_row", [0, 3])
def test_a_row_with_too_many_fields_is_named_not_cut(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, long_row: int, chunk_rows: int
) -> None:
    monkeypatch.setattr(table_files, "CHUNK_ROWS", chunk_rows)
    rows = [f"cup {number},1,9" for number in range(6)]
    rows[long_row] = "cup, red,1,9"
    file = tmp_path / "clicks.csv"
    file.write_text("\n".join(["title,clicks,impressions", *rows]), encoding="utf-8")

    with pytest.raises(ValueError, match=rf"line {long_row + 2}.*texts that hold a comma"):
        read_table(str(file), ("title", "clicks", "impressions"))


@pytest.mark.parametrize("name", ["a.csv", "a.parquet"])
def test_a_column_that_is_there_twice_is_named(tmp_path: Path, name: str) -> None:
    file = tmp_path / name
    if name == "a.csv":
        file.write_text("title,clicks,title\nsofa,1,lamp\n", encoding="utf-8")
    else:
        columns = [pyarrow.array(["sofa"]), pyarrow.array([1]), pyarrow.array(["lamp"])]
        table = pyarrow.Table.from_arrays(columns, names=["title", "clicks", "title"])
        pyarrow.parquet.write_table(table, file)

    with pytest.raises(ValueError, match="has 2 columns named 'title'; give each a name"):
        read_table(str(file), ["title"])
    assert len(read_table(str(file), ["clicks"]).frame) == 1


def test_a_row_after_a_very_long_text_is_located_without_its_line(tmp_path: Path) -> None:
    file = tmp_path / "a.csv"
    file.write_text("title\nsofa\n" + "x" * 200_000 + "\nlamp\n", encoding="utf-8")

    source = read_table(str(file), ["title"])

    assert source.locate([0, 2]) == ["row 0 (line 2)", "row 2"]


def test_of_very_many_columns_an_error_lists_some(tmp_path: Path) -> None:
    file = tmp_path / "a.csv"
    file.write_text(",".join(f"c{number}" for number in range(5_000)) + "\n", encoding="utf-8")

    with pytest.raises(ValueError, match=r"it has 'c0', .* and 4,900 more") as raised:
        read_table(str(file), ["title"])
    assert len(str(raised.value)) < 2_000


@pytest.mark.parametrize("large", [False, True])
def test_lists_of_texts_are_joined(tmp_path: Path, large: bool) -> None:
    texts = pyarrow.large_string() if large else pyarrow.string()
    lists = (pyarrow.large_list if large else pyarrow.list_)(texts)
    histories = [["sofa", "red chair"], [], None, ["lamp", None, "沙发"], [None]]
    table = pyarrow.table({"history": pyarrow.array(histories, lists)})
    pyarrow.parquet.write_table(table, tmp_path / "log.parquet", row_group_size=2)

    found = read_table(str(tmp_path / "log.parquet"), ["history"], lists=["history"])

    texts = found.frame["history"].fillna("missing").tolist()
    assert texts == ["sofa; red chair", "", "missing", "lamp; 沙发", ""]
    with pytest.raises(ValueError, match="expected text, numbers, booleans or times"):
        read_table(str(tmp_path / "log.parquet"), ["history"])
