"""A calibration is monotone, survives JSON, finds what was true, and costs nothing on its rows."""

import json
import subprocess
import sys
from typing import get_args

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.isotonic import IsotonicRegression

from trainables.calibration import Calibration, CalibrationKind, fit_calibration
from trainables.metrics import METRICS

KINDS = get_args(CalibrationKind)
Rows = tuple[np.ndarray, np.ndarray, np.ndarray]


@st.composite
def rows_to_fit(draw: st.DrawFn) -> Rows:
    probability = st.one_of(st.sampled_from([0.0, 0.2, 0.5, 1.0]), st.floats(0, 1))
    row = st.tuples(probability, st.integers(0, 4), st.integers(0, 4))
    rows = np.array([*draw(st.lists(row, max_size=30)), (draw(probability), 1, 1)], dtype=float)
    return rows[:, 0], rows[:, 1], rows[:, 1] + rows[:, 2]


def log_loss(probabilities: np.ndarray, rows: Rows) -> float:
    return METRICS["log_loss"].function(probabilities, *rows[1:], np.arange(len(rows[0])))


def simulate(num_rows: int, slope: float, offset: float) -> Rows:
    """Draw clicks for a model whose log-odds are off by a known scale and shift."""
    rng = np.random.default_rng(0)
    log_odds = rng.normal(-1, 1.5, num_rows)
    impressions = rng.integers(1, 20, num_rows)
    clicks = rng.binomial(impressions, 1 / (1 + np.exp(-(slope * log_odds + offset))))
    return 1 / (1 + np.exp(-log_odds)), clicks.astype(float), impressions.astype(float)


@pytest.mark.parametrize("kind", KINDS)
@given(rows=rows_to_fit(), others=st.lists(st.floats(0, 1), min_size=1, max_size=30))
def test_a_calibration_never_falls_and_stays_a_probability(
    kind: CalibrationKind, rows: Rows, others: list[float]
) -> None:
    calibration = fit_calibration(kind, *rows)

    calibrated = calibration.apply(np.sort([*others, *rows[0], 0.0, 1.0]))

    # Neighbouring numbers may change places in their last digit.
    assert (np.diff(calibrated) >= -1e-15).all()
    assert ((calibrated >= 0) & (calibrated <= 1)).all()


@pytest.mark.parametrize("kind", KINDS)
@given(rows=rows_to_fit())
def test_log_loss_on_the_fitted_rows_never_grows(kind: CalibrationKind, rows: Rows) -> None:
    calibrated = fit_calibration(kind, *rows).apply(rows[0])

    assert log_loss(calibrated, rows) <= log_loss(rows[0], rows) + 1e-9


@pytest.mark.parametrize("kind", KINDS)
@given(rows=rows_to_fit())
def test_a_calibration_survives_json_exactly(kind: CalibrationKind, rows: Rows) -> None:
    calibration = fit_calibration(kind, *rows)

    text = json.dumps(calibration.to_dict(), allow_nan=False)

    assert Calibration.from_dict(json.loads(text)) == calibration


def test_temperature_is_recovered() -> None:
    rows = simulate(50_000, slope=1 / 2.5, offset=0.0)

    calibration = fit_calibration("temperature", *rows)

    assert 1 / calibration.slope == pytest.approx(2.5, rel=0.02)
    assert calibration.offset == 0


def test_platt_recovers_scale_and_shift() -> None:
    rows = simulate(50_000, slope=0.7, offset=-0.4)

    calibration = fit_calibration("platt", *rows)

    assert calibration.slope == pytest.approx(0.7, abs=0.02)
    assert calibration.offset == pytest.approx(-0.4, abs=0.02)


@settings(max_examples=50)
@given(rows=rows_to_fit(), kind=st.sampled_from(["temperature", "platt"]))
def test_scaling_is_no_worse_than_any_on_a_grid(rows: Rows, kind: CalibrationKind) -> None:
    found = log_loss(fit_calibration(kind, *rows).apply(rows[0]), rows)

    offsets = [-3.0, -1.0, 0.0, 0.5, 2.0] if kind == "platt" else [0.0]
    for slope in (0.01, 0.3, 1.0, 2.0, 10.0):
        for offset in offsets:
            other = Calibration(kind="platt", slope=slope, offset=offset)
            assert found <= log_loss(other.apply(rows[0]), rows) + 1e-6


@given(rows=rows_to_fit())
def test_isotonic_equals_scikit_learn_where_no_rate_is_extreme(rows: Rows) -> None:
    # scikit-learn merges neighbours that are closer than rounding.
    probabilities, clicks, impressions = rows[0].round(6), rows[1], rows[2]
    shown = impressions > 0
    rates = clicks[shown] / impressions[shown]
    reference = IsotonicRegression(out_of_bounds="clip")
    reference.fit(probabilities[shown], rates, sample_weight=impressions[shown])

    calibration = fit_calibration("isotonic", probabilities, clicks, impressions)

    low, high = calibration.values[0], calibration.values[-1]
    expected = np.clip(reference.predict(probabilities[shown]), low, high)
    assert calibration.apply(probabilities[shown]) == pytest.approx(expected, abs=1e-9)
    assert low <= 0.5 / impressions.sum() or low == pytest.approx(reference.predict([0.0])[0])


def test_isotonic_is_never_certain_unless_the_model_was() -> None:
    probabilities, clicks = np.linspace(0.1, 0.9, 100), np.repeat([0.0, 1.0], 50)

    calibrated = fit_calibration("isotonic", probabilities, clicks, np.ones(100)).apply(
        np.array([0.0, 1.0])
    )

    assert calibrated.tolist() == [0.005, 0.995]


def test_a_model_that_ranks_all_wrong_is_not_turned_round() -> None:
    rows = np.array([0.1, 0.2, 0.8, 0.9]), np.array([1.0, 1.0, 0.0, 0.0]), np.ones(4)

    for kind in KINDS[1:]:
        calibrated = fit_calibration(kind, *rows).apply(rows[0])
        assert calibrated == pytest.approx(np.full(4, 0.5), abs=0.02)


def test_none_changes_nothing() -> None:
    probabilities = np.array([[0.0, 1e-300], [0.3, 1.0]])

    assert Calibration().apply(probabilities).tolist() == probabilities.tolist()


def test_shape_is_kept() -> None:
    calibration = Calibration(kind="temperature", slope=2.0)

    assert calibration.apply(np.full((2, 3), 0.5)) == pytest.approx(np.full((2, 3), 0.5))
    assert calibration.apply(np.zeros(0)).shape == (0,)


def test_applying_one_loads_no_library_but_numpy() -> None:
    code = (
        "import sys; from trainables.calibration import Calibration; "
        "Calibration(kind='platt').apply([0.5]); "
        "print({'scipy', 'sklearn', 'torch', 'pandas'} & set(sys.modules))"
    )

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout.strip() == "set()"


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (None, "expected a mapping with a kind, got None"),
        ({}, "expected a mapping with a kind"),
        ({"kind": "beta"}, "kind is 'beta'; use one of none, temperature, platt, isotonic"),
        ({"kind": "none", "slope": 1.0}, "none has kind, slope; expected kind"),
        ({"kind": "platt", "slope": 1.0}, "platt has kind, slope; expected kind, slope, offset"),
        ({"kind": "temperature", "slope": "2"}, "slope must hold numbers, got '2'"),
        ({"kind": "temperature", "slope": True}, "slope must hold numbers, got True"),
        ({"kind": "temperature", "slope": 10**400}, "slope holds a number that is too large"),
        ({"kind": "temperature", "slope": 0}, "slope must be a number above 0"),
        ({"kind": "temperature", "slope": float("nan")}, "slope must be a number above 0"),
        ({"kind": "isotonic", "thresholds": 0.5, "values": [1]}, "must be a list of numbers"),
        ({"kind": "isotonic", "thresholds": [], "values": []}, "at least one"),
        ({"kind": "isotonic", "thresholds": [0.1], "values": [0, 1]}, "equally many"),
        ({"kind": "isotonic", "thresholds": [0.1, 1.5], "values": [0, 1]}, r"in \[0, 1\]"),
        ({"kind": "isotonic", "thresholds": [0.1, 0.1], "values": [0, 1]}, "must rise"),
        ({"kind": "isotonic", "thresholds": [0.1, 0.2], "values": [1, 0]}, "must not fall"),
    ],
)
def test_what_is_no_calibration_is_refused(raw: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Calibration.from_dict(raw)


@pytest.mark.parametrize("wrong", [-0.1, 1.1, np.nan])
def test_what_is_no_probability_is_refused(wrong: float) -> None:
    with pytest.raises(ValueError, match="no probability"):
        Calibration(kind="platt").apply(np.array([0.5, wrong]))
    with pytest.raises(ValueError, match="no probability"):
        fit_calibration("platt", np.array([0.5, wrong]), np.array([0, 1]), np.ones(2))


@pytest.mark.parametrize("kind", KINDS[1:])
@pytest.mark.parametrize("clicks", [np.zeros(3), np.ones(3)])
def test_one_outcome_is_not_enough(kind: CalibrationKind, clicks: np.ndarray) -> None:
    with pytest.raises(ValueError, match="needs clicks and impressions without a click"):
        fit_calibration(kind, np.full(3, 0.5), clicks, np.ones(3))


def test_rows_that_do_not_match_are_refused() -> None:
    with pytest.raises(ValueError, match="three arrays of one length"):
        fit_calibration("platt", np.full(2, 0.5), np.zeros(3), np.ones(3))
    with pytest.raises(ValueError, match="clicks must be in"):
        fit_calibration("platt", np.full(2, 0.5), np.full(2, 2.0), np.ones(2))
    with pytest.raises(ValueError, match="kind is 'beta'"):
        fit_calibration("beta", np.full(2, 0.5), np.ones(2), np.ones(2))  # type: ignore[arg-type]
