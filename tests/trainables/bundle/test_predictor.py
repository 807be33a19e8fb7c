"""The predictor: it reads text as training did, and says clearly what it can't read."""

import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.trainables.bundle.conftest import ROWS
from trainables.bundle import Predictor
from trainables.bundle.predictor import log_odds
from trainables.bundle.scoring import score_bundle
from trainables.data.config import Columns, DataConfig
from trainables.data.prepared import prepare
from trainables.data.row_inputs import RowInputs
from trainables.data.table import load_clicks
from trainables.data.token_rows import TokenRows
from trainables.encoder import EncoderConfig
from trainables.task import TaskConfig


@pytest.fixture(scope="module")
def predictor(shared_bundles: dict[str, Path]) -> Predictor:
    return Predictor(shared_bundles["fp32"], num_threads=1)


def test_predictions_equal_the_trained_models(
    predictor: Predictor, uncompressed: np.ndarray
) -> None:
    assert np.ptp(uncompressed) > 0.01
    np.testing.assert_allclose(predictor.predict(ROWS), uncompressed, atol=1e-6)


def test_tokenized_rows_give_what_their_texts_give(
    predictor: Predictor, pair_tokens: TokenRows
) -> None:
    np.testing.assert_allclose(
        predictor.predict_inputs(RowInputs.of_text(pair_tokens)),
        predictor.predict(ROWS),
        atol=1e-12,
    )


def test_int8_stays_near_the_model(
    shared_bundles: dict[str, Path], uncompressed: np.ndarray
) -> None:
    probabilities = Predictor(shared_bundles["int8"], num_threads=1).predict(ROWS)

    assert np.abs(log_odds(probabilities) - log_odds(uncompressed)).max() < 0.2


def test_rows_columns_and_tables_are_the_same_input(predictor: Predictor) -> None:
    expected = predictor.predict(ROWS)
    frame = pd.DataFrame(ROWS)

    for rows in (
        tuple(ROWS),
        iter(ROWS),
        {name: [row[name] for row in ROWS] for name in ROWS[0]},
        {name: np.array([row[name] for row in ROWS]) for name in ROWS[0]},
        frame,
        frame.astype("object"),
        frame.set_index(pd.Index([9, 9, 1, 0, 5])),
    ):
        np.testing.assert_array_equal(predictor.predict(rows), expected)


def test_no_rows_give_no_probabilities(predictor: Predictor) -> None:
    nothing: list[object] = [
        [],
        {"query": [], "title": []},
        pd.DataFrame({"query": [], "title": []}),
    ]
    for rows in nothing:
        result = predictor.predict(rows)
        assert result.shape == (0,)
        assert result.dtype == np.float64


@settings(max_examples=25)
@given(
    rows=st.lists(
        st.tuples(
            st.text(st.characters(codec="utf-8"), max_size=20),
            st.text(st.characters(codec="utf-8"), max_size=20),
        ),
        min_size=1,
        max_size=6,
    )
)
def test_a_rows_probability_does_not_depend_on_its_company(
    predictor: Predictor, rows: list[tuple[str, str]]
) -> None:
    mappings = [{"query": query, "title": title} for query, title in rows]

    together = predictor.predict(mappings)

    alone = [predictor.predict([row])[0] for row in mappings]
    np.testing.assert_allclose(together, alone, atol=1e-6)


def test_more_rows_than_are_tokenized_at_once_stay_in_order(
    predictor: Predictor, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = predictor.predict(ROWS)
    monkeypatch.setattr("trainables.bundle.predictor.ROWS_AT_ONCE", 2)
    monkeypatch.setattr("trainables.bundle.predictor.TOKENS_PER_BATCH", 20)

    np.testing.assert_allclose(predictor.predict(ROWS), expected, atol=1e-6)


@pytest.mark.parametrize(
    ("rows", "problem"),
    [
        ([{"query": "a"}], "row 0 has no column 'title'; it has 'query'"),
        ([*ROWS, {}], "row 5 has no column 'query'; it has none"),
        ({"query": ["a"]}, "the input has no column 'title'"),
        (pd.DataFrame({"title": ["a"]}), "the table has no column 'query'; it has 'title'"),
        ([{"query": None, "title": "b"}], r"row 0, column 'query': expected text, got None"),
        (
            [ROWS[0], {"query": "a", "title": 3.5}],
            r"row 1, column 'title': expected text, got 3\.5 \(float\)",
        ),
        (
            pd.DataFrame({"query": ["a", None], "title": ["b", "c"]}),
            "row 1, column 'query': expected text",
        ),
        ([{"query": b"a", "title": "b"}], r"row 0, column 'query': .* \(bytes\)"),
        ([{"query": "a", "title": "\ud800"}], "row 0, column 'title': .* is not valid Unicode"),
        ({"query": "a", "title": "b"}, "column 'query' must be a list of values, got 'a'"),
        ({"query": ["a"], "title": []}, "equally long, but 'query' has 1, 'title' has 0"),
        (["red sofa"], "row 0: expected a mapping like"),
        ("red sofa", "expected a list of rows like"),
        (None, "expected a list of rows like .*, got NoneType"),
        (7, "expected a list of rows like .*, got int"),
    ],
)
def test_what_cannot_be_read_is_named(predictor: Predictor, rows: object, problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        predictor.predict(rows)


def test_a_changed_bundle_does_not_load(bundle: Path) -> None:
    (bundle / "features.json").write_text("{}")

    with pytest.raises(ValueError, match=r"features\.json was changed after the export"):
        Predictor(bundle)


def test_an_unknown_number_of_threads_is_refused(bundle: Path) -> None:
    with pytest.raises(ValueError, match="num_threads must be at least 1 or None, got 0"):
        Predictor(bundle, num_threads=0)


def test_a_link_to_a_bundle_is_as_good_as_the_bundle(bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "best").symlink_to(bundle)

    assert len(Predictor(tmp_path / "best").predict(ROWS)) == len(ROWS)


def test_prepared_rows_are_scored_as_their_texts_are(
    tiny_encoder: Path, bundle: Path, tmp_path: Path
) -> None:
    names = ("query", "title")
    rows = [{**row, "label": number % 2} for number, row in enumerate(ROWS * 4)]
    pd.DataFrame(rows).to_parquet(tmp_path / "rows.parquet")
    columns = Columns(text=names, optional_text=("query",), label="label")
    config = DataConfig(path=str(tmp_path / "rows.parquet"), columns=columns)
    table = load_clicks(config, TaskConfig())
    encoder = EncoderConfig(name=str(tiny_encoder), max_tokens=16)
    prepared = prepare(table, encoder, tmp_path / "data").rows("train")

    probabilities = score_bundle(bundle, prepared)

    texts = [dict(zip(names, row, strict=True)) for row in prepared.texts()]
    np.testing.assert_allclose(probabilities, Predictor(bundle).predict(texts), atol=1e-9)


def test_importing_the_predictor_loads_nothing_heavy() -> None:
    code = (
        "import sys; from trainables.bundle import Predictor; "
        "heavy = {'torch', 'ray', 'transformers', 'pandas', 'pydantic', 'onnx', 'deepspeed'}; "
        "print(sorted(heavy & set(sys.modules)))"
    )
    started = time.perf_counter()

    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )

    assert done.stdout.strip() == "[]"
    # Half a second where the machine is idle; the limit leaves room for a busy one.
    assert time.perf_counter() - started < 5


def test_a_list_of_texts_is_read_as_in_training(predictor: Predictor) -> None:
    name = predictor.features.text[-1]
    joined = [{**row, name: "sofa; red chair"} for row in ROWS]

    for history in (
        ["sofa", "red chair"],
        ("sofa", None, "red chair"),
        np.array(["sofa", "red chair"]),
    ):
        listed = [{**row, name: history} for row in ROWS]
        np.testing.assert_array_equal(predictor.predict(listed), predictor.predict(joined))


def test_a_list_of_anything_else_is_refused(predictor: Predictor) -> None:
    name = predictor.features.text[-1]

    with pytest.raises(ValueError, match=rf"row 0, column '{name}': expected text, got \[3\]"):
        predictor.predict([{**ROWS[0], name: [3]}])
