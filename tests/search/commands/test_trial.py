"""One trial needs no Ray: it can be measured on any machine."""

import subprocess
import sys
from pathlib import Path

from search.study_config import dump_study
from tests.search.trained_study import trained_config, write_log

WITHOUT_RAY = """
import importlib.abc, sys

class Absent(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "ray":
            raise ImportError("ray is not installed")

sys.meta_path.insert(0, Absent())
from search.cli import run
raise SystemExit(run(["trial", *sys.argv[1:]]))
"""


def test_a_trial_trains_evaluates_and_saves_where_ray_is_not_installed(
    tmp_path: Path, tiny_encoder: Path
) -> None:
    study = tmp_path / "study.yaml"
    study.write_text(dump_study(trained_config(write_log(tmp_path), tiny_encoder)))

    ended = subprocess.run(
        [sys.executable, "-c", WITHOUT_RAY, study, "--out", tmp_path / "trial"],
        capture_output=True,
        text=True,
        check=False,
    )

    assert ended.returncode == 0, ended.stderr
    assert "epoch 1/1: " in ended.stdout
    assert (tmp_path / "trial" / "epoch-0001" / "trial.json").is_file()
