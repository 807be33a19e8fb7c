"""Writing a bundle: whole or not at all, and with its test scores added later."""

import json
from pathlib import Path

import numpy as np
import pytest

from tests.trainables.bundle.conftest import ROWS, write_bundle
from trainables.bundle.card import model_card
from trainables.bundle.export import check_output, with_test_metrics
from trainables.bundle.features import read_features
from trainables.bundle.manifest import BUNDLE_FILES, BundleManifest, read_manifest
from trainables.bundle.predictor import Predictor
from trainables.bundle.verify import verify_bundle


def test_a_bundle_holds_its_files_and_nothing_else(bundle: Path) -> None:
    assert {path.name for path in bundle.iterdir()} == {*BUNDLE_FILES, "manifest.json"}
    assert read_features(bundle / "features.json").layout.num_segments == 2


def test_parity_records_what_the_predictor_gives(bundle: Path, uncompressed: np.ndarray) -> None:
    parity = read_manifest(bundle).parity

    predictor = Predictor(bundle, 1)

    alone = [predictor.predict([row])[0] for row in ROWS]
    np.testing.assert_array_equal(parity.probabilities, alone)
    np.testing.assert_allclose(parity.probabilities, uncompressed, atol=1e-6)
    np.testing.assert_array_equal(parity.uncompressed, uncompressed)
    assert parity.batch_spread < 1e-4
    assert parity.rows[0] == {"query": "red sofa", "title": "the best couch, in red"}


def test_test_metrics_are_added_to_manifest_and_card(bundle: Path) -> None:
    before = read_manifest(bundle)
    assert "not been scored on the test split" in (bundle / "README.md").read_text()

    with_test_metrics(bundle, {"roc_auc": 0.59871, "roc_auc_interval": [0.58, 0.62]})

    after = verify_bundle(bundle).manifest
    assert after.test_metrics == {"roc_auc": 0.59871, "roc_auc_interval": [0.58, 0.62]}
    assert after.files["model.onnx"] == before.files["model.onnx"]
    card = (bundle / "README.md").read_text()
    assert "roc_auc: 0.5987" in card
    assert "[0.58, 0.62]" in card
    assert [path.name for path in bundle.parent.iterdir()] == [bundle.name]


def test_test_metrics_reach_a_bundle_through_a_link(bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "best").symlink_to(bundle)

    with_test_metrics(tmp_path / "best", {"roc_auc": 0.5})

    assert read_manifest(bundle).test_metrics == {"roc_auc": 0.5}
    assert (tmp_path / "best").is_symlink()


def test_adding_test_metrics_again_mends_a_half_written_bundle(bundle: Path) -> None:
    (bundle / "README.md").write_text("a card whose manifest was never written")

    with_test_metrics(bundle, {"roc_auc": 0.5})

    verify_bundle(bundle)


def test_an_older_bundle_is_replaced(
    bundle: Path, graphs: dict[str, Path], tiny_encoder: Path, uncompressed: np.ndarray
) -> None:
    (bundle / "leftover.txt").write_text("of the older one")

    write_bundle(bundle, graphs["int8"], tiny_encoder, precision="int8", uncompressed=uncompressed)

    assert verify_bundle(bundle).manifest.compression["precision"] == "int8"
    assert [path.name for path in bundle.parent.iterdir()] == [bundle.name]


def test_nothing_but_a_bundle_is_replaced(bundle: Path, tmp_path: Path) -> None:
    folder = tmp_path / "thesis"
    folder.mkdir()
    link = tmp_path / "best"
    link.symlink_to(bundle)
    file = tmp_path / "file"
    file.write_text("x")

    for path in (folder, link, file):
        with pytest.raises(ValueError, match="exists and is not a bundle; choose another output"):
            check_output(path)


def test_the_card_can_hold_any_column_name_and_lineage(bundle: Path, tmp_path: Path) -> None:
    raw = json.loads((bundle / "manifest.json").read_text())
    raw["columns"] = {"text": ["a|b {x}", 'ti"tle'], "fields": ["price"], "compared": []}
    raw["lineage"] = {"study": "a | b\n{}"}
    card = model_card(BundleManifest.from_json(json.dumps(raw)))

    assert "`a|b {x}`" in card
    assert '`ti"tle`' in card
    # The example is a row that the bundle was checked with.
    assert f"predictor.predict([{dict(raw['parity']['rows'][0])!r}])" in card
