"""A dry run measures a study's trials; one that memory can't hold is refused."""

import subprocess
import sys
from pathlib import Path

import pytest

from search.measure_costs import measure_costs
from search.study_config import parse_study
from spaces.trial_config import TrialConfig
from tests.search.test_tune_run import STUDY
from tests.trainables.short_of_memory import MAX_TOKENS, write_long_rows
from trainables.data.table import load_clicks

SHORT = """
import sys
from search.cli import run
from tests.trainables.short_of_memory import leave_room
import torch

leave_room(2_500_000_000)  # The process that measures inherits the limit as a whole.
raise SystemExit(run(["search", *sys.argv[1:], "--dry-run"]))
"""


def study_text(folder: Path, encoder: Path) -> str:
    path = write_long_rows(folder).path
    return STUDY.format(path=path, encoder=encoder, max_tokens=MAX_TOKENS)


def test_the_ends_are_measured_and_every_kind_is_known(tmp_path: Path, tiny_encoder: Path) -> None:
    space = "space={batch_size: {choice: [8, 16, 32]}, method: [lora], tuned_layers: 1}"
    config = parse_study(
        study_text(tmp_path, tiny_encoder), [space.replace("[lora]", "lora"), "search.trials=3"]
    )

    costs = measure_costs(config, load_clicks(config.data, config.task), use_gpu=False)

    assert [found.trial.batch_size for found in costs.footprints] == [8, 32]
    assert {kind.batch_size for kind in costs.shares} == {8, 16, 32}
    least, between, most = (
        costs.of(kind).memory_bytes for kind in sorted(costs.shares, key=_batch_size)
    )
    assert least <= between <= most
    assert costs.frozen_seconds > 0
    assert costs.study_seconds(num_trials=3, num_concurrent=1) > costs.frozen_seconds


def _batch_size(kind: TrialConfig) -> int:
    return kind.batch_size


@pytest.mark.slow
def test_a_dry_run_refuses_a_trial_that_memory_can_not_hold(
    tmp_path: Path, tiny_encoder: Path
) -> None:
    (tmp_path / "study.yaml").write_text(study_text(tmp_path, tiny_encoder))

    ended = subprocess.run(
        [sys.executable, "-c", SHORT, tmp_path / "study.yaml", "--out", tmp_path / "runs"],
        capture_output=True,
        text=True,
        check=False,
    )

    assert ended.returncode == 2, ended.stderr
    assert "a trial (batch_size 1800, method full) can't be run on this machine" in ended.stderr
    assert "out of memory with 1800 rows of up to 128 tokens" in ended.stderr
    assert not (tmp_path / "runs").exists()
