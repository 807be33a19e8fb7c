"""Score prepared rows with a bundle."""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from trainables.bundle.predictor import Predictor
from trainables.data.row_inputs import RowInputs

if TYPE_CHECKING:
    from trainables.data.prepared import Rows


def score_bundle(bundle: Path, rows: "Rows", *, num_threads: int | None = None) -> np.ndarray:
    """Return the click probabilities, (n,) float64, that a bundle gives to prepared rows.

    Args:
        bundle: The bundle's folder, exported from the data that the rows are of.
        rows: Rows of one split.
        num_threads: Threads of the graph; None: one for each core.
    """
    predictor = Predictor(bundle, num_threads)
    return predictor.predict_inputs(inputs_of(predictor, rows))


def inputs_of(predictor: Predictor, rows: "Rows") -> RowInputs:
    """Return prepared rows as a bundle reads them: its vocabulary may be smaller than training's.

    Args:
        predictor: The bundle.
        rows: Rows of the data that it was made from.
    """
    if not predictor.features.text:
        return rows.inputs
    return rows.retokenized(predictor.tokenizer, predictor.features.layout).inputs
