"""Predicting a file: every column comes back as it was, and errors name the row."""

import gzip
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tests.trainables.bundle.conftest import ROWS
from trainables.bundle import Predictor
from trainables.bundle.predict_file import predict_file

CSV = 'id,query,title\n007,red sofa,"couch, ""new"""\nNA,boot,\n+1.50,mug,"two\nlines"\n'


def _read(path: Path) -> pd.DataFrame:
    return pd.read_csv(path, dtype={"id": str}, keep_default_na=False)


def test_a_csv_keeps_its_values_as_they_are_written(bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "in.csv").write_text(CSV)

    assert predict_file(bundle, tmp_path / "in.csv", tmp_path / "out.csv").num_rows == 3

    out = _read(tmp_path / "out.csv")
    assert list(out.columns) == ["id", "query", "title", "click_probability"]
    assert out["id"].tolist() == ["007", "NA", "+1.50"]
    assert out["title"].tolist() == ['couch, "new"', "", "two\nlines"]
    np.testing.assert_allclose(out["click_probability"], Predictor(bundle).predict(out), atol=1e-6)


@pytest.mark.parametrize("source", ["in.csv", "in.csv.gz", "in.parquet"])
@pytest.mark.parametrize("target", ["out.csv", "out.csv.gz", "out.parquet"])
def test_formats_can_be_mixed(bundle: Path, tmp_path: Path, source: str, target: str) -> None:
    frame = pd.DataFrame(ROWS)
    frame.to_parquet(tmp_path / source) if source.endswith("parquet") else frame.to_csv(
        tmp_path / source, index=False
    )

    predict_file(bundle, tmp_path / source, tmp_path / target)

    path = tmp_path / target
    out = pd.read_parquet(path) if target.endswith("parquet") else _read(path)
    assert out["query"].tolist() == frame["query"].tolist()
    np.testing.assert_allclose(out["click_probability"], Predictor(bundle).predict(ROWS), atol=1e-6)


def test_a_parquet_column_keeps_its_type(bundle: Path, tmp_path: Path) -> None:
    frame = pd.DataFrame(ROWS).assign(
        seen=pd.to_datetime("2026-01-01"), stock=pd.array([1, None, 3, 4, 5], dtype="Int64")
    )
    frame.to_parquet(tmp_path / "in.parquet")

    predict_file(bundle, tmp_path / "in.parquet", tmp_path / "out.parquet")

    out = pd.read_parquet(tmp_path / "out.parquet")
    pd.testing.assert_frame_equal(out.drop(columns="click_probability"), frame)


def test_parts_are_predicted_one_after_the_other(
    bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trainables.bundle.predict_file.CSV_BLOCK_BYTES", 200)
    monkeypatch.setattr("trainables.bundle.predict_file.ROWS_AT_ONCE", 7)
    frame = pd.DataFrame({"query": [f"boot {i}" for i in range(40)], "title": "lamp"})
    frame.to_csv(tmp_path / "in.csv", index=False)
    frame.to_parquet(tmp_path / "in.parquet")
    seen: list[int] = []

    for name in ("in.csv", "in.parquet"):
        seen.clear()
        predict_file(bundle, tmp_path / name, tmp_path / "out.csv", on_rows=seen.append)
        out = _read(tmp_path / "out.csv")

        assert out["query"].tolist() == frame["query"].tolist()
        assert len(seen) > 1
        assert seen[-1] == 40


def test_no_rows_give_a_table_without_rows(bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "in.csv").write_text("query,title\n")

    assert predict_file(bundle, tmp_path / "in.csv", tmp_path / "out.csv").num_rows == 0

    assert list(_read(tmp_path / "out.csv").columns) == ["query", "title", "click_probability"]


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"", "Empty CSV file"),
        (b"query\nboot\n", r"no column 'title'; it has 'query'"),
        (b"query,title\nboot,a\nmug\n", r"Expected 2 columns, got 1: mug"),
        (b"query,title\nboot,a,b\n", "Expected 2 columns, got 3"),
        (b"query,title\nboot,\xff\n", "UTF8"),
        (b"query,title,click_probability\na,b,1\n", "'click_probability' already; rename or"),
    ],
)
def test_a_table_that_cannot_be_predicted_is_named(
    bundle: Path, tmp_path: Path, content: bytes, problem: str
) -> None:
    (tmp_path / "in.csv").write_bytes(content)
    (tmp_path / "out.csv").write_text("from before")

    with pytest.raises(ValueError, match=rf"(?s)in\.csv: .*{problem}"):
        predict_file(bundle, tmp_path / "in.csv", tmp_path / "out.csv")

    assert (tmp_path / "out.csv").read_text() == "from before"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["bundles", "in.csv", "out.csv"]


def test_a_row_without_text_is_named_by_its_number_in_the_file(
    bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trainables.bundle.predict_file.ROWS_AT_ONCE", 4)
    texts = ["boot"] * 11
    frame = pd.DataFrame({"query": [*texts, None], "title": [*texts, "mug"]})
    frame.to_parquet(tmp_path / "in.parquet")

    with pytest.raises(ValueError, match=r"in\.parquet: row 11, column 'query': expected text"):
        predict_file(bundle, tmp_path / "in.parquet", tmp_path / "out.csv")


def test_a_damaged_file_is_named(bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "in.csv.gz").write_bytes(gzip.compress(CSV.encode())[:30])
    (tmp_path / "in.parquet").write_bytes(b"PAR1")

    for name in ("in.csv.gz", "in.parquet"):
        with pytest.raises(ValueError, match=rf"{name}: "):
            predict_file(bundle, tmp_path / name, tmp_path / "out.csv")


def test_paths_are_checked_before_anything_is_read(bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "in.csv").write_text(CSV)

    for source, target, problem in (
        ("absent.csv", "out.csv", "there is no file"),
        ("in.csv", "in.csv", "must be a file of its own"),
        ("in.csv", "out.xlsx", r"out\.xlsx must end in \.csv"),
        ("in.csv", "absent/out.csv", "folder .*absent does not exist"),
    ):
        with pytest.raises(ValueError, match=problem):
            predict_file(bundle, tmp_path / source, tmp_path / target)
