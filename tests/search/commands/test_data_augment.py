"""``clicktune data augment`` shows what trials would train on."""

import re
from pathlib import Path

import pytest

from search.cli import run
from search.study_config import dump_study
from tests.search.trained_study import trained_config, write_log
from tests.trainables.augmentation.tiny_models import write_masked_model


@pytest.fixture(scope="module")
def study_file(tmp_path_factory: pytest.TempPathFactory, tiny_encoder: Path) -> Path:
    folder = tmp_path_factory.mktemp("study")
    path = folder / "study.yaml"
    path.write_text(dump_study(trained_config(write_log(folder / "log"), tiny_encoder)))
    return path


def augment(capsys: pytest.CaptureFixture[str], study: Path, *options: str) -> str:
    assert run(["data", "augment", str(study), *options]) == 0
    return capsys.readouterr().out


def test_originals_and_variants_stand_side_by_side_with_counts(
    study_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--operation", "word_dropout", "--rate", "0.5", "--show", "3", "--rows", "80"]

    out = augment(capsys, study_file, *options)

    assert "what word_dropout makes of training rows" in out
    assert re.search(r"original +variant", out)
    counts = re.search(r"word_dropout at rate 0.5, 80 rows: (\d+) varied, (\d+) unchanged", out)
    assert counts is not None
    assert int(counts[1]) > 3
    assert out == augment(capsys, study_file, *options)
    assert out != augment(capsys, study_file, *options, "--seed", "1")


def test_where_nothing_varies_there_is_no_table(
    study_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = augment(capsys, study_file, "--operation", "word_swap", "--rate", "0", "--rows", "50")

    assert out == "word_swap at rate 0, 50 rows: 50 unchanged\n"


def test_an_operation_with_a_model_says_what_came_out_too_far(
    study_file: Path, capsys: pytest.CaptureFixture[str], tiny_encoder: Path, tmp_path: Path
) -> None:
    options = ["--operation", "masked_word", "--rate", "0.9", "--rows", "60", "--set"]
    model = f"augmentation.masked_language_model={write_masked_model(tmp_path, tiny_encoder)}"

    kept = augment(
        capsys, study_file, *options, model, "--set", "augmentation.quality.min_similarity=-1.0"
    )
    rejected = augment(
        capsys, study_file, *options, model, "--set", "augmentation.quality.min_similarity=1.0"
    )

    num_kept, num_left = (
        int(re.findall(r"60 rows: (\d+) varied", out)[0]) for out in (kept, rejected)
    )
    too_far = re.findall(r"(\d+) too far from the original", rejected)
    assert "too far" not in kept
    assert num_kept == num_left + int(too_far[0])
    assert num_left < num_kept / 2
