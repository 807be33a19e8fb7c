"""The manifest: it survives a round trip, and refuses what it can't vouch for."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainables.bundle.manifest import (
    BUNDLE_FILES,
    MAX_DOCUMENT_BYTES,
    BundleManifest,
    check_files,
    read_manifest,
)

Edit = Callable[[Path, Callable[[dict[str, Any]], object]], None]


def test_a_manifest_reads_back_equal(bundle: Path) -> None:
    manifest = read_manifest(bundle)

    assert BundleManifest.from_json(manifest.to_json()) == manifest
    assert manifest.columns == {"text": ("query", "title"), "fields": (), "compared": ()}
    assert manifest.test_metrics is None


def test_an_untouched_bundle_passes(bundle: Path) -> None:
    check_files(bundle, read_manifest(bundle))


def test_an_older_bundle_is_to_be_exported_again(bundle: Path, edit_manifest: Edit) -> None:
    edit_manifest(bundle, lambda raw: raw.update(schema_version=3))

    with pytest.raises(ValueError, match=r"schema_version 3, .* export the bundle again"):
        read_manifest(bundle)


@pytest.mark.parametrize("name", BUNDLE_FILES)
def test_one_changed_byte_of_any_file_is_found(bundle: Path, name: str) -> None:
    path = bundle / name
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(bytes(content))

    with pytest.raises(ValueError, match=rf"{name} was changed after the export"):
        check_files(bundle, read_manifest(bundle))


def test_a_missing_file_is_named(bundle: Path) -> None:
    (bundle / "tokenizer.json").unlink()

    with pytest.raises(ValueError, match=r"incomplete: tokenizer\.json missing"):
        check_files(bundle, read_manifest(bundle))


def test_an_unexpected_file_is_named(bundle: Path) -> None:
    (bundle / "model.bin").write_bytes(b"x")

    with pytest.raises(ValueError, match=r"holds model\.bin, which its manifest doesn't list"):
        check_files(bundle, read_manifest(bundle))


def test_a_link_is_refused_even_to_equal_content(bundle: Path, tmp_path: Path) -> None:
    (bundle / "model.onnx").rename(tmp_path / "elsewhere.onnx")
    (bundle / "model.onnx").symlink_to(tmp_path / "elsewhere.onnx")

    with pytest.raises(ValueError, match=r"model\.onnx is not a plain file; a bundle holds no"):
        check_files(bundle, read_manifest(bundle))


@pytest.mark.parametrize("name", ["../model.onnx", "/etc/passwd", "a\\b", "..", "", "a/b"])
def test_a_file_name_that_leads_out_is_refused(
    bundle: Path, edit_manifest: Edit, name: str
) -> None:
    edit_manifest(bundle, lambda raw: raw["files"].update({name: raw["files"]["model.onnx"]}))

    with pytest.raises(ValueError, match="is not the name of a file in the bundle"):
        read_manifest(bundle)


def test_a_newer_schema_asks_for_an_upgrade(bundle: Path, edit_manifest: Edit) -> None:
    edit_manifest(bundle, lambda raw: raw.update(schema_version=5, novelty=1))

    with pytest.raises(ValueError, match=r"schema_version 5, and this ClickTune reads 4"):
        read_manifest(bundle)


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda raw: raw.pop("parity"), "lacks parity"),
        (lambda raw: raw.update(extra=1), "unknown fields extra"),
        (lambda raw: raw.update(schema_version=True), "schema_version must be a whole number"),
        (lambda raw: raw.update(name=7), "name must be a str, got 7"),
        (lambda raw: raw.update(files=[]), "files must be a dict"),
        (
            lambda raw: raw.update(columns={"text": [], "fields": [], "compared": []}),
            "columns must be like",
        ),
        (lambda raw: raw["files"]["model.onnx"].update(sha256="00"), "64 hexadecimal digits"),
        (lambda raw: raw["files"]["model.onnx"].update(num_bytes=-1), "num_bytes must be a size"),
        (lambda raw: raw["parity"].update(probabilities=[0.5]), "parity lists differ in length"),
        (lambda raw: raw["parity"].update(tolerance="much"), "tolerance must be a finite number"),
        (lambda raw: raw["parity"].update(tolerance=10**400), "tolerance must be a finite number"),
        (
            lambda raw: raw["parity"]["rows"].append(3),
            r"parity\.rows\[5\] must map columns to values",
        ),
        (lambda raw: raw["steps"].append({}), r"steps\[1\] lacks metrics, name"),
        (lambda raw: raw["latency"].update(machine=None), "latency.machine must be a str"),
    ],
)
def test_a_malformed_field_is_named(
    bundle: Path, edit_manifest: Edit, change: Callable[[dict[str, Any]], object], problem: str
) -> None:
    edit_manifest(bundle, change)

    with pytest.raises(ValueError, match=problem):
        read_manifest(bundle)


@pytest.mark.parametrize("text", ["", "{", "[]", "3", '"x"', "[" * 100_000, "{}", "\x00"])
def test_what_is_no_manifest_is_an_error_of_the_bundle(bundle: Path, text: str) -> None:
    (bundle / "manifest.json").write_text(text)

    with pytest.raises(ValueError, match="can't be read as a bundle's manifest"):
        read_manifest(bundle)


@pytest.mark.parametrize("name", ["manifest.json", "tokenizer.json", "drift.json"])
def test_a_document_that_would_fill_the_memory_is_not_read(bundle: Path, name: str) -> None:
    os.truncate(bundle / name, MAX_DOCUMENT_BYTES + 1)

    with pytest.raises(ValueError, match=rf"{name} takes 64 MB, and no bundle's needs more"):
        check_files(bundle, read_manifest(bundle))


def test_a_folder_without_manifest_is_no_bundle(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"is not a bundle: it has no file manifest\.json"):
        read_manifest(tmp_path)
    with pytest.raises(ValueError, match="there is no bundle at"):
        read_manifest(tmp_path / "absent")


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=5,
)


@given(
    field=st.sampled_from(sorted(BundleManifest.__slots__)),
    value=json_values,
)
def test_no_value_of_any_field_gets_past_as_another_error(
    field: str, value: object, valid_manifest: str
) -> None:
    raw = json.loads(valid_manifest)
    raw[field] = value

    try:
        manifest = BundleManifest.from_json(json.dumps(raw))
    except ValueError:
        return
    assert isinstance(manifest, BundleManifest)


@pytest.fixture(scope="session")
def valid_manifest(shared_bundles: dict[str, Path]) -> str:
    return (shared_bundles["fp32"] / "manifest.json").read_text()
