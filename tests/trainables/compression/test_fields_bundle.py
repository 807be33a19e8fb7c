"""A table with text and fields, from its file to a bundle that reads its raw rows."""

import dataclasses
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from spaces.trial_config import TrialConfig
from tests.trainables.bundle.format_reader import Reader, check_parity
from trainables.bundle import Predictor
from trainables.bundle.scoring import score_bundle
from trainables.bundle.verify import verify_bundle
from trainables.checkpoint import load_model
from trainables.compression.config import CompressionConfig
from trainables.compression.pipeline import compress
from trainables.data.config import Columns, DataConfig
from trainables.data.prepared import PreparedData, prepare
from trainables.data.table import load_clicks
from trainables.fine_tune import fine_tune, predict_probabilities
from trainables.task import TaskConfig
from trainables.trial_setup import TrialSetup, Worker

CONFIG = CompressionConfig(
    layer_fractions=(1.0,), keep_fractions=(1.0,), max_metric_drop=0.9, calibration="none"
)


@pytest.fixture(scope="module")
def frame() -> pd.DataFrame:
    """300 rows whose brand, price and hour decide what is clicked; the title says little."""
    rng = np.random.default_rng(0)
    number = np.arange(300)
    brand = rng.choice(["acme", "zenith", "other"], 300)
    price = rng.lognormal(3, 1, 300)
    time = pd.Timestamp("2026-03-01") + pd.to_timedelta(rng.integers(0, 10**6, 300), unit="s")
    odds = np.where(brand == "acme", 3.0, -3.0) + np.where(price > 20, -2.0, 2.0)
    return pd.DataFrame(
        {
            "title": [f"title {['acme', 'B-2', 'c', 'soft'][row % 4]} red" for row in number],
            "note": [None if row % 3 else "soft" for row in number],
            "brand": np.where(rng.random(300) < 0.1, None, brand),
            "price": np.where(rng.random(300) < 0.1, np.nan, price),
            "usual_price": price.round(1),
            "time": time,
            "label": (rng.random(300) < 1 / (1 + np.exp(-odds))).astype(int),
        }
    )


@pytest.fixture(scope="module")
def setup(
    frame: pd.DataFrame, tiny_setup: TrialSetup, tmp_path_factory: pytest.TempPathFactory
) -> TrialSetup:
    folder = tmp_path_factory.mktemp("fields")
    frame.to_parquet(folder / "log.parquet")
    columns = Columns(
        text=("title", "note"),
        optional_text=("note",),
        markers=True,
        label="label",
        categorical=("brand",),
        numeric=("price", "usual_price"),
        timestamp="time",
        time_features=("hour", "weekday", "age"),
        compare=(("title", "brand"), ("note", "title"), ("price", "usual_price")),
    )
    table = load_clicks(DataConfig(path=str(folder / "log.parquet"), columns=columns), TaskConfig())
    data = prepare(table, tiny_setup.encoder, folder / "prepared")
    return dataclasses.replace(
        tiny_setup, data_folder=str(data.folder), data_fingerprint=data.fingerprint
    )


@pytest.mark.parametrize("inputs", ["all", "fields", pytest.param("text", marks=pytest.mark.slow)])
def test_a_bundle_predicts_raw_rows_as_training_did(
    setup: TrialSetup, frame: pd.DataFrame, tmp_path: Path, inputs: str
) -> None:
    trial = TrialConfig(
        inputs=inputs,  # type: ignore[arg-type]
        tuned_layers=1,
        epochs=4,
        field_learning_rate=0.05,
    )
    *_, last = fine_tune(trial, setup, Worker(), checkpoints=tmp_path / "trial")
    assert last.checkpoint is not None

    report = compress(
        Path(last.checkpoint.path),
        CONFIG,
        tmp_path / "bundle",
        text_columns=("title", "note"),
        metric="roc_auc",
        lineage={},
    )

    assert report.bundle is not None
    verified = verify_bundle(report.bundle)
    check_parity(Reader(Path(report.bundle)))
    columns = verified.manifest.columns
    assert columns["text"] == (() if inputs == "fields" else ("title", "note"))
    fields = ("brand", "price", "usual_price", "time")
    compared = ("title / brand", "note / title", "price / usual_price")
    assert columns["compared"] == (() if inputs == "text" else compared)
    assert columns["fields"] == (() if inputs == "text" else fields)
    if inputs != "text":
        assert last.metrics["roc_auc"] > 0.75
    rows = PreparedData.open(Path(setup.data_folder)).rows("validation")
    prepared = score_bundle(Path(report.bundle), rows, num_threads=1)
    texts = pd.DataFrame(rows.texts(), columns=["title", "note"])
    raw = texts.assign(**rows.raw_fields(np.arange(len(rows))))
    predictor = Predictor(report.bundle, 1)
    np.testing.assert_allclose(predictor.predict(raw), prepared, atol=1e-9)
    model = load_model(Path(last.checkpoint.path))
    assert np.abs(predict_probabilities(model, rows) - prepared).max() < 0.05
    # As a shop has it: notes are missing, and the time is a timestamp, in pandas or in NumPy.
    probabilities = predictor.predict(frame)
    by_column = {name: frame[name].to_numpy() for name in frame}
    assert predictor.predict(by_column).tolist() == probabilities.tolist()
    # Where it is a validation row, it is predicted as one.
    times = rows.raw_fields(np.arange(len(rows)))["time"]
    seconds = frame["time"].astype("datetime64[ns]").astype(np.int64) / 1e9
    places = [int(np.flatnonzero(seconds == time)[0]) for time in times]
    # int8 scales a row's activations with the others of its batch.
    np.testing.assert_allclose(probabilities[places], prepared, atol=0.02)


def test_a_table_without_text_trains_on_its_fields(
    frame: pd.DataFrame, tiny_setup: TrialSetup, tmp_path: Path
) -> None:
    frame.to_csv(tmp_path / "log.csv", index=False)
    columns = Columns(label="label", categorical=("brand",), numeric=("price",))
    table = load_clicks(DataConfig(path=str(tmp_path / "log.csv"), columns=columns), TaskConfig())
    data = prepare(table, tiny_setup.encoder, tmp_path / "prepared")
    setup = dataclasses.replace(
        tiny_setup, data_folder=str(data.folder), data_fingerprint=data.fingerprint
    )
    trial = TrialConfig(epochs=4, field_learning_rate=0.05)

    *_, last = fine_tune(trial, setup, Worker(), checkpoints=tmp_path / "trial")
    assert last.checkpoint is not None
    report = compress(
        Path(last.checkpoint.path),
        CONFIG,
        tmp_path / "bundle",
        text_columns=(),
        metric="roc_auc",
        lineage={},
    )

    assert last.metrics["roc_auc"] > 0.75
    assert report.bundle is not None
    predicted = Predictor(report.bundle, 1).predict([{"brand": "acme", "price": None}])
    assert predicted[0] > 0.5
