"""Bring predicted probabilities to the click rates that were seen; numpy alone applies it."""

import itertools
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, cast, get_args

import numpy as np

CalibrationKind = Literal["none", "temperature", "platt", "isotonic"]
"""none: as predicted; temperature: log-odds scaled (Guo et al. 2017); platt: scaled and shifted
(Platt 1999); isotonic: any rising function (Zadrozny and Elkan 2002)."""

SLOPES = (0.01, 100.0)
"""Least and largest slope: above zero, so that no ranking is turned round; and not without end,
where a model ranks all rows right."""
OFFSETS = (-50.0, 50.0)
"""Least and largest offset, in log-odds."""

_FIELDS: dict[CalibrationKind, tuple[str, ...]] = {
    "none": (),
    "temperature": ("slope",),
    "platt": ("slope", "offset"),
    "isotonic": ("thresholds", "values"),
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Calibration:
    """A function of a probability that never falls."""

    kind: CalibrationKind = "none"
    """Its form."""
    slope: float = 1.0
    """temperature, platt: factor of the log-odds, which is one over the temperature."""
    offset: float = 0.0
    """platt: what is added to them."""
    thresholds: tuple[float, ...] = ()
    """isotonic: probabilities, rising; between two of them the function is a straight line, beyond
    the first and the last it is constant."""
    values: tuple[float, ...] = ()
    """isotonic: what becomes of each of them, never falling."""

    def __post_init__(self) -> None:
        if self.kind not in _FIELDS:
            raise ValueError(f"calibration kind is {self.kind!r}; use one of {', '.join(_FIELDS)}")
        if not (math.isfinite(self.slope) and self.slope > 0 and math.isfinite(self.offset)):
            raise ValueError(
                "calibration: slope must be a number above 0 and offset a number, got slope "
                f"{self.slope}, offset {self.offset}; fit it again"
            )
        if self.kind == "isotonic":
            self._check_steps()

    def _check_steps(self) -> None:
        if len(self.thresholds) != len(self.values) or not self.values:
            raise ValueError(
                f"calibration: {len(self.thresholds)} thresholds and {len(self.values)} values; "
                "isotonic needs equally many, at least one"
            )
        for name, numbers in (("thresholds", self.thresholds), ("values", self.values)):
            if not all(0 <= number <= 1 for number in numbers):
                raise ValueError(f"calibration: {name} must be in [0, 1], got {list(numbers)[:5]}")
        if any(later <= earlier for earlier, later in itertools.pairwise(self.thresholds)):
            raise ValueError("calibration: thresholds must rise; fit it again")
        if any(later < earlier for earlier, later in itertools.pairwise(self.values)):
            raise ValueError("calibration: values must not fall; fit it again")

    def apply(self, probabilities: np.ndarray) -> np.ndarray:
        """Calibrate probabilities.

        Args:
            probabilities: Of any shape, in [0, 1].

        Returns:
            float64, of the same shape, in [0, 1].

        Raises:
            ValueError: if one isn't in [0, 1].
        """
        probabilities = np.asarray(probabilities, np.float64)
        if not ((probabilities >= 0) & (probabilities <= 1)).all():
            raise ValueError("can't calibrate what is no probability: a value is not in [0, 1]")
        if self.kind == "none":
            return probabilities
        if self.kind == "isotonic":
            found = np.interp(probabilities, self.thresholds, self.values)
            calibrated: np.ndarray = np.clip(found, self.values[0], self.values[-1])
            return calibrated
        return _sigmoid(self.slope * _log_odds(probabilities) + self.offset)

    def to_dict(self) -> dict[str, Any]:
        """Return the calibration as JSON values."""
        found: dict[str, Any] = {"kind": self.kind}
        for name in _FIELDS[self.kind]:
            value = getattr(self, name)
            found[name] = list(value) if isinstance(value, tuple) else value
        return found

    @classmethod
    def from_dict(cls, raw: Any) -> "Calibration":  # noqa: ANN401 - unchecked JSON
        """Read what :meth:`to_dict` wrote.

        Raises:
            ValueError: if it isn't that, with what is wrong.
        """
        if not isinstance(raw, Mapping) or not isinstance(raw.get("kind"), str):
            raise ValueError(f"calibration: expected a mapping with a kind, got {raw!r:.80}")
        kind = raw["kind"]
        if kind not in _FIELDS:
            raise ValueError(f"calibration kind is {kind!r}; use one of {', '.join(_FIELDS)}")
        kind = cast("CalibrationKind", kind)
        if set(raw) != {"kind", *_FIELDS[kind]}:
            raise ValueError(
                f"calibration {kind} has {', '.join(map(str, raw))}; expected "
                f"{', '.join(('kind', *_FIELDS[kind]))}"
            )
        return cls(kind=kind, **{name: _read(name, raw[name]) for name in _FIELDS[kind]})


def _read(name: str, value: Any) -> Any:  # noqa: ANN401 - unchecked JSON
    if name in ("slope", "offset"):
        return _number(name, value)
    if not isinstance(value, list):
        raise ValueError(f"calibration: {name} must be a list of numbers, got {value!r:.80}")
    return tuple(_number(name, item) for item in value)


def _number(name: str, value: Any) -> float:  # noqa: ANN401 - unchecked JSON
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(f"calibration: {name} must hold numbers, got {value!r:.80}")
    try:
        return float(value)
    except OverflowError as error:
        raise ValueError(f"calibration: {name} holds a number that is too large") from error


def _log_odds(probabilities: np.ndarray) -> np.ndarray:
    tiny = np.finfo(np.float64).eps
    inside = np.clip(probabilities, tiny, 1 - tiny)
    value: np.ndarray = np.log(inside) - np.log1p(-inside)
    return value


def _sigmoid(log_odds: np.ndarray) -> np.ndarray:
    # Of the absolute value, because the exponential of a large number overflows.
    small = np.exp(-np.abs(log_odds))
    value: np.ndarray = np.where(log_odds >= 0, 1.0, small) / (1 + small)
    return value


def fit_calibration(
    kind: CalibrationKind, probabilities: np.ndarray, clicks: np.ndarray, impressions: np.ndarray
) -> Calibration:
    """Find the calibration of a kind with the least log loss on rows.

    It is never larger than that of the probabilities as they are.

    Args:
        kind: The calibration's form.
        probabilities: (n,) predicted click probabilities; of rows that no model was trained on.
        clicks: (n,) clicks.
        impressions: (n,) impressions, at least the clicks.

    Raises:
        ValueError: if the kind is unknown, the arrays don't match or aren't what they should be, or
            the rows lack clicks or impressions without one.
    """
    if kind not in get_args(CalibrationKind):
        raise ValueError(f"calibration kind is {kind!r}; use one of {', '.join(_FIELDS)}")
    rows = [np.asarray(array, np.float64) for array in (probabilities, clicks, impressions)]
    _check_fit(*rows)
    if kind == "none":
        return Calibration()
    if kind == "isotonic":
        return _fit_isotonic(*rows)
    return _fit_scaling(kind, *rows)


def _check_fit(probabilities: np.ndarray, clicks: np.ndarray, impressions: np.ndarray) -> None:
    shapes = [array.shape for array in (probabilities, clicks, impressions)]
    if len(set(shapes)) > 1 or probabilities.ndim != 1:
        raise ValueError(
            "probabilities, clicks and impressions must be three arrays of one length, "
            f"got shapes {', '.join(map(str, shapes))}"
        )
    if not ((probabilities >= 0) & (probabilities <= 1)).all():
        raise ValueError("can't calibrate what is no probability: a value is not in [0, 1]")
    if not ((clicks >= 0) & (clicks <= impressions) & np.isfinite(impressions)).all():
        raise ValueError("clicks must be in [0, impressions] in every row")
    if not 0 < clicks.sum() < impressions.sum():
        raise ValueError(
            f"can't fit a calibration to {clicks.sum():g} clicks in {impressions.sum():g} "
            "impressions; it needs clicks and impressions without a click"
        )


def _fit_scaling(
    kind: CalibrationKind, probabilities: np.ndarray, clicks: np.ndarray, impressions: np.ndarray
) -> Calibration:
    from scipy.optimize import minimize

    log_odds, total = _log_odds(probabilities), impressions.sum()

    def loss(parameters: np.ndarray) -> tuple[float, np.ndarray]:
        slope, offset = parameters
        scaled = slope * log_odds + offset
        value = (impressions * np.logaddexp(0, scaled) - clicks * scaled).sum() / total
        surplus = (impressions * _sigmoid(scaled) - clicks) / total
        return float(value), np.array([surplus @ log_odds, surplus.sum()])

    unchanged = np.array([1.0, 0.0])
    bounds = [SLOPES, OFFSETS if kind == "platt" else (0.0, 0.0)]
    options = {"ftol": 1e-14, "gtol": 1e-9, "maxiter": 500}
    found = minimize(loss, unchanged, jac=True, bounds=bounds, method="L-BFGS-B", options=options).x
    # Its last steps may gain nothing but rounding.
    best = found if loss(found)[0] < loss(unchanged)[0] else unchanged
    return Calibration(kind=kind, slope=float(best[0]), offset=float(best[1]))


def _fit_isotonic(
    probabilities: np.ndarray, clicks: np.ndarray, impressions: np.ndarray
) -> Calibration:
    """Pool adjacent violators (Ayer et al. 1955), which minimizes log loss as well as squares.

    A rate is nowhere more extreme than half a click in all impressions, or than the model itself
    was: one click among rows that had none would otherwise cost without end.
    """
    shown = impressions > 0
    distinct, codes = np.unique(probabilities[shown], return_inverse=True)
    clicked = np.bincount(codes, weights=clicks[shown])
    weights = np.bincount(codes, weights=impressions[shown])
    blocks: list[tuple[float, float, int]] = []
    """(clicks, impressions, first of the distinct probabilities)"""
    for first, (numerator, denominator) in enumerate(
        zip(clicked.tolist(), weights.tolist(), strict=True)
    ):
        block = numerator, denominator, first
        while blocks and blocks[-1][0] * block[1] >= block[0] * blocks[-1][1]:
            before = blocks.pop()
            block = before[0] + block[0], before[1] + block[1], before[2]
        blocks.append(block)
    floor = min(0.5 / max(impressions.sum(), 1.0), distinct[0])
    ceiling = max(1 - 0.5 / max(impressions.sum(), 1.0), distinct[-1])
    ends = [first - 1 for _, _, first in blocks[1:]] + [len(distinct) - 1]
    steps: dict[float, float] = {}
    for (numerator, denominator, first), last in zip(blocks, ends, strict=True):
        rate = float(np.clip(numerator / denominator, floor, ceiling))
        steps[float(distinct[first])] = rate
        steps[float(distinct[last])] = rate
    return Calibration(kind="isotonic", thresholds=tuple(steps), values=tuple(steps.values()))
