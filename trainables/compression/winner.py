"""The model that is compressed, and how good it was before."""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from trainables.bootstrap import bootstrap_difference
from trainables.bundle.features import Features
from trainables.calibration import Calibration, CalibrationKind, fit_calibration
from trainables.checkpoint import CheckpointInfo, load_model, read_checkpoint_info
from trainables.compression.vocabulary import keep_embeddings, keep_positions, trim_vocabulary
from trainables.data.fields import Fields
from trainables.data.prepared import PreparedData, Rows
from trainables.data.token_rows import TextLayout
from trainables.encoder import find_encoder, load_tokenizer
from trainables.fine_tune import predict_probabilities, score
from trainables.metrics import METRICS
from trainables.model import ClickModel
from trainables.placement import Placements

if TYPE_CHECKING:
    from tokenizers import Tokenizer

    from trainables.model import Model


@dataclass(frozen=True, kw_only=True, slots=True)
class Winner:
    """A trained model, and the rows to compress it with."""

    info: CheckpointInfo
    """What its checkpoint says about it."""
    text_columns: tuple[str, ...]
    """Names of the table's text columns, in order, also of those that the model doesn't read."""
    features: Features
    """How a row becomes what it reads."""
    metric: str
    """The study's metric."""
    model: "Model"
    """Uncompressed, on the CPU."""
    train: Rows
    """Rows to measure importance and to recover on."""
    validation: Rows
    """Rows to compare on."""
    probabilities: np.ndarray
    """What the model gives for the validation rows now."""
    baseline: dict[str, float]
    """Its metrics there, before anything was done to it."""
    baseline_probabilities: np.ndarray
    """What it gave for the validation rows then."""
    tokenizer: "Tokenizer"
    """What its texts are read with."""
    steps: tuple[tuple[str, dict[str, float]], ...]
    """What was done to it so far, with the metrics after each step."""

    def metrics(self, probabilities: np.ndarray) -> dict[str, float]:
        """Return the task's metrics on the validation rows; ``metric`` is always among them."""
        return score(probabilities, self.validation, self.info.setup)

    def calibrate(self, kind: CalibrationKind, probabilities: np.ndarray) -> Calibration:
        """Fit a calibration to the validation rows, from what a candidate gives for them."""
        rows = self.validation
        return fit_calibration(kind, probabilities, rows.clicks, rows.impressions)

    def with_trimmed_vocabulary(self, num_frequent: int) -> "Winner":
        """Leave out the pieces of words that no training text has; the model is changed in place.

        Args:
            num_frequent: Pieces that stay in any case, the first ones.
        """
        if not isinstance(self.model, ClickModel):
            return self
        used = self.train.tokens.used_ids()
        trimmed = trim_vocabulary(self.tokenizer, used, num_frequent=num_frequent)
        if trimmed is None:
            return self
        keep_embeddings(self.model, trimmed.kept)
        layout = self.features.layout
        validation = self.validation.retokenized(trimmed.tokenizer, layout)
        probabilities = predict_probabilities(self.model, validation)
        metrics = score(probabilities, validation, self.info.setup)
        return dataclasses.replace(
            self,
            train=self.train.retokenized(trimmed.tokenizer, layout),
            validation=validation,
            probabilities=probabilities,
            tokenizer=trimmed.tokenizer,
            steps=(*self.steps, ("vocabulary trimmed", metrics)),
        )

    def trim_positions(self) -> None:
        """Leave out the positions that no text reaches; the model is changed in place."""
        if isinstance(self.model, ClickModel):
            keep_positions(self.model, self.features.max_tokens)

    def goodness(self, metrics: Mapping[str, float]) -> float:
        """Return the study's metric, turned so that higher is better."""
        value = metrics[self.metric]
        return value if METRICS[self.metric].higher_is_better else -value

    def drop(self, metrics: Mapping[str, float]) -> float:
        """Return how much worse the study's metric is than before anything was done."""
        return self.goodness(self.baseline) - self.goodness(metrics)

    def drop_at_most(self, probabilities: np.ndarray, confidence: float) -> float:
        """Return what that is no more than, by the paired bootstrap.

        Args:
            probabilities: What a smaller model gives for the validation rows.
            confidence: How sure that is, above 0.5 and below 1.

        Raises:
            ValueError: if the validation rows are of one group, which nothing can be drawn from.
        """
        metric, rows = METRICS[self.metric], self.validation
        low, high = bootstrap_difference(
            metric,
            probabilities,
            self.baseline_probabilities,
            rows.clicks,
            rows.impressions,
            rows.groups,
            # Of an interval with equal shares on both sides.
            confidence=2 * confidence - 1,
            rng=np.random.default_rng(0),
        )
        return -low if metric.higher_is_better else high


def load_winner(
    checkpoint: Path,
    *,
    text_columns: Sequence[str],
    metric: str,
    data_folder: Path | None = None,
) -> Winner:
    """Load a checkpoint with its data, and measure it before anything is done to it.

    Args:
        checkpoint: Of a trial.
        text_columns: Names of the table's text columns, in the study's order.
        metric: The metric that compression may not cost too much of.
        data_folder: Where its prepared data lies now; None: where it lay when it was trained.

    Raises:
        ValueError: if the checkpoint can't be read or doesn't fit its data or the columns, or the
            metric is unknown or undefined on the validation rows.
    """
    if metric not in METRICS:
        raise ValueError(f"there is no metric {metric!r}; there are {', '.join(METRICS)}")
    info = read_checkpoint_info(checkpoint)
    data = PreparedData.open(data_folder or Path(info.setup.data_folder))
    if data.fingerprint != info.setup.data_fingerprint:
        raise ValueError(
            f"{checkpoint} was trained on data {info.setup.data_fingerprint}, but "
            f"{data.folder} holds {data.fingerprint}; compress it with the data of its study"
        )
    if len(text_columns) != data.layout.num_columns:
        raise ValueError(
            f"{checkpoint} was trained on {data.layout.num_columns} text columns, not on "
            f"{len(text_columns)} ({', '.join(text_columns)})"
        )
    model = load_model(checkpoint)
    validation = data.rows("validation")
    probabilities = predict_probabilities(model, validation)
    baseline = score(probabilities, validation, info.setup)
    if metric not in baseline:
        raise ValueError(
            f"{metric} can't be measured on the validation rows of {data.folder}, so compression "
            f"can't be judged by it; they define {', '.join(baseline)}"
        )
    return Winner(
        info=info,
        text_columns=tuple(text_columns),
        features=_features(info, data, text_columns),
        metric=metric,
        model=model,
        train=data.rows("train"),
        validation=validation,
        probabilities=probabilities,
        baseline=baseline,
        baseline_probabilities=probabilities,
        tokenizer=load_tokenizer(
            find_encoder(info.setup.encoder), max_tokens=info.setup.encoder.max_tokens
        ),
        steps=(("uncompressed", baseline),),
    )


def _features(info: CheckpointInfo, data: PreparedData, text_columns: Sequence[str]) -> Features:
    """Say what a bundle of this trial must read: no more than its model sees."""
    inputs = info.trial.inputs
    columns = info.setup.task.placement if inputs != "text" else ()
    return Features(
        text=() if inputs == "fields" else tuple(text_columns),
        max_tokens=info.setup.encoder.max_tokens,
        layout=TextLayout.of(0) if inputs == "fields" else data.layout,
        fields=Fields() if inputs == "text" else data.fields,
        placement=columns,
        placements=Placements.of(data, columns).values if columns else (),
    )
