"""docs/bundles.md is enough to read a bundle: a reader made from it alone agrees."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from tests.trainables.bundle.conftest import ROWS
from tests.trainables.bundle.format_reader import Reader, check_parity
from trainables.bundle import Predictor
from trainables.bundle.manifest import file_record


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_a_reader_of_the_page_agrees(shared_bundles: dict[str, Path], precision: str) -> None:
    folder = shared_bundles[precision]
    reader = Reader(folder)

    check_parity(reader)

    # One by one: int8 scales activations by batch.
    expected = [Predictor(folder, 1).predict([row])[0] for row in ROWS]
    np.testing.assert_allclose([reader.predict([row])[0] for row in ROWS], expected, atol=1e-6)


@pytest.mark.parametrize(
    "calibration",
    [
        {"kind": "temperature", "slope": 0.7},
        {"kind": "platt", "slope": 1.3, "offset": -0.4},
        {"kind": "isotonic", "thresholds": [0.1, 0.2, 0.4], "values": [0.05, 0.3, 0.31]},
    ],
)
def test_a_reader_of_the_page_calibrates_alike(
    shared_bundles: dict[str, Path], tmp_path: Path, calibration: dict[str, object]
) -> None:
    folder = Path(shutil.copytree(shared_bundles["fp32"], tmp_path / "bundle"))
    (folder / "calibration.json").write_text(json.dumps(calibration))
    manifest = json.loads((folder / "manifest.json").read_text())
    record = file_record(folder / "calibration.json")
    manifest["files"]["calibration.json"] = {"sha256": record.sha256, "num_bytes": record.num_bytes}
    (folder / "manifest.json").write_text(json.dumps(manifest))

    found = Reader(folder).predict(ROWS)

    np.testing.assert_allclose(found, Predictor(folder, 1).predict(ROWS), atol=1e-6)
