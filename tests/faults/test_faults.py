"""A study survives every fault of ``fault_table.py``, one test a fault."""

from pathlib import Path

import pytest

from tests.faults.cases import CASES, Case, Findings
from tests.faults.study_process import StudyPlace

pytestmark = [pytest.mark.ray, pytest.mark.slow]


@pytest.mark.parametrize("case", CASES, ids=[case.name.replace(" ", "_") for case in CASES])
def test_a_study_survives(case: Case, tmp_path: Path, tiny_encoder: Path) -> None:
    found = Findings()

    case.run(StudyPlace(folder=tmp_path / "case", encoder=tiny_encoder), found)

    if found.not_run:
        pytest.skip(found.not_run)
    assert found.problems == [], found.happened
