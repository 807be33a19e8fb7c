"""A study whose space holds a trial that memory can't hold: the others go on."""

from pathlib import Path

import pytest

from search import Study
from search.study_config import parse_study
from tests.trainables.short_of_memory import MAX_TOKENS, ShortTrial, write_long_rows

STUDY = """
name: short
data:
  path: {path}
  columns: {{text: [title], clicks: clicks, impressions: impressions}}
  split: {{fractions: [0.7, 0.2, 0.1]}}
encoder: {{name: {encoder}, max_tokens: {max_tokens}}}
space: {{batch_size: {{choice: [1800, 32, 64]}}, method: full}}
search: {{algorithm: grid, scheduler: none, epochs: 1, max_failures: 2, confirm_trials: 0,
  default_trial: false}}
resources: {{gpus_per_worker: 0, concurrent_trials: 1}}
deepspeed: {{precision: fp32}}
"""


@pytest.mark.ray
@pytest.mark.slow
def test_a_trial_that_runs_out_of_memory_fails_alone_and_says_what_fits(
    tmp_path: Path, tiny_encoder: Path, ray_local: None
) -> None:
    path = write_long_rows(tmp_path).path
    text = STUDY.format(path=path, encoder=tiny_encoder, max_tokens=MAX_TOKENS)

    result = Study(parse_study(text), out=tmp_path / "runs", trainable=ShortTrial).run()

    assert result.status == "completed"
    too_large, small, middle = result.trials
    # Once: the same configuration would run out again.
    assert (too_large.state, too_large.failures, too_large.starts) == ("failed", 1, 1)
    assert str(too_large.error).startswith("out of memory with batch_size 1800, rows of up to 128")
    assert "use batch_size " in str(too_large.error)
    assert (small.state, middle.state) == ("completed", "completed")
