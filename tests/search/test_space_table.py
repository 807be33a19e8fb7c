import io

from rich.console import Console

from search.space_table import print_space
from search.study_config import parse_study

STUDY = """
name: tiny
data: {path: clicks.csv, columns: {text: [title], label: clicked}}
space:
  batch_size: {grid: [16, 32, 64]}
  learning_rate: {log_uniform: [1.0e-5, 1.0e-2], prior: 3.0e-4, prior_confidence: high}
  dropout: {uniform: [0.0, 0.3]}
search: {algorithm: random}
"""


def printed(*overrides: str) -> list[str]:
    console = Console(file=io.StringIO(), width=120)
    print_space(console, parse_study(STUDY, overrides))
    assert isinstance(console.file, io.StringIO)
    return [" ".join(line.split()) for line in console.file.getvalue().splitlines()]


def test_grids_and_priors_are_told() -> None:
    lines = printed()

    assert any("batch_size grid 16, 32, 64" in line for line in lines)
    assert any("3e-4, high confidence" in line for line in lines)
    assert "grid: any 3 trials in a row have each combination of batch_size" in lines


def test_a_space_without_priors_has_no_column_for_them() -> None:
    lines = printed("space={batch_size: {grid: [8, 16]}}", "search.algorithm=grid")

    assert not any("prior" in line for line in lines)
    assert not any(line.startswith("grid:") for line in lines)
