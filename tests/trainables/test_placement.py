"""A model predicts every placement of a row, the best is taken, and its value is estimated."""

import dataclasses
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from spaces.trial_config import TrialConfig
from trainables.bundle import Predictor
from trainables.bundle.place import choose_placements
from trainables.bundle.place_file import place_file
from trainables.compression.config import CompressionConfig
from trainables.compression.pipeline import compress
from trainables.data.config import Columns, DataConfig
from trainables.data.prepared import PreparedData, prepare
from trainables.data.row_inputs import RowInputs
from trainables.data.table import load_clicks
from trainables.fine_tune import fine_tune
from trainables.placement import Placements, evaluate_placements
from trainables.task import TaskConfig
from trainables.trial_setup import TrialSetup, Worker

TASK = TaskConfig(kind="placement", placement=("slot",))
SLOTS = ("side", "top")


@pytest.fixture(scope="module")
def log() -> pd.DataFrame:
    """2,000 impressions: top is better for red products and worse for others; shown at random."""
    rng = np.random.default_rng(0)
    red = rng.random(2_000) < 0.5
    top = rng.random(2_000) < 0.3
    rate = np.where(red == top, 0.6, 0.1)
    return pd.DataFrame(
        {
            "title": np.where(red, "red sofa", "blue sofa"),
            "colour": np.where(red, "red", "blue"),
            "slot": np.where(top, "top", "side"),
            "propensity": np.where(top, 0.3, 0.7),
            "label": (rng.random(2_000) < rate).astype(int),
            "rate": rate,
        }
    )


@pytest.fixture(scope="module")
def data(
    log: pd.DataFrame, tiny_setup: TrialSetup, tmp_path_factory: pytest.TempPathFactory
) -> PreparedData:
    folder = tmp_path_factory.mktemp("placement")
    log.to_csv(folder / "log.csv", index=False)
    columns = Columns(
        text=("title",),
        label="label",
        categorical=("colour", "slot"),
        propensity="propensity",
    )
    table = load_clicks(DataConfig(path=str(folder / "log.csv"), columns=columns), TASK)
    return prepare(table, tiny_setup.encoder, folder / "prepared")


def by_slot(data: PreparedData, side: float, top: float) -> np.ndarray:
    """Predict the test rows by their slot alone."""
    placements = Placements.of(data, ("slot",))
    assert placements.values == (("side",), ("top",))

    def predict(inputs: RowInputs) -> np.ndarray:
        return np.where(placements.find(inputs.codes) == 0, side, top)

    return placements.scores(data.rows("test").inputs, predict)


def test_every_row_is_predicted_in_every_placement(data: PreparedData) -> None:
    scores = by_slot(data, side=0.2, top=0.4)

    assert scores.shape == (len(data.rows("test")), 2)
    assert np.unique(scores, axis=0).tolist() == [[0.2, 0.4]]


def test_the_value_of_a_policy_is_estimated_within_its_interval(
    data: PreparedData, log: pd.DataFrame
) -> None:
    placements = Placements.of(data, ("slot",))
    red = next(f for f in data.fields.categorical if f.name == "colour").values.index("red") + 2

    def knows_the_truth(inputs: RowInputs) -> np.ndarray:
        agrees = (inputs.codes[:, 0] == red) == (placements.find(inputs.codes) == 1)
        return np.where(agrees, 0.6, 0.1)

    report = evaluate_placements(placements, data.rows("test"), knows_the_truth, max_share=None)

    assert report.logged == pytest.approx(log["rate"].mean(), abs=0.08)
    for estimate in report.estimates.values():
        assert estimate.low < 0.6 < estimate.high
        assert estimate.warning == ""
    assert report.shares.keys() == set(SLOTS)
    assert sum(report.shares.values()) == pytest.approx(1)
    assert report.num_left_out == 0


def test_a_placement_gets_no_more_than_its_share(data: PreparedData) -> None:
    placements = Placements.of(data, ("slot",))

    def prefers_top(inputs: RowInputs) -> np.ndarray:
        return np.where(placements.find(inputs.codes) == 1, 0.5, 0.1)

    report = evaluate_placements(placements, data.rows("test"), prefers_top, max_share=0.6)

    assert report.shares["top"] == pytest.approx(0.6, abs=0.01)


def test_without_propensities_nothing_is_estimated(data: PreparedData) -> None:
    rows = dataclasses.replace(data.rows("test"), propensities=None)

    with pytest.raises(ValueError, match="can't be estimated without logging propensities"):
        evaluate_placements(
            Placements.of(data, ("slot",)), rows, lambda r: np.zeros(len(r)), max_share=None
        )


def test_a_bundle_chooses_the_better_placement(
    data: PreparedData, tiny_setup: TrialSetup, log: pd.DataFrame, tmp_path: Path
) -> None:
    setup = dataclasses.replace(
        tiny_setup, task=TASK, data_folder=str(data.folder), data_fingerprint=data.fingerprint
    )
    trial = TrialConfig(inputs="fields", epochs=3, field_learning_rate=0.05)
    *_, last = fine_tune(trial, setup, Worker(), checkpoints=tmp_path / "trial")
    assert last.checkpoint is not None
    report = compress(
        Path(last.checkpoint.path),
        CompressionConfig(max_metric_drop=0.9),
        tmp_path / "bundle",
        text_columns=("title",),
        metric="log_loss",
        lineage={},
    )
    assert report.bundle is not None
    predictor = Predictor(report.bundle, 1)

    chosen = choose_placements(predictor, {"colour": ["red", "blue"]})
    log.drop(columns="slot").to_csv(tmp_path / "rows.csv", index=False)
    num_rows = place_file(
        Path(report.bundle), tmp_path / "rows.csv", tmp_path / "placed.csv", max_share=0.5
    )

    assert chosen.to_columns()["best_slot"] == ["top", "side"]
    placed = pd.read_csv(tmp_path / "placed.csv")
    assert num_rows == len(placed) == len(log)
    assert placed["best_slot"].value_counts().max() == len(log) // 2
    assert placed["title"].tolist() == log["title"].tolist()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"kind": "placement"}, "task.placement names no column"),
        ({"placement": ("slot",)}, "are of kind: placement, but task.kind is ctr"),
        ({"max_placement_share": 0.5}, "are of kind: placement, but task.kind is ctr"),
        (
            {"kind": "placement", "placement": ("slot",), "max_placement_share": 0.0},
            r"must be in \(0, 1\]",
        ),
    ],
)
def test_a_task_that_makes_no_sense_is_refused(settings: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TaskConfig(**settings)  # type: ignore[arg-type]


def test_a_log_without_choice_is_refused(
    log: pd.DataFrame, tiny_setup: TrialSetup, tmp_path: Path
) -> None:
    log.assign(slot="top").to_csv(tmp_path / "log.csv", index=False)
    columns = Columns(text=("title",), label="label", categorical=("slot",))
    table = load_clicks(DataConfig(path=str(tmp_path / "log.csv"), columns=columns), TASK)
    one_slot = prepare(table, tiny_setup.encoder, tmp_path / "prepared")

    with pytest.raises(ValueError, match="shown in 1 placement by slot; a policy needs at least"):
        Placements.of(one_slot, ("slot",))
