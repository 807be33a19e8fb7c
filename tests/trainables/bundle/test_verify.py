"""Verification: it passes what was exported, and names what was not."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
import pytest

from trainables.bundle.verify import check_self_contained, describe_bundle, verify_bundle

Edit = Callable[[Path, Callable[[dict[str, Any]], object]], None]


def test_what_was_exported_verifies(bundle: Path, int8_bundle: Path) -> None:
    for folder, precision in ((bundle, "fp32"), (int8_bundle, "int8")):
        result = verify_bundle(folder)

        assert result.manifest.compression["precision"] == precision
        assert (result.num_files, result.num_parity_rows) == (6, 5)
        assert result.largest_difference <= 1e-5


def test_a_bundle_verifies_through_a_link(bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "best").symlink_to(bundle)

    verify_bundle(tmp_path / "best")


def test_a_tampered_file_fails(bundle: Path) -> None:
    with (bundle / "model.onnx").open("ab") as file:
        file.write(b"\0")

    with pytest.raises(ValueError, match=r"model\.onnx was changed after the export"):
        verify_bundle(bundle)


def test_another_model_with_the_right_hashes_fails_the_replay(
    bundle: Path, edit_manifest: Edit
) -> None:
    model = onnx.load(str(bundle / "model.onnx"))
    head = next(i for i in model.graph.initializer if i.name.endswith("head.bias"))
    changed = onnx.numpy_helper.to_array(head) + 0.01
    head.CopyFrom(onnx.numpy_helper.from_array(changed.astype("float32"), head.name))
    onnx.save(model, str(bundle / "model.onnx"))
    edit_manifest(bundle, lambda _raw: None)

    with pytest.raises(ValueError, match=r"doesn't give what it gave at export: parity row \d"):
        verify_bundle(bundle)


def test_another_truncation_fails_the_replay(bundle: Path, edit_manifest: Edit) -> None:
    path = bundle / "features.json"
    path.write_text(path.read_text().replace("16", "10"))
    edit_manifest(bundle, lambda _raw: None)

    with pytest.raises(ValueError, match="doesn't give what it gave at export"):
        verify_bundle(bundle)


def test_features_and_manifest_must_agree(bundle: Path, edit_manifest: Edit) -> None:
    edit_manifest(bundle, lambda raw: raw["columns"].update(text=["title", "query"]))

    with pytest.raises(ValueError, match=r"features\.json reads .*, but the manifest says"):
        verify_bundle(bundle)


def test_weights_in_another_file_are_refused(
    bundle: Path, edit_manifest: Edit, tmp_path: Path
) -> None:
    model = onnx.load(str(bundle / "model.onnx"))
    onnx.save(
        model,
        str(tmp_path / "model.onnx"),
        save_as_external_data=True,
        location="weights.bin",
        size_threshold=0,
    )
    (tmp_path / "model.onnx").replace(bundle / "model.onnx")
    edit_manifest(bundle, lambda _raw: None)

    with pytest.raises(ValueError, match="in another file, which the manifest's hashes don't"):
        verify_bundle(bundle)


def test_a_graph_that_is_none_is_refused(tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(b"\xff\xff\xff")

    with pytest.raises(ValueError, match="is not an ONNX graph"):
        check_self_contained(tmp_path / "model.onnx")


def test_a_file_that_the_manifest_forgets_is_named(bundle: Path, edit_manifest: Edit) -> None:
    edit_manifest(bundle, lambda raw: raw["files"].pop("README.md"))

    with pytest.raises(ValueError, match=r"its manifest doesn't list README\.md"):
        verify_bundle(bundle)


def test_a_description_holds_what_is_asked_for_first(bundle: Path) -> None:
    facts = describe_bundle(bundle)

    assert facts["text columns"] == ["query", "title"]
    assert facts["precision"] == "fp32"
    assert facts["validation"] == {"uncompressed": {"roc_auc": 0.61}}
    assert facts["lineage"] == {"study": "tiny", "trial": 7}
