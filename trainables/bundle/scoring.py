"""Score prepared rows with a bundle."""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from trainables.bundle.predictor import Predictor

if TYPE_CHECKING:
    from trainables.data.prepared import Rows


def score_bundle(bundle: Path, rows: "Rows", *, num_threads: int | None = None) -> np.ndarray:
    """Return the click probabilities, (n,) float64, that a bundle gives to prepared rows.

    Args:
        bundle: The bundle's folder, exported from the data that the rows are of.
        rows: Rows of one split.
        num_threads: Threads of the graph; None: one for each core.
    """
    return Predictor(bundle, num_threads).predict_inputs(rows.inputs)
