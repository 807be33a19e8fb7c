"""Two bundles are told apart by what they say of themselves."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from trainables.bundle.difference import compare_bundles

Edit = Callable[[Path, Callable[[dict[str, Any]], object]], None]


def test_a_bundle_is_like_itself(bundle: Path) -> None:
    assert compare_bundles(bundle, bundle) == []


def test_precisions_differ_in_what_they_cost(bundle: Path, int8_bundle: Path) -> None:
    found = {difference.name: difference for difference in compare_bundles(bundle, int8_bundle)}

    assert (found["precision"].left, found["precision"].right) == ("fp32", "int8")
    assert "data fingerprint" not in found
    assert "encoder" not in found


def test_a_fact_that_one_lacks_is_told(
    bundle: Path, int8_bundle: Path, edit_manifest: Edit
) -> None:
    edit_manifest(bundle, lambda raw: raw["lineage"].update(seed=3))

    found = {difference.name: difference for difference in compare_bundles(bundle, int8_bundle)}

    assert (found["lineage: seed"].left, found["lineage: seed"].right) == (3, None)


def test_no_bundle_is_named(bundle: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="nowhere"):
        compare_bundles(bundle, tmp_path / "nowhere")
