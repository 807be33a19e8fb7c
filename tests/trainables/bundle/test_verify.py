"""Verification: it passes what was exported, and names what was not."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
import pytest

from trainables.bundle.verify import describe_bundle, verify_bundle

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


def test_a_bundle_is_timed_where_that_is_asked(bundle: Path) -> None:
    assert verify_bundle(bundle).latency is None

    found = verify_bundle(bundle, latency=True).latency

    assert found is not None
    assert found.median_ms > 0
    assert (found.at_export_ms, found.limit_ms) == (1.5, None)
    assert verify_bundle(bundle, latency=True, max_latency_ms=9_000).latency is not None


def test_a_bundle_that_is_slower_than_it_may_be_is_refused(
    bundle: Path, edit_manifest: Edit
) -> None:
    with pytest.raises(
        ValueError, match=r"takes \d+\.\d+ ms on one thread of this machine, and may"
    ):
        verify_bundle(bundle, latency=True, max_latency_ms=1e-6)

    edit_manifest(bundle, lambda raw: raw["compression"].update(max_latency_ms=1e-6))
    verify_bundle(bundle)
    with pytest.raises(ValueError, match=r"and may take 1e-06 ms; at export it took 1\.50 ms"):
        verify_bundle(bundle, latency=True)


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
